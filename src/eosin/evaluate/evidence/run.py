"""The evidence part of an exam: scores, deletion, pointing and maps of some of its items, with figures over all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import load_picture
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.outcome import Unparsed
from eosin.core.nouns.prompt import AnswerForm, gold_answer, prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.exam import EvidenceSettings, ExamSettings
from eosin.core.store.names import file_name
from eosin.engines.base import Request
from eosin.evaluate.evidence import maps as maps
from eosin.evaluate.evidence.rereading import reread, rereading_summary
from eosin.evaluate.evidence.tests import (
    RANDOM,
    Attribution,
    AttributionTarget,
    Attributor,
    deletion,
    deletion_summary,
    pointing_game,
    pointing_summary,
)
from eosin.evaluate.exam.evaluator import Evaluator
from eosin.evaluate.exam.items import choose_balanced, group_of
from eosin.evaluate.exam.work import EVIDENCE

NUM_TOP = 10
Row = dict[str, Any]


def answer_span(reply: str, grammar: Grammar) -> tuple[int, int] | None:
    """First and one past the last character of the answer's text; None where the reply breaks its grammar or says
    nothing."""
    parsed = grammar.parse(reply)
    if isinstance(parsed, Unparsed) or not parsed.value.answer:
        return None
    tag = grammar.tags[-1]
    start = reply.index(f"<{tag}>") + len(tag) + 2
    start = reply.index(parsed.value.answer, start)
    return start, start + len(parsed.value.answer)


def with_answer(reply: str, span: tuple[int, int], sample: Sample) -> tuple[str, tuple[int, int]]:
    """The reply with the gold answer in its answer's place, in the form in which the model answers."""
    own = reply[span[0] : span[1]]
    form: AnswerForm = "text"
    if re.match(r"[A-Z][.):]", own):
        form = "letter_and_text"
    elif re.search(r"\([A-Z]\)\.?$", own):
        form = "text_and_letter"
    elif re.fullmatch(r"[A-Z]", own):
        form = "letter"
    answer = gold_answer(sample, form)
    return reply[: span[0]] + answer + reply[span[1] :], (span[0], span[0] + len(answer))


def slide_of(sample: Sample) -> SlideBag | None:
    """The first slide that a sample shows as a bag."""
    return next((ref for ref in sample.images if isinstance(ref, SlideBag)), None)


def measure(
    evaluator: Evaluator,
    attributor: Attributor,
    samples: Sequence[Sample],
    normal: Mapping[str, Mapping[str, Any]],
    settings: ExamSettings,
) -> tuple[dict[str, Any], list[Row]]:
    """Evidence of some items of an exam.

    Args:
        samples: items whose images the exam could use. normal: the exam's rows by id.

    Returns:
        What stands under "evidence" in summary.json, and the rows of evidence.jsonl. Maps are written to the folder
        EVIDENCE of the exam's work folder.
    """
    assert settings.evidence is not None
    shown = [s for s in samples if slide_of(s) is not None]
    chosen = choose_balanced(shown, evaluator.classes.gold, settings.evidence.num_samples, settings.seed)
    rows = {r["id"]: r for r in evaluator.work.load(EVIDENCE)}
    one = _One(evaluator, attributor, settings.evidence, settings.seed, evaluator.work.dir / EVIDENCE)
    for place, sample in enumerate(chosen):
        if sample.id not in rows:
            rows[sample.id] = one.row(sample, normal[sample.id], draw=place < settings.evidence.num_maps)
            evaluator.work.append(EVIDENCE, [rows[sample.id]])
        if evaluator.progress is not None:
            evaluator.progress(EVIDENCE, place + 1, len(chosen))
    found = [rows[s.id] for s in chosen]
    return _summary(found, len(samples) - len(shown), settings), found


@dataclass(frozen=True)
class _One:
    """What every item has in common."""

    evaluator: Evaluator
    attributor: Attributor
    settings: EvidenceSettings
    seed: int
    folder: Path

    def row(self, sample: Sample, graded: Mapping[str, Any], *, draw: bool) -> Row:
        """One row of evidence.jsonl; {"skipped": reason} where nothing can be measured."""
        told: Row = {"id": sample.id, "group": group_of(sample), "label": graded.get("label")}
        span = answer_span(str(graded["reply"]), self.evaluator.grammar)
        if span is None:
            return {**told, "skipped": "the reply states no answer"}
        reply = str(graded["reply"])
        if self.settings.answer == "gold":
            reply, span = with_answer(reply, span, sample)
        answer = reply[slice(*span)]
        if self.settings.of == "reply":
            span = 0, len(reply)
        try:
            asked = self._asked(sample, reply, span)
            attribution = self.attributor.scores(asked, self.settings.methods)
            if not attribution.scores:
                return {**told, "skipped": "; ".join(sorted(set(attribution.notes.values())))}
            told |= {"answer": answer, "correct": graded.get("correct") if self.settings.answer == "own" else None}
            figures = self._figures(sample, asked, attribution, answer if draw else None)
            return {**told, **figures, **self._reread(sample, asked, attribution)}
        except EosinError as exc:
            return {**told, "skipped": exc.message, "detail": exc.found or exc.where or ""}

    def _reread(self, sample: Sample, asked: AttributionTarget, attribution: Attribution) -> Row:
        """The answers without the patches that the first method points to."""
        if not self.settings.reread or self.settings.answer != "own":
            return {}
        scores = next(iter(attribution.scores.values()))
        found = reread(
            asked, scores, sample, self.evaluator.grammar, self.evaluator.engine, self.evaluator.decoding,
            self.settings.fractions, self.seed,
        )  # fmt: skip
        return {"reread": found}

    def _asked(self, sample: Sample, reply: str, span: tuple[int, int]) -> AttributionTarget:
        messages = prompt_messages(sample, self.evaluator.grammar, instruction=self.evaluator.instruction)
        pictures = tuple(load_picture(ref, self.evaluator.read_region) for ref in sample.images)
        if not any(isinstance(p, PatchBag) for p in pictures):
            raise ImageError("no slide among the pictures")
        return AttributionTarget(Request(sample.id, messages, pictures), reply, span)

    def _figures(self, sample: Sample, asked: AttributionTarget, attribution: Attribution, drawn_as: str | None) -> Row:
        bag, ref = asked.bag, slide_of(sample)
        seed = int(np.random.default_rng([self.seed, *sample.id.encode()]).integers(2**31))
        polygons, reason = self._lesions(sample, ref)
        scores = {**attribution.scores, RANDOM: np.random.default_rng(seed).random(len(bag))}
        if reason is None:
            pointed = pointing_game(scores, maps.lesion_mask(bag, polygons), seed)
        else:
            pointed = {"reason": reason}
        row: Row = {
            "logprob": attribution.logprob,
            "num_tokens": attribution.num_tokens,
            "num_patches": len(bag),
            "num_slide_tokens": attribution.num_slide_tokens,
            "notes": dict(attribution.notes),
            "deletion": deletion(asked, attribution, self.attributor, self.settings, seed),
            "pointing": pointed,
            "top": {n: maps.top_patches(bag, s, NUM_TOP, seed) for n, s in attribution.scores.items()},
        }
        if drawn_as is not None:
            row["map"] = self._draw(sample, asked, attribution, ref, drawn_as)
        return row

    def _lesions(self, sample: Sample, ref: SlideBag | None) -> tuple[list[list[Any]], str | None]:
        """Polygons in µm, or why there are none."""
        truth = sample.extra.get("truth")
        if not isinstance(truth, str) or not truth or ref is None:
            return [], "no truth"
        mpp = maps.mpp_of_level0(ref)
        if mpp is None:
            return [], "scale of level 0 not known"
        try:
            return maps.lesion_rings(Path(truth), mpp), None
        except EosinError:
            return [], "truth not readable"

    def _draw(
        self, sample: Sample, asked: AttributionTarget, attribution: Attribution, ref: SlideBag | None, answer: str
    ) -> dict[str, str]:
        truth = sample.extra.get("truth")
        outlined = Path(truth) if isinstance(truth, str) and self._lesions(sample, ref)[1] is None else None
        ground = maps.background(asked.bag, ref, outlined)
        method = next(iter(attribution.scores))
        title = f"{sample.id}: {answer} ({method})"
        return maps.write_map(self.folder, file_name(sample.id), asked.bag, attribution.scores, ground, title)


def _summary(rows: Sequence[Row], num_without_slide: int, settings: ExamSettings) -> dict[str, Any]:
    """The figures of summary.json."""
    assert settings.evidence is not None
    done = [r for r in rows if "skipped" not in r]
    boot = settings.bootstrap
    notes: dict[str, str] = {}
    for row in done:
        notes |= row["notes"]
    result: dict[str, Any] = {
        "n": len(done),
        "num_without_slide": num_without_slide,
        "num_skipped": len(rows) - len(done),
        "skipped": dict(Counter(r["skipped"] for r in rows if "skipped" in r).most_common()),
        "of": settings.evidence.of,
        "answer": settings.evidence.answer,
        "methods": list(settings.evidence.methods),
        "notes": notes,
        "num_random": settings.evidence.num_random,
        "deletion": deletion_summary(done, settings.evidence.fractions, boot, settings.seed),
        "reread": rereading_summary(done, settings.evidence.fractions, boot, settings.seed),
        "pointing": pointing_summary(done, boot, settings.seed),
        "not_pointed": dict(Counter(r["pointing"]["reason"] for r in done if "reason" in r["pointing"]).most_common()),
        "maps": [{"id": r["id"], **r["map"]} for r in done if "map" in r],
    }
    return result
