"""`slide:` references: the same pixels for training, exams and asking, from bounded caches, in any thread."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.slide_files import write_slide

from eosin.core.errors import ImageError
from eosin.core.images import load_image
from eosin.core.nouns.prompt import PromptSettings
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, SlideRegion, make_choices, user_prompt
from eosin.core.nouns.units import BoxLevel0, BoxMicrons
from eosin.slides.features.regions import MIB, SlideRegions
from eosin.slides.open.slide import open_slide

pytest.importorskip("openslide", reason="slides need eosin[slides]")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for i in range(4):
        write_slide(folder / f"s{i}.tiff", 512, 0.5, seed=i)
    return folder


def region(slides: Path, x: int = 100, y: int = 60, side: int = 128, number: int = 0, mpp: float | None = None) -> Any:
    box = BoxLevel0(x0=x, y0=y, x1=x + side, y1=y + side)
    return SlideRegion(path=str(slides / f"s{number}.tiff"), box=box, mpp=mpp)


def direct(ref: SlideRegion) -> np.ndarray:
    with open_slide(ref.path) as slide:
        return slide.read(ref.box, ref.mpp)


# ---- pixels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mpp", [None, 1.0, 0.7])
def test_a_region_has_the_pixels_of_a_direct_read(slides: Path, mpp: float | None) -> None:
    ref = region(slides, mpp=mpp)
    picture = load_image(ref, SlideRegions())
    assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), direct(ref))
    assert picture.size == ((128, 128) if mpp is None else (round(64 / mpp),) * 2)


def test_microns_and_level0_pixels_name_the_same_region(slides: Path) -> None:
    read = SlideRegions()
    microns = BoxMicrons(x0=50, y0=30, x1=114, y1=94)
    same = SlideRegion(path=str(slides / "s0.tiff"), box=microns)
    assert np.array_equal(read.pixels(same), read.pixels(region(slides)))


def test_outside_is_white_and_wholly_outside_is_refused(slides: Path) -> None:
    read = SlideRegions()
    edge = read.pixels(region(slides, x=-64, y=200))
    assert (edge[:, :64] == 255).all() and (edge[:, 64:] < 255).any()
    for x, y in ((512, 0), (0, 512), (-128, 0), (0, -200)):
        with pytest.raises(ImageError, match="region outside the slide"):
            read(region(slides, x=x, y=y))


def test_bad_references_give_a_reason_that_can_be_counted(slides: Path, tmp_path: Path) -> None:
    read = SlideRegions()
    (tmp_path / "empty.svs").touch()
    write_slide(tmp_path / "no_scale.tiff", 512, None)
    box, microns = BoxLevel0(x0=0, y0=0, x1=64, y1=64), BoxMicrons(x0=0, y0=0, x1=64, y1=64)
    for ref, message in (
        (SlideRegion(path=str(tmp_path / "none.svs"), box=box), "slide file missing"),
        (SlideRegion(path=str(tmp_path / "empty.svs"), box=box), "slide file empty"),
        (SlideRegion(path=str(tmp_path / "no_scale.tiff"), box=microns), "microns per pixel unknown"),
        (region(slides, side=4), "image too small"),
        (region(slides, mpp=0.001), "image too large"),
    ):
        with pytest.raises(ImageError) as caught:
            read(ref)
        assert caught.value.message == message and "\n" not in caught.value.message
    assert read.pixels(SlideRegion(path=str(tmp_path / "no_scale.tiff"), box=box)).shape == (64, 64, 3)
    stated = SlideRegions(mpp=0.5)
    assert stated.pixels(SlideRegion(path=str(tmp_path / "no_scale.tiff"), box=microns)).shape == (128, 128, 3)


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_kept_pixels_stay_below_the_bound_and_the_oldest_go_first(slides: Path) -> None:
    one = 128 * 128 * 3
    read = SlideRegions(cache_mib=3.5 * one / MIB)
    for x in (0, 10, 20):
        read(region(slides, x=x))
    read(region(slides, x=0))
    assert (read.num_read, read.num_found, read.held_bytes) == (3, 1, 3 * one)
    read(region(slides, x=30))  # x=10 was not asked for longest
    assert read.held_bytes == 3 * one
    for x, found in ((0, 2), (20, 3), (10, 3)):
        read(region(slides, x=x))
        assert read.num_found == found
    big = read.pixels(region(slides, x=0, y=0, side=512))
    assert big.nbytes > 3.5 * one and read.held_bytes <= 3.5 * one
    with pytest.raises(ValueError, match="read-only"):
        big[0, 0] = 0
    nothing = SlideRegions(cache_mib=0)
    nothing(region(slides))
    assert nothing.held_bytes == 0


def test_few_slides_stay_open(slides: Path) -> None:
    read = SlideRegions(cache_mib=0, max_open=2)
    for _ in range(2):
        for number in range(4):
            assert np.array_equal(read.pixels(region(slides, number=number)), direct(region(slides, number=number)))
            assert read.num_open <= 2
    read.close()
    assert read.num_open == 0
    assert read.pixels(region(slides)).shape == (128, 128, 3)  # and opens again


# ---- threads and processes -----------------------------------------------------------------------------------------


def test_many_threads_read_right_pixels(slides: Path) -> None:
    read = SlideRegions(cache_mib=0.2, max_open=1)
    refs = [region(slides, x=13 * (i % 20), y=9 * (i % 7), side=64, number=i % 4) for i in range(72)]
    expected = {(r.path, r.box): direct(r) for r in set(refs)}
    with ThreadPoolExecutor(8) as pool:
        for ref, pixels in zip(refs, pool.map(read.pixels, refs), strict=True):
            assert np.array_equal(pixels, expected[ref.path, ref.box])
    assert read.num_open <= 1 and read.held_bytes <= 0.2 * MIB


def test_a_copy_in_another_process_reads_for_itself(slides: Path) -> None:
    read = SlideRegions(cache_mib=7, max_open=3)
    read(region(slides))
    copy = pickle.loads(pickle.dumps(read))
    assert copy.held_bytes == 0 and copy.num_open == 0 and copy._limit == 7 * MIB
    assert np.array_equal(copy.pixels(region(slides)), read.pixels(region(slides)))
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with read._lock:  # as if another thread were reading just when a data loader forks
        child = context.Process(target=_in_child, args=(read, region(slides, number=1), theirs))
        child.start()
    assert ours.poll(60), "the forked copy hangs"
    assert np.array_equal(ours.recv(), direct(region(slides, number=1)))
    child.join()


def _in_child(read: SlideRegions, ref: SlideRegion, pipe: Any) -> None:
    pipe.send(read.pixels(ref))
    os._exit(0)


# ---- every stage reads alike ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from eosin.phantom.slides.slide import write_slide as write_phantom

    return write_phantom(tmp_path_factory.mktemp("phantom") / "case3.tiff", case_number=3, size_px=1024)[0]


def sample_of(slide: Path, number: int) -> Sample:
    corner = 320 + 40 * number
    box = BoxMicrons(x0=corner * 0.5, y0=corner * 0.5, x1=corner * 0.5 + 112, y1=corner * 0.5 + 112)
    return Sample(
        id=f"s{number}",
        images=(SlideRegion(path=str(slide), box=box, mpp=1.0),),
        messages=user_prompt("What does this region show?"),
        choices=make_choices(("normal mucosa", "adenocarcinoma")),
        answer="AB"[number % 2],
        reasoning=("Glands are seen.",),
        origin=Origin(source="phantom", slide=f"case{number}"),
        split="test",
    )


class Watching:
    """An engine that keeps what it was shown."""

    name = "watching"

    def __init__(self) -> None:
        self.shown: dict[str, list[np.ndarray]] = {}

    def generate(self, requests: Sequence[Any], decoding: Any) -> list[Any]:
        from eosin.engines.base import Generation

        for request in requests:
            self.shown.setdefault(request.id, []).extend(np.asarray(i) for i in request.images)
        return [Generation(r.id, "<think>Seen.</think><answer>A. normal mucosa</answer>", 8, False) for r in requests]


def test_sft_and_rl_rows_and_exam_items_show_the_same_pixels(phantom_slide: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from eosin.core.settings.exam import ExamSettings
    from eosin.evaluate.exam.exam import run_exam
    from eosin.scoring.reading.item import item_from_sample
    from eosin.train.data.rows import ImageCache, rl_row, rows_dataset, sft_row

    grammar, prompt = Grammar.of("think/answer"), PromptSettings()
    samples = [sample_of(phantom_slide, n) for n in range(4)]
    read = SlideRegions()
    with open_slide(phantom_slide) as slide:
        expected = [slide.read(s.images[0].box, 1.0) for s in samples]  # type: ignore[union-attr]
    assert all(e.shape == (112, 112, 3) and e.std() > 8 for e in expected)

    pictures = ImageCache(None, 0.0, read)
    for make in (sft_row(grammar, prompt), rl_row(grammar, prompt)):
        rows = rows_dataset(samples, make, pictures)
        for i, pixels in enumerate(expected):
            assert np.array_equal(np.asarray(rows[i]["images"][0]), pixels)

    engine = Watching()
    settings = ExamSettings(probes=[], bootstrap=100)
    run_exam(engine, samples, grammar, settings, tmp_path / "exam", read_region=read)  # type: ignore[arg-type]
    for i, pixels in enumerate(expected):
        assert np.array_equal(engine.shown[f"s{i}"][0], pixels)

    item = item_from_sample(samples[0], "", 1, False, lambda ref: load_image(ref, read))  # what a reward opens
    assert np.array_equal(np.asarray(item.open_image()), expected[0])


def test_a_question_about_a_region_is_read_the_same_way(phantom_slide: Path) -> None:
    from eosin.cli.exams.ask import _what
    from eosin.core.errors import EosinError

    ref = _what(phantom_slide, "180,180,292,292", 1.0)
    assert isinstance(ref, SlideRegion)
    assert np.array_equal(np.asarray(load_image(ref, SlideRegions())), direct(ref))
    assert _what(phantom_slide, None, None) == phantom_slide  # the whole slide, or a picture
    for box, mpp in (("1,2,3", None), ("5,5,1,9", None), ("a,b,c,d", None), ("0,0,9,9", -1.0)):
        with pytest.raises(EosinError):
            _what(phantom_slide, box, mpp)
