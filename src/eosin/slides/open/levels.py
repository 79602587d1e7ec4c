"""Do the levels of a slide show the same picture? A pyramid that does not gives wrong tissue and wrong tiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from eosin.slides.open.backends.base import RegionError, SlideError
from eosin.slides.open.resample import read_scaled
from eosin.slides.open.slide import Slide

MAX_DIFFERENCE = 16.0  # grey levels; compression and resampling of healthy slides differ by 1 to 4
_OUT_PX = 24
_PLACES = 6


def check_levels(slide: Slide, levels: Sequence[int] | None = None) -> None:
    """Compare levels, each with the next finer one, at some places in the darkest third of the slide.

    Args:
        levels: those that will be read; None: all.

    Raises:
        SlideError: "levels disagree in content".
    """
    chosen = sorted(set(range(len(slide.level_sizes_px)) if levels is None else levels))
    for finer, level in pairwise(chosen):
        found = level_difference(slide, level, finer)
        if found > MAX_DIFFERENCE:
            raise SlideError("levels disagree in content", expected="every level shows the same picture",
                             found=f"level {level} differs from level {finer} by {found:.0f} grey levels",
                             where=slide.path)  # fmt: skip


def level_difference(slide: Slide, level: int, finer: int) -> float:
    """Mean absolute difference in grey levels between a level and a finer one, at the worst place.

    Both are compared at the coarser one's own resolution at most: what it cannot show is no disagreement.
    """
    downs = slide.level_downsamples
    side = min(max(192 * downs[finer], _OUT_PX / 2 * downs[level]), *slide.size_px)
    out_px = max(1, min(_OUT_PX, round(side / downs[level])))
    worst = 0.0
    for place in _places(slide, side):
        x, y = (v // downs[level] * downs[level] for v in place)  # whole pixels of the coarser level
        box = (x, y, x + side, y + side)
        try:
            ours, theirs = (
                read_scaled(slide.backend, n, downs[n], box, (out_px, out_px)).astype(np.float32)
                for n in (level, finer)
            )
        except RegionError:
            continue
        worst = max(worst, float(np.abs(ours - theirs).mean()))
    return worst


def _places(slide: Slide, side: float) -> list[tuple[float, float]]:
    """Upper left corners of the darkest of some squares of a coarse picture, level-0 pixels."""
    width, height = slide.size_px
    picture = slide.overview(slide.fit_px(64))[0].astype(np.float32).mean(-1)
    rows, columns = picture.shape
    order = np.argsort(picture, axis=None, kind="stable")
    chosen = order[np.linspace(0, len(order) // 3, _PLACES).astype(int)]
    return [
        (
            float(min(max(0.0, (i % columns + 0.5) / columns * width - side / 2), width - side)),
            float(min(max(0.0, (i // columns + 0.5) / rows * height - side / 2), height - side)),
        )
        for i in chosen
    ]
