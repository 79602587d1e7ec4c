"""Does every sample hold what it says? Images decode, answers are options, files are the ones recorded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.formats.options import is_lone_letter
from eosin.core.images import RegionReader, decode, load_image, read_bytes, size_of
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import ImageFile, ImageRef, Sample, SlideBag, SlideRegion

STEP = "validate"
REFUSED = "image refused by the model's processor"
_CHUNK = 512
_TAGS = re.compile(r"</?(?:think|answer|info|observe)>")
Refuses = Callable[[int, int], str | None]
"""Whether the model's processor refuses a picture of this width and height, and in which words."""


def validate(
    samples: Iterable[Sample],
    *,
    workers: int = 1,
    read_region: RegionReader | None = None,
    need_answer: bool = True,
    need_image: bool = False,
    refuses: Refuses | None = None,
) -> Filtered[Sample]:
    """Set aside every sample that cannot be trained on or examined. Order is kept.

    Args:
        workers: threads that decode images (Pillow decodes outside the interpreter's lock).
        read_region: how slide regions are read; without it a region's file is only looked for.
        need_answer: whether a closed question must have an answer.
        need_image: whether a sample without images is dropped.
        refuses: what says which shapes of pictures the model's processor refuses.
    """

    def check(sample: Sample) -> Kept[Sample] | Dropped:
        problem = _text_problem(sample, need_answer)
        if problem is None and need_image and not sample.images:
            problem = ("no image", "")
        if problem is not None:
            return Dropped(sample.id, problem[0], problem[1], STEP)
        return _check_images(sample, read_region, refuses)

    return filtered(_in_order(check, samples, workers))


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


def _check_images(sample: Sample, read_region: RegionReader | None, refuses: Refuses | None) -> Kept[Sample] | Dropped:
    for i, ref in enumerate(sample.images):
        try:
            picture = _check_image(ref, read_region)
            if picture is not None:
                _check_shape(picture, refuses)
                _check_boxes(sample, i, picture)
        except ImageError as exc:
            facts = [f"image {i}", exc.where, exc.found, exc.expected]
            return Dropped(sample.id, exc.message, "; ".join(f for f in facts if f), STEP)
    return Kept(sample)


def without_refused(samples: Iterable[Sample], refuses: Refuses) -> Filtered[Sample]:
    """Set aside samples with a picture that the model's processor refuses, by the pictures' headers alone."""

    def check(sample: Sample) -> Kept[Sample] | Dropped:
        for i, ref in enumerate(sample.images):
            if isinstance(ref, SlideBag | SlideRegion):
                continue
            try:
                width, height = size_of(ref)
            except ImageError:
                continue  # whoever shows it counts it
            words = refuses(width, height)
            if words is not None:
                return Dropped(sample.id, REFUSED, f"image {i}; {width} x {height} px: {words}", STEP)
        return Kept(sample)

    return filtered(check(s) for s in samples)


def _check_shape(picture: Image.Image, refuses: Refuses | None) -> None:
    words = refuses(picture.width, picture.height) if refuses is not None else None
    if words is not None:
        found = f"{picture.width} x {picture.height} px: {words}"
        raise ImageError(REFUSED, found=found)


def _check_boxes(sample: Sample, index: int, picture: Image.Image) -> None:
    """A box is in pixels of the picture as it is shown. One whose middle lies outside was drawn on another picture."""
    for entity in sample.entities:
        for box in entity.boxes if entity.image == index else ():
            if not (0 <= (box.x0 + box.x1) / 2 <= picture.width and 0 <= (box.y0 + box.y1) / 2 <= picture.height):
                raise ImageError(
                    "box outside the image", expected=f"within {picture.width} x {picture.height} px",
                    found=f"{entity.name}: {box.x0}, {box.y0} to {box.x1}, {box.y1}",
                )  # fmt: skip


def _text_problem(sample: Sample, need_answer: bool) -> tuple[str, str] | None:
    """Reason and detail, or None. The sample's own validator has seen to the letters already."""
    if not sample.question.strip():
        return "empty question", ""
    tagged = _tagged(sample)
    if tagged:
        return "tag of a reply in the text", tagged
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
        if is_lone_letter(answer):
            return "empty choices", f"the answer is the letter {answer}, but there are no options"
    return None


def _tagged(sample: Sample) -> str | None:
    """A gold text that holds a tag of a grammar: written as a reply, it would be read as two."""
    texts = [*sample.reasoning, sample.findings, sample.answer, *(c.text for c in sample.choices)]
    return next((t[:120] for t in texts if t and _TAGS.search(t)), None)


def _check_image(ref: ImageRef, read_region: RegionReader | None) -> Image.Image | None:
    """The picture of a reference, or None where it is a bag, or a region without a reader."""
    if isinstance(ref, SlideBag):
        _check_bag(ref, read_region)
        return None
    if isinstance(ref, SlideRegion):
        if read_region is not None:
            return load_image(ref, read_region)
        _look_for(ref)
        return None
    data = read_bytes(ref)
    where = ref.path if isinstance(ref, ImageFile) else None
    if isinstance(ref, ImageFile) and ref.sha256 is not None and hashlib.sha256(data).hexdigest() != ref.sha256:
        raise ImageError("image file changed", expected=f"sha256 {ref.sha256}", where=where)
    return decode(data, where)


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
