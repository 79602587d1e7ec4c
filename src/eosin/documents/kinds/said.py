"""What a caption says of its figure: stain, organ, magnification, findings with polarity."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from eosin.core.nouns.sample import Entity
from eosin.knowledge.linking.linker import Linker

_NUMBER = r"(\d{1,4}(?:[.,]\d)?)"
_TIMES = re.compile(
    rf"(?:[\u00d7xX]\s?{_NUMBER}(?![\d\w])|(?<![\d\w.]){_NUMBER}\s?(?:[\u00d7]|[xX](?![\w])|-?fold\s+magnif|fach))"
)
_MAGNIFIED = re.compile(r"magnif|objective|Vergr|power|H\s?&\s?E|stain|F\u00e4rbung|\bHE\b|original", re.I)
_BAR = re.compile(
    rf"(?:scale\s?-?bars?|bars?|Balken|Ma\u00dfstab)[^.;]{{0,30}}?{_NUMBER}\s?(\u00b5m|\u03bcm|um|microns?|mm|nm)", re.I
)
_UM = {"mm": 1000.0, "nm": 0.001}
_KINDS = {"finding", "diagnosis", "organ", "stain", "marker", "grade", "cell"}


@dataclass(frozen=True)
class Said:
    """What a caption says. magnification: how many times, the largest number; scale_bar_um in micrometres."""

    stain: str | None = None
    organ: str | None = None
    magnification: float | None = None
    scale_bar_um: float | None = None
    entities: tuple[Entity, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"stain": self.stain, "organ": self.organ, "magnification": self.magnification,
                "scale_bar_um": self.scale_bar_um}  # fmt: skip


def said_of(caption: str, linker: Linker | None = None) -> Said:
    """Stain and organ that a caption names as present, its magnification, and all entities with their polarity.

    Args:
        linker: by default Eosin's own tables.
    """
    found = [m for m in (linker or Linker.builtin()).link(caption) if m.scope == "patient"]
    stains = [m.label for m in found if m.type == "stain" and m.present]
    organs = list(dict.fromkeys(m.label for m in found if m.type == "organ" and m.present))
    entities: dict[tuple[str, str], Entity] = {}
    for m in found:
        if m.type in _KINDS and (m.concept, m.polarity) not in entities:
            entities[m.concept, m.polarity] = Entity(
                name=m.label, concept=m.concept, kind=m.type, polarity=m.polarity, certainty=m.certainty
            )
    stain = stains[0] if len(set(stains)) == 1 else None  # several stains: panels say which
    return Said(
        _short(stain), organs[0] if len(organs) == 1 else None, magnification_of(caption), scale_bar_of(caption),
        tuple(entities.values()),
    )  # fmt: skip


def _short(stain: str | None) -> str | None:
    return "H&E" if stain == "haematoxylin and eosin" else "IHC" if stain == "immunohistochemistry" else stain


def magnification_of(caption: str) -> float | None:
    """How many times a figure is magnified, as its caption says; the largest where several numbers stand there."""
    values = []
    for found in _TIMES.finditer(caption):
        value = float((found[1] or found[2]).replace(",", "."))
        near = caption[max(0, found.start() - 60) : found.end() + 60]
        if 1 <= value <= 100_000 and (_MAGNIFIED.search(near) or found.group()[0] in "\u00d7"):
            values.append(value)
    return max(values) if values else None


def scale_bar_of(caption: str) -> float | None:
    """Length of the scale bar in micrometres; None where none, or several lengths, are said."""
    lengths = {float(n.replace(",", ".")) * _UM.get(unit.lower(), 1.0) for n, unit in _BAR.findall(caption)}
    return lengths.pop() if len(lengths) == 1 else None
