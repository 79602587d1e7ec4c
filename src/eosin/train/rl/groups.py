"""Groups of completions, which of them carry a signal, and where fresh prompts come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eosin.core.store import artifacts as store
from eosin.engines.group_decode import EncodedPrompt

NOTHING_VARIES = (
    "In the first step all replies to a question earn the same, whichever the question: nothing can be learned. "
    "Look at rollouts.jsonl; other rewards, prompts of middling difficulty (`eosin rl-data`) or a higher temperature "
    "give a spread."
)
SHORT_BATCH = (
    "Dynamic sampling reached its limit of {rounds} generation batches with {missing} groups still missing; the batch "
    "is used as it is. Questions may be too easy or too hard: see `eosin rl-data`."
)


@lru_cache(maxsize=4)
def _permutation(seed: int, stream: int, epoch: int, num_rows: int) -> np.ndarray:
    return np.random.default_rng([seed, stream, epoch]).permutation(num_rows)


def row_at(place: int, num_rows: int, seed: int, stream: int) -> int:
    """The row at a place of seeded permutations of the rows, one after the other. `stream` keeps orders of the same
    seed apart: 77 are fresh prompts, 78 the anchor's gold replies."""
    epoch, index = divmod(place, num_rows)
    return int(_permutation(seed, stream, epoch, num_rows)[index])


@dataclass
class Group:
    """G completions of one prompt.

    Attributes:
        rows: the dataset's rows, one a completion (they are the same row).
        images: what TRL carries beside a plain prompt; None on the shared path.
        prompt: the encoded prompt of the shared path, else None.
        rewards: (G, number of reward functions), NaN where a function gave no score; empty until they are scored.
        logprobs: the generator's log-probability of every token where it is another engine (vLLM), else None.
    """

    rows: list[dict[str, Any]]
    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    completions: list[Any]
    images: list[Any] | None
    prompt: EncodedPrompt | None
    rewards: Tensor = field(default_factory=lambda: torch.empty(0))
    logprobs: list[list[float]] | None = None


def totals(rewards: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums, NaN where no function scored: (..., F) -> (...)."""
    found = (rewards * weights).nansum(-1)
    return found.masked_fill(rewards.isnan().all(-1), torch.nan)


def reward_std(values: Tensor) -> float:
    """Sample standard deviation of the scored totals of one group; 0 where fewer than two were scored."""
    scored = values[~values.isnan()]
    return float(scored.std()) if len(scored) > 1 else 0.0


def flat(parts: Iterable[Any]) -> list[Any]:
    """What the parts hold, in one list."""
    return [value for part in parts for value in part]


class PromptStream:
    """Fresh prompts for dynamic sampling: seeded permutations of the data set, one after the other.

    Its place is saved with the trainer, so that a resumed run draws the same prompts. Every process walks the same
    stream.
    """

    def __init__(self, num_rows: int, seed: int, place: int = 0) -> None:
        self._num_rows = num_rows
        self._seed = seed
        self.place = place

    def _at(self, place: int) -> int:
        return row_at(place, self._num_rows, self._seed, 77)

    def take(self, num: int, avoid: Iterable[int] = ()) -> list[int]:
        """The next `num` row numbers. Rows of `avoid` are passed over while others are left."""
        skip = set(avoid)
        chosen: list[int] = []
        tried = 0
        while len(chosen) < num:
            row = self._at(self.place)
            self.place += 1
            tried += 1
            if row not in skip or tried > 2 * self._num_rows:
                chosen.append(row)
                skip.add(row)
        return chosen


STATE_FILE = "rollout_state.json"


@dataclass
class RolloutCounts:
    """What rollouts cost so far; kept over a resume.

    Attributes:
        prompts_seen: groups sampled, dropped ones included.
        groups_dropped: groups replaced because their rewards were alike.
        short_batches: batches used as they were because the limit of generation batches was reached.
    """

    prompts_seen: int = 0
    groups_dropped: int = 0
    short_batches: int = 0

    def save(self, folder: Path, place: int) -> None:
        """Write counts and the stream's place into a trainer's save."""
        store.write_json(folder / STATE_FILE, {**self.__dict__, "place": place})

    def load(self, folder: Path) -> int:
        """Read counts; returns the stream's place, 0 where the save has none."""
        path = folder / STATE_FILE
        if not path.is_file():
            return 0
        values = json.loads(path.read_text("utf-8"))
        place = int(values.pop("place"))
        self.__dict__.update(values)
        return place


def split_by_group(
    batch: dict[str, Any], prompts: Sequence[EncodedPrompt], num: int, order: Sequence[int], parts: int
) -> list[dict[str, Any]]:
    """Parts of a generation batch, whole groups each, in a new order.

    Args:
        batch: tensors and lists of n G rows; scalars go to every part.
        num: G.
        order: a permutation of the n groups; `parts` divides n.
    """
    size = len(prompts) // parts
    found = []
    for start in range(0, len(prompts), size):
        own = list(order[start : start + size])
        rows = torch.tensor([g * num + i for g in own for i in range(num)])
        part: dict[str, Any] = {k: _rows_of(v, rows, len(prompts) * num) for k, v in batch.items()}
        part["encoded_prompts"] = [prompts[g] for g in own]
        found.append(part)
    return found


def tokens_in_loss(parts: Sequence[dict[str, Any]]) -> Tensor:
    """(parts,) tokens in the loss of each part of a generation batch."""
    return torch.stack([part["completion_mask"].sum() for part in parts])


def normalised_by_step(
    parts: Sequence[dict[str, Any]], tokens: Sequence[int], accumulation: int
) -> list[dict[str, Any]]:
    """Parts whose `num_items_in_batch` makes TRL divide by the tokens of their own optimiser step.

    TRL divides the token-level losses by num_items_in_batch x accumulation / parts, which is the mean number of tokens
    a step of the generation. DAPO (arXiv 2503.14476, eq. 8) divides by the tokens of the step, so what stands there is
    the step's tokens x parts / accumulation.

    Args:
        tokens: in the loss of each part, over all processes.
        accumulation: parts of one optimiser step; it divides their number.
    """
    found = []
    for i, part in enumerate(parts):
        start = i - i % accumulation
        own = torch.as_tensor(sum(tokens[start : start + accumulation]), device=part["completion_mask"].device)
        found.append({**part, "num_items_in_batch": own * (len(parts) / accumulation)})
    return found


def _rows_of(value: Any, rows: Tensor, total: int) -> Any:
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.ndim and len(value) == total else value
    if isinstance(value, list) and len(value) == total:
        return [value[int(i)] for i in rows]
    return value
