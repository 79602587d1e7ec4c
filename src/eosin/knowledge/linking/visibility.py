"""What an image can show at all. Nodes, margins, stage, gross size and history stand on no slide.

The rows of visibility.tsv say, for each kind of statement, whether an H&E tile, an H&E slide or an immunohistochemical
image can carry it. A trace that states what its image cannot show is flagged, unless the clinical context it was given
says it too. Research use only, not for diagnosis.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from eosin.core.errors import EosinError
from eosin.knowledge.linking.linker import Mention
from eosin.knowledge.linking.tables import Row, cited, read_table

Sees = Literal["he_tile", "he_slide", "ihc"]
Shown = Literal["yes", "no", "part"]
SEES: tuple[Sees, ...] = get_args(Sees)
_SHOWN: tuple[Shown, ...] = get_args(Shown)


@dataclass(frozen=True)
class Kind:
    """A kind of statement, what can show it, and how it is said."""

    name: str
    shown: dict[Sees, Shown]
    pattern: re.Pattern[str]
    needs: str
    reference: str


@dataclass(frozen=True)
class Unseen:
    """A statement that the image cannot carry, at text[start:end]."""

    kind: str
    start: int
    end: int
    text: str
    shown: Shown
    needs: str

    def record(self) -> dict[str, Any]:
        """The statement as JSON."""
        return {"kind": self.kind, "start": self.start, "end": self.end, "text": self.text, "shown": self.shown,
                "needs": self.needs}  # fmt: skip


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """The rows of visibility.tsv.

    Raises:
        EosinError: with the line, for a pattern that is none, or a cell other than yes, no, part.
    """
    return tuple(_kind(row) for row in read_table("visibility"))


def _kind(row: Row) -> Kind:
    shown: dict[Sees, Shown] = {}
    for sees in SEES:
        value = next((s for s in _SHOWN if s == row[sees]), None)
        if value is None:
            raise EosinError("A cell of the visibility table is wrong.", expected=", ".join(_SHOWN), found=row[sees],
                             where=row.where)  # fmt: skip
        shown[sees] = value
    try:
        pattern = re.compile("|".join(f"(?:{p})" for p in row.many("patterns", " || ")), re.IGNORECASE)
    except re.error as exc:
        raise EosinError("A pattern of the visibility table cannot be read.", found=str(exc), where=row.where) from None
    return Kind(row["name"], shown, pattern, row["needs"], cited(row))


def check_sees(sees: str) -> Sees:
    """The kind of image, checked.

    Raises:
        EosinError: an unknown kind.
    """
    found = next((s for s in SEES if s == sees), None)
    if found is None:
        raise EosinError("There is no such kind of image.", expected=", ".join(SEES), found=sees)
    return found


def unseen(
    text: str, sees: Sees, *, context: str = "", mentions: Sequence[Mention] = (), hints: bool = False
) -> list[Unseen]:
    """Statements of a text that the image cannot show, in order, without overlap.

    Args:
        sees: what the image is.
        context: clinical context that was given; a kind of statement that stands there may be said.
        mentions: linked mentions of the text; those of type "context" count, those of the past or the family too.
        hints: also those that the image shows only in part.
    """
    found = []
    for kind in kinds():
        shown = kind.shown[sees]
        if shown == "yes" or (shown == "part" and not hints) or kind.pattern.search(context):
            continue
        found += [Unseen(kind.name, *m.span(), m.group(), shown, kind.needs) for m in kind.pattern.finditer(text)]
    found += _of_mentions(mentions, context, sees)
    found.sort(key=lambda u: (u.start, -u.end))
    kept: list[Unseen] = []
    for one in found:
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept


def _of_mentions(mentions: Sequence[Mention], context: str, sees: Sees) -> list[Unseen]:
    """Mentions that are no part of what is seen: of the type "context", of the past, of the family."""
    folded = context.casefold()
    found = []
    for m in mentions:
        if m.text.casefold() in folded:
            continue
        if m.scope != "patient":
            needs = "the request form"
            found.append(Unseen("clinical history", m.start, m.end, m.text, "no", needs))
        elif m.type == "context" and not any(k.pattern.search(m.text) for k in kinds() if k.shown[sees] != "no"):
            found.append(Unseen("context", m.start, m.end, m.text, "no", "clinical context or the gross description"))
    return found
