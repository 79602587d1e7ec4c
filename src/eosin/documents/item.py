"""A figure on its way from a reader to its record, whatever kind of document it stands in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from eosin.core.nouns.outcome import Dropped
from eosin.documents.references.references import Reference

STEP = "documents"


@dataclass
class About:
    """What a document says of itself.

    Attributes:
        name: the key under which its results stand. file: name of the file. kind: pdf, jats, epub, html.
        article: what is never divided between splits: the DOI, the PMC number, else the name.
        licence: SPDX identifier, the licence's own words, or "unknown".
        retracted: what says so; empty where nothing does.
        pages: {"number", "width", "height", "turn"} of each page in points; empty where there are none.
    """

    name: str
    file: str
    kind: str
    article: str
    title: str = ""
    licence: str = "unknown"
    licence_text: str = ""
    retracted: str = ""
    pages: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Panel:
    """A part of a figure.

    Attributes:
        letter: lower case, or a word of place such as "left"; empty where it has none.
        box: [x0, y0, x1, y1] in pixels of the figure's image. caption: its own part of the caption.
        how: letters (read in the picture), order (letters of the caption in reading order), grid.
        kind: name and score of what it is; None where it was not looked at.
    """

    letter: str
    box: list[int]
    caption: str = ""
    how: str = ""
    kind: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        told = {"letter": self.letter, "box_px": self.box, "caption": self.caption, "how": self.how}
        return told | ({"kind": self.kind} if self.kind is not None else {})


@dataclass
class Item:
    """A figure. `place` holds what only documents with pages know: page, box, caption's page and box, pixels a point.

    Attributes:
        image: its pixels, RGB; None where they are missing, and `why` says so. encoded: the file's own bytes, where
            they can be kept as they are.
        words: text in and at the picture, with boxes in its pixels. kind: name and score of what it is.
    """

    number: str
    label: str
    caption: str
    numbers: tuple[str, ...] = ()
    place: dict[str, Any] = field(default_factory=dict)
    how: str = ""
    licence: str = ""
    permission: str = ""
    references: list[Reference] = field(default_factory=list)
    words: list[tuple[str, list[float]]] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    kind: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    image: Image.Image | None = None
    encoded: bytes | None = None
    why: Dropped | None = None


@dataclass
class Reading:
    """A document that is being read: what it is, and its figures one at a time, so that one picture is held at a time.

    Attributes:
        items: runs through the figures once; those without pixels say why.
        dropped: filled while `items` runs: what else was set aside.
        aside: places set aside, for the page to look at: {"page", "box", "reason"}.
    """

    about: About
    items: Iterator[Item]
    dropped: list[Dropped] = field(default_factory=list)
    aside: list[dict[str, Any]] = field(default_factory=list)
    tables: int = 0
