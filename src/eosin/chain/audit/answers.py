"""What answers give away: their place, their length, their words; and answers that disagree with themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from eosin.chain.audit.found import Found, hits_of
from eosin.core.draw import subset
from eosin.core.formats.options import OPTIONS_KEY, is_lone_letter
from eosin.core.nouns.classes import Classes, normalised
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.problem import NotPossibleError, Problem
from eosin.evaluate.baselines.text import majority, text_only
from eosin.evaluate.exam.items import group_of
from eosin.evaluate.statistics.intervals import Interval, cluster_interval

MARGIN = 0.05
"""So far above chance the lower limit must lie before a bias is called a fault."""
CONFIDENCE = 0.99
MAX_PROBED = 4000
FOLDS = 5
LEAST = 20
YES_NO = frozenset({"yes", "no"})
_LETTER_SAID = re.compile(r"\b(?:answer|option|choice)\s*(?:is|would be|must be)?\s*:?\s*\(?([A-Z])\b(?!\w)")
_LETTER_NAMED = re.compile(r"\b(?:[Oo]ption|[Cc]hoice)s?\s+\(?([A-Z])\b")


def answer_faults(samples: Sequence[Sample], seed: int) -> tuple[list[Found], dict[str, Any]]:
    """Faults of answers, and the figures that the page shows even where all is well."""
    closed = [s for s in samples if len(s.choices) > 1 and s.answer is not None]
    figures: dict[str, Any] = {"closed": len(closed), "open": sum(not s.choices and bool(s.answer) for s in samples)}
    found = [*_letters(closed, figures), *_lengths(closed, figures), *_yes_no(closed, figures)]
    found += _blind(closed, figures, seed)
    found += _disagreeing(samples, closed)
    return found, figures


def _interval(right: Sequence[bool], samples: Sequence[Sample]) -> Interval:
    return cluster_interval(right, [group_of(s) for s in samples], confidence=CONFIDENCE)


def _share(right: Sequence[bool], samples: Sequence[Sample], chance: float) -> dict[str, Any]:
    return {
        "share": float(np.mean(right)), "ci99": _interval(right, samples).pair, "chance": chance, "n": len(right),
    }  # fmt: skip


def _is_above(told: dict[str, Any]) -> bool:
    return told["ci99"] is not None and told["ci99"][0] > told["chance"] + MARGIN


def _words(told: dict[str, Any]) -> str:
    limits = told["ci99"]
    shown = f" [{100 * limits[0]:.1f}, {100 * limits[1]:.1f}]" if limits else ""
    return f"{100 * told['share']:.1f} %{shown} of {told['n']:,}; chance is {100 * told['chance']:.1f} %"


def _letters(closed: Sequence[Sample], figures: dict[str, Any]) -> Iterator[Found]:
    """The commonest place of the right answer, against what shuffled options would give."""
    asked = [s for s in closed if {c.text.strip().casefold() for c in s.choices} != YES_NO]
    counts = Counter(s.answer for s in asked)
    figures["letters"] = {str(k): n for k, n in sorted(counts.items(), key=lambda kv: str(kv[0]))}
    if len(asked) < LEAST:
        return
    told = []
    for letter in counts:
        able = [s for s in asked if any(c.letter == letter for c in s.choices)]
        chance = float(np.mean([1 / len(s.choices) for s in able]))
        told.append((str(letter), _share([s.answer == letter for s in able], able, chance)))
    worst = max(told, key=lambda t: t[1]["share"] - t[1]["chance"])
    figures["commonest_letter"] = {"letter": worst[0], **worst[1]}
    if _is_above(worst[1]):
        said = f"The right answer stands at {worst[0]} in {_words(worst[1])}. Options must be shuffled."
        yield Found("answer position", "fault", said, counts[worst[0]], worst[1]["n"], figures=worst[1])


def _lengths(closed: Sequence[Sample], figures: dict[str, Any]) -> Iterator[Found]:
    """How often the one longest (or shortest) option is the right one."""
    for name, pick in (("longest", max), ("shortest", min)):
        able, right = [], []
        for s in closed:
            sizes = [len(c.text) for c in s.choices]
            if sizes.count(pick(sizes)) == 1 and max(sizes) > min(sizes):
                able.append(s)
                right.append(s.choices[sizes.index(pick(sizes))].letter == s.answer)
        if len(able) < LEAST:
            continue
        told = _share(right, able, float(np.mean([1 / len(s.choices) for s in able])))
        figures[f"{name}_is_right"] = told
        yes_no = np.mean([{c.text.strip().casefold() for c in s.choices} == YES_NO for s in able])
        if _is_above(told) and yes_no < 0.5 and not _one_set(able):
            said = f"The {name} option is the right one in {_words(told)}. Length tells the answer."
            yield Found("answer length", "fault", said, sum(right), len(able), figures=told)


def _one_set(samples: Sequence[Sample]) -> bool:
    """Whether all questions offer the same options: a class that is common and long is no bias of length."""
    return len({frozenset(normalised(c.text) for c in s.choices) for s in samples}) == 1


def _yes_no(closed: Sequence[Sample], figures: dict[str, Any]) -> Iterator[Found]:
    asked = [s for s in closed if {c.text.strip().casefold() for c in s.choices} == YES_NO]
    if len(asked) < LEAST:
        return
    counts = Counter((s.answer_text or "").strip().casefold() for s in asked)
    most = counts.most_common(1)[0][0]
    told = _share([(s.answer_text or "").strip().casefold() == most for s in asked], asked, 0.5)
    figures["yes_no"] = {"commonest": most, **told}
    if _is_above(told):
        said = f"The answer to a yes/no question is {most!r} in {_words(told)}."
        yield Found("yes/no balance", "fault", said, counts[most], len(asked), figures=told)


def _blind(closed: Sequence[Sample], figures: dict[str, Any], seed: int) -> Iterator[Found]:
    """How far a small classifier of question and options gets that never sees an image; cross-validated by group."""
    told = blind_guess(subset(closed, MAX_PROBED, seed), seed)
    if told is None:
        return
    figures["blind"] = told
    if _is_above(told):
        said = (
            f"A text-only classifier that sees no image answers {_words(told)} (the better of guessing and of always "
            f"naming the commonest class), in {told['folds']} folds by group."
        )
        yield Found("answered without the image", "fault", said, round(told["share"] * told["n"]), told["n"],
                    figures=told)  # fmt: skip


def blind_guess(closed: Sequence[Sample], seed: int) -> dict[str, Any] | None:
    """Cross-validated accuracy of the text-only baseline; None where there is too little to fit it.

    Returns:
        {"share", "ci99", "chance", "guess", "majority", "n", "folds"}: `chance` is the better of blind guessing and of
        the commonest class of the other folds.
    """
    groups = sorted({group_of(s) for s in closed})
    folds = min(FOLDS, len(groups))
    if len(closed) < LEAST or folds < 2:
        return None
    order = np.random.default_rng([seed, 11]).permutation(len(groups))
    fold_of = {groups[int(g)]: place % folds for place, g in enumerate(order)}
    classes = Classes.of(closed)
    right: list[bool] = []
    common: list[bool] = []
    asked: list[Sample] = []
    for fold in range(folds):
        train = [s for s in closed if fold_of[group_of(s)] != fold]
        held = [s for s in closed if fold_of[group_of(s)] == fold]
        problem = Problem(train, (), held, held, classes, ExamSettings())
        try:
            said, most = text_only(problem).names, majority(problem).names
        except (NotPossibleError, ValueError):
            return None
        asked += held
        right += [said.get(s.id) == problem.name(s) for s in held]
        common += [most.get(s.id) == problem.name(s) for s in held]
    guess = float(np.mean([1 / len(s.choices) for s in asked]))
    told = _share(right, asked, max(guess, float(np.mean(common))))
    return {**told, "guess": guess, "majority": float(np.mean(common)), "folds": folds}


def _disagreeing(samples: Sequence[Sample], closed: Sequence[Sample]) -> Iterator[Found]:
    reasoned = [s for s in closed if s.reasoning]
    yield from hits_of(
        "reasoning and answer disagree", "{n} of {of} chains end on another option than the answer.",
        [(s.id, seen) for s in reasoned if (seen := concludes_otherwise(s))], len(reasoned),
    )  # fmt: skip
    named = [(s.id, m.group()) for s in reasoned if (m := _LETTER_NAMED.search(" ".join(s.reasoning)))]
    yield from hits_of(
        "letters in the reasoning", "{n} of {of} chains name options by letter: they are wrong once options are "
        "shuffled.", named, len(reasoned), level="note",
    )  # fmt: skip
    unclear = [
        (s.id, str(s.answer)[:60]) for s in samples
        if s.extra.get(OPTIONS_KEY) == "unclear" or (not s.choices and s.answer and is_lone_letter(s.answer))
    ]  # fmt: skip
    yield from hits_of(
        "letter and text disagree", "{n} of {of} answers are none of the options that their question states, or name "
        "a letter and the text of another option.", unclear, len(samples),
    )  # fmt: skip


def concludes_otherwise(sample: Sample) -> str | None:
    """What the last step of a chain concludes, where that is another option than the answer; else None."""
    last = sample.reasoning[-1] if sample.reasoning else ""
    letter = _LETTER_SAID.search(last)
    if letter and any(c.letter == letter.group(1) for c in sample.choices):
        return None if letter.group(1) == sample.answer else letter.group().strip()
    folded = f" {normalised(last)} "
    named = [
        c
        for c in sample.choices
        if len(c.text) > 3 and re.search(rf"(?<!\w){re.escape(normalised(c.text))}(?!\w)", folded)
    ]
    named = [c for c in named if not any(c is not d and normalised(c.text) in normalised(d.text) for d in named)]
    denied = re.search(r"\b(?:not|no|unlike|rather than|against|excludes?|rules? out|better than)\b", folded)
    if len(named) == 1 and not denied and named[0].letter != sample.answer:
        return f"{named[0].text}, but the answer is {sample.answer_text}"
    return None
