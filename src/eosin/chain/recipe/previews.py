"""Small pictures of slide regions and whole slides for the report, which reads no slides itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import RegionReader
from eosin.core.nouns.sample import ImageRef, Sample, SlideBag, SlideRegion
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.report.drawing.pictures import PREVIEW_PX, encode_jpeg, preview_path
from eosin.report.pages.run import shown_samples


def preview_run(root: Path, splits: Mapping[str, Sequence[Sample]], read_region: RegionReader) -> int:
    """Write previews of the samples that the report of a run will show; returns how many. Called before the report."""
    in_slides = [s for samples in splits.values() for s in samples if _in_slide(s)]
    return write_previews(root, shown_samples(root), in_slides, read_region) if in_slides else 0


def write_previews(root: Path, wanted: Iterable[str], samples: Iterable[Sample], read_region: RegionReader) -> int:
    """Write previews of the wanted samples whose first image is a region of a slide or a whole slide.

    A preview that stands already is kept. A picture that cannot be read gives none; the report then says so.

    Args:
        root: folder of the run or of the exam; the previews stand below it, where the report looks for them.
        wanted: ids of samples.

    Returns:
        The number of previews written.
    """
    ids = set(wanted)
    written = 0
    for sample in samples:
        place = preview_path(root, sample.id)
        if sample.id not in ids or not _in_slide(sample) or place.exists():
            continue
        picture = _picture(sample.images[0], read_region)
        if picture is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(place, encode_jpeg(picture, PREVIEW_PX))
            written += 1
    return written


def _in_slide(sample: Sample) -> bool:
    return bool(sample.images) and isinstance(sample.images[0], SlideRegion | SlideBag)


def _picture(ref: ImageRef, read_region: RegionReader) -> Image.Image | None:
    """Pixels of a region, or the thumbnail of a bag's slide; None where there are none to be had."""
    try:
        if isinstance(ref, SlideRegion):
            return read_region(ref)
        if isinstance(ref, SlideBag) and ref.slide is not None:
            from eosin.slides.open.slide import open_slide

            with open_slide(ref.slide) as slide:
                return Image.fromarray(slide.thumbnail(PREVIEW_PX))
    except (EosinError, ImageError, OSError):
        return None
    return None
