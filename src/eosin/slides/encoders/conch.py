"""The vision towers of CONCH v1 and v1.5, built from what their weights say.

Both are a timm VisionTransformer whose tokens are read by one learned query (attentional pooling, CoCa, 2022).
They differ in how the pooling's weights are named: v1 has torch's MultiheadAttention, v1.5 separate bias-free
projections. The feature is taken before the contrastive projection, as the authors advise for vision tasks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.slides.encoders.records import EncoderRecord

PREFIX = "visual."
POOL_HEADS = 8


def build_conch(record: EncoderRecord, weights: dict[str, Any], where: Path) -> Any:
    """A CONCH vision tower (N, 3, px, px) -> (N, dim) with the weights of a checkpoint.

    Text and captioning weights in the checkpoint are left out; every tensor of the vision tower must have its place.

    Raises:
        EosinError: the checkpoint is not one of CONCH.
    """
    from eosin.slides.encoders.weights import fill_network

    if any(k.startswith(PREFIX) for k in weights):
        weights = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
    keep = ("trunk.", "attn_pool_contrast.", "ln_contrast.")
    used = {k: v for k, v in weights.items() if k.startswith(keep)}
    if "trunk.patch_embed.proj.weight" not in used or "attn_pool_contrast.query" not in used:
        raise EosinError(
            f"These are not the weights of {record.name}.",
            expected="trunk.* and attn_pool_contrast.* of a CONCH checkpoint",
            found=", ".join(sorted(weights)[:3]),
            where=where,
        )
    tower = _tower(record, used)
    _fit_positions(used, tower)
    return fill_network(tower, used, record, where)


def _tower(record: EncoderRecord, weights: dict[str, Any]) -> Any:
    """An empty tower of the sizes that the weights have."""
    nn = need("torch").nn
    vit = need("timm.models.vision_transformer")
    width, _, patch, _ = weights["trunk.patch_embed.proj.weight"].shape
    depth = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("trunk.blocks."))
    hidden = weights["trunk.blocks.0.mlp.fc1.weight"].shape[0]
    scaled = "trunk.blocks.0.ls1.gamma" in weights
    dim = weights["attn_pool_contrast.query"].shape[1]

    class Tower(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.trunk = vit.VisionTransformer(
                img_size=record.input_px, patch_size=patch, embed_dim=width, depth=depth, mlp_ratio=hidden / width,
                num_heads=record.options["heads"], num_classes=0, init_values=1.0 if scaled else None,
                dynamic_img_size=True,
            )  # fmt: skip
            self.attn_pool_contrast = _pooler(dim, width, named_parts="attn_pool_contrast.to_q.weight" in weights)
            self.ln_contrast = nn.LayerNorm(dim)

        def forward(self, pixels: Any) -> Any:
            tokens = self.trunk.forward_features(pixels)
            return self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0])

    return Tower()


def _pooler(dim: int, context: int, *, named_parts: bool) -> Any:
    """Attention of learned queries (1, dim) over tokens (N, T, context): (N, 1, dim)."""
    torch = need("torch")
    nn = torch.nn

    class Pooler(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.zeros(1, dim))
            self.ln_q, self.ln_k = nn.LayerNorm(dim), nn.LayerNorm(context)
            if named_parts:
                self.to_q = nn.Linear(dim, dim, bias=False)
                self.to_kv = nn.Linear(context, 2 * dim, bias=False)
                self.to_out = nn.Linear(dim, dim, bias=False)
            else:
                self.attn = nn.MultiheadAttention(dim, POOL_HEADS, kdim=context, vdim=context, batch_first=True)

        def forward(self, tokens: Any) -> Any:
            keys = self.ln_k(tokens)
            query = self.ln_q(self.query).expand(len(tokens), -1, -1)
            if not named_parts:
                return self.attn(query, keys, keys, need_weights=False)[0]

            def heads(x: Any) -> Any:
                return x.unflatten(-1, (POOL_HEADS, -1)).transpose(1, 2)

            key, value = self.to_kv(keys).chunk(2, dim=-1)
            seen = nn.functional.scaled_dot_product_attention(heads(self.to_q(query)), heads(key), heads(value))
            return self.to_out(seen.transpose(1, 2).flatten(2))

    return Pooler()


def _fit_positions(weights: dict[str, Any], tower: Any) -> None:
    """Resample the position embedding where the checkpoint was trained at another input size."""
    key = "trunk.pos_embed"
    if weights[key].shape != tower.trunk.pos_embed.shape:
        weights[key] = need("timm.layers").resample_abs_pos_embed(
            weights[key], new_size=list(tower.trunk.patch_embed.grid_size), num_prefix_tokens=1
        )
