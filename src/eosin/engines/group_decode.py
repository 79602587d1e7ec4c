"""Sampling G replies to one prompt: the image and the prompt are read once, and their keys and values exist once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from eosin.engines.reply_automaton import ReplyAutomaton
from eosin.models.shared_prefix import Decode, PatternMask, Prefill


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model takes it, before any completion.

    Attributes:
        ids: token ids; the last one is text.
        positions: (3, P + 1) for M-RoPE, (1, P + 1) otherwise.
        pixels: image tensors by the model's argument name (pixel_values, image_grid_thw, ...).
        kinds: what each token is (text, image), (1, P + 1), by the model's argument name; empty where its processor
            tells none.
    """

    ids: list[int]
    positions: Tensor
    pixels: dict[str, Tensor]
    kinds: dict[str, Tensor] = field(default_factory=dict)


def encode_prompt(model: PreTrainedModel, ids: Sequence[int], fields: dict[str, Any]) -> EncodedPrompt:
    """A prompt from its token ids and the processor's further fields (for this prompt alone)."""
    where = model.device
    tensors = {k: as_tensor(v) for k, v in fields.items() if k not in _PER_TOKEN}
    pixels = {k: v.to(where) for k, v in tensors.items() if v is not None}
    kinds = {k: torch.as_tensor(fields[k], device=where).view(1, -1) for k in _KINDS if k in fields}
    return EncodedPrompt(list(ids), positions_of(model, ids, pixels, next(iter(kinds.values()), None)), pixels, kinds)


_KINDS = ("mm_token_type_ids", "token_type_ids")
_PER_TOKEN = ("input_ids", "attention_mask", *_KINDS)


def as_tensor(value: Any) -> Tensor | None:
    """A processor's field as a tensor; some give arrays or lists of arrays. None where it holds no numbers."""
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # pieces of different shapes
        return None
    return torch.from_numpy(array) if array.dtype.kind in "biuf" else None


def positions_of(model: PreTrainedModel, ids: Sequence[int], pixels: dict[str, Tensor], kinds: Any) -> Tensor:
    """Positions of the prompt's tokens: (3, P + 1) from the model's own M-RoPE index, else (1, P + 1) counting.

    A slide's tokens stand at their patches' places, which the slide reader finds in `pixel_values`.
    """
    index = getattr(model.base_model, "get_rope_index", None)
    tokens = torch.tensor([list(ids)], device=model.device)
    if index is None or "image_grid_thw" not in pixels:
        count = torch.arange(len(ids), device=model.device)[None]
        return count.expand(3, -1) if index is not None else count
    types = torch.as_tensor(kinds, device=model.device).view(1, -1)
    needs_places = "pixel_values" in signature(index).parameters
    positions, _ = index(
        tokens,
        mm_token_type_ids=types,
        image_grid_thw=pixels["image_grid_thw"],
        attention_mask=torch.ones_like(tokens),
        **({"pixel_values": pixels["pixel_values"]} if needs_places else {}),
    )
    found: Tensor = positions[:, 0]
    return found


@dataclass(frozen=True)
class PromptBatch:
    """n prompts without their last token, padded on the right.

    Attributes:
        ids, is_prompt: (n, P).
        positions: (3 or 1, n, P).
        last_ids: (n,), the last token of each prompt.
        last_positions: (3 or 1, n).
        pixels: all prompts' image tensors, one after the other.
    """

    ids: Tensor
    is_prompt: Tensor
    positions: Tensor
    last_ids: Tensor
    last_positions: Tensor
    pixels: dict[str, Tensor]

    @classmethod
    def of(cls, prompts: Sequence[EncodedPrompt], pad_id: int) -> PromptBatch:
        """Stack prompts."""
        where = prompts[0].positions.device
        size = max(len(p.ids) for p in prompts) - 1
        axes = prompts[0].positions.shape[0]
        ids = torch.full((len(prompts), size), pad_id)
        is_prompt = torch.zeros((len(prompts), size), dtype=torch.bool)
        positions = torch.zeros((axes, len(prompts), size), dtype=torch.long, device=where)
        for i, prompt in enumerate(prompts):
            own = len(prompt.ids) - 1
            ids[i, :own] = torch.tensor(prompt.ids[:-1], dtype=torch.long)
            is_prompt[i, :own] = True
            positions[:, i, :own] = prompt.positions[:, :-1]
        return cls(
            ids.to(where),
            is_prompt.to(where),
            positions,
            torch.tensor([p.ids[-1] for p in prompts], device=where),
            torch.stack([p.positions[:, -1] for p in prompts], 1),
            stack_pixels(prompts),
        )


def stack_pixels(prompts: Sequence[EncodedPrompt]) -> dict[str, Tensor]:
    """Image tensors of several prompts, one after the other. Where a prompt is one row of pictures and another has more
    of them, zeros fill up, as the processors of such families do."""
    names = dict.fromkeys(name for p in prompts for name in p.pixels)
    return {name: _joined([p.pixels[name] for p in prompts if name in p.pixels]) for name in names}


def _joined(parts: list[Tensor]) -> Tensor:
    sizes = [max(lengths) for lengths in zip(*(p.shape[1:] for p in parts), strict=True)]
    filled = []
    for part in parts:
        room = [n for own, size in zip(reversed(part.shape[1:]), reversed(sizes), strict=True) for n in (0, size - own)]
        filled.append(pad(part, room) if any(room) else part)
    return torch.cat(filled)


def for_model(positions: Tensor) -> Tensor:
    """(axes, b, t) as the model's position_ids: three axes stay, one axis becomes (b, t)."""
    return positions if positions.shape[0] > 1 else positions[0]


@dataclass(frozen=True)
class SamplingParams:
    """How completions are drawn. `banned` tokens are never drawn: a written image token would ask for an image.

    Attributes:
        held: only what keeps the reply grammar is drawn, and log-probabilities are those under its mask.
        seeds: one a prompt: its completions then follow from it alone, whatever else is drawn beside it, before it or
            in another process. None draws from torch's global generator.
        greedy: so many of a prompt's completions, the first ones, take the likeliest token each time.
    """

    num: int
    max_new_tokens: int
    temperature: float
    end_ids: tuple[int, ...]
    pad_id: int
    banned: tuple[int, ...] = ()
    held: ReplyAutomaton | None = None
    seeds: tuple[int, ...] | None = None
    greedy: int = 0

    def uniforms(self) -> Tensor | None:
        """One number in [0, 1) for every token that may be drawn: (n G, max_new_tokens), or None without seeds."""
        return uniforms_of(self.seeds, self.num, self.max_new_tokens)


def uniforms_of(seeds: Sequence[int] | None, num: int, max_new_tokens: int) -> Tensor | None:
    """Numbers in [0, 1), one a token, of `num` completions a prompt: (n G, max_new_tokens). None without seeds."""
    if seeds is None:
        return None
    size = (num, max_new_tokens)
    return torch.cat([torch.rand(size, generator=torch.Generator().manual_seed(s)) for s in seeds])


@dataclass
class Completions:
    """Completions of n prompts, n x G rows: token ids up to and with the end token, and each token's log-probability
    under the model at the sampling temperature."""

    ids: list[list[int]]
    logprobs: list[list[float]]


Ended = Callable[[list[tuple[int, list[int]]]], None]
"""Told which completions have just ended: their numbers, and their token ids with the end token."""


@torch.no_grad()
def sample_groups(
    model: Any, prompts: Sequence[EncodedPrompt], sampling: SamplingParams, ended: Ended | None = None
) -> Completions:
    """Draw `sampling.num` completions for every prompt. The model must be enabled (`models.shared_prefix.enable`).

    Temperature 0 takes the likeliest token. Random numbers come from `sampling.seeds`, else from torch's global
    generator.

    Args:
        ended: told of completions as soon as they end, while others are still drawn; not of those that are cut off.
    """
    batch = PromptBatch.of(prompts, sampling.pad_id)
    kept = Prefill()
    if batch.ids.shape[1]:
        model(
            input_ids=batch.ids, position_ids=for_model(batch.positions), use_cache=False, logits_to_keep=1,
            attention_mask=PatternMask.of(kept, batch.ids.device), **batch.pixels,
        )  # fmt: skip
    state = Decode(kept, batch.is_prompt, sampling.num, sampling.max_new_tokens)
    return _Loop(model, batch, state, sampling, ended).run()


def by_number(shares: Tensor, numbers: Tensor) -> Tensor:
    """The token (rows,) at which the shares (rows, V), added up, first exceed a number in [0, 1) of their sum."""
    added = shares.cumsum(-1)
    places = torch.searchsorted(added, (numbers * added[:, -1])[:, None], right=True)[:, 0]
    last = shares.shape[1] - 1 - shares.gt(0).flip(-1).int().argmax(-1)  # rounding must not lead behind the last one
    return torch.minimum(places, last)


class _Loop:
    """The decoding loop of `sample_groups`. Finished groups leave the batch."""

    def __init__(
        self, model: Any, batch: PromptBatch, state: Decode, sampling: SamplingParams, tell: Ended | None = None
    ) -> None:
        self.model, self.state, self.sampling, self.tell = model, state, sampling, tell
        n, where = len(batch.last_ids), batch.ids.device
        self.rows = torch.arange(n * sampling.num, device=where)  # which completion each row of the batch is
        self.tokens = batch.last_ids.repeat_interleave(sampling.num)
        self.positions = batch.last_positions.repeat_interleave(sampling.num, 1)
        self.is_done = torch.zeros(n * sampling.num, dtype=torch.bool, device=where)
        self.ids = torch.full((n * sampling.num, sampling.max_new_tokens), sampling.pad_id, device=where)
        self.logprobs = torch.zeros(self.ids.shape, device=where)
        self.lengths = torch.full((n * sampling.num,), sampling.max_new_tokens, device=where)
        self.ends = torch.tensor(sampling.end_ids, device=where)
        self.banned = torch.tensor(sampling.banned, dtype=torch.long, device=where)
        self.held = None if sampling.held is None else sampling.held.to(where)
        self.states = torch.zeros(n * sampling.num, dtype=torch.long, device=where)  # of the replies' grammar
        uniforms = sampling.uniforms()
        self.uniforms = None if uniforms is None else uniforms.to(where)

    def run(self) -> Completions:
        for step in range(self.sampling.max_new_tokens):
            self._step(step)
            if bool(self.is_done.all()):
                break
            self._drop_finished_groups()
        ids, logprobs, lengths = self.ids.tolist(), self.logprobs.tolist(), self.lengths.tolist()
        return Completions(
            [row[:size] for row, size in zip(ids, lengths, strict=True)],
            [row[:size] for row, size in zip(logprobs, lengths, strict=True)],
        )

    def _step(self, step: int) -> None:
        logits = self.model(
            input_ids=self.tokens[:, None], position_ids=for_model(self.positions[:, :, None]), use_cache=False,
            attention_mask=PatternMask.of(self.state, self.tokens.device),
        ).logits[:, -1].float()  # fmt: skip
        self.state.advance()
        self.positions = self.positions + 1
        chosen, logprob = self._draw(logits, step)
        live = self.rows[~self.is_done]
        self.ids[live, step] = chosen[~self.is_done]
        self.logprobs[live, step] = logprob[~self.is_done]
        ended = torch.isin(chosen, self.ends) & ~self.is_done
        self.lengths[self.rows[ended]] = step + 1
        self.is_done = self.is_done | ended
        if self.tell is not None and bool(ended.any()):
            rows = self.rows[ended]
            self.tell(list(zip(rows.tolist(), self.ids[rows, : step + 1].tolist(), strict=True)))
        self.tokens = chosen.masked_fill(self.is_done, self.sampling.pad_id)

    def _draw(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Chosen tokens and their log-probabilities, which are those of the whole vocabulary, or of what the reply
        grammar allows: (rows,) each."""
        heat = self.sampling.temperature
        if self.held is not None:
            logits = logits.masked_fill(~self.held.may[self.states], -torch.inf)
        logps = torch.log_softmax(logits / heat if heat > 0 else logits, -1)
        open_to = logps.index_fill(1, self.banned, -torch.inf) if len(self.banned) else logps
        if heat <= 0:
            chosen = open_to.argmax(-1)
        elif self.uniforms is None:
            chosen = torch.multinomial(open_to.exp(), 1)[:, 0]
        else:
            chosen = by_number(open_to.exp(), self.uniforms[self.rows, step])
        if self.sampling.greedy and heat > 0:
            chosen = torch.where(self.rows % self.sampling.num < self.sampling.greedy, open_to.argmax(-1), chosen)
        if self.held is not None:
            self.states = self.held.step(self.states, chosen)
        return chosen, logps.gather(1, chosen[:, None])[:, 0]

    def _drop_finished_groups(self) -> None:
        live = ~self.is_done.view(-1, self.sampling.num).all(1)
        if int(live.sum()) * 4 > 3 * len(live):
            return
        groups = live.nonzero()[:, 0]
        rows = live.repeat_interleave(self.sampling.num)
        self.state.keep_groups(groups)
        self.rows, self.tokens, self.is_done = self.rows[rows], self.tokens[rows], self.is_done[rows]
        self.states = self.states[rows]
        self.positions = self.positions[:, rows]
