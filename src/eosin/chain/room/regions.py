"""A box of a slide as one picture, for models that read pictures."""

from __future__ import annotations

from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import SlideRegion
from eosin.core.nouns.units import BoxLevel0
from eosin.serve.questions.base import Seen
from eosin.slides.features.regions import SlideRegions
from eosin.slides.open.slide import open_slide

REGION_PX = 1024
"""A region is read so that its longer side has at most this many pixels."""


def region_seen(regions: SlideRegions, path: Path, box: BoxLevel0 | None, slide_mpp: float | None) -> Seen:
    """The pixels of a box, or of the whole slide.

    Args:
        slide_mpp: µm per pixel of level 0, for slides that do not state it.

    Raises:
        EosinError: the slide cannot be read, or states no scale while the region must be shrunk.
    """
    with open_slide(path, mpp=slide_mpp) as slide:
        mpp, (wide, high) = slide.mpp if slide.has_mpp else None, slide.size_px
    box = box or BoxLevel0(x0=0, y0=0, x1=wide, y1=high)
    longest = max(box.x1 - box.x0, box.y1 - box.y0)
    shrink = max(1.0, longest / REGION_PX)
    if mpp is None and shrink > 1:
        raise EosinError("This slide does not state its scale, and the region is too large to be shown as it is.",
                         expected=f"at most {REGION_PX} pixels", found=f"{longest}",
                         next_step="draw a smaller box, or give --slide-mpp")  # fmt: skip
    ref = SlideRegion(path=str(path), box=box, mpp=None if mpp is None else mpp * shrink)
    return Seen(regions(ref), ref, mpp)
