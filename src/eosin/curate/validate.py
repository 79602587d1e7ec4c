"""Does every sample hold what it says? Images decode, answers are options, files are the ones recorded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from eosin.core.errors import ImageError
from eosin.core.images import RegionReader, decode, load_image, read_bytes
from eosin.core.nouns.outcome import Dropped, Kept, Sieve, sieve
from eosin.core.nouns.sample import ImageFile, ImageRef, Sample, SlideBag, SlideRegion

STEP = "validate"
_CHUNK = 512


def validate(
    samples: Iterable[Sample],
    *,
    workers: int = 1,
    read_region: RegionReader | None = None,
    need_answer: bool = True,
    need_image: bool = False,
) -> Sieve[Sample]:
    """Set aside every sample that cannot be trained on or examined. Order is kept.

    Args:
        workers: threads that decode images (Pillow decodes outside the interpreter's lock).
        read_region: how slide regions are read; without it a region's file is only looked for.
        need_answer: whether a closed question must have an answer.
        need_image: whether a sample without images is dropped.
    """

    def check(sample: Sample) -> Kept[Sample] | Dropped:
        return _check(sample, read_region, need_answer, need_image)

    return sieve(_in_order(check, samples, workers))


def _in_order(
    check: Callable[[Sample], Kept[Sample] | Dropped], samples: Iterable[Sample], workers: int
) -> Iterator[Kept[Sample] | Dropped]:
    if workers <= 1:
        yield from map(check, samples)
        return
    rest = iter(samples)
    with ThreadPoolExecutor(workers) as pool:
        while chunk := list(islice(rest, _CHUNK)):
            yield from pool.map(check, chunk)


def _check(
    sample: Sample, read_region: RegionReader | None, need_answer: bool, need_image: bool
) -> Kept[Sample] | Dropped:
    problem = _text_problem(sample, need_answer)
    if problem is None and need_image and not sample.images:
        problem = ("no image", "")
    if problem is not None:
        return Dropped(sample.id, problem[0], problem[1], STEP)
    for i, ref in enumerate(sample.images):
        try:
            _check_image(ref, read_region)
        except ImageError as exc:
            facts = [f"image {i}", exc.where, exc.found, exc.expected]
            return Dropped(sample.id, exc.message, "; ".join(f for f in facts if f), STEP)
    return Kept(sample)


def _text_problem(sample: Sample, need_answer: bool) -> tuple[str, str] | None:
    """Reason and detail, or None. The sample's own validator has seen to the letters already."""
    if not sample.question.strip():
        return "empty question", ""
    letters = [c.letter for c in sample.choices]
    if len(letters) == 1:
        return "only one choice", sample.choices[0].text
    if any(not c.text.strip() for c in sample.choices):
        return "empty choice", ""
    if letters and sample.answer is None:
        return ("no answer", "") if need_answer else None
    if letters and sample.answer not in letters:  # only possible where validation was bypassed
        return "answer not among the choices", f"{sample.answer!r} among {letters}"
    if not letters and sample.answer is not None:
        answer = sample.answer.strip()
        if not answer:
            return "empty answer", ""
        if len(answer) == 1 and answer.isascii() and answer.isupper():
            return "empty choices", f"the answer is the letter {answer}, but there are no options"
    return None


def _check_image(ref: ImageRef, read_region: RegionReader | None) -> None:
    if isinstance(ref, SlideBag):
        _check_bag(ref, read_region)
        return
    if isinstance(ref, SlideRegion):
        if read_region is not None:
            load_image(ref, read_region)
        else:
            _look_for(ref)
        return
    data = read_bytes(ref)
    where = ref.path if isinstance(ref, ImageFile) else None
    if isinstance(ref, ImageFile) and ref.sha256 is not None and hashlib.sha256(data).hexdigest() != ref.sha256:
        raise ImageError("image file changed", expected=f"sha256 {ref.sha256}", where=where)
    decode(data, where)


def _check_bag(ref: SlideBag, read_region: RegionReader | None) -> None:
    """The bag must be readable, not empty, finite, of the encoder that is named, and have places for its patches."""
    try:
        if read_region is not None:
            read_region.bag(ref)
        else:
            from eosin.slides.features.bags import read_bag

            read_bag(ref)
    except ImageError as exc:
        slide = os.path.basename(ref.slide or ref.path)
        found = "; ".join(f for f in (exc.found, exc.next_step) if f)
        raise ImageError(
            exc.message, expected=exc.expected, found=f"slide {slide}" + (f": {found}" if found else ""),
            where=exc.where or ref.path,
        ) from None  # fmt: skip


def _look_for(ref: SlideRegion) -> None:
    if not os.path.exists(ref.path):
        raise ImageError("slide file missing", where=ref.path)
