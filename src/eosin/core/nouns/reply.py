"""The one reply grammar that data, prompt, reward, exam and viewer all read.

The tag set is data: `think/answer` (PathVLM-R1, arXiv 2504.09258; Patho-R1, arXiv 2505.11404),
`info/think/answer` and `observe/think/answer` (PathReasoner-R1, arXiv 2601.21617: its data writes the
first, its reward reads the second, so that its format reward is always 0).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Parsed, Unparsed


@dataclass(frozen=True)
class Reply:
    """A reply cut into its blocks. `blocks[tag]` is the stripped text inside that tag."""

    blocks: Mapping[str, str]

    @property
    def answer(self) -> str:
        return self.blocks.get("answer", "")

    @property
    def think(self) -> str:
        return self.blocks.get("think", "")

    @property
    def findings(self) -> str:
        """The findings block, under whichever tag the grammar gives it."""
        return self.blocks.get("info") or self.blocks.get("observe") or ""


ThinkStyle = Literal["plain", "chain-of-thought", "chain-of-draft"]
THINK_STYLES: dict[str, str] = {
    "plain": "",
    "chain-of-thought": " Think step by step in full sentences.",
    "chain-of-draft": " Think step by step, but write at most five words for each step.",
}
"""What the prompt says of how to think. Patho-R1 (arXiv 2505.11404) asks in both ways; the wording is Eosin's."""


OptionStyle = Literal["A.", "A)", "(A)", "words"]
"""How options stand in a prompt: lettered in one of three ways, or as words without letters."""
Bare = Literal["", "whole", "last line"]


@dataclass(frozen=True)
class Grammar:
    """Exactly one block of each tag, in order, with only white space outside and no tag inside a block.

    Attributes:
        tags: block names in order; the last one is the answer.
        numbered_steps: whether the steps of the think block are lines "1. ...", "2. ...".
        think_style: what the prompt says of how to think; no reward looks at it.
        options: how the prompt writes the options.
        ask: what the prompt says of the reply, in place of its own words.
        bare: a reply without tags. "whole": all of it is the answer; "last line": its last line is, behind "Answer:".
            Thinking that a model left in front ("...</think>") is no part of the answer.
    """

    tags: tuple[str, ...]
    numbered_steps: bool = False
    think_style: ThinkStyle = "plain"
    options: OptionStyle = "A."
    ask: str = ""
    bare: Bare = ""

    def __post_init__(self) -> None:
        bad = [t for t in self.tags if not re.fullmatch(r"[a-z][a-z0-9_]*", t)]
        if bad or len(set(self.tags)) != len(self.tags) or self.tags[-1:] != ("answer",):
            raise EosinError(
                "This is not a usable tag set.",
                expected="different lower-case words, the last one `answer`, for example think/answer",
                found="/".join(self.tags),
            )

    @property
    def name(self) -> str:
        return "/".join(self.tags)

    @classmethod
    def of(
        cls, name: str, *, numbered_steps: bool = False, think_style: ThinkStyle = "plain", options: OptionStyle = "A.",
        ask: str = "", bare: Bare = "",
    ) -> Grammar:  # fmt: skip
        """The grammar of a name such as "think/answer"."""
        return cls(tuple(name.split("/")), numbered_steps, think_style, options, ask, bare)

    def as_facts(self) -> dict[str, Any]:
        """For a record; `Grammar.of(facts.pop("tags"), **facts)` is the same grammar again."""
        return {"tags": self.name, "numbered_steps": self.numbered_steps, **self.further()}

    def further(self) -> dict[str, str]:
        """What differs from a plain grammar of these tags. Records of before these fields were there have none."""
        told = {"think_style": ("plain", self.think_style), "options": ("A.", self.options), "ask": ("", self.ask),
                "bare": ("", self.bare)}  # fmt: skip
        return {name: value for name, (usual, value) in told.items() if value != usual}

    @cached_property
    def _any_tag(self) -> re.Pattern[str]:
        return re.compile(r"<(/?)(" + "|".join(self.tags) + r")>")

    @property
    def findings_tag(self) -> str | None:
        """The tag of the findings block, or None where the grammar has none."""
        return next((t for t in self.tags if t not in ("think", "answer")), None)

    def instruction(self) -> str:
        """What the prompt says about the form of the reply."""
        if self.ask:
            return self.ask
        shape = "".join(f"<{t}>...</{t}>" for t in self.tags)
        return f"Reply in this form: {shape}{THINK_STYLES[self.think_style]}"

    def join_steps(self, steps: Sequence[str]) -> str:
        """Steps of a trace as the text of a think block."""
        if self.numbered_steps:
            return "\n".join(f"{i}. {s}" for i, s in enumerate(steps, 1))
        return " ".join(steps)

    def split_steps(self, think: str) -> tuple[str, ...]:
        """The inverse of `join_steps` where steps are numbered; else the sentences of the block."""
        if self.numbered_steps:
            parts = re.split(r"(?m)^\s*\d{1,3}\.\s+", think)
            return tuple(p.strip() for p in parts if p.strip())
        return tuple(p.strip() for p in re.split(r"(?<=[.!?])\s+", think) if p.strip())

    def render(self, blocks: Mapping[str, str]) -> str:
        """Write a reply. Raises EosinError if a block is missing, unknown, or holds a tag."""
        if set(blocks) != set(self.tags):
            raise EosinError("A reply needs each of its blocks.", expected=self.name, found="/".join(blocks))
        for tag, text in blocks.items():
            if self._any_tag.search(text):
                raise EosinError(f"The text of the {tag} block holds a tag of the grammar.", found=text[:80])
        return "\n".join(f"<{t}>{blocks[t].strip()}</{t}>" for t in self.tags)

    def parse(self, text: str) -> Parsed[Reply] | Unparsed:
        """Strict parse. The reason of a failure is a short fixed phrase."""
        if self.bare:
            return self._parse_bare(text)
        blocks: dict[str, str] = {}
        found = [(m.group(1) == "/", m.group(2), m.start(), m.end()) for m in self._any_tag.finditer(text)]
        order = [(closing, tag) for closing, tag, _, _ in found]
        wanted = [(closing, tag) for tag in self.tags for closing in (False, True)]
        if order != wanted:
            return Unparsed(self._why_not(order))
        end = 0
        for opening, closing in zip(found[::2], found[1::2], strict=True):
            if text[end : opening[2]].strip():
                return Unparsed("text outside the blocks")
            blocks[opening[1]] = text[opening[3] : closing[2]].strip()
            end = closing[3]
        if text[end:].strip():
            return Unparsed("text outside the blocks")
        return Parsed(Reply(blocks))

    def _parse_bare(self, text: str) -> Parsed[Reply] | Unparsed:
        """A reply without tags, without the thinking in front of it."""
        before, closed, said = text.rpartition("</think>")
        if not closed and text.lstrip().startswith("<think>"):
            return Unparsed("thinking not closed")
        think = before.strip().removeprefix("<think>").strip()
        said = said.strip()
        if self.bare == "last line":
            *earlier, said = said.split("\n")
            match = _ANSWER_LINE.match(said)
            if match is None:
                return Unparsed("no answer line")
            think, said = "\n".join(t for t in (think, *earlier) if t).strip(), match.group(1)
        return Parsed(Reply({"think": think, "answer": said.strip()})) if said.strip() else Unparsed("empty reply")

    def _why_not(self, order: list[tuple[bool, str]]) -> str:
        for tag in self.tags:
            opened, closed = order.count((False, tag)), order.count((True, tag))
            if opened == 0:
                return f"no <{tag}>"
            if closed == 0:
                return f"<{tag}> not closed"
            if opened > 1 or closed > 1:
                return f"<{tag}> more than once"
        return "blocks out of order or nested"

    def readable_blocks(self, text: str) -> dict[str, str]:
        """The blocks that can be told apart although the form is broken, by tag; all of them where it is not.

        For reward terms that judge content: a slip of form costs the format term, once. A block is readable if its
        tag is opened once; it ends at the next tag, whichever that is. The answer must also come last: behind the tag
        that ends it stands nothing but its own closing tag. Two answers, or one inside another block, are none. What
        stands outside of blocks is never read.
        """
        tags = [(m.group(1) == "/", m.group(2), m.start(), m.end()) for m in self._any_tag.finditer(text)]
        times_opened = Counter(tag for closing, tag, _, _ in tags if not closing)
        blocks: dict[str, str] = {}
        for i, (closing, tag, _, begin) in enumerate(tags):
            if closing or times_opened[tag] != 1:
                continue
            stop = tags[i + 1][2] if i + 1 < len(tags) else len(text)
            if tag == self.tags[-1] and not self._ends(tags[i + 1 :], tag, text):
                continue
            blocks[tag] = text[begin:stop].strip()
        return blocks

    @staticmethod
    def _ends(rest: list[tuple[bool, str, int, int]], tag: str, text: str) -> bool:
        """Whether a block that is followed by the tags `rest` closes the reply."""
        if not rest:
            return True
        strays = [(closing, name) for closing, name, _, _ in rest[1:]]
        return rest[0][0] and strays in ([], [(True, tag)]) and not _between(rest, text).strip()

    def one_answer(self, text: str) -> Parsed[str] | Unparsed:
        """The answer block, where there is exactly one, closed, without a tag inside, and inside no other block."""
        tag = self.tags[-1]
        tags = [(m.group(1) == "/", m.group(2), m.start(), m.end()) for m in self._any_tag.finditer(text)]
        own = [i for i, (_, name, _, _) in enumerate(tags) if name == tag]
        if [tags[i][0] for i in own] != [False, True]:
            return Unparsed("not exactly one answer block")
        first, last = own
        if last != first + 1:
            return Unparsed("a tag inside the answer")
        before, after = tags[first - 1] if first else None, tags[last + 1] if last + 1 < len(tags) else None
        if before is not None and after is not None and not before[0] and after[:2] == (True, before[1]):
            return Unparsed("the answer stands inside another block")
        return Parsed(text[tags[first][3] : tags[last][2]].strip())

    def first_blocks(self, text: str, *, or_whole: bool = False) -> dict[str, str]:
        """The first closed block of each tag, wherever it stands, as the released code of PathReasoner-R1 reads it.

        Args:
            or_whole: as that code does, an answer that is missing is the whole reply, and so is the reasoning where
                neither a findings block nor a think block is found.
        """
        blocks: dict[str, str] = {}
        for tag in self.tags:
            start = text.find(f"<{tag}>")
            stop = text.find(f"</{tag}>", start)
            if start >= 0 and stop >= 0:
                blocks[tag] = text[start + len(tag) + 2 : stop].strip()
        if or_whole:
            blocks.setdefault(self.tags[-1], text.strip())
            if set(blocks) == {self.tags[-1]}:
                blocks["think"] = text.strip()
        return blocks

    def is_somewhere(self, text: str) -> bool:
        """Whether the blocks stand one after the other somewhere in the text, whatever is around or inside them, as
        the released code of PathReasoner-R1 looks for its format."""
        place = text.find(f"<{self.tags[0]}>")
        for tag, following in zip(self.tags, self.tags[1:], strict=False):
            found = re.compile(rf"</{tag}>\s*<{following}>").search(text, place) if place >= 0 else None
            place = found.end() if found else -1
        return place >= 0 and text.find(f"</{self.tags[-1]}>", place) >= 0

    def parse_tolerant(self, text: str) -> Parsed[Reply] | Unparsed:
        """What a lenient reader would take: the last block of each tag, closed or cut off.

        Reported beside the strict parse, never instead of it. Without any answer block it is unparsed:
        it never falls back to searching the whole reply. Of a bare form the whole reply is the answer, and where its
        answer line is not the last one, the last such line is taken.
        """
        if self.bare:
            strict = self._parse_bare(text)
            lines = [m.group(1) for m in map(_ANSWER_LINE.match, text.rpartition("</think>")[2].split("\n")) if m]
            return Parsed(Reply({"answer": lines[-1].strip()})) if isinstance(strict, Unparsed) and lines else strict
        blocks: dict[str, str] = {}
        for tag in self.tags:
            start = text.rfind(f"<{tag}>")
            if start < 0:
                continue
            body = text[start + len(tag) + 2 :]
            stop = self._any_tag.search(body)
            blocks[tag] = (body[: stop.start()] if stop else body).strip()
        if not blocks.get("answer"):
            return Unparsed("no answer block")
        return Parsed(Reply(blocks))


_ANSWER_LINE = re.compile(r"^[\s*#>-]*(?:the\s+)?(?:final\s+)?answer\**\s*(?:is\s*:?|[:=])\**\s*(\S.*)$", re.IGNORECASE)


def _between(rest: list[tuple[bool, str, int, int]], text: str) -> str:
    """What stands behind the first of the tags `rest`, without the tags."""
    stops = [begin for _, _, begin, _ in rest[1:]] + [len(text)]
    return "".join(text[end:stop] for (_, _, _, end), stop in zip(rest, stops, strict=True))
