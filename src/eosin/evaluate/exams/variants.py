"""Questions asked more than once: with their options moved on, or a picture at a time; and what the answers come to.

A model that reads the options names the same one wherever it stands. `consistency` is the share of the questions of
which every asking named the same option; an asking without a readable answer is never the same as another.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.classes import normalised
from eosin.core.nouns.sample import ImagePart, Message, Sample, make_choices

Row = Mapping[str, Any]
_SHIFT, _IMAGE = "#shift", "#image"


def moved(sample: Sample, places: int) -> Sample:
    """The sample with every option moved on by so many places, cyclically. The answer keeps its text."""
    texts = [c.text for c in sample.choices]
    turned = [texts[(i - places) % len(texts)] for i in range(len(texts))]
    choices = make_choices(turned)
    answer = next((c.letter for c in choices if c.text == sample.answer_text), sample.answer)
    return sample.model_copy(update={"choices": choices, "answer": answer})


def with_shifts(samples: Sequence[Sample], shifts: int) -> list[Sample]:
    """Every closed question as it is and moved on by 1 to `shifts` places (-1: by every number of places).

    Raises:
        EosinError: no question has options.
    """
    made: list[Sample] = []
    for sample in samples:
        num = len(sample.choices)
        most = num - 1 if shifts < 0 else min(shifts, num - 1)
        made += [_copy(moved(sample, k), sample, f"{_SHIFT}{k}") for k in range(most + 1) if num > 1]
    if not made:
        raise EosinError("No question of this exam has options that could be moved.", next_step="leave out --shifts")
    return made


def one_by_one(samples: Sequence[Sample]) -> list[Sample]:
    """Every question with several pictures once for each of them; the others as they are."""
    made: list[Sample] = []
    for sample in samples:
        if len(sample.images) < 2:
            made.append(_copy(sample, sample, f"{_IMAGE}0"))
            continue
        for k, ref in enumerate(sample.images):
            only = {"images": (ref,), "messages": tuple(_showing(m, k) for m in sample.messages)}
            made.append(_copy(sample.model_copy(update=only), sample, f"{_IMAGE}{k}"))
    return made


def _showing(message: Message, index: int) -> Message:
    parts = tuple(
        ImagePart(index=0) if isinstance(p, ImagePart) else p
        for p in message.parts
        if not isinstance(p, ImagePart) or p.index == index
    )
    return Message(role=message.role, parts=parts)


def _copy(variant: Sample, sample: Sample, mark: str) -> Sample:
    """All askings of a question are one cluster: it is one question."""
    origin = sample.origin
    if origin.group is None and origin.digest is None:
        origin = origin.model_copy(update={"case": f"question {sample.id}"})
    return variant.model_copy(update={"id": f"{sample.id}{mark}", "origin": origin})


def _by_question(rows: Iterable[Row], mark: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        question, sign, _ = str(row["id"]).rpartition(mark)
        if sign:
            found[question].append(row)
    return found


def _said(row: Row) -> str | None:
    """What a row's answer says, in words: the same wherever the option stood."""
    parsed = row["parsed"]
    return None if parsed is None else normalised(str(row["choices"].get(parsed, parsed)))


def shift_figures(rows: Iterable[Row]) -> dict[str, Any]:
    """Figures of askings with moved options.

    Args:
        rows: graded rows of `with_shifts`.

    Returns:
        n: questions asked at least twice. shifts: most askings of one. consistency: share that named one option in
        every asking. accuracy: mean over all askings. accuracy_in_all: share right in every asking;
        accuracy_in_any: in one. letters: how often each letter was named; gold_letters: how often it was right.
    """
    groups = {q: g for q, g in _by_question(rows, _SHIFT).items() if len(g) > 1}
    if not groups:
        return {"n": 0}
    everything = [r for g in groups.values() for r in g]
    said = {q: [_said(r) for r in g] for q, g in groups.items()}
    same = [None not in s and len(set(s)) == 1 for s in said.values()]
    return {
        "n": len(groups),
        "shifts": max(len(g) for g in groups.values()),
        "consistency": sum(same) / len(groups),
        "accuracy": sum(bool(r["correct"]) for r in everything) / len(everything),
        "accuracy_in_all": sum(all(r["correct"] for r in g) for g in groups.values()) / len(groups),
        "accuracy_in_any": sum(any(r["correct"] for r in g) for g in groups.values()) / len(groups),
        "unparsed_rate": sum(r["parsed"] is None for r in everything) / len(everything),
        "letters": dict(sorted(Counter(str(r["parsed"]) for r in everything if r["parsed"] is not None).items())),
        "gold_letters": dict(sorted(Counter(str(r["answer"]) for r in everything).items())),
    }


def image_figures(rows: Iterable[Row]) -> dict[str, Any]:
    """Figures of pictures asked one by one.

    Returns:
        n: questions. accuracy: mean over all pictures. majority_accuracy: share of the questions whose most frequent
        readable answer is right; of equally frequent ones the first counts.
    """
    groups = _by_question(rows, _IMAGE)
    if not groups:
        return {"n": 0}
    everything = [r for g in groups.values() for r in g]
    return {
        "n": len(groups),
        "pictures": len(everything),
        "accuracy": sum(bool(r["correct"]) for r in everything) / len(everything),
        "majority_accuracy": sum(_majority_right(g) for g in groups.values()) / len(groups),
    }


def _majority_right(rows: Sequence[Row]) -> bool:
    votes = Counter(s for s in map(_said, rows) if s is not None)
    if not votes:
        return False
    winner = votes.most_common(1)[0][0]  # equal votes: the one that was first
    return any(_said(r) == winner and bool(r["correct"]) for r in rows)
