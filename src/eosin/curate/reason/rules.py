"""Rules that a written chain must pass, each with its name. They cost nothing, so they stand before the second call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from eosin.core.nouns.sample import Sample
from eosin.curate.reason.templates import DRAFT_WORDS, Template
from eosin.curate.texts.language import language_of
from eosin.curate.texts.marks import leaks, left_overs, repeated
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker, Mention
from eosin.knowledge.linking.visibility import unseen
from eosin.knowledge.reasoning.check import check

Problem = tuple[str, str]
_TAGS = re.compile(r"</?[a-z_]+>|<\||\|>")
_LETTERS = re.compile(r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+\(?[A-H]\b|\([A-H]\)")
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget)\b[^.]{0,40}\b(?:above|previous|prior|earlier|all|these|instructions?|rules?)\b"
    r"|\b(?:you are|act as|pretend to be)\b[^.]{0,30}\b(?:now|an? (?:AI|assistant|model))\b"
    r"|\b(?:system|developer) prompt\b"
    r"|\b(?:reply|respond|answer|output|say)\b[^.]{0,25}\b(?:only|exactly|with the word)\b"
    r"|<\|?(?:im_start|system|assistant)\b|\[/?INST\]",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w{4,}")
MIN_SHARED = 2


@dataclass(frozen=True)
class Source:
    """What a chain is written from, as text and as linked mentions."""

    text: str
    mentions: tuple[Mention, ...]


def source_of(sample: Sample, linker: Linker) -> Source:
    """Caption, findings, label, answer and references of a sample."""
    references = sample.extra.get("references")
    said = [str(r) for r in references] if isinstance(references, list) else []
    named = [f"{'no ' if e.polarity == 'absent' else ''}{e.name}" for e in sample.entities]
    texts = [sample.caption, sample.findings, sample.label, sample.answer_text, *said, *named]
    text = ". ".join(t.strip().rstrip(".") for t in texts if t and t.strip())
    return Source(text, linker.link(text))


def orders_in(text: str) -> str | None:
    """Words inside a source that are meant for a model and not for a reader; None where there are none."""
    found = _ORDERS.search(text)
    return found.group()[:80] if found else None


class Rules:
    """All rules, with the graph and the names that they need.

    Args:
        language: code that chains must be in.
        draft: whether steps are drafts of at most five words.
    """

    def __init__(self, graph: Graph, linker: Linker, *, language: str = "en", draft: bool = False) -> None:
        self._graph, self._linker = graph, linker
        self._language, self._draft = language, draft

    def problem(self, made: Sample, source: Source, template: Template) -> Problem | None:
        """The first rule that a chain breaks, and what was seen; None for a chain that passes all."""
        return next(self._problems(made, source, template), None)

    def _problems(self, made: Sample, source: Source, template: Template) -> Iterator[Problem]:
        steps = made.reasoning
        answer = made.answer_text or ""
        earlier = [m.text for m in made.messages[:-1]]
        text = "\n".join([*steps, answer, *earlier])
        yield from self._form(made, template, text)
        yield from self._words(text, steps)
        context = made.question if template.task == "multiple-choice" else ""
        seen = unseen(text, template.sees, context=context, mentions=self._linker.link(text))
        hidden = [u for u in seen if u.kind not in template.allows]
        if hidden:
            yield "states what no image can show", f"{hidden[0].text!r} ({hidden[0].kind})"
        yield from self._against_source(text, source)
        report = check(steps, self._graph, self._linker, sees=template.sees, answer=answer, max_hops=0)
        wrong = next((s.text for s in report.steps if s.verdict == "contradicted"), None)
        if wrong:
            yield "contradicts the knowledge graph", wrong[:120]

    def _form(self, made: Sample, template: Template, text: str) -> Iterator[Problem]:
        """Tags, letters of options, numbers of steps and words."""
        steps = made.reasoning
        if (tag := _TAGS.search(text)) is not None:
            yield "tag inside the text", tag.group()
        if (letter := _LETTERS.search(" ".join(steps))) is not None and made.choices:
            yield "names options by letter", letter.group()
        low, high = template.steps
        if not low <= len(steps) <= high:
            yield "wrong number of steps", f"{len(steps)}, {low} to {high} asked for"
        words = sum(len(s.split()) for s in steps)
        if self._draft:
            long = next((s for s in steps if len(s.split()) > DRAFT_WORDS), None)
            if long:
                yield "a draft step is too long", long[:80]
        elif not template.words[0] <= words <= template.words[1]:
            yield "outside the length band", f"{words} words, {template.words[0]} to {template.words[1]} asked for"

    def _words(self, text: str, steps: tuple[str, ...]) -> Iterator[Problem]:
        """Leaks, left-overs, repetition, language."""
        for name, test in (("leaks its source", leaks), ("template left-overs", left_overs), ("repetition", repeated)):
            if (hit := test(text)) is not None:
                yield name, hit[:80]
        if len({s.casefold() for s in steps}) < len(steps):
            yield "repetition", "two steps are the same"
        language = language_of(text)
        if language not in (None, self._language):
            yield "mixed languages" if language == "mixed" else "other language", str(language)

    def _against_source(self, text: str, source: Source) -> Iterator[Problem]:
        """Polarity of what both name; diagnoses that only the chain states; a text about something else."""
        known: dict[str, set[str]] = {}
        for m in source.mentions:
            known.setdefault(m.concept, set()).add(m.polarity)
        own = [m for m in self._linker.link(text) if not m.possible and m.scope == "patient" and not m.alternatives]
        for m in own:
            if m.concept in known and m.polarity not in known[m.concept] and m.type != "diagnosis":
                yield "contradicts the polarity of its source", f"{m.label} is {m.polarity} in the chain"
        shared = {m.concept for m in own} & known.keys()
        words = {w.casefold() for w in _WORD.findall(text)} & {w.casefold() for w in _WORD.findall(source.text)}
        if not shared and len(words) < MIN_SHARED:
            yield "not about its source", text[:80]
        if orders_in(text) is not None:
            yield "follows instructions of its source", str(orders_in(text))
