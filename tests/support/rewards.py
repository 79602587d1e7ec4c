"""A user's own reward, as docs/add-a-reward.md shows it: never the same for two different replies of one length."""

from __future__ import annotations

from typing import Any


def share_of_e(item: Any, grammar: Any) -> float:
    """Share of the letter e in the reply."""
    return item.reply.count("e") / max(1, len(item.reply))


HEARD: list[Any] = []
"""What `hears` was given."""


def hears(item: Any, grammar: Any) -> float:
    """Remembers every item it is given; replies of other letters earn other rewards, so that groups differ."""
    HEARD.append(item)
    return sum(map(ord, item.reply)) % 17 / 17
