"""The slide tower: patch features -> LongNet -> projector -> tokens of the decoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from transformers.modeling_layers import GradientCheckpointingLayer

from eosin.models.slide_encoder.longnet import dilated_attention
from eosin.models.slide_encoder.rows import PatchPositions, SlideSpec, canonical_order


@dataclass
class SlideTokens:
    """What the decoder is shown of one slide.

    Attributes:
        tokens: (T, width of the decoder).
        order: (T,), the row of the bag that each token stands for; -1 where it stands for all of them.
        gate: (N,) score of every row in [0, 1], where a learned gate chose; else None.
    """

    tokens: Tensor
    order: Tensor
    gate: Tensor | None = None


class DropPath(nn.Dropout):
    """Stochastic depth (arXiv 1603.09382): in training a branch is left out whole with chance p, once for a slide, and
    weighs 1 / (1 - p) otherwise. A kind of dropout, so that whatever switches dropout off switches it off too."""

    def forward(self, states: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return states
        kept = (torch.rand((), device=states.device) >= self.p).to(states.dtype)
        return states * (kept / (1 - self.p))


class DilatedBlock(GradientCheckpointingLayer):  # type: ignore[misc]
    """Pre-norm transformer block with dilated attention: (N, width) -> (N, width).

    With `sub_norm` (Magneto, arXiv 2210.06423) the mixed values and the activations of the feed-forward are normed too,
    each before its last matrix.

    Args:
        depth: of the block, from 0: chances of drop-path grow evenly from 0 to `spec.drop_path`.
    """

    def __init__(self, spec: SlideSpec, depth: int = 0) -> None:
        super().__init__()
        self.heads, self.pairs = spec.heads, spec.pairs
        self.dropout = nn.Dropout(spec.dropout)  # a module, so that RL can switch it off as all others
        self.drop_path = DropPath(spec.drop_path * depth / max(1, spec.layers - 1))
        self.norm1, self.norm2 = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
        self.qkv, self.out = nn.Linear(spec.width, 3 * spec.width), nn.Linear(spec.width, spec.width)
        self.fc1, self.fc2 = nn.Linear(spec.width, spec.ffn), nn.Linear(spec.ffn, spec.width)
        self.sub_norm1 = nn.LayerNorm(spec.width) if spec.sub_norm else nn.Identity()
        self.sub_norm2 = nn.LayerNorm(spec.ffn) if spec.sub_norm else nn.Identity()

    def forward(self, states: Tensor) -> Tensor:
        num, width = states.shape
        query, key, value = self.qkv(self.norm1(states)).view(num, 3, self.heads, -1).permute(1, 2, 0, 3)
        mixed = dilated_attention(query, key, value, self.pairs).transpose(0, 1).reshape(num, width)
        states = states + self.drop_path(self.dropout(self.out(self.sub_norm1(mixed))))
        inner = self.sub_norm2(gelu(self.fc1(self.norm2(states))))
        return states + self.drop_path(self.dropout(self.fc2(inner)))

    @torch.no_grad()
    def scale_new_weights(self, factor: float) -> None:
        """Sub-LayerNorm's start: value, output and feed-forward matrices, biases too, times `factor`."""
        width = self.out.in_features
        for part in (self.out, self.fc1, self.fc2):
            part.weight.mul_(factor)
            part.bias.mul_(factor)
        self.qkv.weight[2 * width :].mul_(factor)
        self.qkv.bias[2 * width :].mul_(factor)


class Queries(nn.Module):
    """Learned queries that read all patches: (N, width) -> (num, width)."""

    def __init__(self, spec: SlideSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.learned = nn.Embedding(spec.num_tokens, spec.width)
        self.q, self.kv = nn.Linear(spec.width, spec.width), nn.Linear(spec.width, 2 * spec.width)
        self.out = nn.Linear(spec.width, spec.width)

    def forward(self, states: Tensor) -> Tensor:
        asked = self.learned.weight
        query = self.q(asked).view(1, len(asked), self.heads, -1).transpose(1, 2)
        key, value = self.kv(states).view(len(states), 2, 1, self.heads, -1).permute(1, 2, 3, 0, 4)
        mixed = scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).reshape(asked.shape)
        return asked + self.out(mixed)


class Projector(nn.Module):
    """Two layers from the tower's width to the decoder's."""

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, to), nn.Linear(to, to)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(self.norm(states))))
        return out


class SlideTower(nn.Module):
    """Reads the patches of whole slides.

    Args:
        spec: shape, order, pooling.
        to: width of the decoder.
    """

    def __init__(self, spec: SlideSpec, to: int) -> None:
        super().__init__()
        self.spec = spec
        self.embed = nn.Linear(spec.dimension, spec.width)
        self.embed_dropout = nn.Dropout(spec.embed_dropout)
        self.blocks = nn.ModuleList([DilatedBlock(spec, depth) for depth in range(spec.layers)])
        self.magnification = nn.Linear(spec.width, spec.width) if spec.has_magnification else None
        self.gate = nn.Linear(spec.width, 1) if spec.pooling == "topk" else None
        self.queries = Queries(spec) if spec.pooling == "queries" else None
        self.projector = Projector(spec.width, to)
        # Features are standardised by these before anything else; `set_scale` fills them from training data.
        self.register_buffer("feature_mean", torch.zeros(spec.dimension))
        self.register_buffer("feature_std", torch.ones(spec.dimension))
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self._kept: list[list[SlideTokens]] = []

    def scale_new_weights(self) -> None:
        """What sub-LayerNorm asks of new weights: times sqrt(log(2 layers)) (arXiv 2210.06423); nothing without it."""
        if self.spec.sub_norm:
            for block in self.blocks:
                assert isinstance(block, DilatedBlock)
                block.scale_new_weights(math.sqrt(math.log(2 * self.spec.layers)))

    def set_scale(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation of the training patches' features, (dimension,) each. A tower that does not
        standardise stays as it is."""
        if not self.spec.standardise:
            return
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std.clamp(min=1e-6))

    def encode(self, features: Tensor, places: PatchPositions) -> tuple[Tensor, Tensor]:
        """Patches after the blocks, before pooling and projector.

        Args:
            features: (N, dimension).

        Returns:
            states (N, width), and the row of `features` that each stands for, (N,).
        """
        order = self.order_of(features, places)
        where = order.to(features.device)
        kind = self.embed.weight.dtype
        scaled = (features[where].to(kind) - self.feature_mean.to(kind)) / self.feature_std.to(kind)
        states = self.embed(scaled)
        if self.spec.has_places:
            steps = torch.from_numpy(places.centres_um / places.tile_um)[order].to(features.device)
            states = states + sin_cos(steps, self.spec.width).to(states.dtype)
        states = self.embed_dropout(states)
        for block in self.blocks:
            states = block(states)
        return states, where

    def order_of(self, features: Tensor, places: PatchPositions) -> Tensor:
        """(N,) rows in the order in which the tower reads them, on the CPU."""
        if self.spec.order == "as given":
            return torch.arange(len(features))
        ties = features.detach().double().sum(-1).cpu().numpy()
        return torch.from_numpy(canonical_order(places, ties))

    def read(self, features: Tensor, places: PatchPositions) -> SlideTokens:
        """The tokens of one slide: features (N, dimension)."""
        states, order = self.encode(features, places)
        gate = weight = None
        if self.gate is not None:
            states, order, gate, weight = self._choose(states, order)
        elif self.queries is not None:
            states = self.queries(states)
            order = order.new_full((len(states),), -1)
        tokens = self.projector(states)
        if weight is not None:  # after the projector, whose norm would take the weight out again
            tokens = tokens * weight[:, None]
        if self.magnification is not None:
            scale = torch.tensor([[math.log2(places.mpp) * 8, math.log2(places.tile_um) * 8]], device=states.device)
            first = self.magnification(sin_cos(scale, self.spec.width).to(states.dtype))
            tokens, order = torch.cat((self.projector(first), tokens)), torch.cat((order.new_full((1,), -1), order))
        return SlideTokens(tokens, order, gate)

    def _choose(self, states: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The `num_tokens` rows of the highest gate, still in order; the gate by row of the bag, and of the chosen."""
        assert self.gate is not None
        gate = self.gate(states)[:, 0].sigmoid()
        which = gate.topk(min(self.spec.num_tokens, len(states))).indices.sort().values
        by_row = torch.empty_like(gate).index_copy(0, order, gate)
        return states[which], order[which], by_row, gate[which]

    def forward(self, bags: Sequence[tuple[Tensor, PatchPositions]]) -> list[SlideTokens]:
        """The tokens of several slides: (features, places) of each."""
        found = [self.read(features, places) for features, places in bags]
        for kept in self._kept:
            kept += found
        return found


@contextmanager
def kept_tokens(tower: SlideTower) -> Iterator[list[SlideTokens]]:
    """While entered, every slide that the tower reads is listed, and its tokens keep their gradient."""
    kept: list[SlideTokens] = []
    tower._kept.append(kept)
    handle = tower.register_forward_hook(lambda _m, _a, out: _retain(out))
    try:
        yield kept
    finally:
        handle.remove()
        tower._kept.remove(kept)


def _retain(found: list[SlideTokens]) -> None:
    for slide in found:
        if slide.tokens.requires_grad:
            slide.tokens.retain_grad()


def sin_cos(steps: Tensor, width: int) -> Tensor:
    """Sines and cosines of two coordinates: steps (N, 2) -> (N, width), half of it for each.

    Wavelengths go from 2 pi to 10,000 x 2 pi steps (Vaswani et al. 2017), in fp64 until the end.
    """
    quarter = width // 4
    rates = 10_000.0 ** (-torch.arange(quarter, device=steps.device, dtype=torch.float64) / quarter)
    angles = steps.double()[:, :, None] * rates
    return torch.cat((angles.sin(), angles.cos()), -1).flatten(1).float()
