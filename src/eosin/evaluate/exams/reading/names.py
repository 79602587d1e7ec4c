"""Names that a person typed, and the nearest known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_name(told: str, names: Iterable[str]) -> str | None:
    """The known name that is nearest to what was typed, or None where none is near."""
    known = {n.casefold(): n for n in names}
    found = difflib.get_close_matches(told.casefold(), list(known), n=1, cutoff=0.5)
    if found:
        return known[found[0]]
    inside = [n for folded, n in known.items() if told.casefold() and told.casefold() in folded]
    return inside[0] if inside else None
