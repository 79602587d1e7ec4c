"""Trajectory-masked SFT: the end of a chain is trained with its beginning as context.

PathReasoner-R1 (arXiv 2601.21617), section on trajectory-masked SFT; no released code has it. A reply
y = (findings, steps s_1..s_L, answer) to a prompt x gives the variants m = 1..L with the loss

    loss_m = - sum over t in T_m of log p(y_t | x, y_1..y_(t-1)),   T_m = {t : token t ends behind the cut before s_m},

where T_1 is the whole reply. As in any SFT here, a batch divides the sum by the number of tokens in the loss. All
variants of a sample hold the same tokens: the reply is tokenised once, whole, and only the labels differ.

Variants are made here, at the stage, from samples that were split before: those of one slide stay in one split.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import AnswerForm, gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.masking import Trajectory
from eosin.models.template import escape_special


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a stage before they are written out.

    Attributes:
        samples: one a row; the variants of a sample repeat it.
        first_steps: m of each row, from 1; steps before it are context.
        cuts: characters at the beginning of each gold reply, as it is shown to the model, that carry no loss.
        facts: what was made, for stage.json.
    """

    samples: list[Sample]
    first_steps: list[int]
    cuts: list[int]
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.samples)


def whole_rows(samples: Sequence[Sample]) -> TrainingRows:
    """Every sample once, the loss on its whole reply."""
    return TrainingRows(list(samples), [1] * len(samples), [0] * len(samples))


def cut_before(sample: Sample, grammar: Grammar, form: AnswerForm, first_step: int) -> int:
    """Where step `first_step` begins in the gold reply of a sample: its marker, or its first word without markers.

    Args:
        first_step: m, from 1; 1 is the whole reply (0), which begins with the findings.

    Raises:
        EosinError: there is no such step, or no think block.
    """
    if first_step == 1:
        return 0
    if "think" not in grammar.tags or not 1 <= first_step <= len(sample.reasoning):
        raise EosinError(
            "This sample has no such step.", expected=f"1..{len(sample.reasoning)} in a think block",
            found=str(first_step), where=sample.id,
        )  # fmt: skip
    reply = gold_reply(sample, grammar, form)
    think = grammar.join_steps(sample.reasoning)
    before = len(grammar.join_steps(sample.reasoning[: first_step - 1])) + 1  # one character divides steps
    stripped = before - (len(think) - len(think.lstrip()))
    cut = reply.index("<think>") + len("<think>") + max(0, stripped)
    return len(escape_special(reply[:cut]))


def trajectory_rows(
    samples: Sequence[Sample],
    settings: Trajectory,
    grammar: Grammar,
    form: AnswerForm,
    *,
    only_whole: Collection[str] = (),
) -> TrainingRows:
    """The variants of every sample, in the order of the samples.

    Args:
        only_whole: ids of samples that give their whole reply alone, as the paper's pseudo-bags do.

    Raises:
        EosinError: the grammar has no think block, or no sample has more than one step.
    """
    lengths = [max(1, len(s.reasoning)) for s in samples]
    if "think" not in grammar.tags or max(lengths, default=0) < 2:
        raise EosinError(
            "Trajectories need chains of steps.", expected="a think block, and samples with more than one step",
            found=f"{grammar.name}; longest chain: {max(lengths, default=0)}", where="trajectory",
            next_step="take trajectory out of the stage, or give the samples `reasoning` with a step an element",
        )  # fmt: skip
    others = iter(rows_of_each([n for s, n in zip(samples, lengths, strict=True) if s.id not in only_whole], settings))
    wanted = [1 if s.id in only_whole else next(others) for s in samples]
    rows = TrainingRows([], [], [])
    for sample, length, num in zip(samples, lengths, wanted, strict=True):
        for first in first_steps(sample.id, length, num, settings.seed):
            rows.samples.append(sample)
            rows.first_steps.append(first)
            rows.cuts.append(cut_before(sample, grammar, form, first))
    rows.facts.update(_counts(samples, lengths, rows, settings))
    return rows


def rows_of_each(lengths: Sequence[int], settings: Trajectory) -> list[int]:
    """How many rows each sample gives: its variants up to the cap; with `balance` the mean of that for all."""
    capped = [min(n, settings.max_variants or n) for n in lengths]
    return [max(1, round(float(np.mean(capped))))] * len(capped) if settings.balance else capped


def first_steps(sample_id: str, length: int, num: int, seed: int) -> list[int]:
    """`num` first steps of 1..length, the whole reply first, the others drawn without repeating until all were there.

    They depend on the sample's id and the seed, not on the other samples.
    """
    digest = hashlib.sha256(f"{seed}:{sample_id}".encode()).digest()
    rng = np.random.default_rng(list(digest[:16]))
    drawn: list[int] = []
    while len(drawn) < num:
        later = [int(m) for m in rng.permutation(np.arange(2, length + 1))]
        drawn += [1, *sorted(later[: num - len(drawn) - 1])]
    return drawn


def _counts(samples: Sequence[Sample], lengths: Sequence[int], rows: TrainingRows, settings: Trajectory) -> Any:
    def table(values: Sequence[int]) -> dict[str, int]:
        return {str(k): n for k, n in sorted(Counter(values).items())}

    return {
        "settings": settings.model_dump(),
        "num_samples": len(samples),
        "num_rows": len(rows),
        "num_whole": rows.first_steps.count(1),
        "samples_by_chain_length": table(lengths),
        "rows_by_chain_length": table([max(1, len(s.reasoning)) for s in rows.samples]),
        "rows_by_first_step": table(rows.first_steps),
    }
