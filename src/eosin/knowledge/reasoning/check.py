"""Check a reasoning trace against the graph: which statements does evidence support, contradict, or not know.

    report = check("Irregular glands invade the stroma. This fits adenocarcinoma.", graph, linker)
    print(report.text())

A statement is a finding and a diagnosis that the trace brings together: in one step, or, for a step that names
findings only, with the diagnosis that the trace ends on. A direct statement of the graph about the diagnosis, or about
what stands above it, decides; else the cheapest path is shown, which counts only where one of its steps speaks for or
against something and the others are of the hierarchy.
Support is not proof, and what the graph does not know may still be right. Research use only, not for diagnosis.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from eosin.core.errors import EosinError
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker, Mention
from eosin.knowledge.linking.visibility import Unseen, check_sees, unseen
from eosin.knowledge.reasoning.differential import DECAY, MAX_DEPTH, Evidence, evidence_for
from eosin.knowledge.reasoning.paths import Step, paths, step_sentence

Verdict = Literal["supported", "contradicted", "unknown"]
FINDINGS = frozenset({"finding", "cell", "tissue", "marker"})
EXPECTED = frozenset({"has_phenotype", "expresses"})
"""Predicates from a diagnosis to what it shows as a rule, so that its absence speaks against the diagnosis."""
LACKS = frozenset({"lacks_expression", "lacks_phenotype"})
"""Predicates from a diagnosis to what it lost, so that its absence speaks for the diagnosis."""
HIERARCHY = frozenset({"is_a", "same_as", "close_match"})
WEAK = 0.3
"""Strength of what is only implied: a path, or the absence of something that would speak against."""
MAX_TRACE_CHARS = 200_000
_STEP = re.compile(r"(?<=[.!?])(?<!\b\d\.)(?<!\b\d\d\.)\s+(?=\S)|\n+")  # never after the number of a step
_TAG = re.compile(r"</?[a-z][a-z_]*>")
_NUMBER = re.compile(r"^\s*(?:step\s*)?\d{1,3}[.):]\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """A finding and a diagnosis that the trace brings together.

    Attributes:
        finding, diagnosis: mentions; "absent" on a diagnosis means that the trace rules it out by the finding.
        verdict: what the graph says of the statement as the trace makes it.
        sign: 1 where the finding as stated speaks for the diagnosis, -1 against, 0 unknown.
        evidence: the path, one sentence a step.
        sources: reference or source of each step.
        strength: 0 to 1; of a direct statement that of `differential.Evidence`.
    """

    finding: Mention
    diagnosis: Mention
    verdict: Verdict
    sign: int = 0
    evidence: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    strength: float = 0.0

    def record(self) -> dict[str, Any]:
        """The statement as JSON."""
        return {
            "finding": _brief(self.finding), "diagnosis": _brief(self.diagnosis), "verdict": self.verdict,
            "sign": self.sign, "strength": self.strength, "evidence": list(self.evidence),
            "sources": list(self.sources),
        }  # fmt: skip


@dataclass(frozen=True)
class CheckedStep:
    """One step of a trace with what it states and what its image cannot show."""

    number: int
    text: str
    mentions: tuple[Mention, ...]
    statements: tuple[Statement, ...]
    unseen: tuple[Unseen, ...]

    @property
    def verdict(self) -> Verdict:
        """Contradicted if any statement is; else supported if any is; else unknown."""
        verdicts = {s.verdict for s in self.statements}
        return "contradicted" if "contradicted" in verdicts else "supported" if "supported" in verdicts else "unknown"

    def record(self) -> dict[str, Any]:
        """The step as JSON."""
        return {
            "step": self.number, "text": self.text, "verdict": self.verdict,
            "mentions": [m.record() for m in self.mentions], "statements": [s.record() for s in self.statements],
            "unseen": [u.record() for u in self.unseen],
        }  # fmt: skip


@dataclass(frozen=True)
class Report:
    """A checked trace.

    Attributes:
        diagnosis: what the trace ends on, or the answer that was given; None where it names none.
        flags: what a reader should look at: a diagnosis that stated findings contradict, a finding stated both ways,
            statements that the image cannot show.
    """

    steps: tuple[CheckedStep, ...]
    diagnosis: Mention | None
    flags: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of statements by verdict, and of unseen statements."""
        found = Counter(s.verdict for step in self.steps for s in step.statements)
        verdicts = {v: found.get(v, 0) for v in ("supported", "contradicted", "unknown")}
        return verdicts | {"unseen": sum(len(s.unseen) for s in self.steps)}

    def record(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "diagnosis": _brief(self.diagnosis) if self.diagnosis else None, "counts": dict(self.counts),
            "flags": list(self.flags), "steps": [s.record() for s in self.steps],
        }  # fmt: skip

    def text(self) -> str:
        """The report for people."""
        lines = []
        for step in self.steps:
            lines.append(f"{step.number}. {step.text}   [{step.verdict}]")
            for s in step.statements:
                lines.append(f"     {s.verdict}: {_words(s)}")
                lines += [f"       {e} ({w})" for e, w in zip(s.evidence, s.sources, strict=True)]
            lines += [f"     cannot be seen: {u.text!r} ({u.kind}); needs {u.needs}" for u in step.unseen]
        end = self.diagnosis.label if self.diagnosis else "none"
        counts = ", ".join(f"{n} {v}" for v, n in self.counts.items())
        return "\n".join([*lines, f"diagnosis: {end}; {counts}", *(f"flag: {f}" for f in self.flags)])


def check(
    trace: str | Sequence[str],
    graph: Graph,
    linker: Linker,
    *,
    sees: str = "he_tile",
    context: str = "",
    answer: str | None = None,
    max_hops: int = 2,
) -> Report:
    """Check a trace.

    Args:
        trace: steps, or a text that is cut at sentences and lines.
        sees: what the image is: he_tile, he_slide or ihc.
        context: clinical context that the trace was given.
        answer: the diagnosis, where it stands outside the trace.
        max_hops: the longest path looked for where the graph says nothing direct; 0 for none.

    Raises:
        EosinError: an unknown kind of image, or a trace longer than MAX_TRACE_CHARS.
    """
    image = check_sees(sees)
    steps = split_steps(trace)
    if sum(map(len, steps)) > MAX_TRACE_CHARS:
        raise EosinError("The trace is too long to be one.", expected=f"at most {MAX_TRACE_CHARS:,} characters")
    linked = [tuple(m for m in linker.link(s)) for s in steps]
    final = _final(linked, linker, answer)
    facts = Facts(graph, max_hops=max_hops)
    checked = []
    for number, (text, mentions) in enumerate(zip(steps, linked, strict=True), 1):
        statements = tuple(facts.assess(f, d) for f, d in _pairs(mentions, final))
        hidden = tuple(unseen(text, image, context=context, mentions=mentions))
        checked.append(CheckedStep(number, text, mentions, statements, hidden))
    return Report(tuple(checked), final, tuple(_flags(checked, final)))


def split_steps(trace: str | Sequence[str]) -> list[str]:
    """Steps of a trace without their numbers; a text is cut at sentences and lines, a reply at its tags too."""
    parts: Iterable[str] = _STEP.split(_TAG.sub("\n", trace)) if isinstance(trace, str) else trace
    return [t for t in (_NUMBER.sub("", p).strip() for p in parts) if t]


def _final(linked: Sequence[tuple[Mention, ...]], linker: Linker, answer: str | None) -> Mention | None:
    """The diagnosis of the answer, else the last one that the trace states and does not rule out."""
    texts = [linker.link(answer)] if answer else list(reversed(linked))
    for mentions in texts:
        for m in reversed(mentions):
            if m.type == "diagnosis" and m.present and m.scope == "patient" and not m.alternatives:
                return m
    return None


def _pairs(mentions: Sequence[Mention], final: Mention | None) -> list[tuple[Mention, Mention]]:
    """Findings of a step, each with every diagnosis of the step; with the final one where the step names none."""
    own = [m for m in mentions if m.scope == "patient" and not m.alternatives]
    findings = {(m.concept, m.polarity): m for m in own if m.type in FINDINGS and not m.possible}
    diagnoses = {m.concept: m for m in own if m.type == "diagnosis"}
    if not diagnoses and final is not None:
        diagnoses = {final.concept: final}
    return [(f, d) for f in findings.values() for d in diagnoses.values()]


class Facts:
    """What a graph says of findings and diagnoses; what was asked once is remembered."""

    def __init__(self, graph: Graph, *, max_hops: int = 2) -> None:
        self.graph = graph
        self.max_hops = max_hops
        self._known: dict[str, tuple[dict[str, Evidence], dict[str, Evidence]]] = {}
        self._paths: dict[tuple[str, str], _Found] = {}

    @classmethod
    def builtin(cls) -> Facts:
        """Facts of Eosin's own tables; made once."""
        return _builtin_facts()

    def sign_of(self, finding: str, polarity: str, diagnosis: str) -> int:
        """1 where a finding as stated speaks for a diagnosis by a statement of the graph, -1 against it, else 0."""
        one = self._direct(finding, polarity, diagnosis)
        return one.sign if one else 0

    def assess(self, finding: Mention, diagnosis: Mention) -> Statement:
        """The verdict on a finding and a diagnosis as the trace states them."""
        found = self._says(finding, diagnosis.concept)
        wanted = 1 if diagnosis.present else -1
        verdict: Verdict = "unknown" if not found.sign else "supported" if found.sign == wanted else "contradicted"
        return Statement(finding, diagnosis, verdict, found.sign, found.evidence, found.sources, found.strength)

    def _says(self, finding: Mention, diagnosis: str) -> _Found:
        one = self._direct(finding.concept, finding.polarity, diagnosis)
        if one is None:
            return self._path(finding.concept, diagnosis) if finding.present and self.max_hops > 1 else _NOTHING
        sentences = [f"{step_sentence(Step(one.relation, one.relation.subject == one.concept), self.graph)}."]
        sources = [one.relation.evidence or one.relation.source]
        if one.via != self.graph.canonical(diagnosis):
            sentences.append(f"{self.graph.label_of(diagnosis)} is a kind of {self.graph.label_of(one.via)}.")
            sources.append("is_a")
        return _Found(one.sign, tuple(sentences), tuple(sources), one.strength)

    def _direct(self, finding: str, polarity: str, diagnosis: str) -> Evidence | None:
        if finding not in self.graph or diagnosis not in self.graph:
            return None
        key = self.graph.canonical(diagnosis)
        if key not in self._known:
            self._known[key] = self._load(key)
        return self._known[key][polarity != "present"].get(self.graph.canonical(finding))

    def _load(self, key: str) -> tuple[dict[str, Evidence], dict[str, Evidence]]:
        """What presence and what absence of each concept says of a diagnosis and of what stands above it."""
        present: dict[str, Evidence] = {}
        absent: dict[str, Evidence] = {}
        above = {key: 0, **self.graph.ancestors(key, max_depth=MAX_DEPTH), **_above_by_name(key, self.graph)}
        for via, depth in sorted(above.items(), key=lambda item: item[1]):
            for one in evidence_for(self.graph, via, max_depth=0):
                present.setdefault(one.concept, replace(one, strength=round(one.strength * DECAY**depth, 4)))
            for one in self._by_absence(via, DECAY**depth):
                absent.setdefault(one.concept, one)
        return present, absent

    def _by_absence(self, via: str, strength: float) -> list[Evidence]:
        """What is expected and missing speaks against; what is lost as a rule, or would speak against, speaks for."""
        expected, lost, against = [], [], []
        for r in self.graph.relations(via, "both"):
            if r.subject == via and r.predicate in EXPECTED:
                expected.append(Evidence(r.object, -1, strength, r, via))
            elif r.subject == via and r.predicate in LACKS:
                lost.append(Evidence(r.object, 1, strength, r, via))
            elif r.object == via and r.predicate == "contradicts":
                against.append(Evidence(r.subject, 1, strength * WEAK, r, via))
        return [*expected, *lost, *against]

    def _path(self, finding: str, diagnosis: str) -> _Found:
        key = (finding, diagnosis)
        if key not in self._paths:
            self._paths[key] = self._find_path(finding, diagnosis)
        return self._paths[key]

    def _find_path(self, finding: str, diagnosis: str) -> _Found:
        """The cheapest path. It speaks for or against only where its other steps are of the hierarchy."""
        graph = self.graph
        if finding not in graph or diagnosis not in graph or graph.canonical(finding) == graph.canonical(diagnosis):
            return _NOTHING
        found = paths(graph, finding, diagnosis, 1, max_hops=self.max_hops)
        if not found:
            return _NOTHING
        steps = found[0].steps
        signed = [s for s in steps if graph.vocabulary[s.relation.predicate].sign]
        plain = all(s in signed or s.relation.predicate in HIERARCHY for s in steps)
        sign = found[0].sign if len(signed) == 1 and plain else 0
        sentences = tuple(f"{step_sentence(s, graph)}." for s in steps)
        sources = tuple(s.relation.evidence or s.relation.source for s in steps)
        return _Found(sign, sentences, sources, WEAK if sign else 0.0)


@dataclass(frozen=True)
class _Found:
    sign: int = 0
    evidence: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    strength: float = 0.0


_NOTHING = _Found()


@functools.cache
def _builtin_facts() -> Facts:
    return Facts(Graph.builtin())


def _above_by_name(key: str, graph: Graph) -> dict[str, int]:
    """Diagnoses named by the last words of a name, for a graph without is_a: tubular adenoma is an adenoma."""
    words = graph.label_of(key).split(" ")
    if "is_a" in graph.predicates and graph.relations(key, "out", ["is_a"]):
        return {}
    found: dict[str, int] = {}
    for k in range(1, len(words)):
        for id in graph.find(" ".join(words[k:])):
            if graph.type_of(id) == "diagnosis" and id != key and " " + graph.label_of(id) in graph.label_of(key):
                found.setdefault(id, k)
    return found


def _flags(steps: Sequence[CheckedStep], final: Mention | None) -> Iterator[str]:
    """What a reader should look at."""
    for step in steps:
        for s in step.statements:
            if final is not None and s.diagnosis.concept == final.concept and s.diagnosis.present and s.sign < 0:
                yield f"step {step.number}: {_named(s.finding)} speaks against the diagnosis {final.label}"
    yield from _both_ways(steps)
    for step in steps:
        for hidden in step.unseen:
            said = f"{hidden.text!r} ({hidden.kind})"
            yield f"step {step.number}: {said} cannot be seen here and stands in no clinical context"


def _both_ways(steps: Sequence[CheckedStep]) -> Iterator[str]:
    """Findings that one step states and another denies."""
    stated: dict[str, tuple[str, int]] = {}
    for step in steps:
        for m in step.mentions:
            if m.type not in ("finding", "cell", "marker") or m.possible or m.scope != "patient":
                continue
            polarity, number = stated.setdefault(m.concept, (m.polarity, step.number))
            if polarity != m.polarity:
                yield f"steps {number} and {step.number}: {m.label} is stated both as {polarity} and as {m.polarity}"


def _named(m: Mention) -> str:
    return m.label if m.present else f"absence of {m.label}"


def _words(s: Statement) -> str:
    if not s.diagnosis.present:
        return f"{_named(s.finding)} rules out {s.diagnosis.label}"
    return f"{_named(s.finding)} goes with {s.diagnosis.label}"


def _brief(m: Mention) -> dict[str, Any]:
    return {"concept": m.concept, "label": m.label, "text": m.text, "polarity": m.polarity, "certainty": m.certainty}
