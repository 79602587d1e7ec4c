"""Pictures, tables and captions of an exported DoclingDocument, with their boxes on the pages as Eosin reads them.

docling's boxes are in points of the page as it is shown (its visible box, turned by its own entry), counted from the
bottom left corner or from the top left one, as each box says. Eosin turns a page further where its text lies on its
side, so that boxes are turned by the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from eosin.documents.page.boxes import Box
from eosin.documents.page.page import Page
from eosin.documents.pdf.frame import Frame

SAME_SIZE_PT = 1.0
Place = tuple[int, Box]
"""Number of a page, and a box on it in points from the top left of the page as read."""


@dataclass(frozen=True)
class Told:
    """A caption of docling's: its words in one line, and where they stand."""

    text: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Thing:
    """A picture or a table of docling's.

    Attributes:
        name: docling's own, such as #/pictures/3. captions: keys of the captions that docling gives it.
        lost: why places of it were left out.
    """

    name: str
    kind: Literal["picture", "table"]
    places: tuple[Place, ...]
    captions: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass
class Seen:
    """What docling saw in a document. captions: by docling's own name."""

    things: list[Thing] = field(default_factory=list)
    captions: dict[str, Told] = field(default_factory=dict)


def seen_in(document: Mapping[str, Any], pages: Sequence[Page], turns: Mapping[int, int]) -> Seen:
    """Read an exported DoclingDocument.

    Args:
        document: what `DoclingDocument.export_to_dict` gives. pages: as Eosin read them.
        turns: quarter turns clockwise of each page beyond its own entry.
    """
    places = _Places(document, pages, turns)
    texts = {str(t.get("self_ref")): t for t in document.get("texts") or []}
    seen = Seen()
    for kind, key in (("picture", "pictures"), ("table", "tables")):
        for item in document.get(key) or []:
            names = [n for n in _references(item.get("captions")) if n in texts]
            for name in names:
                text = " ".join(str(texts[name].get("text") or "").split())
                seen.captions[name] = Told(text, places.of(texts[name])[0])
            found, lost = places.of(item)
            words = tuple(n for n in names if seen.captions[n].text)
            told: Literal["picture", "table"] = "picture" if kind == "picture" else "table"
            seen.things.append(Thing(str(item.get("self_ref")), told, found, words, lost))
    return seen


def _references(listed: Any) -> Iterator[str]:
    for entry in listed or []:
        name = entry.get("$ref") or entry.get("cref")
        if isinstance(name, str):
            yield name


class _Places:
    """Boxes of a document's items on the pages as read."""

    def __init__(self, document: Mapping[str, Any], pages: Sequence[Page], turns: Mapping[int, int]) -> None:
        self._sizes = {int(n): p["size"] for n, p in (document.get("pages") or {}).items() if p.get("size")}
        self._pages = {p.number: p for p in pages}
        self._turns = turns

    def of(self, item: Mapping[str, Any]) -> tuple[tuple[Place, ...], tuple[str, ...]]:
        """Places of an item, cut to the page; and why some were left out."""
        found: list[Place] = []
        lost: list[str] = []
        for stands in item.get("prov") or []:
            number, box = int(stands["page_no"]), stands["bbox"]
            place = self._box(number, box)
            if isinstance(place, str):
                lost.append(f"page {number}: {place}")
            else:
                found.append((number, place))
        return tuple(found), tuple(lost) if found or lost else ("no place on any page",)

    def _box(self, number: int, told: Mapping[str, Any]) -> Box | str:
        page, size = self._pages.get(number), self._sizes.get(number)
        if page is None or size is None:
            return "a page that was not read"
        wide, high = float(size["width"]), float(size["height"])
        frame = Frame(0.0, 0.0, wide, high, self._turns.get(number, 0) % 4)
        if max(abs(a - b) for a, b in zip(frame.size, page.size, strict=True)) > SAME_SIZE_PT:
            return f"the page is {wide:.0f} x {high:.0f} pt to docling"
        low, top = sorted((float(told["t"]), float(told["b"])))
        if str(told.get("coord_origin", "TOPLEFT")).upper().endswith("TOPLEFT"):
            low, top = high - top, high - low
        left, right = sorted((float(told["l"]), float(told["r"])))
        shown = frame.box(left, low, right, top).meet(page.box)
        return "outside of the page" if shown is None else shown
