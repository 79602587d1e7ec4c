"""The statements of a reply, each with its place in the text and its standing in the knowledge graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eosin.core.nouns.reply import Grammar
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.reasoning.check import check
from eosin.serve.questions.blocks import block_name

MAX_STATEMENTS = 60
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?](?!\s|$)[^.!?\n]*)*[.!?]*")
_NUMBER = re.compile(r"\s*\d{1,3}[.)]\s+")


@dataclass(frozen=True)
class Statement:
    """A sentence of a block: reply[start:end] is its text."""

    id: str
    block: str
    text: str
    start: int
    end: int


def statements_of(reply: str, grammar: Grammar) -> list[Statement]:
    """Sentences of the findings and of the reasoning, in the order of the reply. The answer is none of them.

    A reply that breaks its form is read as far as its blocks can be told apart; one without blocks as a whole.
    """
    blocks = grammar.readable_blocks(reply)
    found: list[Statement] = []
    for tag in [t for t in grammar.tags[:-1] if blocks.get(t)]:
        begin = reply.index(blocks[tag], reply.index(f"<{tag}>"))
        found += _sentences(reply, begin, begin + len(blocks[tag]), block_name(tag), len(found))
    if not found and not blocks:
        found = _sentences(reply, 0, len(reply), "reasoning", 0)
    return found[:MAX_STATEMENTS]


def _sentences(reply: str, begin: int, end: int, block: str, num_before: int) -> list[Statement]:
    found: list[Statement] = []
    for match in _SENTENCE.finditer(reply, begin, end):
        start, stop = match.span()
        if number := _NUMBER.match(reply, start, stop):
            start = number.end()
        while start < stop and reply[start].isspace():
            start += 1
        text = reply[start:stop].rstrip()
        if any(c.isalpha() for c in text):
            found.append(Statement(f"s{num_before + len(found) + 1}", block, text, start, start + len(text)))
    return found


class Knowledge:
    """A graph and a linker that check statements."""

    def __init__(self, graph: Graph, linker: Linker, name: str = "Eosin's own tables") -> None:
        self.graph, self.linker, self.name = graph, linker, name

    def check(self, texts: Sequence[str], *, answer: str | None, sees: str) -> dict[str, Any]:
        """The report of `knowledge.reasoning.check` as JSON: one step a text, with verdict, path and mentions.

        A text that says nothing (only a number) has no step; texts of statements always have one.
        """
        return check(list(texts), self.graph, self.linker, sees=sees, answer=answer or None).record()


def standing(
    statements: Sequence[Statement], knowledge: Knowledge | None, answer: str | None, sees: str
) -> dict[str, Any]:
    """{"statements": [...], "flags": [...], "counts": {...}}: each statement with its verdict and the graph's path."""
    rows: list[dict[str, Any]] = [
        {"id": s.id, "block": s.block, "text": s.text, "verdict": None, "paths": [], "unseen": []} for s in statements
    ]
    if knowledge is None or not rows:
        return {"statements": rows, "flags": [], "counts": {}}
    report = knowledge.check([s.text for s in statements], answer=answer, sees=sees)
    for row, step in zip(rows, report["steps"], strict=False):
        row["verdict"] = step["verdict"]
        row["paths"] = [
            {"finding": s["finding"]["label"], "polarity": s["finding"]["polarity"], "verdict": s["verdict"],
             "diagnosis": s["diagnosis"]["label"], "steps": s["evidence"], "sources": s["sources"]}
            for s in step["statements"]
        ]  # fmt: skip
        row["unseen"] = [u["text"] for u in step["unseen"]]
    return {"statements": rows, "flags": report["flags"], "counts": report["counts"]}
