"""Grounded reasoning: from findings and a diagnosis to steps that stand on paths of the knowledge graph.

After PathReasoner-R1 (arXiv 2601.21617): findings and diagnosis are linked to a graph, paths between them hold what may
be said, and three filters follow: logical consistency, visual dependency, reasoning sufficiency. There a language
model writes the text; here templates do, and a model that rewrites them can be injected, whose every statement is
checked again. Nothing here knows where the findings come from. Research use only, not for diagnosis.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Choice, Entity, Sample
from eosin.curate import grounding_text as text
from eosin.curate.evidence import FindingEvidence, GraphEvidence, concept_named
from eosin.curate.keep import StepCount, count_step
from eosin.curate.link import entities_of
from eosin.knowledge.reasoning.check import FINDINGS, check

Teacher = Callable[[Sample, tuple[str, ...]], Sequence[str]]
"""Rewrites the steps of a sample."""
Answerer = Callable[[Sample], str | None]
"""Answers a question from its text alone: a letter of the options or the open answer; None: no answer."""
Solver = Callable[[Sample, tuple[str, ...]], str | None]
"""Answers a question from reasoning steps without their conclusion."""

_WRITE, _LOGIC, _VISUAL, _ENOUGH = (
    "ground: write", "ground: logical consistency", "ground: visual dependency", "ground: reasoning sufficiency"
)  # fmt: skip


@dataclass(frozen=True)
class GroundingSettings:
    """How reasoning is written and sifted.

    Attributes:
        max_steps: most steps of a chain, at least 3.
        max_ruled_out: most diagnoses that are ruled out; how many is drawn for each sample, at least one.
        per_step: findings named in one step.
        sees: what the image is, for statements that it cannot show: he_tile, he_slide or ihc.
        tries: a text-only answerer must be right under so many turns of the options to count as knowing.
        aliases: name of a class -> its name in the graph, where they differ.
    """

    max_steps: int = 6
    max_ruled_out: int = 2
    per_step: int = 3
    sees: str = "he_slide"
    tries: int = 3
    seed: int = 0
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GroundingResult:
    """What was kept and dropped, the counts of each filter, and what became of a teacher's rewritings."""

    samples: Filtered[Sample]
    steps: tuple[StepCount, ...]
    teacher: Mapping[str, int] = field(default_factory=dict)


def ground_reasoning(
    samples: Sequence[Sample],
    settings: GroundingSettings = GroundingSettings(),  # noqa: B008 - frozen
    *,
    evidence: GraphEvidence | None = None,
    teacher: Teacher | None = None,
    text_only: Answerer | None = None,
    solver: Solver | None = None,
) -> GroundingResult:
    """Write findings, reasoning and concept ids of samples, and sift them. Kept and dropped sum to the number given.

    A sample brings its findings as `entities` (with polarity) or as a text in `findings` or `extra["report"]`, and its
    diagnosis as an entity of kind "diagnosis" or as its answer. `extra["question"]` says what is asked: "diagnosis"
    (also where it is missing), "finding" (whether `extra["asked"]` is there), "findings" (all of them), "place".

    Args:
        teacher: rewrites steps; what it writes is used only where every statement still holds.
        text_only: questions that it answers without the slide are dropped; None: the filter is not run.
        solver: must reach the answer from the steps without the conclusion; None: the graph's differential, or
            for yes/no questions what the steps say of the finding.
    """
    writer = _Writer(settings, evidence or GraphEvidence(), teacher)
    steps: list[StepCount] = []
    dropped: list[Dropped] = []
    left: tuple[Sample, ...] = tuple(samples)
    rewritten: dict[str, int] = {}

    def sifted(step: str, judge: Callable[[Sample], Kept[Sample] | Dropped]) -> None:
        nonlocal left
        result = filtered(judge(s) for s in left)
        steps.append(count_step(step, len(left), result))
        dropped.extend(result.dropped)
        left = result.kept

    sifted(_WRITE, writer.write)
    sifted(_LOGIC, writer.consistent)
    if teacher is not None:
        left = tuple(writer.rewritten(s, rewritten) for s in left)
    if text_only is not None:
        answer = text_only
        sifted(_VISUAL, lambda s: _needs_slide(s, answer, settings))
    sifted(_ENOUGH, lambda s: writer.sufficient(s, solver))
    return GroundingResult(Filtered(left, tuple(dropped)), tuple(steps), rewritten)


@dataclass(frozen=True)
class _Matter:
    """What is known of a sample before anything is written."""

    findings: tuple[Entity, ...]
    diagnosis: str
    name: str
    others: tuple[tuple[str, str], ...]


class _Writer:
    def __init__(self, settings: GroundingSettings, evidence: GraphEvidence, teacher: Teacher | None) -> None:
        self._settings, self._evidence, self._teacher = settings, evidence, teacher
        self._linker = evidence.linker

    # ---- writing -------------------------------------------------------------------------------------------------

    def write(self, sample: Sample) -> Kept[Sample] | Dropped:
        """Findings text, steps and grounds of a sample."""
        matter = self._matter(sample)
        if isinstance(matter, str):
            return Dropped(sample.id, matter, "", _WRITE)
        kind = sample.extra.get("question", "diagnosis")
        rng = random.Random(f"ground:{self._settings.seed}:{sample.id}")
        grounds = [self._evidence.of(f, matter.diagnosis) for f in matter.findings]
        speaking = [g for g in grounds if g.sign > 0]
        telling = sorted(speaking, key=lambda g: (g.finding.polarity == "absent", -g.strength))
        if not any(g.finding.polarity == "present" for g in telling):
            return Dropped(sample.id, "no path from a finding to the diagnosis", matter.name, _WRITE)
        against = [g for g in grounds if g.sign < 0]
        made = self._of_kind(kind, sample, matter, telling, rng)
        if isinstance(made, str):
            return Dropped(sample.id, made, str(kind), _WRITE)
        steps, used = made
        if against and kind == "diagnosis":
            steps = (steps[0], text.seen([g.finding for g in against], rng), *steps[1:])
        entities = (*matter.findings, Entity(name=matter.name, concept=matter.diagnosis, kind="diagnosis"))
        answer = text.findings_text(matter.findings) if kind == "findings" else sample.answer
        return Kept(sample.model_copy(update={
            "entities": entities, "findings": text.findings_text(matter.findings), "reasoning": steps,
            "answer": answer, "extra": {**sample.extra, "grounds": [g.as_json() for g in used]},
        }))  # fmt: skip

    def _matter(self, sample: Sample) -> _Matter | str:
        """Linked findings, the diagnosis, and the other diagnoses on offer; a text says why there are none."""
        aliases = self._settings.aliases
        given = [e for e in sample.entities if e.kind == "diagnosis"]
        name = given[0].name if given else sample.label or sample.answer_text or ""
        diagnosis = concept_named(name, self._linker, aliases) or (given[0].concept if given else None)
        if diagnosis is None:
            return "diagnosis not in the graph"
        findings = [e for e in sample.entities if e.kind in FINDINGS]
        if not findings:
            read = sample.findings or str(sample.extra.get("report") or "")
            findings = [e for e in entities_of(read, self._linker) if e.kind in FINDINGS and e.certainty == "certain"]
        linked = [self._linked(e) for e in findings]
        if not any(e.concept for e in linked):
            return "no finding in the graph"
        others = []
        for choice in sample.choices:
            other = concept_named(choice.text, self._linker, aliases)
            if other is not None and other != diagnosis:
                others.append((other, choice.text))
        return _Matter(_once(linked), diagnosis, name, tuple(others))

    def _linked(self, entity: Entity) -> Entity:
        if entity.concept:
            return entity
        return entity.model_copy(update={"concept": self._linker.concept_of(entity.name)})

    def _of_kind(
        self, kind: str, sample: Sample, matter: _Matter, telling: Sequence[FindingEvidence], rng: random.Random
    ) -> tuple[tuple[str, ...], list[FindingEvidence]] | str:
        """Steps, and the grounds that they stand on; a text says why there are none."""
        most = self._settings.per_step
        first = [g for g in telling if g.finding.polarity == "present"][:most]
        opening = text.seen([g.finding for g in first], rng)
        if kind == "diagnosis":
            return self._diagnosis(matter, telling, rng)
        if kind == "findings":
            rest = [f for f in matter.findings if f not in [g.finding for g in first]]
            parts = [rest[i : i + most] for i in range(0, len(rest), most)]
            more = [text.seen(part, rng) for part in parts][: self._settings.max_steps - 2]
            why = text.speaks_for([g.finding for g in first], matter.name, rng)
            return (opening, *more, why), first
        if kind == "finding":
            return self._finding(sample, matter, opening, first, rng)
        if kind == "place" and sample.answer_text:
            where = f"They lie in the {sample.answer_text} of the slide, and the rest shows nothing of the kind."
            return (opening, where, f"So the lesion lies in the {sample.answer_text}."), first
        return "no way to ground this question"

    def _diagnosis(
        self, matter: _Matter, telling: Sequence[FindingEvidence], rng: random.Random
    ) -> tuple[tuple[str, ...], list[FindingEvidence]]:
        most, room = self._settings.per_step, self._settings.max_steps
        chosen = list(telling[: 2 * most - 1])
        cut = max(1, min(most, (len(chosen) + 1) // 2))
        seen = [text.seen([g.finding for g in part], rng) for part in (chosen[:cut], chosen[cut:]) if part]
        strong = [g for g in chosen if g.finding.polarity == "present"][:most]
        why = text.speaks_for([g.finding for g in strong], matter.name, rng)
        most_out = rng.randint(1, self._settings.max_ruled_out) if self._settings.max_ruled_out else 0
        out, used = self._ruled_out(matter, most_out, rng)
        steps = [*seen, why, *out[: max(0, room - len(seen) - 2)], text.conclusion(matter.name, rng)]
        return tuple(steps), [*chosen, *used]

    def _ruled_out(self, matter: _Matter, most: int, rng: random.Random) -> tuple[list[str], list[FindingEvidence]]:
        """Steps against the next-best diagnoses on offer, best first, each by findings that speak against it."""
        steps: list[str] = []
        used: list[FindingEvidence] = []
        names = dict(matter.others)
        for other, _ in self._evidence.ranked(matter.findings, list(names)):
            if len(steps) == most:
                break
            grounds = [g for f in matter.findings if (g := self._evidence.of(f, other)).sign < 0]
            told = [g for g in grounds if g.finding.polarity == "present"] or grounds
            if told:
                told = sorted(told, key=lambda g: -g.strength)[:2]
                steps.append(text.speaks_against([g.finding for g in told], names[other], rng))
                used += told
            elif not steps:  # nothing speaks against the next-best one: what speaks less for it than for the answer
                more = self._favouring(matter, other)[:2]
                if more:
                    steps.append(text.fits_better([g.finding for g in more], matter.name, names[other], rng))
                    used += more
        return steps, used

    def _favouring(self, matter: _Matter, other: str) -> list[FindingEvidence]:
        """What is there and speaks for the answer more than for another diagnosis, the most telling first."""
        margins = [
            (self._evidence.of(f, other).signed - own.signed, number, own)
            for number, f in enumerate(matter.findings)
            if f.polarity == "present" and (own := self._evidence.of(f, matter.diagnosis)).sign > 0
        ]
        return [own for margin, _, own in sorted(margins, key=lambda m: m[:2]) if margin < 0]

    def _finding(
        self, sample: Sample, matter: _Matter, opening: str, first: Sequence[FindingEvidence], rng: random.Random
    ) -> tuple[tuple[str, ...], list[FindingEvidence]] | str:
        """Whether one finding is there. Where the slide's list of findings is whole, what is not listed is absent."""
        asked = str(sample.extra.get("asked") or "")
        concept = self._linker.concept_of(asked)
        held = next((f for f in matter.findings if f.concept == concept), None) if concept else None
        if concept is None or (held is None and not sample.extra.get("entities_complete")):
            return "the finding asked for is not known of this slide"
        there = held is not None and held.polarity == "present"
        if sample.answer_text not in ("yes", "no") or (sample.answer_text == "yes") != there:
            return "the answer does not follow from the findings"
        if held is not None and there:
            looked = text.seen([held], rng)
        else:
            looked = f"{text.upper(text.none_of([asked]))} seen anywhere."
        return (opening, looked, f"So the answer is {sample.answer_text}."), list(first)

    # ---- filters -------------------------------------------------------------------------------------------------

    def consistent(self, sample: Sample) -> Kept[Sample] | Dropped:
        """Logical consistency: no step may state what the graph contradicts, and no finding both ways."""
        problem = self._contradiction(sample, sample.reasoning)
        return Kept(sample) if problem is None else Dropped(sample.id, problem[0], problem[1], _LOGIC)

    def _contradiction(self, sample: Sample, steps: Sequence[str]) -> tuple[str, str] | None:
        diagnosis = next(e for e in sample.entities if e.kind == "diagnosis")
        label = self._evidence.graph.label_of(diagnosis.concept or "")
        report = check(steps, self._evidence.graph, self._linker, sees=self._settings.sees, answer=label, max_hops=0)
        for step in report.steps:
            if step.verdict == "contradicted":
                return "a step is contradicted", step.text
        return ("the steps do not go together", report.flags[0]) if report.flags else None

    def rewritten(self, sample: Sample, counts: dict[str, int]) -> Sample:
        """The sample with the teacher's steps where all that they state holds; else as it was."""
        assert self._teacher is not None
        try:
            steps = tuple(s.strip() for s in self._teacher(sample, sample.reasoning) if s.strip())
            verdict = self._refused(sample, steps)
        except Exception as exc:  # an injected model may fail in any way; the template stands
            steps, verdict = (), f"teacher failed: {type(exc).__name__}"
        counts[verdict or "used"] = counts.get(verdict or "used", 0) + 1
        return sample if verdict else sample.model_copy(update={"reasoning": steps})

    def _refused(self, sample: Sample, steps: Sequence[str]) -> str | None:
        if not 2 <= len(steps) <= 2 * self._settings.max_steps:
            return "teacher refused: number of steps"
        if any("<" in s or "\n" in s for s in steps):
            return "teacher refused: tags or lines inside a step"
        if self._contradiction(sample, steps) is not None:
            return "teacher refused: a step is contradicted"
        held = self._signed(sample.reasoning)
        new = self._signed(steps)
        if new - held:
            return "teacher refused: a statement without ground"
        return "teacher refused: lost its conclusion" if not _ends_alike(sample, steps, self._linker) else None

    def _signed(self, steps: Sequence[str]) -> set[tuple[str, str]]:
        kinds = FINDINGS | {"diagnosis"}
        return {m.signed for s in steps for m in self._linker.link(s) if m.type in kinds}

    def sufficient(self, sample: Sample, solver: Solver | None) -> Kept[Sample] | Dropped:
        """Reasoning sufficiency: the steps without their conclusion must lead to the answer."""
        kind = sample.extra.get("question", "diagnosis")
        if solver is not None and kind != "findings":
            reached = solver(sample, _without_answer(sample))
            wanted = {sample.answer, sample.answer_text}
            return Kept(sample) if reached in wanted else Dropped(
                sample.id, "the reasoning does not lead to the answer", f"it leads to {reached}", _ENOUGH)  # fmt: skip
        if kind == "diagnosis":
            return self._differential(sample)
        if kind == "finding":
            asked = self._linker.concept_of(str(sample.extra.get("asked") or ""))
            said = [m for s in sample.reasoning for m in self._linker.link(s) if m.concept == asked]
            if {m.present for m in said} != {sample.answer_text == "yes"}:
                return Dropped(sample.id, "the reasoning does not lead to the answer", "", _ENOUGH)
        return Kept(sample)

    def _differential(self, sample: Sample) -> Kept[Sample] | Dropped:
        """The findings that the steps name must favour the answer over every other diagnosis on offer."""
        matter = self._matter(sample)
        if isinstance(matter, str):
            return Dropped(sample.id, matter, "", _ENOUGH)
        named = self._signed(sample.reasoning[:-1])
        findings = [f for f in matter.findings if (f.concept, f.polarity) in named]
        own = self._evidence.score(findings, matter.diagnosis)
        best = self._evidence.ranked(findings, [c for c, _ in matter.others])[:1]
        if own <= 0 or (best and best[0][1] >= own):
            other = dict(matter.others).get(best[0][0], "") if best else "none"
            detail = f"{matter.name} {own:g}, {other} {best[0][1] if best else 0:g}"
            return Dropped(sample.id, "the reasoning does not lead to the answer", detail, _ENOUGH)
        return Kept(sample)


def _once(entities: Sequence[Entity]) -> tuple[Entity, ...]:
    """Each concept once, the first of them."""
    found: dict[str, Entity] = {}
    for e in entities:
        found.setdefault(e.concept or e.name, e)
    return tuple(found.values())


def _ends_alike(sample: Sample, steps: Sequence[str], linker: Any) -> bool:
    """Whether the last step still names what the last step of the sample names."""
    return {m.signed for m in linker.link(sample.reasoning[-1])} <= {m.signed for m in linker.link(steps[-1])}


def _without_answer(sample: Sample) -> tuple[str, ...]:
    """The steps without the last one, with the answer's words taken out of the others."""
    answer = sample.answer_text or ""
    return tuple(s.replace(answer, "it") if len(answer) > 3 else s for s in sample.reasoning[:-1])


def _needs_slide(sample: Sample, answerer: Answerer, settings: GroundingSettings) -> Kept[Sample] | Dropped:
    """Visual dependency: dropped where the text alone gives the answer, whatever the order of the options."""
    turns = range(min(settings.tries, len(sample.choices)) if sample.choices else 1)
    asked = [_turned(sample, turn) for turn in turns]
    said = [(answerer(_without_gold(s)), s) for s in asked]
    if all(reply is not None and reply in (s.answer, s.answer_text) for reply, s in said):
        return Dropped(sample.id, "answered without the slide", str(said[0][0]), _VISUAL)
    return Kept(sample)


def _turned(sample: Sample, turn: int) -> Sample:
    """The same question with its options turned by some places."""
    if not sample.choices or not turn:
        return sample
    texts = [c.text for c in sample.choices]
    texts = texts[turn:] + texts[:turn]
    choices = tuple(Choice(letter=c.letter, text=t) for c, t in zip(sample.choices, texts, strict=True))
    letter = next(c.letter for c in choices if c.text == sample.answer_text)
    return sample.model_copy(update={"choices": choices, "answer": letter})


def _without_gold(sample: Sample) -> Sample:
    """What a text-only answerer is shown: no slide, no answer, no findings."""
    return sample.model_copy(update={
        "images": (), "answer": None, "findings": None, "reasoning": (), "entities": (), "label": None, "caption": None,
        "messages": tuple(m.model_copy(update={"parts": tuple(p for p in m.parts if p.type == "text")})
                          for m in sample.messages),
        "extra": {},
    })  # fmt: skip
