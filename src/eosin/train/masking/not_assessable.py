"""Targets for a slide from which patches were taken out: what lost its evidence is said to be not assessable.

Eosin's own part of pseudo-bag masking: the paper keeps the target as it is, so that a model learns to name what it
cannot see. A finding that is not assessable is neither present nor absent: it leaves the gold entities, and the linker
gives what is said of it the scope "unassessed", so that it is no claim in any score.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Choice, Entity, Sample
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.terms.base import Resources, ScoreContext
from eosin.scoring.terms.entities import gold_concept

NOT_ASSESSABLE = "not assessable"
STEP = "pseudo_bags"
NO_FINDING = frozenset({"diagnosis", "organ", "tissue", "stain", "grade", "context"})
LostAnswer = Literal["keep", "not assessable"]
_SENTENCE = re.compile(r"((?<=[.!?])\s+|\n+)")
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\d{1,3}[.)])\s+")


@dataclass(frozen=True)
class Lost:
    """What a slide can no longer show.

    Attributes:
        concepts: of gold findings, as `gold_concept` names them.
        diagnosis: whether what the answer rests on is gone too.
    """

    concepts: frozenset[str] = frozenset()
    diagnosis: bool = False

    def __bool__(self) -> bool:
        return bool(self.concepts) or self.diagnosis


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class Rewriter:
    """Rewrites the texts of one sample."""

    def __init__(self, sample: Sample, lost: Lost, grammar: Grammar, lost_answer: LostAnswer = "keep") -> None:
        self.sample, self.lost = sample, lost
        self.context = ScoreContext(item_from_sample(sample, ""), grammar, Resources())
        gone = bool(self.about & lost.concepts) if self.about else lost.diagnosis
        self.unfounded = bool(sample.choices) and gone
        self.answer_goes = self.unfounded and lost_answer == NOT_ASSESSABLE
        self.diagnosis_goes = lost.diagnosis and (self.answer_goes or not self.answered)

    def concept(self, entity: Entity) -> str:
        return gold_concept(entity, self.context.resources.links)

    @cached_property
    def about(self) -> frozenset[str]:
        """Findings that the question names: "Does this slide show necrosis?"."""
        found = self.context.mentions(self.sample.question)
        return frozenset(m.concept for m in found if m.type not in NO_FINDING and m.concept not in self.diagnoses)

    @cached_property
    def answered(self) -> frozenset[str]:
        """Concepts that the answer names as the diagnosis; none where it lists findings or says yes or no."""
        found = self.context.mentions(self.sample.answer_text or "")
        return frozenset(m.concept for m in found if self.sample.choices or m.type == "diagnosis")

    @cached_property
    def diagnoses(self) -> frozenset[str]:
        """Concepts of the diagnosis: named by the answer, or gold entities of that kind."""
        return self.answered | {self.concept(e) for e in self.sample.entities if e.kind == "diagnosis"}

    @cached_property
    def kept(self) -> dict[str, str]:
        """Gold findings that are still assessable, with their polarity."""
        return {
            c: e.polarity for e in self.sample.entities
            if (c := self.concept(e)) not in self.lost.concepts and c not in self.diagnoses
        }  # fmt: skip

    def text(self, text: str) -> str:
        """A text, sentence by sentence: what names nothing lost stays as it is; none is said twice."""
        pieces = _SENTENCE.split(text)
        said: set[str] = set()
        out: list[str] = []
        for sentence, gap in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
            new = self._sentence(sentence)
            if new != sentence and new in said:
                continue
            said.add(new)
            out += [new, gap]
        return "".join(out).strip()

    def _sentence(self, sentence: str) -> str:
        found = [m for m in self.context.mentions(sentence) if m.scope == "patient"]
        lost = [m for m in found if m.concept in self.lost.concepts]
        if not lost and not (self.diagnosis_goes and any(m.concept in self.diagnoses for m in found)):
            return sentence
        if not lost:
            parts = ["The diagnosis is not assessable."]
        else:
            parts = [f"The presence of {listed(_names(m.text for m in lost))} is {NOT_ASSESSABLE}."]
        for polarity, words in (("absent", "There is no evidence of"), ("present", "There is evidence of")):
            names = _names(m.text for m in found if self.kept.get(m.concept) == polarity == m.polarity)
            if names:
                parts.insert(0, f"{words} {listed(names)}.")
        bullet = _BULLET.match(sentence)
        return (bullet.group() if bullet else "") + " ".join(parts)

    @property
    def gone(self) -> frozenset[str]:
        """Concepts that are neither present nor absent any more."""
        return self.lost.concepts | (self.diagnoses if self.diagnosis_goes else frozenset())

    def steps(self) -> tuple[str, ...]:
        """The reasoning, as many steps as before; the last one says so where the answer goes."""
        made = [self.text(s) for s in self.sample.reasoning]
        if self.answer_goes and made and made[-1] == self.sample.reasoning[-1]:
            made[-1] = f"So the answer is {NOT_ASSESSABLE}."
        return tuple(made)

    def still_named(self, texts: Iterable[str]) -> list[str]:
        """Lost concepts that some text still claims or denies."""
        found = [m for t in texts for m in self.context.mentions(t) if m.scope == "patient" and m.concept in self.gone]
        return sorted({m.text for m in found})


def _names(texts: Iterable[str]) -> list[str]:
    """Each name once, without the capital of a sentence's first word."""
    lowered = (t[0].lower() + t[1:] if t[:1].isupper() and t[1:] == t[1:].lower() else t for t in texts)
    return list(dict.fromkeys(lowered))


def with_entities(sample: Sample) -> Sample:
    """The sample with gold findings: its own, else those that its findings name (its reasoning, without findings).

    Data such as SlideChat's and PathReasoner's has texts and no entities. A name that is said both present and absent,
    and what is said of other patients or times, gives none. Diagnoses are the answer's business.
    """
    text = sample.findings or "\n".join(sample.reasoning)
    if sample.entities or not text:
        return sample
    found = [
        m
        for m in Resources().links.link(text)
        if m.scope == "patient" and not m.alternatives and m.type not in NO_FINDING
    ]
    said: dict[str, set[str]] = {}
    for m in found:
        said.setdefault(m.concept, set()).add(m.polarity)
    clear = {m.concept: m for m in found if len(said[m.concept]) == 1}
    entities = (
        Entity(name=m.label, concept=m.concept, kind=m.type, polarity=m.polarity, certainty=m.certainty)
        for m in clear.values()
    )
    return sample.model_copy(update={"entities": tuple(entities)})


def rewrite(sample: Sample, lost: Lost, grammar: Grammar, lost_answer: LostAnswer) -> Kept[Sample] | Dropped:
    """The sample with targets that fit a slide that no longer shows `lost`.

    Its reasoning keeps its number of steps. With "keep" the name of the diagnosis stays as the answer, as published;
    a closed question about something else that was taken out (is there necrosis? where does the lesion lie?) is set
    aside, because its answer could only be guessed.
    """
    own = Rewriter(sample, lost, grammar, lost_answer)
    if own.unfounded and not own.answer_goes and not (lost.diagnosis and own.answered):
        return Dropped(sample.id, "what is asked about was taken out", step=STEP)
    findings = own.text(sample.findings) if sample.findings else sample.findings
    answer = sample.answer if sample.choices or sample.answer is None else own.text(sample.answer)
    made = sample.model_copy(
        update={
            "findings": findings, "reasoning": own.steps(), "answer": answer,
            "entities": tuple(e for e in sample.entities if own.concept(e) not in own.gone),
        }
    )  # fmt: skip
    named = own.still_named([*made.reasoning, findings or ""])
    if named:
        return Dropped(sample.id, "a text still names what was taken out", ", ".join(named), STEP)
    if not own.answer_goes:
        return Kept(made)
    wide = with_option(made)
    return Kept(wide.model_copy(update={"answer": wide.choices[-1].letter}))


def with_option(sample: Sample) -> Sample:
    """A closed question with "not assessable" as its last option; others as they are."""
    texts = [c.text.casefold() for c in sample.choices]
    if not sample.choices or NOT_ASSESSABLE in texts or len(texts) >= 26:
        return sample
    letter = chr(ord("A") + len(texts))
    return sample.model_copy(update={"choices": (*sample.choices, Choice(letter=letter, text=NOT_ASSESSABLE))})


def concepts_named(names: Collection[str], sample: Sample) -> frozenset[str]:
    """Concepts of gold entities by the names that the entity term gives them ("no X" for absent ones)."""
    links = Resources().links
    wanted = set(names)
    return frozenset(
        c for e in sample.entities
        if ("" if e.polarity == "present" else "no ") + links.label_of(c := gold_concept(e, links)) in wanted
    )  # fmt: skip


def phrases(names: Iterable[str]) -> list[str]:
    """What rewritten targets say of findings, for the tokenizer of the small model, which learns from texts."""
    said = ["The diagnosis is not assessable.", f"So the answer is {NOT_ASSESSABLE}."]
    for name in names:
        said += [
            f"The presence of {name} is {NOT_ASSESSABLE}.", f"There is evidence of {name}.",
            f"There is no evidence of {name}.",
        ]  # fmt: skip
    return said
