"""How many gold replies a stage's length cap would cut off, measured before the first step.

PathReasoner-R1's released code capped sequences so low that nearly every target lost its end: the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from rich.console import Console

from eosin.core.draw import subset
from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import PromptSettings, gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.stages import PretrainStage, RejectionStage, RlStage, SftStage
from eosin.models.load import Loaded, end_tokens
from eosin.models.template import escape_special
from eosin.train.data.collate import MaskedCollator, trim_padding

console = Console(stderr=True, highlight=False, soft_wrap=True)
MOST_ROWS = 64
MOST_REPLIES = 512


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens, the end token included, of a seeded sample of the gold replies.

    Attributes:
        cap: the stage's length cap.
        cut_share: share of them that are longer.
        counts: what is counted: "prompt and reply", or "reply".
    """

    num: int
    cap: int
    median: int
    longest: int
    cut_share: float
    counts: str

    def as_record(self) -> dict[str, Any]:
        """For stage.json."""
        return asdict(self)


def of_tokens(lengths: Sequence[int], cap: int, counts: str) -> Lengths:
    """The summary of some lengths."""
    over = sum(n > cap for n in lengths) / len(lengths)
    return Lengths(len(lengths), cap, int(np.median(lengths)), max(lengths), round(over, 4), counts)


def of_rows(rows: Dataset, loaded: Loaded, cap: int, seed: int) -> Lengths:
    """Prompt (image tokens included) and reply of at most 64 rows, exactly as the trainer will be given them."""
    collate = MaskedCollator(loaded.processor)
    ends = end_tokens(loaded)
    found = []
    for number in subset(range(len(rows)), MOST_ROWS, seed):
        tokens, _ = trim_padding(collate([rows[int(number)]]), 0)
        stops = [i for i, token in enumerate(tokens.tolist()) if token in ends]
        found.append(stops[-1] + 1 if stops else len(tokens))
    return of_tokens(found, cap, "prompt and reply")


def of_replies(
    samples: Sequence[Sample], loaded: Loaded, grammar: Grammar, prompt: PromptSettings, cap: int, seed: int
) -> Lengths:
    """The gold replies of at most 512 samples, with their end token."""
    texts = [escape_special(gold_reply(s, grammar, prompt.answer)) for s in subset(samples, MOST_REPLIES, seed)]
    coded = loaded.processor.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return of_tokens([len(ids) + 1 for ids in coded], cap, "reply")


def check_lengths(
    found: Lengths, settings: SftStage | PretrainStage | RejectionStage | RlStage, where: str
) -> dict[str, Any]:
    """Say what was found where the cap cuts anything; refuse above the stage's bound. Returns it for stage.json.

    Raises:
        EosinError: more gold replies than `max_cut_share` are longer than the cap, and `over_cap` is "refuse".
    """
    field = "max_new_tokens" if isinstance(settings, RlStage) else "max_tokens"
    if found.cut_share > settings.max_cut_share:
        told = (
            f"{found.cut_share:.0%} of {found.num} gold replies are longer than {field} {found.cap} "
            f"({found.counts}: median {found.median} tokens, longest {found.longest})"
        )
        if settings.over_cap == "refuse":
            raise EosinError(
                "The length cap of this stage cuts off the gold replies: the model would not learn to end them.",
                expected=f"at most {settings.max_cut_share:.0%} of them longer than {field}",
                found=told,
                where=where,
                next_step=f"{where}.{field}={found.longest}, or {where}.over_cap=warn to go on",
            )
        console.print(f"  [yellow]warning:[/yellow] {told}")
    return found.as_record()
