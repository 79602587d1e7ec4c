"""A figure becomes panels: its gutters give the boxes, letters in it or the order of reading give their names."""

from __future__ import annotations

import re

from eosin.documents.item import Item, Panel
from eosin.documents.panels.gutters import Cell, cuts, grid
from eosin.documents.panels.parts import Part, parts_of

_LETTER = re.compile(r"^\(?([A-Za-z])[).:]?$")
MAX_PANELS = 26


def divide(item: Item) -> list[Panel]:
    """Panels of a figure with their parts of the caption; empty where it is one picture.

    The caption says how many there are. Gutters of the width that gives so many are taken, else an equal grid where
    there are none at all. Without such a caption a figure is divided only where it was stored as several pictures.
    """
    if item.image is None:
        return []
    parts = parts_of(item.caption)
    if 2 <= len(parts) <= MAX_PANELS:
        found = _cells(item, len(parts))
        if found is not None:
            return _named(item, found[0], parts, found[1])
    if len(item.place.get("parts_pt", ())) > 1 or item.place.get("pixels") == "drawn":
        return _by_pieces(item)
    return []


def _cells(item: Item, num: int) -> tuple[list[Cell], str] | None:
    """Boxes of `num` panels and how they were found."""
    assert item.image is not None
    fewest = MAX_PANELS
    for cells in cuts(item.image):
        if len(cells) == num:
            return cells, "gutters"
        fewest = min(fewest, len(cells))
    if fewest > 1:
        return None
    equal = grid(*item.image.size, num)
    return (equal, "grid") if equal is not None else None


def _named(item: Item, cells: list[Cell], parts: list[Part], how: str) -> list[Panel]:
    """Cells with letters: by letters that stand in or at them as text, where every cell has its own, else in order."""
    letters = [p.letter for p in parts]
    read = _letters_at(item, cells)
    if sorted(read) == sorted(letters):
        texts = {p.letter: p.text for p in parts}
        panels = [Panel(c, list(box), texts[c], "letters") for box, c in zip(cells, read, strict=True)]
        return sorted(panels, key=lambda p: p.letter)
    return [Panel(p.letter, list(box), p.text, how) for p, box in zip(parts, cells, strict=True)]


def _letters_at(item: Item, cells: list[Cell]) -> list[str]:
    """The letter that stands as text nearest to the upper left corner of each cell; empty where none is near."""
    words = [(m[1].lower(), box) for text, box in item.words if (m := _LETTER.match(text.strip())) is not None]
    read = []
    for x0, y0, x1, y1 in cells:
        reach = 0.3 * max(x1 - x0, y1 - y0)
        near = sorted(
            (abs(b[0] - x0) + abs((b[1] + b[3]) / 2 - y0), letter) for letter, b in words
            if x0 - reach < (b[0] + b[2]) / 2 < x1 and y0 - reach < (b[1] + b[3]) / 2 < y1
        )  # fmt: skip
        read.append(near[0][1] if near else "")
    return read


def _by_pieces(item: Item) -> list[Panel]:
    """Panels without letters, where wide gutters divide a figure into as many cells as it was stored in."""
    assert item.image is not None
    num = len(item.place.get("parts_pt", ()))
    for cells in cuts(item.image):
        if 2 <= len(cells) == num <= MAX_PANELS:
            return [Panel("", list(box), "", "gutters") for box in cells]
    return []
