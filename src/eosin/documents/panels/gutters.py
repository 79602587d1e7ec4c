"""A picture cut along its gutters: light bands that run through the whole of it, cut again in each piece."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

U8 = NDArray[np.uint8]
Cell = tuple[int, int, int, int]
_WORK_PX = 800
_WHITE = 238
_CLEAR = 0.985
"""Share of a band's pixels that must be of its colour; letters in it are the rest."""
_MIN_SHARE = 0.1
WIDTHS = (0.03, 0.02, 0.012, 0.007, 0.004)
"""Widths of gutters that are tried, as shares of the longer side, the widest first."""


def cuts(image: Image.Image) -> Iterator[list[Cell]]:
    """Divisions of a picture into cells [x0, y0, x1, y1] in its pixels, from wide gutters to narrow ones.

    Each division is in reading order: rows of cells from top to bottom, each from left to right.
    """
    scale = min(1.0, _WORK_PX / max(image.size))
    small = image.convert("L").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    grey = np.asarray(small)
    seen: set[tuple[Cell, ...]] = set()
    for share in WIDTHS:
        least = max(2, round(share * max(grey.shape)))
        cells = _divide(grey, (0, 0, grey.shape[1], grey.shape[0]), least, 0)
        whole = tuple(_scaled(c, scale, image) for c in reading_order(cells))
        if whole not in seen:
            seen.add(whole)
            yield list(whole)


def _scaled(cell: Cell, scale: float, image: Image.Image) -> Cell:
    x0, y0, x1, y1 = (v / scale for v in cell)
    return (round(x0), round(y0), min(image.width, round(x1)), min(image.height, round(y1)))


def _divide(grey: U8, cell: Cell, least: int, depth: int) -> list[Cell]:
    """Cells of a cell, divided along the axis that divides it into more."""
    x0, y0, x1, y1 = _trimmed(grey, cell)
    if depth >= 4 or x1 - x0 < 16 or y1 - y0 < 16:
        return [(x0, y0, x1, y1)] if x1 > x0 and y1 > y0 else []
    piece = grey[y0:y1, x0:x1]
    down = _bands(piece, least, _MIN_SHARE * grey.shape[0])
    across = _bands(piece.T, least, _MIN_SHARE * grey.shape[1])
    if len(down) <= 1 and len(across) <= 1:
        return [(x0, y0, x1, y1)]
    if len(down) >= len(across):
        pieces = [(x0, y0 + a, x1, y0 + b) for a, b in down]
    else:
        pieces = [(x0 + a, y0, x0 + b, y1) for a, b in across]
    return [cell for p in pieces for cell in _divide(grey, p, least, depth + 1)]


def _trimmed(grey: U8, cell: Cell) -> Cell:
    """A cell without its white margins."""
    x0, y0, x1, y1 = cell
    dark = grey[y0:y1, x0:x1] < _WHITE
    rows, columns = np.flatnonzero(dark.mean(1) > 1 - _CLEAR), np.flatnonzero(dark.mean(0) > 1 - _CLEAR)
    if not len(rows) or not len(columns):
        return (x0, y0, x0, y0)
    return (x0 + int(columns[0]), y0 + int(rows[0]), x0 + int(columns[-1]) + 1, y0 + int(rows[-1]) + 1)


def _bands(piece: U8, least: int, smallest: float) -> list[tuple[int, int]]:
    """Stretches of rows between gutters, each at least `smallest` high."""
    light = (piece >= _WHITE).mean(1) >= _CLEAR
    edges = np.flatnonzero(np.diff(np.concatenate(([0], light.view(np.int8), [0]))))
    gutters = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= least]
    stretches, start = [], 0
    for a, b in gutters:
        if a > start:
            stretches.append((start, a))
        start = b
    if start < len(piece):
        stretches.append((start, len(piece)))
    return [s for s in stretches if s[1] - s[0] >= smallest] if len(stretches) > 1 else [(0, len(piece))]


def reading_order(cells: list[Cell]) -> list[Cell]:
    """Cells row by row: those whose middles lie within the height of a row's first stand in that row."""
    rows: list[list[Cell]] = []
    for cell in sorted(cells, key=lambda c: (c[1] + c[3]) / 2):
        middle = (cell[1] + cell[3]) / 2
        if rows and rows[-1][0][1] <= middle <= rows[-1][0][3]:
            rows[-1].append(cell)
        else:
            rows.append([cell])
    return [cell for row in rows for cell in sorted(row)]


def grid(width: int, height: int, num: int) -> list[Cell] | None:
    """An equal grid of `num` cells, the one whose cells are nearest to squares; None where none is near to them."""
    best: tuple[float, int, int] | None = None
    for rows in range(1, num + 1):
        if num % rows:
            continue
        columns = num // rows
        ratio = (width / columns) / (height / rows)
        off = max(ratio, 1 / ratio)
        if best is None or off < best[0]:
            best = (off, rows, columns)
    if best is None or best[0] > 1.6:
        return None
    _, rows, columns = best
    return [(c * width // columns, r * height // rows, (c + 1) * width // columns, (r + 1) * height // rows)
            for r in range(rows) for c in range(columns)]  # fmt: skip
