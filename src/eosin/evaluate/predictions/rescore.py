"""Logged replies scored anew: each is given to the question that it answers, then read as any reply is."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.classes import normalised
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample, make_choices
from eosin.core.settings.exam import ExamSettings
from eosin.engines.base import Decoding, Generation, Request
from eosin.evaluate.baselines.baselines import Results
from eosin.evaluate.exam.entry import pick_split
from eosin.evaluate.exam.exam import run_exam
from eosin.evaluate.predictions.layouts import Log, Logged, read_log

MISSING = "no prediction in the file"
_THOUGHT = re.compile(r"^.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Matched:
    """A reply and the question that it answers, its options in the order in which the model saw them."""

    sample: Sample
    reply: str


class LoggedReplies:
    """An engine whose replies stand in a log. Nothing is asked."""

    def __init__(self, name: str, replies: Mapping[str, str]) -> None:
        self.name = name
        self._replies = replies

    def generate(self, requests: Sequence[Request], decoding: Decoding) -> Iterator[Generation]:
        for request in requests:
            reply = self._replies.get(request.id)
            yield Generation(request.id, reply or "", None, False, MISSING if reply is None else None)


def rescore(
    file: Path, samples: Sequence[Sample], out: Path, *, settings: ExamSettings | None = None,
    grammar_name: str | None = None, record: Mapping[str, Any] | None = None, baselines: Results | None = None,
) -> tuple[dict[str, Any], Filtered[Matched]]:  # fmt: skip
    """Score the replies of another harness on the samples of an exam; write the exam as any other.

    Without a grammar the whole reply, after its thinking, is read as the answer, or the answer block in it where there
    is one. A row that answers no question of the exam, or one with other options, is dropped with its reason; a
    question without a reply is set aside.

    Args:
        settings: split, subset and bootstrap; probes and sampled replies need a model and are left out.
        record: fields for the artifact's record.
        baselines: answers of baselines to the same exam, that the replies are compared with.

    Returns:
        summary.json of the exam at `out`, and what became of the file's rows.

    Raises:
        EosinError: the file cannot be read, or none of its rows answers a question of this exam.
    """
    plain = {"probes": [], "num_sampled": 0, "evidence": None, "terms": None}
    settings = (settings or ExamSettings()).model_copy(update=plain)
    log = read_log(file)
    asked = pick_split(samples, settings.split)
    found = matched(log, asked)
    if not found.kept:
        raise EosinError(
            "No row of this file answers a question of this exam.",
            expected=f"ids or questions of the exam's {len(asked)} samples",
            found=str(found.reasons()),
            where=file,
        )
    own = {m.sample.id: m for m in found.kept}
    grammar = Grammar.of(grammar_name or "answer")
    replies = {id: m.reply if grammar_name else bare(m.reply) for id, m in own.items()}
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    engine = LoggedReplies(f"predictions:{log.model} ({digest[:8]})", replies)
    facts = {"predictions": file.name, "predictions_sha256": digest, "harness": log.harness, **(record or {})}
    shown = [own[s.id].sample if s.id in own else s for s in asked]
    summary = run_exam(
        engine, [_unpictured(s) for s in shown], grammar, settings, out, record=facts, baselines=baselines
    )
    return summary, found


def bare(reply: str) -> str:
    """A reply as the answer block that it has, or is."""
    rest = _THOUGHT.sub("", reply, count=1)
    blocks = _ANSWER.findall(rest)
    text = blocks[0] if len(blocks) == 1 else rest
    return f"<answer>{re.sub(r'</?answer>', ' ', text)}</answer>"


def _unpictured(sample: Sample) -> Sample:
    """Without what the engine does not look at: pictures are not opened, their names still are the cluster."""
    from eosin.core.nouns.prompt import without_images
    from eosin.evaluate.exam.items import group_of

    kind, _, name = group_of(sample).partition(":")
    told = (
        {kind: name} if kind in ("patient", "case", "slide", "article") else {"digest": name} if kind == "image" else {}
    )
    origin = sample.origin.model_copy(update=told)
    return sample.model_copy(update={"images": (), "messages": without_images(sample.messages), "origin": origin})


def matched(log: Log, samples: Sequence[Sample]) -> Filtered[Matched]:
    """Each reply with its question: by id, by place, or by text, and only where the text agrees.

    Places are those of this exam only if at none of them the log had another right answer: questions of one wording
    (What does this tile show?) have the same text in every place.
    """
    finder = _Finder(samples)
    finder.trusts_places = not any(finder.is_contradicted(row) for row in log.rows.kept)
    taken: Counter[str] = Counter()
    outcomes: list[Kept[Matched] | Dropped] = list(log.rows.dropped)
    for row in log.rows.kept:
        outcome = finder.of(row)
        if isinstance(outcome, Kept):
            id = outcome.value.sample.id
            taken[id] += 1
            if taken[id] > 1:
                outcome = Dropped(id, "a second reply to a question", step="predictions")
        outcomes.append(outcome)
    return filtered(outcomes)


class _Finder:
    """Finds the sample that a logged reply answers."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.trusts_places = True
        self._samples = samples
        self._by_id = {s.id: s for s in samples}
        self._by_text: dict[str, list[Sample]] = {}
        for s in samples:
            self._by_text.setdefault(normalised(s.question), []).append(s)

    def of(self, row: Logged) -> Kept[Matched] | Dropped:
        name = row.key or (f"doc {row.place}" if row.place is not None else "?")
        candidates = self._candidates(row)
        if not candidates:
            return Dropped(name, "no such question in the exam", row.prompt[:120], "predictions")
        fitting = [s for s in candidates if (shown := _with_options(s, row)) is not None]
        if not fitting:
            return Dropped(name, "other options than in the exam", str(dict(row.options))[:120], "predictions")
        if len(fitting) > 1:
            return Dropped(name, "several questions of the exam have this text", row.prompt[:120], "predictions")
        shown = _with_options(fitting[0], row)
        assert shown is not None
        return Kept(Matched(shown, row.reply))

    def _candidates(self, row: Logged) -> list[Sample]:
        by_id = self._by_id.get(row.key or "")
        if by_id is not None and (not row.prompt or _stands_in(by_id, row.prompt)):
            return [by_id]
        there = self._at_place(row)
        if there is not None and self.trusts_places:
            return [there]
        exact = self._by_text.get(normalised(row.prompt))
        if exact is not None or not row.prompt:
            return exact or []
        return [s for s in self._samples if _stands_in(s, row.prompt)]

    def _at_place(self, row: Logged) -> Sample | None:
        """The question at the place that a row names, where its text stands in the row's prompt."""
        if row.place is None or not 0 <= row.place < len(self._samples):
            return None
        there = self._samples[row.place]
        return there if _stands_in(there, row.prompt) else None

    def is_contradicted(self, row: Logged) -> bool:
        """Whether another option is right in the log than at the place it names."""
        there = self._at_place(row)
        if there is None or row.target is None or not there.choices:
            return False
        forms = {normalised(f): c.letter for c in there.choices for f in (c.letter, c.text)}
        told = forms.get(normalised(row.target))
        return told is not None and told != there.answer


def _stands_in(sample: Sample, prompt: str) -> bool:
    """Whether a prompt asks this question: it holds its text, and its options where it holds any of them."""
    asked, text = normalised(prompt), normalised(sample.question)
    if not text or text not in asked:
        return False
    options = [normalised(c.text) in asked for c in sample.choices]
    return all(options) or asked == text


def _with_options(sample: Sample, row: Logged) -> Sample | None:
    """The sample with its options in the log's order; None where they are others."""
    if not row.options or not sample.choices:
        return sample
    texts = {normalised(c.text): c.text for c in sample.choices}
    theirs = [normalised(t) for t in row.options.values()]
    if sorted(theirs) != sorted(texts) or list(row.options) != [chr(65 + i) for i in range(len(theirs))]:
        return None
    choices = make_choices([texts[t] for t in theirs])
    answer = next((c.letter for c in choices if c.text == sample.answer_text), sample.answer)
    return sample.model_copy(update={"choices": choices, "answer": answer})
