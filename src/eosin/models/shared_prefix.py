"""Attention for a group of completions that share one prompt: the prompt's keys and values exist once.

transformers lets a model take its attention from a registry, and its text models pass a mask of four dimensions through
unchanged. `enable` registers one attention function that is plain SDPA for every ordinary mask, and that hands over
to an `AttentionPattern` where one rides on the mask (`PatternMask`). Three patterns do all the work:

- `Prefill`: the prompts of n groups; keys and values of every layer are kept.
- `Decode`: one new token for each of n x G completions, against one copy of the prompt and each one's own past.
- `Packed`: a row of [prompt | completion 1 | ... | completion G], for losses with gradients.

Names of shapes: n groups, G completions a group, P prompt tokens without the last one, C tokens of a completion,
H heads, K key/value heads, D head dimension. The last prompt token stands at the front of every completion, because
it predicts the first token of each; so a hidden state predicts exactly one token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "eosin_shared_prefix"
Backend = Literal["split", "flex"]


class AttentionPattern(ABC):
    """Stands where a mask stands and does the attention itself."""

    @abstractmethod
    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """query (b, H, t, D), key and value (b, K, t, D) -> (b, H, t, D)."""


class PatternMask(Tensor):
    """A tensor of shape (1, 1, 1, 1) that carries a pattern to the attention function.

    Its four dimensions say that the mask is ready: text models hand such a mask on as it is.
    """

    pattern: AttentionPattern
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def of(cls, pattern: AttentionPattern, device: torch.device | str) -> PatternMask:
        """The mask that brings `pattern` to every layer."""
        mask: PatternMask = torch.zeros((1, 1, 1, 1), dtype=torch.bool, device=device).as_subclass(cls)
        mask.pattern = pattern
        return mask


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[Tensor, None]:
    if not isinstance(attention_mask, PatternMask):
        out: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return out
    scale = kwargs.get("scaling") or query.shape[-1] ** -0.5
    mixed = attention_mask.pattern.attend(int(module.layer_idx), query, key, value, scale)  # type: ignore[arg-type]
    return mixed.transpose(1, 2).contiguous(), None


def causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Causal attention without a mask tensor. Padding must stand on the right, where nobody looks."""
    repeat = query.shape[1] // key.shape[1]
    return scaled_dot_product_attention(
        query, repeat_kv(key, repeat), repeat_kv(value, repeat), is_causal=True, scale=scale
    )


def unsuited(model: PreTrainedModel) -> str | None:
    """Why the patterns cannot be used with this model, as far as its settings tell, or None.

    `engines.shared_trial.unsupported` also tries them.
    """
    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or [])
    if not kinds and getattr(text, "sliding_window", None) is not None:  # a trial of a few tokens would not notice
        return "its attention slides over a window; the shared prompt needs full attention in every layer"
    if kinds - {"full_attention"}:
        return f"its layers are {', '.join(sorted(kinds))}; the shared prompt needs full attention in every layer"
    if getattr(text, "attn_logit_softcapping", None) is not None:
        return "its attention soft-caps the scores"
    if text._attn_implementation not in ("sdpa", "eager", NAME):
        return f"its attention is {text._attn_implementation}; load it with sdpa"
    if text_model(model) is None:
        return "its text model was not found"
    return None


def text_model(model: PreTrainedModel) -> Any:
    """The decoder of an image-text-to-text model, or None."""
    root = model.base_model
    for name in ("language_model", "text_model"):
        found = getattr(root, name, None)
        if isinstance(found, nn.Module):
            return found
    return root if hasattr(root, "layers") else None


def enable(model: PreTrainedModel) -> None:
    """Let the text model of `model` understand patterns. Ordinary masks go to SDPA as before."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    text = text_model(model)
    assert text is not None
    text.config._attn_implementation = NAME


def disable(model: PreTrainedModel) -> None:
    """Undo `enable`."""
    text = text_model(model)
    if text is not None and is_enabled(model):
        text.config._attn_implementation = "sdpa"


def is_enabled(model: PreTrainedModel) -> bool:
    """Whether the text model of `model` understands patterns now."""
    text = text_model(model)
    return text is not None and text.config._attn_implementation == NAME


@dataclass
class Prefill(AttentionPattern):
    """Prompts, padded on the right: causal attention; keys and values are kept by layer, (n, K, P, D)."""

    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        self.keys[layer], self.values[layer] = key, value
        return causal(query, key, value, scale)


@dataclass
class Decode(AttentionPattern):
    """One new token for each of n x G completions.

    Attributes:
        prompt: keys and values of the prompts, one copy a group.
        is_prompt: (n, P), False at padding.
        num: G.
        room: most tokens of a completion.
    """

    prompt: Prefill
    is_prompt: Tensor
    num: int
    room: int
    length: int = 0
    own_keys: dict[int, Tensor] = field(default_factory=dict)
    own_values: dict[int, Tensor] = field(default_factory=dict)
    _bias: Tensor | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        own_k = self._append(self.own_keys, layer, key)
        own_v = self._append(self.own_values, layer, value)
        rows, heads, _, dim = query.shape
        kv = key.shape[1]
        repeat = heads // kv
        n = rows // self.num
        prompt_k, prompt_v = self.prompt.keys[layer], self.prompt.values[layer]
        grouped = query.view(n, self.num, kv, repeat, dim) * scale  # (n, G, K, r, D)
        to_prompt = grouped.transpose(1, 2).reshape(n, kv, self.num * repeat, dim)  # (n, K, G r, D)
        to_own = grouped.reshape(rows, kv, repeat, dim)
        prompt_scores = to_prompt @ prompt_k.transpose(2, 3)  # (n, K, G r, P)
        if self._bias is not None:
            prompt_scores = prompt_scores + self._bias
        own_scores = to_own @ own_k.transpose(2, 3)  # (n G, K, r, t)
        own_scores = own_scores.view(n, self.num, kv, repeat, -1).transpose(1, 2).reshape(n, kv, self.num * repeat, -1)
        size = prompt_scores.shape[-1]
        weights = torch.cat((prompt_scores, own_scores), -1).softmax(-1, dtype=torch.float32).to(query.dtype)
        mixed = weights[..., :size] @ prompt_v  # (n, K, G r, D)
        own = weights[..., size:].view(n, kv, self.num, repeat, -1).transpose(1, 2).reshape(rows, kv, repeat, -1)
        mixed = mixed.view(n, kv, self.num, repeat, dim).transpose(1, 2).reshape(rows, kv, repeat, dim)
        return (mixed + own @ own_v).reshape(rows, heads, 1, dim)

    def _append(self, store: dict[int, Tensor], layer: int, new: Tensor) -> Tensor:
        if layer not in store:
            store[layer] = new.new_empty((*new.shape[:2], self.room, new.shape[3]))
        kept = store[layer]
        kept[:, :, self.length] = new[:, :, 0]
        return kept[:, :, : self.length + 1]

    def advance(self) -> None:
        """A token was added in every layer."""
        self.length += 1

    def __post_init__(self) -> None:
        self._set_bias()

    def _set_bias(self) -> None:
        hidden = ~self.is_prompt
        self._bias = None
        if bool(hidden.any()):
            some = next(iter(self.prompt.keys.values()))
            bias = torch.zeros(hidden.shape, dtype=some.dtype, device=some.device)
            self._bias = bias.masked_fill(hidden, torch.finfo(some.dtype).min)[:, None, None, :]

    def keep_groups(self, groups: Tensor) -> None:
        """Go on with some groups only. groups: (m,) indices."""
        rows = (groups[:, None] * self.num + torch.arange(self.num, device=groups.device)).flatten()
        for store in (self.prompt.keys, self.prompt.values):
            for layer in store:
                store[layer] = store[layer][groups]
        for store in (self.own_keys, self.own_values):
            for layer in store:
                store[layer] = store[layer][rows]
        self.is_prompt = self.is_prompt[groups]
        self._set_bias()


@dataclass(frozen=True)
class Packed(AttentionPattern):
    """Rows of [prompt padded on the right to P | G completions of C tokens].

    A prompt token sees the prompt up to itself; a token of a completion sees the whole prompt and its own
    completion up to itself.

    Attributes:
        is_prompt: (n, P), False at padding.
        backend: "split" runs the prompt causally and the completions against prompt and self; "flex" is
            block-sparse FlexAttention on a GPU.
    """

    is_prompt: Tensor
    num: int
    length: int
    backend: Backend = "split"
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        if self.backend == "flex":
            return self._flex(query, key, value, scale)
        size = self.is_prompt.shape[1]
        prompt = causal(query[:, :, :size], key[:, :, :size], value[:, :, :size], scale) if size else query[:, :, :0]
        return torch.cat((prompt, self._completions(query[:, :, size:], key, value, scale)), 2)

    def _completions(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        n, heads, _, dim = query.shape
        rows = query.view(n, heads, self.num, self.length, dim).transpose(1, 2).reshape(-1, heads, self.length, dim)
        mixed = scaled_dot_product_attention(
            rows, self._spread(key, heads), self._spread(value, heads), attn_mask=self._mask(), scale=scale
        )
        return mixed.view(n, self.num, heads, self.length, dim).transpose(1, 2).reshape(n, heads, -1, dim)

    def _spread(self, states: Tensor, heads: int) -> Tensor:
        """(n, K, P + G C, D) -> (n G, H, P + C, D)."""
        n, kv, _, dim = states.shape
        size = self.is_prompt.shape[1]
        prompt = states[:, None, :, :size].expand(n, self.num, kv, size, dim)
        own = states[:, :, size:].view(n, kv, self.num, self.length, dim).transpose(1, 2)
        whole = torch.cat((prompt, own), 3).view(n * self.num, kv, size + self.length, dim)
        return repeat_kv(whole, heads // kv)

    def _mask(self) -> Tensor:
        """(n G or 1, 1, C, P + C), True where attention looks. The same for every layer, made once."""
        if "mask" not in self._kept:
            device = self.is_prompt.device
            own = torch.ones(self.length, self.length, dtype=torch.bool, device=device).tril()
            prompt = self.is_prompt if not bool(self.is_prompt.all()) else self.is_prompt[:1]
            repeats = self.num if prompt.shape[0] == self.is_prompt.shape[0] > 1 else 1
            seen = prompt.repeat_interleave(repeats, 0)[:, None, None, :].expand(-1, 1, self.length, -1)
            self._kept["mask"] = torch.cat((seen, own[None, None].expand(seen.shape[0], 1, -1, -1)), 3)
        kept: Tensor = self._kept["mask"]
        return kept

    def _flex(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        if "block" not in self._kept:
            self._kept["block"] = self.block_mask(query.shape[2])
        run = _flex_attention(query.device.type)
        mixed: Tensor = run(
            query, key, value, block_mask=self._kept["block"], scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        return mixed

    def block_mask(self, total: int) -> Any:
        """FlexAttention's block mask of the pattern for `total` = P + G C tokens."""
        from torch.nn.attention.flex_attention import create_block_mask

        is_prompt = self.is_prompt
        own = torch.arange(self.num, device=is_prompt.device).repeat_interleave(self.length) + 1
        # 0 in the prompt, else the number of the completion. Tensors, not lengths: a kernel compiled with a length in
        # it would serve that length alone.
        part = torch.cat((own.new_zeros(is_prompt.shape[1]), own))
        is_real = torch.cat((is_prompt, is_prompt.new_ones(len(is_prompt), len(own))), 1)

        def sees(b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            shown = (k <= q) & is_real[b, k] & ((part[k] == 0) | (part[k] == part[q]))
            # A padded prompt token sees itself, so that no row of the softmax is empty.
            return shown | (q == k)

        return create_block_mask(
            sees, B=is_prompt.shape[0], H=None, Q_LEN=total, KV_LEN=total, device=str(is_prompt.device)
        )


_COMPILED: dict[str, Any] = {}


def _flex_attention(device: str) -> Any:
    """FlexAttention, compiled on a GPU. Lengths change with every batch, so the second one compiles for any length: a
    kernel for each would run into the limit of the compiler's cache, and then without any kernel."""
    from torch.nn.attention.flex_attention import flex_attention

    if device not in _COMPILED:
        _COMPILED[device] = torch.compile(flex_attention) if device == "cuda" else partial(flex_attention)
    return _COMPILED[device]
