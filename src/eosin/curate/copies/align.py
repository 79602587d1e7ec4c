"""Is one picture part of another? Marks that look alike give the turn, flip, scale and shift; the pixels decide.

Places are complex numbers p = x + iy. A turn with scale and shift is q = A p + B, with a flip q = A conj(p) + B; two
pairs of marks that belong together fix A and B. The best of these by the number of marks that it puts in their place is
mended by least squares, one picture is laid over the other, and the grey values of their overlap are correlated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
NEAR = 0.03
MIN_MARKS = 4
MIN_OVERLAP = 0.25
MAX_SCALE = 4.0
_MATCHES = 24


@dataclass(frozen=True)
class Seen:
    """What is kept of a picture to compare it.

    Attributes:
        thumb: (h, w) grey values, the longer side 64 px. places: (n, 3). words: (n, D), of equal spread.
    """

    thumb: F32
    places: F32
    words: F32


def likeness(first: Seen, second: Seen) -> float:
    """Correlation of the grey values where one picture shows what the other does; 0 where that is not found."""
    best = max((_whole(first.thumb, turned) for turned in orientations(second.thumb)), default=0.0)
    if best >= 0.95:
        return best
    for a, b, flipped in _ways(first, second):
        best = max(best, _overlap(first.thumb, second.thumb, a, b, flipped))
    return best


def orientations(grey: NDArray[Any]) -> list[NDArray[Any]]:
    """The eight ways in which a picture can lie."""
    made = []
    for turned in (grey, grey[:, ::-1]):
        made += [np.rot90(turned, k) for k in range(4)]
    return made


def _whole(first: F32, second: F32) -> float:
    return correlation(first, second) if first.shape == second.shape else 0.0


def correlation(first: F32, second: F32) -> float:
    """Pearson's r of two sets of grey values; 0 where one of them is nearly flat (a spread under 2 of 255)."""
    a, b = first - first.mean(), second - second.mean()
    spread = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / spread if spread > 4.0 else 0.0


def _ways(first: Seen, second: Seen) -> list[tuple[complex, complex, bool]]:
    """Up to two ways, one without and one with a flip, that bring enough marks of the first onto the second's."""
    if min(len(first.words), len(second.words)) < MIN_MARKS:
        return []
    i, j = _matched(first.words, second.words)
    p = first.places[i, 0] + 1j * first.places[i, 1]
    q = second.places[j, 0] + 1j * second.places[j, 1]
    scales = second.places[j, 2] / first.places[i, 2]
    ways = []
    for flipped in (False, True):
        way = _best_way(np.conj(p) if flipped else p, q, scales)
        if way is not None:
            ways.append((*way, flipped))
    return ways


def _matched(first: F32, second: F32) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Marks that look most alike, each of the first with its nearest of the second."""
    apart = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    j = apart.argmin(1)
    order = np.argsort(apart[np.arange(len(first)), j], kind="stable")[:_MATCHES]
    return order, j[order]


def _best_way(
    p: NDArray[np.complexfloating], q: NDArray[np.complexfloating], scales: F32
) -> tuple[complex, complex] | None:
    k, m = np.triu_indices(len(p), 1)
    far = np.abs(p[m] - p[k]) > 0.08
    k, m = k[far], m[far]
    if not len(k):
        return None
    a = (q[m] - q[k]) / (p[m] - p[k])
    size = np.abs(a)
    told = np.sqrt(scales[k] * scales[m])
    fits = (size > 1 / MAX_SCALE) & (size < MAX_SCALE) & (np.abs(np.log(np.maximum(size, 1e-9) / told)) < 0.4)
    a, k = a[fits], k[fits]
    if not len(a):
        return None
    b = q[k] - a * p[k]
    inside = np.abs(a[:, None] * p[None] + b[:, None] - q[None]) < NEAR
    best = int(inside.sum(1).argmax())
    chosen = inside[best]
    if chosen.sum() < MIN_MARKS:
        return None
    design = np.stack([p[chosen], np.ones(chosen.sum())], 1)
    (a_mended, b_mended), *_ = np.linalg.lstsq(design, q[chosen], rcond=None)
    return complex(a_mended), complex(b_mended)


def _overlap(first: F32, second: F32, a: complex, b: complex, flipped: bool) -> float:
    """Correlation where the second picture, brought back, lies over the first; 0 where that is too small a part."""
    if not 1 / MAX_SCALE < abs(a) < MAX_SCALE:
        return 0.0
    side_1, side_2 = max(first.shape), max(second.shape)
    y, x = np.mgrid[0 : first.shape[0], 0 : first.shape[1]]
    p = (x + 0.5) / side_1 + 1j * (y + 0.5) / side_1
    q = (a * (np.conj(p) if flipped else p) + b) * side_2
    qx, qy = q.real - 0.5, q.imag - 0.5
    inside = (qx >= 0) & (qy >= 0) & (qx <= second.shape[1] - 1) & (qy <= second.shape[0] - 1)
    smaller = min(first.size, second.size / (side_2 / side_1) ** 2 / abs(a) ** 2)
    if inside.sum() < max(100, MIN_OVERLAP * smaller):
        return 0.0
    qx, qy = qx[inside], qy[inside]
    x0, y0 = np.minimum(qx.astype(int), second.shape[1] - 2), np.minimum(qy.astype(int), second.shape[0] - 2)
    dx, dy = qx - x0, qy - y0
    upper = second[y0, x0] * (1 - dx) + second[y0, x0 + 1] * dx
    lower = second[y0 + 1, x0] * (1 - dx) + second[y0 + 1, x0 + 1] * dx
    return correlation(first[inside], (upper * (1 - dy) + lower * dy).astype(np.float32))
