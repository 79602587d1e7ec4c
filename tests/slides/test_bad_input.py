"""Files that are no slides, or no longer: a short true reason, never a hang, never a wrong number."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from make_slides import picture, write_tiff

from eosin.core.errors import EosinError
from eosin.core.guarded import Job, run_guarded
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.slides.batch.folder import run_folder
from eosin.slides.batch.work import info
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.find import find_slides
from eosin.slides.open.levels import check_levels
from eosin.slides.open.slide import _downsamples, open_slide

pytest.importorskip("openslide", reason="slides need eosin[slides]")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slides") / "good.tiff", picture())


def reason(path: Path) -> str:
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    return caught.value.message


def test_no_slide_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("not a slide, " * 100)
    (tmp_path / "folder.svs").mkdir()
    (tmp_path / "link.svs").symlink_to("nowhere.svs")
    (tmp_path / "loop.svs").symlink_to("loop.svs")
    os.mkfifo(tmp_path / "pipe.svs")
    assert reason(tmp_path / "empty.svs") == "slide file empty"
    assert reason(tmp_path / "text.svs") == "not a slide"
    assert reason(tmp_path / "folder.svs") == "slide path is a folder"
    assert reason(tmp_path / "link.svs") == "slide link leads nowhere"
    assert reason(tmp_path / "loop.svs") == "slide link leads nowhere"
    assert reason(tmp_path / "pipe.svs") == "not a regular file"
    assert reason(tmp_path / "missing.svs") == "slide file missing"
    assert reason(tmp_path / "text.svs" / "below.svs") in ("slide file missing", "slide file not readable")
    assert reason(tmp_path / ("x" * 400)) == "slide file not readable"


def test_permission_denied(good: Path, tmp_path: Path) -> None:
    """As a user without rights, also where the tests run as root."""
    place = tmp_path / "a.tiff"
    place.write_bytes(good.read_bytes())
    place.chmod(0)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom eosin.slides.open.opening import checked_file\n"
        "from eosin.slides.open.backends.base import SlideError\n"
        "if os.geteuid() == 0: os.setuid(65534)\n"
        "try: checked_file(Path(sys.argv[1]))\nexcept SlideError as exc: print(exc.message, '/', exc.found)"
    )
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "slide file not readable / permission denied", done.stderr


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("jpeg", [True, False])
def test_cut_off(tmp_path: Path, good: Path, share: float, jpeg: bool) -> None:
    whole = good if jpeg else write_tiff(tmp_path / "w.tiff", picture(), jpeg=False)
    data = whole.read_bytes()
    cut = tmp_path / "cut.svs"
    cut.write_bytes(data[: int(len(data) * share)])
    assert reason(cut) in ("slide truncated", "slide damaged", "not a slide")


def test_random_bytes_after_a_good_start(tmp_path: Path, good: Path) -> None:
    """A hundred damaged headers: each opens with its own size, or is refused; nothing else comes out."""
    data = good.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(100):
        spoiled = bytearray(data)
        where = int(rng.integers(4, 700))
        spoiled[where : where + 8] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()
        place = tmp_path / f"{number}.tiff"
        place.write_bytes(bytes(spoiled))
        try:
            with open_slide(place) as slide:
                assert slide.level_sizes_px[0][0] > 0 and slide.level_downsamples[0] == 1
        except SlideError:
            refused += 1
        place.unlink()
    assert refused > 5


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (((1000, 800), (500, 200)), "levels disagree in shape"),
        (((1000, 800), (250, 200), (500, 400)), "levels out of order"),
        (((1000, 800), (2000, 1600)), "levels disagree in shape|levels out of order"),
    ],
)
def test_levels_that_cannot_be_one_slide(sizes: tuple[tuple[int, int], ...], words: str) -> None:
    with pytest.raises(SlideError, match=words):
        _downsamples(sizes, Path("a.svs"))


def test_downsamples_are_whole_where_sizes_allow() -> None:
    assert _downsamples(((46_000, 32_914), (11_500, 8_228), (2875, 2057)), Path("a")) == (1.0, 4.0, 16.0)
    odd = _downsamples(((1001, 777), (401, 311)), Path("a"))
    assert odd[1] == pytest.approx(2.497, abs=0.002)


def test_levels_that_show_different_pictures(tmp_path: Path, good: Path) -> None:
    with open_slide(good) as slide:
        check_levels(slide)
    other = np.ascontiguousarray(picture()[:, ::-1][::2, ::2] // 2 + 60)
    with open_slide(write_tiff(tmp_path / "a.tiff", picture(), level_pixels={1: other})) as slide:
        with pytest.raises(SlideError, match="levels disagree in content") as caught:
            check_levels(slide)
        assert "level 1" in str(caught.value.found)


def test_dicom_without_pixels(tmp_path: Path, shared_data: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="comes with wsidicom")
    pytest.importorskip("wsidicom", reason="DICOM needs eosin[slides]")
    data = pydicom.dcmread(shared_data / "slides" / "dicom" / "highdicom_sm_image.dcm")
    del data.PixelData
    data.save_as(tmp_path / "none.dcm")
    assert reason(tmp_path / "none.dcm") == "slide without pixel data"
    (tmp_path / "cut.dcm").write_bytes((shared_data / "slides/dicom/highdicom_sm_image.dcm").read_bytes()[:9000])
    with pytest.raises(SlideError):
        open_slide(tmp_path / "cut.dcm").thumbnail(50)


def test_a_folder_of_dicom_files(tmp_path: Path, shared_data: Path) -> None:
    """The files of one series are one slide, found once; files of two series in a folder are not."""
    source = shared_data / "slides" / "dicom"
    for name in ("a.dcm", "b.dcm"):
        (tmp_path / name).write_bytes((source / "multiframe_camelyon_challenge_image.dcm").read_bytes())
    with open_slide(tmp_path) as slide:
        assert slide.size_px == (1152, 700)
    found, _ = find_slides([tmp_path])
    assert [f.key for f in found] == ["a"]
    (tmp_path / "c.dcm").write_bytes((source / "highdicom_sm_image.dcm").read_bytes())
    assert reason(tmp_path) == "folder holds more than one slide"
    assert [f.key for f in find_slides([tmp_path])[0]] == ["a", "c"]


def test_not_a_colour_picture(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "f.tif", np.zeros((5, 300, 300), np.uint16), photometric="minisblack", tile=(64, 64))
    assert reason(tmp_path / "f.tif") == "not a colour picture of 8 bits"


def test_unknown_reader_and_scale(good: Path) -> None:
    with pytest.raises(SlideError, match="no such reader"):
        open_slide(good, reader="qupath")
    for mpp in (0.0, -1.0, float("nan"), 1e6):
        with pytest.raises(SlideError, match="out of range"):
            open_slide(good, mpp=mpp)


def test_finding_slides(tmp_path: Path, good: Path) -> None:
    """Each slide once, also through links that lead back; folders named like slides are told, and looked into."""
    for name in ("a/x.tiff", "b/x.tiff", "b/y.ome.tif", "b/z.svs/inner.svs", "b/note.txt", "x.tiff", "x.svs"):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
    (tmp_path / "b" / "back").symlink_to(tmp_path)
    (tmp_path / "b" / "again").symlink_to(tmp_path / "a")
    found, dropped = find_slides([tmp_path])
    assert [f.key for f in found] == ["a/x", "b/x", "b/y", "b/z.svs/inner", "x.svs", "x.tiff"]
    reasons = sorted((Path(d.id).name, d.reason) for d in dropped)
    assert reasons == [("again", "folder met before"), ("back", "folder met before"),
                       ("z.svs", "slide path is a folder")]  # fmt: skip
    twice, _ = find_slides([tmp_path / "a", tmp_path / "a" / "x.tiff"])
    assert len(twice) == 1
    with pytest.raises(EosinError, match="no such file"):
        find_slides([tmp_path / "none"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(EosinError, match="no slides"):
        find_slides([tmp_path / "bare"])


def _act(what: str) -> str:
    if what == "hang":
        time.sleep(60)
    if what == "crash":
        os._exit(7)
    if what == "killed":
        os.kill(os.getpid(), 9)
    if what == "refuse":
        raise SlideError("slide damaged", found="in its middle")
    if what == "fault":
        raise ZeroDivisionError("oh")
    return what.upper()


def test_one_bad_slide_never_stops_the_rest() -> None:
    """One hangs, one crashes, one is killed, one is refused, one meets a fault: five reasons, three results."""
    jobs = [Job(w, (w,)) for w in ("a", "hang", "b", "crash", "refuse", "killed", "fault", "c")]
    begun = time.monotonic()
    outcomes = {j.id: o for j, o in run_guarded(_act, jobs, timeout_s=8.0, workers=2, step="test")}
    assert time.monotonic() - begun < 50
    assert {k: o.value for k, o in outcomes.items() if isinstance(o, Kept)} == {"a": "A", "b": "B", "c": "C"}
    reasons = {k: (o.reason, o.detail) for k, o in outcomes.items() if isinstance(o, Dropped)}
    assert reasons["hang"][0] == "timed out" and reasons["refuse"] == ("slide damaged", "in its middle")
    assert reasons["crash"] == ("reader crashed", "exit status 7")
    assert reasons["killed"] == ("reader crashed", "signal SIGKILL")
    assert reasons["fault"] == ("unexpected fault", "ZeroDivisionError: oh")


def test_a_damaged_mark_is_no_mark(good: Path, tmp_path: Path) -> None:
    """What marks a slide as done and cannot be read stops nothing: the slide is done again."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "s.tiff").symlink_to(good)
    mark = tmp_path / "out" / "s" / "info.json"
    whole = run_folder("info", info, [tmp_path / "in"], tmp_path / "out", {})
    assert whole.num_before == 0 and run_folder("info", info, [tmp_path / "in"], tmp_path / "out", {}).num_before == 1
    for damage in ("", "[]", "{", '{"row": 1}', '{"file": 1}', "null"):
        mark.write_text(damage)
        again = run_folder("info", info, [tmp_path / "in"], tmp_path / "out", {})
        assert (again.num_before, again.rows, again.dropped) == (0, whole.rows, ())
    (tmp_path / "out" / "info.settings.json").write_text("[]")
    with pytest.raises(EosinError, match="other settings"):
        run_folder("info", info, [tmp_path / "in"], tmp_path / "out", {})
