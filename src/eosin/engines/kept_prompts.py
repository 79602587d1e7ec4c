"""The beginning of a prompt, up to its last picture or slide, read once: its keys and values serve all questions.

A question about a slide is [system words | slide tokens | question | "assistant"]. All up to the last slide token is
the same for every question about this slide, and it is nearly all of the prompt. With causal attention its keys and
values do not depend on what follows, so that a second question only reads its own words against them.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import xxhash
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from eosin.engines.group_decode import EncodedPrompt, encode_prompt, for_model
from eosin.models import shared_prefix
from eosin.models.load import placeholder_tokens

log = logging.getLogger("eosin.engines")
LIMIT_BYTES = 512 * 2**20


@dataclass(frozen=True)
class _Beginning:
    """Keys and values (1, K, P, D) of each layer, for the P tokens up to the last picture's."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def num_bytes(self) -> int:
        return sum(t.nbytes for pair in self.layers for t in pair)


class KeptPrompts:
    """Beginnings of prompts of a resting model, the one longest unused going first. Used by one thread at a time.

    The key is the content of the pictures and the tokens, never a name; the model must not change meanwhile. Whether a
    model's attention allows it is looked up in its settings and tried at its first prompt, against the plain way.

    Args:
        limit_bytes: of all keys and values together. A beginning that is larger by itself is not kept.

    Attributes:
        hits, misses: prompts whose beginning was there, and was read. num_bytes: kept now.
        refused: why nothing is kept with this model; None where it is, or nothing was tried yet.
    """

    def __init__(self, model: PreTrainedModel, pad_id: int, limit_bytes: int = LIMIT_BYTES) -> None:
        self._model: Any = model
        self._pad_id, self._limit = pad_id, limit_bytes
        self._pictures = torch.tensor(sorted(placeholder_tokens(model)))
        self._kept: OrderedDict[str, _Beginning] = OrderedDict()
        self._is_tried = False
        self.refused = shared_prefix.unsuited(model)
        self.hits = self.misses = self.num_bytes = 0

    def begun(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Arguments of `generate` for prompts whose common beginning is read already, or is read now.

        Args:
            inputs: of the processor, padded on the left: input_ids and attention_mask (B, T), pictures and kinds.

        Returns:
            input_ids and attention_mask (B, P + longest rest), position_ids (3, B, ...) or (B, ...), past_key_values of
            P tokens. None where the plain way is to be taken: no picture, different pictures in one batch, or a model
            that does not allow it.
        """
        if self.refused is not None or self._limit <= 0:
            return None
        prompts = self._prompts(inputs)
        if prompts is None:
            return None
        size = self._size(prompts[0].ids)
        beginning = self._beginning(prompts[0], size, _key(prompts[0], size))
        return None if beginning is None else self._arguments(prompts, size, beginning)

    def _prompts(self, inputs: Mapping[str, Any]) -> list[EncodedPrompt] | None:
        """The prompts of a batch apart, where all begin alike: the same tokens up to the last picture, and the same
        pictures. Else None."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        num = len(ids)
        tokens = [ids[row][mask[row]].tolist() for row in range(num)]
        size = self._size(tokens[0])
        if size == 0 or any(self._size(t) != size or t[:size] != tokens[0][:size] for t in tokens):
            return None
        fields: list[dict[str, Any]] = [{} for _ in range(num)]
        for name, value in inputs.items():
            if name in ("input_ids", "attention_mask"):
                continue
            if not isinstance(value, Tensor) or len(value) % num:
                return None
            parts = value.split(len(value) // num)
            is_a_token = value.shape[:2] == mask.shape
            if not is_a_token and not all(torch.equal(part, parts[0]) for part in parts):
                return None
            for row, part in enumerate(parts):
                fields[row][name] = part[:, mask[row]] if is_a_token else part
        return [encode_prompt(self._model, t, own) for t, own in zip(tokens, fields, strict=True)]

    def _size(self, ids: Sequence[int]) -> int:
        """How many tokens stand before the first one behind the last picture."""
        places = torch.isin(torch.tensor(list(ids)), self._pictures).nonzero()
        return int(places[-1]) + 1 if len(places) else 0

    def _beginning(self, prompt: EncodedPrompt, size: int, key: str) -> _Beginning | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            self.hits += 1
            return self._kept[key]
        made = self._read(prompt, size)
        if not self._is_tried:
            self.refused, self._is_tried = self._tried(prompt, size, made), True
            if self.refused is not None:
                log.warning("the prompt of a slide is read for every question: %s", self.refused)
                return None
        self.misses += 1
        if made.num_bytes <= self._limit:
            self._kept[key] = made
            self.num_bytes += made.num_bytes
        while self.num_bytes > self._limit:
            self.num_bytes -= self._kept.popitem(last=False)[1].num_bytes
        return made

    def _read(self, prompt: EncodedPrompt, size: int) -> _Beginning:
        ids = torch.tensor([prompt.ids[:size]], device=self._model.device)
        kinds = {k: v[:, :size] for k, v in prompt.kinds.items()}
        cache = self._model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, logits_to_keep=1,
            position_ids=for_model(prompt.positions[:, None, :size]), **prompt.pixels, **kinds,
        ).past_key_values  # fmt: skip
        return _Beginning(tuple((layer.keys, layer.values) for layer in cache.layers))

    def _arguments(self, prompts: Sequence[EncodedPrompt], size: int, beginning: _Beginning) -> dict[str, Any]:
        """The rests, padded on the left, behind one beginning."""
        where, num = self._model.device, len(prompts)
        longest = max(len(p.ids) for p in prompts)
        axes = prompts[0].positions.shape[0]
        ids = torch.full((num, longest), self._pad_id, device=where)
        mask = torch.zeros((num, longest), dtype=torch.long, device=where)
        positions = torch.zeros((axes, num, longest), dtype=torch.long, device=where)
        mask[:, :size] = 1
        for row, prompt in enumerate(prompts):
            rest = len(prompt.ids) - size
            tokens = torch.tensor(prompt.ids, device=where)
            ids[row, :size], ids[row, longest - rest :] = tokens[:size], tokens[size:]
            mask[row, longest - rest :] = 1
            positions[:, row, :size], positions[:, row, longest - rest :] = (
                prompt.positions[:, :size], prompt.positions[:, size:],
            )  # fmt: skip
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(beginning.layers):
            cache.update(keys.expand(num, -1, -1, -1), values.expand(num, -1, -1, -1), layer)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": for_model(positions),
                "past_key_values": cache}  # fmt: skip

    def _tried(self, prompt: EncodedPrompt, size: int, made: _Beginning) -> str | None:
        """Why the next token's logits are not those of the plain way, or None."""
        limit = 1e-3 if self._model.dtype == torch.float32 else 0.05
        try:
            ids = torch.tensor([prompt.ids], device=self._model.device)
            plain = self._model(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=1, **prompt.pixels,
                **prompt.kinds,
            ).logits[0, -1].float()  # fmt: skip
            told = self._arguments([prompt], size, made)
            told["input_ids"], told["position_ids"] = told["input_ids"][:, size:], told["position_ids"][..., size:]
            kept = self._model(**told, use_cache=True, logits_to_keep=1).logits[0, -1].float()
        except Exception as exc:  # whatever a model's code throws at a cache that was begun elsewhere
            return f"a trial with it failed ({type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:160]})"
        off = float((plain - kept).abs().max() / plain.abs().max().clamp(min=1e-6))
        return None if off <= limit else f"in a trial its logits were {off:.1e} of their range from the plain ones"


def _key(prompt: EncodedPrompt, size: int) -> str:
    """Digest of the tokens up to the last picture's, of their places and of all pictures."""
    digest = xxhash.xxh3_128(torch.tensor(prompt.ids[:size]).numpy().data)
    for name, value in [("positions", prompt.positions[:, :size]), *sorted(prompt.pixels.items())]:
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
