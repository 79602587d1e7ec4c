"""Scores of patches as boxes on a slide, in pixels of level 0 and in µm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.nouns.bags import F64, PatchBag
from eosin.core.nouns.units import BoxMicrons, to_level0

NUM_TOP = 12
MAX_BOXES = 4


def places_of(bag: PatchBag, scores: F64, mpp: float | None) -> dict[str, Any]:
    """Where the best-scored patches lie.

    The first NUM_TOP patches with positive scores are joined where they touch, corners included; of these groups the
    MAX_BOXES with most evidence are given as boxes. `share` is the part of all positive scores that lies in a group.

    Returns:
        {"boxes": [{"um": [x0, y0, x1, y1], "px": [...] or None, "share", "patches"}], "patches": [{"number", "um",
        "strength"}]}; strength is the score over the largest one.
    """
    positive = np.clip(np.asarray(scores, dtype=float), 0, None)
    total = float(positive.sum())
    if total <= 0:
        return {"boxes": [], "patches": [], "tile_um": bag.tile_um}
    top = [int(i) for i in np.argsort(-positive, kind="stable")[:NUM_TOP] if positive[i] > 0]
    groups = _touching(bag.centres_um[top], bag.tile_um)
    boxes = []
    for number in range(max(groups) + 1):
        own = [i for i, g in zip(top, groups, strict=True) if g == number]
        centres, half = bag.centres_um[own], bag.tile_um / 2
        corners = [*(centres.min(0) - half).clip(0).tolist(), *(centres.max(0) + half).tolist()]
        boxes.append({**box_of(corners, mpp), "share": round(float(positive[own].sum()) / total, 4),
                      "patches": len(own)})  # fmt: skip
    boxes.sort(key=lambda b: -b["share"])
    best = float(positive.max())
    patches = [
        {"number": int(bag.numbers[i]), "um": [round(float(v), 1) for v in bag.centres_um[i]],
         "strength": round(float(positive[i]) / best, 3)}
        for i in top
    ]  # fmt: skip
    return {"boxes": boxes[:MAX_BOXES], "patches": patches, "tile_um": bag.tile_um}


def box_of(um: list[float], mpp: float | None) -> dict[str, Any]:
    """A box in µm, and in pixels of level 0 where their scale is known."""
    box = BoxMicrons(x0=um[0], y0=um[1], x1=um[2], y1=um[3])
    px = None
    if mpp is not None:
        at = to_level0(box, mpp)
        px = [at.x0, at.y0, at.x1, at.y1]
    return {"um": [round(v, 1) for v in um], "px": px}


def _touching(centres_um: NDArray[np.float64], tile_um: float) -> list[int]:
    """The group of each patch: two patches are of one group if they touch, or if others lead from one to the other."""
    near = np.asarray((np.abs(centres_um[:, None] - centres_um[None]) <= 1.05 * tile_um).all(-1))
    group = [-1] * len(centres_um)
    for first in range(len(group)):
        if group[first] >= 0:
            continue
        number, waiting = max(group) + 1, [first]
        while waiting:
            one = waiting.pop()
            if group[one] < 0:
                group[one] = number
                waiting += [int(j) for j in np.flatnonzero(near[one]) if group[j] < 0]
    return group
