"""Features of slides: right pixels, right places, resumable, and no bad slide stops the rest."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.support.close import same_numbers
from tests.support.slide_files import write_slide

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.slides.encoders.load import load_encoder
from eosin.slides.encoders.records import EncoderRecord, record_of
from eosin.slides.features import run as features
from eosin.slides.features.files import read_features
from eosin.slides.features.pipeline import Batch, Job, Limits, SlideEnd, SlideStart, TileLoader, batched, encode_batch
from eosin.slides.features.run import FeatureSettings, Summary
from eosin.slides.open.slide import open_slide
from eosin.slides.tiles.reading import Failed

pytest.importorskip("h5py", reason="features need eosin[slides]")
pytest.importorskip("openslide", reason="features need eosin[slides]")

RECORD = EncoderRecord(
    name="mean-colour", trident_name="mean_colour", licence="Apache-2.0", gated=False, library="eosin", mpp=(),
    tile_px=128, input_px=128, dim=6, source="this test",
)  # fmt: skip


class MeanColour:
    """Mean and spread of each channel. Tiles whose mean red is in `fails` cannot be encoded."""

    device = "cpu"
    record = RECORD
    mpp = 0.5

    def __init__(self, fails: tuple[float, float] = (1.0, 0.0)) -> None:
        self.fails = fails

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        flat = tiles.reshape(len(tiles), -1, 3).astype(np.float32)
        red = flat[..., 0].mean(1)
        if ((self.fails[0] <= red) & (red <= self.fails[1])).any():
            raise RuntimeError("out of memory")
        return np.concatenate([flat.mean(1), flat.std(1)], axis=1)


def settings(**changes: Any) -> FeatureSettings:
    """Read in a thread of this process: no child has to start."""
    return FeatureSettings(**{"readers": 0, "workers": 1, "min_tissue": 0.2, "batch_size": 5, **changes})


def run(paths: Path | list[Path], out: Path, fails: tuple[float, float] = (1.0, 0.0), **changes: Any) -> Summary:
    given = paths if isinstance(paths, list) else [paths]
    return features.run(given, out, settings(**changes), record=RECORD, make_encoder=lambda: MeanColour(fails))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for i in range(2):
        write_slide(folder / f"s{i}.tiff", 768, 0.5, seed=i)
    return folder


# ---- what a file holds ---------------------------------------------------------------------------------------------


def test_features_are_those_of_the_tiles_pixels_where_the_file_says(slides: Path, tmp_path: Path) -> None:
    done = run(slides, tmp_path)
    assert done.num_in == 2 and not done.dropped
    assert done.folder == tmp_path / "20x_128px_0px_overlap"
    for one in done.done:
        assert one.file == done.folder / "features_mean_colour" / f"{one.path.stem}.h5"
        bag = read_features(one.file, encoder=RECORD)
        assert bag.coords is not None and len(bag.features) == one.num_tiles > 10
        with open_slide(one.path) as slide:
            for i in (0, 7, len(bag.coords) - 1):
                x, y = bag.coords[i].tolist()
                box = features_box(x, y, 128)
                assert same_numbers(bag.features[i], MeanColour().encode(slide.read(box)[None])[0])
        assert bag.geometry.side_level0 == 128 and bag.geometry.mpp == bag.geometry.level0_mpp == 0.5
        assert bag.attributes["source"] == one.path.name and bag.attributes["level0_width"] == 768


def features_box(x: int, y: int, side: int) -> Any:
    from eosin.core.nouns.units import BoxLevel0

    return BoxLevel0(x0=x, y0=y, x1=x + side, y1=y + side)


def test_tiles_are_read_at_the_scale_that_is_asked_for(slides: Path, tmp_path: Path) -> None:
    done = run(slides / "s0.tiff", tmp_path, mpp=1.0)
    assert done.folder.name == "10x_128px_0px_overlap"
    bag = read_features(done.done[0].file)
    assert bag.geometry.side_level0 == 256 and bag.geometry.mpp == 1.0
    with open_slide(slides / "s0.tiff") as slide:
        x, y = bag.coords[3].tolist()  # type: ignore[index]
        pixels = slide.read(features_box(x, y, 256), 1.0)
    assert same_numbers(bag.features[3], MeanColour().encode(pixels[None])[0])


def test_files_do_not_depend_on_readers_batches_or_queues(slides: Path, tmp_path: Path) -> None:
    """Byte for byte: read here one by one, and by two processes with other batches."""
    one = features.run([slides], tmp_path / "one", FeatureSettings(readers=0, batch_size=1, min_tissue=0.2))
    two = features.run([slides], tmp_path / "two", FeatureSettings(readers=2, batch_size=7, prefetch=1, min_tissue=0.2))
    assert len(one.done) == len(two.done) == 2
    files = sorted((tmp_path / "one").rglob("*.h5"))
    assert len(files) == 4  # features and patches
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()


def test_the_default_encoder_needs_no_weights(slides: Path, tmp_path: Path) -> None:
    done = features.run([slides / "s0.tiff"], tmp_path, settings())
    bag = read_features(done.done[0].file, encoder=record_of("colour-texture"))
    x, y = bag.coords[2].tolist()  # type: ignore[index]
    with open_slide(slides / "s0.tiff") as slide:
        alone = load_encoder("colour-texture").encode(slide.read(features_box(x, y, 256))[None])
    assert same_numbers(bag.features[2], alone[0])


def test_half_precision_on_disk_and_a_limit_of_tiles(slides: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    done = run(slides / "s0.tiff", tmp_path, store="float16", max_tiles=7, seed=3)
    with h5py.File(done.done[0].file) as held:
        assert held["features"].dtype == np.float16 and held["features"].shape == (7, 6)
    again = run(slides / "s0.tiff", tmp_path / "b", store="float16", max_tiles=7, seed=3)
    assert done.done[0].file.read_bytes() == again.done[0].file.read_bytes()


# ---- resuming ------------------------------------------------------------------------------------------------------


def test_a_second_run_does_only_what_is_missing(slides: Path, tmp_path: Path) -> None:
    first = run(slides / "s0.tiff", tmp_path)
    stamp = first.done[0].file.stat().st_mtime_ns
    second = run(slides, tmp_path)
    assert {d.name: d.resumed for d in second.done} == {"s0": True, "s1": False}
    assert second.num_tiles == next(d.num_tiles for d in second.done if d.name == "s1")
    assert first.done[0].file.stat().st_mtime_ns == stamp
    third = features.run([slides], tmp_path, settings(), record=RECORD, make_encoder=_never)
    assert all(d.resumed for d in third.done)  # the encoder is not even loaded


def _never() -> Any:
    raise AssertionError("loaded")


def test_a_run_that_was_cut_off_leaves_no_half_file(slides: Path, tmp_path: Path) -> None:
    class Stop(MeanColour):
        calls = 0

        def encode(self, tiles: np.ndarray) -> np.ndarray:
            Stop.calls += 1
            if Stop.calls == 3:
                raise KeyboardInterrupt
            return super().encode(tiles)

    with pytest.raises(KeyboardInterrupt):
        features.run([slides], tmp_path, settings(), record=RECORD, make_encoder=Stop)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".json"] == []
    assert len(run(slides, tmp_path).done) == 2


def test_other_settings_in_one_folder_are_refused_and_machine_settings_are_not(slides: Path, tmp_path: Path) -> None:
    run(slides / "s0.tiff", tmp_path)
    with pytest.raises(EosinError, match="other settings") as caught:
        run(slides, tmp_path, min_tissue=0.5)
    assert "min_tissue: there 0.2, here 0.5" in str(caught.value.found)
    assert len(run(slides, tmp_path, batch_size=64, prefetch=1).done) == 2


def test_a_file_of_another_slide_or_encoder_is_not_taken_for_this_one(slides: Path, tmp_path: Path) -> None:
    first = run(slides, tmp_path / "out")
    other = tmp_path / "s0.tiff"
    write_slide(other, 512, 0.5, seed=9)
    taken = run([other], tmp_path / "out")
    assert [(d.id, d.reason) for d in taken.dropped] == [("s0", "the feature file there is of another slide")]
    first.done[0].file.write_bytes(b"cut off")
    damaged = run(slides, tmp_path / "out")
    assert [(d.id, d.reason) for d in damaged.dropped] == [("s0", "the feature file there is damaged")]


# ---- bad slides and bad tiles --------------------------------------------------------------------------------------


def test_no_bad_slide_stops_the_rest(slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    os.symlink(slides / "s0.tiff", folder / "good.tiff")
    (folder / "empty.svs").touch()
    (folder / "text.tiff").write_text("not a slide")
    (folder / "cut.tiff").write_bytes((slides / "s0.tiff").read_bytes()[:4000])
    (folder / "gone.tiff").symlink_to(folder / "nowhere.tiff")
    write_slide(folder / "no_scale.tiff", 512, None)
    write_slide(folder / "coarse.tiff", 512, 2.0)
    blank = np.full((512, 512, 3), 244, np.uint8)
    import tifffile

    tifffile.imwrite(folder / "glass.tiff", blank, tile=(256, 256), photometric="rgb", resolution=(2e4, 2e4),
                     resolutionunit="CENTIMETER", metadata=None)  # fmt: skip
    done = run(folder, tmp_path / "out")
    assert [d.name for d in done.done] == ["good"]
    reasons = {Path(d.id).stem: d.reason for d in done.dropped}
    assert set(reasons) == {"empty", "text", "cut", "gone", "no_scale", "coarse", "glass"}
    assert reasons["no_scale"] == "microns per pixel unknown"
    assert reasons["coarse"] == "slide coarser than the encoder needs"
    assert reasons["glass"] == "no tissue found"
    assert done.num_in == 8
    table = list(csv.DictReader(done.tables[0].open()))
    assert sorted(r["state"] for r in table) == ["done"] + ["dropped"] * 7
    assert all(r["reason"] for r in table if r["state"] == "dropped")


def test_a_stated_scale_helps_slides_that_have_none(tmp_path: Path) -> None:
    write_slide(tmp_path / "s.tiff", 768, None)
    assert run(tmp_path / "s.tiff", tmp_path / "out", slide_mpp=0.5).done[0].num_tiles > 10


def test_a_tile_that_cannot_be_encoded_is_recorded_not_zeroed(slides: Path, tmp_path: Path) -> None:
    whole = read_features(run(slides / "s0.tiff", tmp_path / "a").done[0].file)
    red = whole.features[:, 0]
    middle = float(np.sort(red)[len(red) // 2])
    done = run(slides / "s0.tiff", tmp_path / "b", fails=(middle - 0.3, middle + 0.3))
    bag = read_features(done.done[0].file)
    bad = (np.abs(red - middle) <= 0.3).nonzero()[0]
    assert 1 <= len(bad) < len(red) and whole.coords is not None and bag.coords is not None
    assert [c for c, _ in bag.failed] == [tuple(whole.coords[i]) for i in bad]
    assert all("not encoded" in reason and "out of memory" in reason for _, reason in bag.failed)
    assert np.array_equal(bag.features, np.delete(whole.features, bad, axis=0))
    assert np.array_equal(bag.coords, np.delete(whole.coords, bad, axis=0))
    assert np.array_equal(bag.extra["tissue_fraction"], np.delete(whole.extra["tissue_fraction"], bad))
    rows = list(csv.DictReader(done.tables[1].open()))
    assert [(r["slide"], int(r["x_level0"]), int(r["y_level0"])) for r in rows] == [("s0", *c) for c, _ in bag.failed]


def test_a_damaged_tile_of_the_file_is_recorded_and_the_rest_is_kept(tmp_path: Path) -> None:
    """One tile of level 0 is overwritten with zeros: it can no longer be inflated."""
    import tifffile

    write_slide(tmp_path / "s.tiff", 2048, 0.5)
    with tifffile.TiffFile(tmp_path / "s.tiff") as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[27], page.databytecounts[27]  # column 3, row 3 of 8 x 8
    with (tmp_path / "s.tiff").open("r+b") as handle:
        handle.seek(offset)
        handle.write(bytes(count))
    done = run(tmp_path / "s.tiff", tmp_path / "out")
    assert not done.dropped
    bag = read_features(done.done[0].file)
    assert bag.coords is not None
    lost = {c for c, _ in bag.failed}
    assert lost == {(x, y) for x in (768, 896) for y in (768, 896)}
    assert not lost & set(map(tuple, bag.coords.tolist()))


def test_an_encoder_that_fails_on_every_slide_ends_the_run(tmp_path: Path) -> None:
    for i in range(4):
        write_slide(tmp_path / f"s{i}.tiff", 512, 0.5, seed=i)
    with pytest.raises(EosinError, match="fails on every slide"):
        run(tmp_path, tmp_path / "out", fails=(0, 255))


def test_halves_find_the_tile_at_fault() -> None:
    pixels = np.zeros((9, 128, 128, 3), np.uint8)
    pixels[4] = 77
    index, rows, lost = encode_batch(MeanColour((76.5, 77.5)), Batch(np.arange(10, 19), pixels))
    assert index.tolist() == [10, 11, 12, 13, 15, 16, 17, 18] and rows.shape == (8, 6)
    assert lost == ((14, "not encoded: RuntimeError: out of memory"),)


def test_batches_keep_order_and_name_what_failed() -> None:
    tile = np.ones((4, 4, 3), np.uint8)
    stream: list[tuple[int, Any]] = [(i, Failed("damaged") if i in (1, 4, 5) else tile * i) for i in range(6)]
    got = list(batched(stream, 2))
    assert [b.index.tolist() for b in got] == [[0], [2, 3], []]
    assert [b.failed for b in got] == [((1, "damaged"),), (), ((4, "damaged"), (5, "damaged"))]
    assert got[1].pixels[:, 0, 0, 0].tolist() == [2, 3]


# ---- the reading side ----------------------------------------------------------------------------------------------


def reading(job: Job, settings: Any) -> Iterator[SlideStart | Batch]:
    """Stands for a reader in a child process: the job's name says what happens to it."""
    yield SlideStart(2, {"pid": os.getpid()})
    if job.name == "hangs":
        time.sleep(600)
    if job.name == "crashes":
        os.abort()
    if job.name == "refused":
        raise EosinError("slide refused", found="by test")
    if job.name == "broken":
        raise ValueError("strange")
    for i in range(2):
        yield Batch(np.array([i]), np.full((1, 3, 3, 3), i + len(job.name), np.uint8), ((9, "lost"),) if i else ())


def test_a_reader_that_hangs_or_crashes_takes_one_slide_with_it() -> None:
    names = ["one", "hangs", "crashes", "three", "refused", "broken", "five"]
    jobs = [Job(n, Path(n)) for n in names]
    ends: dict[str, Any] = {}
    seen: dict[str, list[Batch]] = {n: [] for n in names}
    pids = set()
    with TileLoader(jobs, reading, None, Limits(readers=2, prefetch=1, timeout_s=60, stall_s=2.0)) as feeder:
        for job, event in feeder:
            if isinstance(event, Batch):
                seen[job.name].append(event)
            elif isinstance(event, SlideStart):
                pids.add(event.facts["pid"])
            else:
                assert job.name not in ends
                ends[job.name] = event
    assert {n for n, e in ends.items() if isinstance(e, SlideEnd)} == {"one", "three", "five"}
    dropped = {n: (e.reason, e.detail) for n, e in ends.items() if isinstance(e, Dropped)}
    assert dropped["hangs"] == ("timed out", "no tile in 2 s")
    assert dropped["crashes"] == ("reader crashed", "signal SIGABRT")
    assert dropped["refused"] == ("slide refused", "by test")
    assert dropped["broken"] == ("could not be read", "ValueError: strange")
    assert os.getpid() not in pids and len(pids) >= 3
    for name in ("one", "three", "five"):
        assert [np.unique(b.pixels).tolist() for b in seen[name]] == [[len(name)], [1 + len(name)]]
        assert seen[name][1].failed == ((9, "lost"),)


def test_time_spent_waiting_for_the_encoder_does_not_count() -> None:
    limits = Limits(readers=1, prefetch=1, timeout_s=1.5, stall_s=1.5)
    with TileLoader([Job("slow", Path())], slow_to_take, None, limits) as feeder:
        kinds = []
        for _, event in feeder:
            kinds.append(type(event).__name__)
            time.sleep(0.4)  # an encoder that is slower than the limit in all
    assert kinds == ["SlideStart", *["Batch"] * 6, "SlideEnd"]


def slow_to_take(job: Job, settings: Any) -> Iterator[SlideStart | Batch]:
    yield SlideStart(6, {})
    for i in range(6):
        yield Batch(np.array([i]), np.zeros((1, 400, 400, 3), np.uint8))


def test_a_script_without_a_main_guard_is_told_so(slides: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom eosin.slides.features import run as features\n"
        f"features.run([Path({str(slides / 's0.tiff')!r})], Path({str(tmp_path / 'out')!r}), "
        "features.FeatureSettings(readers=1))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "__main__" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("  next:") and "readers=0" in done.stderr


# ---- what is shown and refused -------------------------------------------------------------------------------------


def test_progress_tells_slides_tiles_and_time_left(slides: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=120)
    features.run([slides], tmp_path, settings(), console, record=RECORD, make_encoder=MeanColour)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("1/2  s0  ") and "tiles/s" in lines[0] and "left" in lines[0]
    assert lines[1].startswith("2/2  s1  ") and lines[1].endswith("0:00:00 left")
    features.run([slides], tmp_path, settings(), console, record=RECORD, make_encoder=MeanColour)
    assert "2 slides have their features already" in out.getvalue()


def test_unknown_encoders_scales_and_settings_are_refused_before_any_work(slides: Path, tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no encoder of this name"):
        features.run([slides], tmp_path, settings(encoder="uni3"))
    with pytest.raises(EosinError, match="not trained for this scale"):
        features.run([slides], tmp_path, settings(encoder="uni", mpp=0.25))
    with pytest.raises(EosinError, match="There is no such file"):
        features.run([slides / "none.svs"], tmp_path, settings())
    with pytest.raises(ValueError, match="Extra inputs"):
        FeatureSettings(enocder="uni")  # type: ignore[call-arg]
    assert not list(tmp_path.iterdir())


def test_slides_of_one_name_in_two_folders_get_two_files(tmp_path: Path) -> None:
    for i, part in enumerate(("a", "b")):
        (tmp_path / "in" / part).mkdir(parents=True)
        write_slide(tmp_path / "in" / part / "slide.tiff", 512, 0.5, seed=i)
    done = run(tmp_path / "in", tmp_path / "out")
    assert sorted(d.name for d in done.done) == ["a__slide", "b__slide"]


# ---- a cluster -----------------------------------------------------------------------------------------------------


def test_a_cluster_makes_the_same_files(slides: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(2):
        os.symlink(slides / f"s{i}.tiff", folder / f"s{i}.tiff")
    (folder / "empty.svs").touch()
    here = features.run([folder], tmp_path / "here", settings())
    try:
        there = features.run([folder], tmp_path / "there", settings(engine="ray", cluster_workers=1, batch_size=3))
    except EosinError as exc:
        if "could not be reached" not in str(exc):
            raise
        pytest.skip("Ray did not start on this machine in its own time limit")
    assert [d.name for d in here.done] == sorted(d.name for d in there.done) == ["s0", "s1"]
    assert [(d.id, d.reason) for d in here.dropped] == [(d.id, d.reason) for d in there.dropped]
    files = sorted((tmp_path / "here").rglob("*.h5"))
    assert len(files) == 4
    for file in files:
        assert file.read_bytes() == (tmp_path / "there" / file.relative_to(tmp_path / "here")).read_bytes()


# ---- what stands in the folder already, and odd names ----------------------------------------------------------------


def test_corners_that_a_killed_run_did_not_write_are_written_again(slides: Path, tmp_path: Path) -> None:
    """A run of before, killed between features and corners: the next one writes the very same file."""
    whole = run(slides / "s0.tiff", tmp_path / "a", fails=(0, 1))
    red = read_features(whole.done[0].file).features[:, 0]
    middle = float(np.sort(red)[len(red) // 2])
    done = run(slides / "s0.tiff", tmp_path / "b", fails=(middle - 0.3, middle + 0.3))
    assert done.done[0].failed
    patches = done.folder / "patches" / "s0_patches.h5"
    before = patches.read_bytes()
    patches.unlink()
    again = run(slides / "s0.tiff", tmp_path / "b")
    assert again.done[0].resumed and patches.read_bytes() == before


def test_a_kill_before_the_features_appear_leaves_a_slide_to_do(
    slides: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features are the mark that a slide is done, so they come last."""
    from eosin.slides.features import extract

    seen: list[list[str]] = []
    write = extract.h5.write_patches

    def watched(path: Path, *rest: Any) -> None:
        write(path, *rest)
        seen.append([p.name for p in tmp_path.rglob("features_*/*.h5") if not p.name.startswith(".")])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(extract.h5, "write_patches", watched)
        with pytest.raises(KeyboardInterrupt):
            run(slides / "s0.tiff", tmp_path)
    assert seen == [[]]
    done = run(slides / "s0.tiff", tmp_path)
    assert [d.resumed for d in done.done] == [False] and (done.folder / "patches" / "s0_patches.h5").is_file()


def test_damaged_feature_files_never_stop_a_resumed_run(slides: Path, tmp_path: Path) -> None:
    import h5py

    first = run(slides, tmp_path)
    file = next(d.file for d in first.done if d.name == "s0")
    whole = file.read_bytes()

    def group(held: Any) -> None:
        del held["features"]
        held.create_group("features")

    def reasons(held: Any) -> None:
        del held["failed_reasons"]

    def large(held: Any) -> None:
        del held["features"]
        held.create_dataset("features", shape=(5_000_000, 6), dtype="f4", chunks=(256, 6))

    def cut(held: Any) -> None:
        del held["features"]
        held["features"] = np.float32(1)

    for change in (group, reasons, large, cut):
        file.write_bytes(whole)
        with h5py.File(file, "a") as held:
            change(held)
        done = run(slides, tmp_path)
        assert [d.name for d in done.done] == ["s1"], change
        assert [(d.id, d.reason) for d in done.dropped] == [("s0", "the feature file there is damaged")]
        assert str(file) in done.dropped[0].detail
    file.write_bytes(whole)
    assert len(run(slides, tmp_path).done) == 2


def test_pipes_and_names_that_are_no_text_stop_nothing(slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "pipe.svs")
    os.mkfifo(folder / "series.dcm")
    os.symlink(slides / "s0.tiff", folder / "good.tiff")
    odd = os.fsencode(folder) + b"/\xff\xfe.tiff"
    try:
        os.symlink(os.fsencode(slides / "s1.tiff"), odd)
        names = {"good", re.sub("[\ud800-\udfff]", "\ufffd", os.fsdecode(b"\xff\xfe"))}  # letters in some locales
    except OSError:  # a file system that takes text alone
        names = {"good"}
    done = run(folder, tmp_path / "out")
    assert {d.name for d in done.done} == names
    assert {(Path(d.id).name, d.reason) for d in done.dropped} == {
        ("pipe.svs", "not a regular file"), ("series.dcm", "not a regular file")}  # fmt: skip
    assert len(list(csv.DictReader(done.tables[0].open(encoding="utf-8")))) == len(names) + 2
    again = run(folder, tmp_path / "out")
    assert all(d.resumed for d in again.done) and len(again.done) == len(names)


def test_folders_of_the_first_release_go_on(tmp_path: Path) -> None:
    """What a folder says of its files, as it was first written: other words would refuse every old folder."""
    plan = features._plan(tmp_path, FeatureSettings(min_tissue=0.2), None)
    held = plan.in_files()
    assert held["encoder_record"]["source"] == "eosin.slides.encoder_colour"
    assert set(held["settings"]) == {
        "encoder", "weights", "revision", "mpp", "overlap", "min_tissue", "edge", "skip_flags", "max_tiles", "seed",
        "tissue", "slide_mpp", "icc", "reader", "store",
    }  # fmt: skip
