"""What the texts of a data set say that they must not: what no image shows, where they come from, left-overs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eosin.chain.audit.found import Found, hits_of, texts_of
from eosin.core.draw import subset
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.curate.texts.language import language_of
from eosin.curate.texts.marks import cut_off, leaks, left_overs, repeated
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.visibility import Sees, unseen
from eosin.knowledge.reasoning.check import check

MAX_READ = 5000
MAX_CHECKED = 1000
LONG_TOKENS = 512
TOKENS_A_WORD = 4 / 3


def text_faults(samples: Sequence[Sample], seed: int, sees: Sees | None) -> tuple[list[Found], dict[str, Any]]:
    """Faults of texts, and lengths in words. Large data sets are read in a seeded subset."""
    read = subset([s for s in samples if texts_of(s)], MAX_READ, seed)
    found = [*_unseen(read, sees), *_marks(read), *_languages(read), *_contradictions(read, seed), *_long(samples)]
    return found, {"read": len(read), "lengths": _lengths(samples), "languages": _language_counts(read)}


def sees_of(sample: Sample, told: Sees | None) -> Sees | None:
    """What the image is, as far as the sample says; None for a photograph of a specimen, which shows other things."""
    if told is not None:
        return told
    modality = (sample.origin.modality or "").casefold()
    if "gross" in modality or "photo" in modality:
        return None
    if any(isinstance(ref, SlideBag) for ref in sample.images):
        return "he_slide"
    stain = (sample.origin.stain or "").casefold()
    return "ihc" if "ihc" in modality or "immuno" in modality + stain or "ihc" in stain else "he_tile"


def _unseen(samples: Sequence[Sample], told: Sees | None) -> Iterator[Found]:
    linker = Linker.builtin()
    hits: list[tuple[str, str]] = []
    kinds: Counter[str] = Counter()
    for s in samples:
        sees = sees_of(s, told)
        if sees is None:
            continue
        context = " ".join(m.text for m in s.messages)
        seen = [u for t in texts_of(s).values() for u in unseen(t, sees, context=context, mentions=linker.link(t))]
        if seen:
            kinds.update({u.kind for u in seen})
            hits.append((s.id, f"{seen[0].text!r} ({seen[0].kind})"))
    most = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common(4))
    yield from hits_of(
        "statements that no image can show",
        "{n} of {of} samples state what their image cannot show: " + most.replace("{", "(") + ".", hits, len(samples),
    )  # fmt: skip


def _marks(samples: Sequence[Sample]) -> Iterator[Found]:
    checks = (
        ("the text names its source", "{n} of {of} samples speak of the caption, the report or a given answer.", leaks),
        ("template left-overs", "{n} of {of} samples hold places of a template, or a model's own talk.", left_overs),
        ("repetition", "{n} of {of} samples say the same words again and again.", repeated),
    )  # fmt: skip
    for name, said, test in checks:
        hits = [
            (s.id, hit) for s in samples if (hit := next((h for t in texts_of(s).values() if (h := test(t))), None))
        ]
        yield from hits_of(name, said, hits, len(samples))
    cut = [(s.id, hit) for s in samples if (hit := next((h for t in texts_of(s).values() if (h := cut_off(t))), None))]
    yield from hits_of(
        "texts are cut off", "{n} of {of} samples end in the middle of a sentence: a cap of length may have cut them.",
        cut, len(samples), least=0.005,
    )  # fmt: skip


def _language_counts(samples: Sequence[Sample]) -> dict[str, int]:
    counts = Counter(language_of(" ".join(texts_of(s).values())) or "unclear" for s in samples)
    return dict(counts.most_common())


def _languages(samples: Sequence[Sample]) -> Iterator[Found]:
    """Samples in another language than most, and samples that mix scripts."""
    told = [(s, language_of(" ".join(texts_of(s).values()))) for s in samples]
    counts = Counter(language for _, language in told if language)
    if not counts:
        return
    most = counts.most_common(1)[0][0]
    hits = [(s.id, f"{language}, most are {most}") for s, language in told if language and language != most]
    yield from hits_of("mixed languages", "{n} of {of} samples are in another language than the others, or mix two.",
                       hits, len(samples))  # fmt: skip


def _contradictions(samples: Sequence[Sample], seed: int) -> Iterator[Found]:
    """Chains that the knowledge graph contradicts, and texts that deny what the sample's own entities say."""
    reasoned = subset([s for s in samples if s.reasoning], MAX_CHECKED, seed)
    graph, linker = Graph.builtin(), Linker.builtin()
    against: list[tuple[str, str]] = []
    denied: list[tuple[str, str]] = []
    for s in reasoned:
        report = check(s.reasoning, graph, linker, answer=s.answer_text, max_hops=0)
        wrong = next((step.text for step in report.steps if step.verdict == "contradicted"), None)
        if wrong:
            against.append((s.id, wrong[:100]))
        said = {m.concept: m.polarity for step in report.steps for m in step.mentions if not m.possible}
        gold = {linker.concept_of(e.name): e.polarity for e in s.entities if e.kind == "finding"}
        other = [c for c, polarity in gold.items() if c and said.get(c, polarity) != polarity]
        if other:
            denied.append((s.id, f"{linker.label_of(other[0])}: gold {gold[other[0]]}, text {said[other[0]]}"))
    yield from hits_of("the graph contradicts the chain", "{n} of {of} chains hold a step that the knowledge graph "
                       "contradicts.", against, len(reasoned))  # fmt: skip
    yield from hits_of("text and entities disagree", "{n} of {of} chains deny a finding that their entities hold, or "
                       "the other way round.", denied, len(reasoned))  # fmt: skip


def _long(samples: Sequence[Sample]) -> Iterator[Found]:
    words = [(s.id, sum(len(t.split()) for t in texts_of(s).values())) for s in samples]
    hits = [(id, f"{n} words") for id, n in words if n * TOKENS_A_WORD > LONG_TOKENS]
    yield from hits_of(
        "long targets", "{n} of {of} targets are longer than about 512 tokens, the cutoff of PathVLM-R1's first stage: "
        "a cap like that would cut them.", hits, len(samples), level="note",
    )  # fmt: skip
    reasoned = [s for s in samples if s.reasoning and s.choices]
    short = [(s.id, "") for s in reasoned if sum(len(t.split()) for t in s.reasoning) < 12]
    yield from hits_of(
        "short reasoning", "{n} of {of} chains have under a dozen words; training on bare rationales costs transfer.",
        short, len(reasoned), level="note", least=0.2,
    )  # fmt: skip


def _lengths(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Words of every kind of text: how many have it, median, 5 % and 95 %, the longest."""
    words: dict[str, list[int]] = {}
    for s in samples:
        own = {"question": s.question, **texts_of(s)}
        if s.answer_text:
            own["answer"] = s.answer_text
        for place, text in own.items():
            words.setdefault(place, []).append(len(text.split()))
    return [
        {"text": place, "n": len(n), "p05": float(np.quantile(n, 0.05)), "median": float(np.median(n)),
         "p95": float(np.quantile(n, 0.95)), "longest": max(n)}
        for place, n in words.items()
    ]  # fmt: skip
