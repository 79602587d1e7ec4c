"""A reply that grows, cut into what is new of each of its blocks."""

from __future__ import annotations

from eosin.core.nouns.reply import Grammar

NAMES = {"info": "findings", "observe": "findings", "think": "reasoning", "answer": "answer"}
"""What the page calls a block, by its tag."""


def block_name(tag: str) -> str:
    return NAMES.get(tag, "findings")


class BlockStream:
    """Takes a reply so far, again and again, and gives what is new of each block.

    Text outside of blocks is "other". A tag that is not whole yet is held back, and so is white space beside tags.
    """

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._sent: dict[str, str] = {}

    def feed(self, text: str, *, is_whole: bool = False) -> list[tuple[str, str]]:
        """(block, what is new), in the order of the reply. `is_whole`: nothing more comes, so nothing is held back."""
        found = []
        for name, body in self._blocks(text if is_whole else _without_open_tag(text)).items():
            sent = self._sent.get(name, "")
            if body.startswith(sent) and len(body) > len(sent):
                found.append((name, body[len(sent) :]))
                self._sent[name] = body
        return found

    def _blocks(self, text: str) -> dict[str, str]:
        """Text by block. A block that is opened twice is joined: nothing of a reply is hidden."""
        bodies: dict[str, list[str]] = {}
        current, rest = "other", text.rstrip("\ufffd")
        while rest:
            place, mark, inside = self._next_mark(rest)
            piece = rest[:place]
            if piece.strip():
                bodies.setdefault(current, []).append(piece.strip() if place < len(rest) else piece.lstrip())
            current, rest = inside, rest[place + len(mark) :]
        return {name: "\n".join(parts) for name, parts in bodies.items()}

    def _next_mark(self, text: str) -> tuple[int, str, str]:
        """Where the next tag stands, the tag, and the block behind it; the end of the text where there is none."""
        best = (len(text), "", "other")
        for tag in self._grammar.tags:
            for mark, inside in ((f"<{tag}>", block_name(tag)), (f"</{tag}>", "other")):
                place = text.find(mark)
                if 0 <= place < best[0]:
                    best = (place, mark, inside)
        return best


def _without_open_tag(text: str) -> str:
    """Without a "<..." at the end that may become a tag, and without the white space before it."""
    start = text.rfind("<")
    if start >= 0 and ">" not in text[start:] and len(text) - start < 24:
        text = text[:start]
    return text.rstrip()
