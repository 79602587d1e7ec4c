"""What the text says of a figure: sentences anywhere in the document that point to it, with page and distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eosin.documents.captions.labels import mentions
from eosin.documents.references.sentences import Sentence


@dataclass(frozen=True)
class Reference:
    """A sentence that points to a figure.

    Attributes:
        number: of the figure. panels: letters of the panels that it names; empty: the whole figure.
        page: of the sentence; 0 where the document has no pages. distance: pages from the figure to it.
        place: number of the sentence in the running text.
    """

    number: str
    panels: tuple[str, ...]
    text: str
    page: int
    distance: int
    place: int

    def as_json(self) -> dict[str, object]:
        return {"panels": list(self.panels), "text": self.text, "page": self.page, "distance": self.distance,
                "sentence": self.place}  # fmt: skip


def references_to(sentences: Sequence[Sentence], figures: dict[str, int]) -> dict[str, list[Reference]]:
    """References to every figure, in the order of the text.

    Args:
        figures: number of each figure -> page that it stands on.
    """
    found: dict[str, list[Reference]] = {number: [] for number in figures}
    for sentence in sentences:
        if not any(c.isdigit() for c in sentence.text):
            continue
        panels: dict[str, list[str]] = {}
        whole: set[str] = set()
        for mention in mentions(sentence.text, figures):
            panels.setdefault(mention.number, [])
            if mention.panel:
                panels[mention.number].append(mention.panel)
            else:
                whole.add(mention.number)
        for number, letters in panels.items():
            if number in figures:
                named = () if number in whole else tuple(dict.fromkeys(letters))
                away = abs(sentence.page - figures[number]) if sentence.page else 0
                found[number].append(Reference(number, named, sentence.text, sentence.page, away, sentence.place))
    return found


def spelt_out(references: Iterable[Reference]) -> list[tuple[str, str]]:
    """Pairs of figure and panel that references name; panel "" is the whole figure."""
    return [(r.number, p) for r in references for p in (r.panels or ("",))]
