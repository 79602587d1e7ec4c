"""Closed questions of captions: which of four captions belongs to the picture. They make pairs examinable."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Sample, make_choices, user_prompt

QUESTION = "Which caption belongs to this picture?"
STEP = "caption questions"
MAX_LETTERS = 160
_LABEL = re.compile(r"^\s*(?:Fig(?:ure|\.)?|Abb(?:ildung|\.)?|Plate)\s*[\w.\-]*[.:|]?\s*", re.I)


def with_questions(samples: Filtered[Sample], seed: int, num_choices: int = 4) -> Filtered[Sample]:
    """The same samples, each with its own caption among those of others, in a seeded order.

    A caption is given without its label ("Figure 3.") and up to its first full stop. The wrong ones come from other
    articles where there are enough, and differ from the right one. Samples that cannot be given enough are dropped.
    """
    short = {s.id: shortened(s.caption or "") for s in samples.kept}
    outcomes = [_asked(s, samples.kept, short, seed, i, num_choices) for i, s in enumerate(samples.kept)]
    made = filtered(outcomes)
    return Filtered(made.kept, (*samples.dropped, *made.dropped))


def shortened(caption: str) -> str:
    """A caption without its label, up to its first full stop and at most 160 letters."""
    text = _LABEL.sub("", caption, count=1).strip() or caption.strip()
    first = re.split(r"(?<=[a-z\u00e4\u00f6\u00fc0-9)])[.;]\s", text, maxsplit=1)[0].strip(" .")
    return first if len(first) <= MAX_LETTERS else first[: MAX_LETTERS - 1].rsplit(" ", 1)[0] + "\u2026"


def _asked(
    sample: Sample, others: Sequence[Sample], short: dict[str, str], seed: int, index: int, num: int
) -> Kept[Sample] | Dropped:
    rng = np.random.default_rng([seed, 53, index])
    own = short[sample.id]
    taken = {own.casefold()}
    wrong: list[str] = []
    for same_article in (False, True):  # both orders are drawn, whether or not the second is needed
        for k in rng.permutation(len(others)):
            if len(wrong) == num - 1:
                break
            other = others[int(k)]
            text = short[other.id]
            same = other.origin.group is not None and other.origin.group == sample.origin.group
            if same == same_article and text and text.casefold() not in taken:
                wrong.append(text)
                taken.add(text.casefold())
    if not own or len(wrong) < num - 1:
        return Dropped(sample.id, "too few captions to choose from", f"{len(wrong) + 1} of {num}", STEP)
    texts = [own, *wrong]
    order = [texts[int(i)] for i in rng.permutation(num)]
    letter = chr(ord("A") + order.index(own))
    return Kept(sample.model_copy(update={"messages": user_prompt(QUESTION, len(sample.images)),
                                          "choices": make_choices(order), "answer": letter}))  # fmt: skip
