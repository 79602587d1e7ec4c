"""Any image encoder as the vision tower of a LLaVA: one class, its network named in the config.

`LlavaForConditionalGeneration` builds its tower by `AutoModel.from_config`, so a checkpoint folder opens by
`from_pretrained` wherever this module was imported (`eosin.models.load` does it).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from eosin.core.errors import EosinError
from eosin.core.extras import need

MODEL_TYPE = "eosin_eyes"


class EyesConfig(PreTrainedConfig):
    """What the network is, and how many tokens it gives.

    Attributes:
        name: how the eyes were called when they were composed.
        library: what builds the network: timm, transformers or open_clip.
        architecture: its name in timm or open_clip; `options` are passed on.
        network_config: the config of a transformers network.
        hidden_size: width of a feature (D).
        input_px: side of the square input.
        prefix_tokens: class and register tokens that stand before the grid.
        grid_tokens: features of the grid; `tokens`: what is left of them for the language model.
        resampler_heads: heads of the attention of learned queries; 0: the grid is averaged down.
    """

    model_type = MODEL_TYPE

    name: str = ""
    library: str = "transformers"
    architecture: str = ""
    options: dict[str, Any] | None = None
    network_config: dict[str, Any] | None = None
    hidden_size: int = 32
    input_px: int = 224
    prefix_tokens: int = 0
    grid_tokens: int = 49
    tokens: int = 49
    resampler_heads: int = 0


class Eyes(PreTrainedModel):
    """Pictures (B, 3, H, W) -> tokens (B, T, D): the network's grid, averaged down or read by learned queries.

    Statistics of batch normalisation stay as they were learned, also while the network trains: a batch of a language
    stage is too small to estimate them from.
    """

    config_class = EyesConfig
    base_model_prefix = "eyes"
    main_input_name = "pixel_values"
    _no_split_modules: list[str] = []
    # The network inside attends as its own library does; what is set for the whole model concerns the language model.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: EyesConfig) -> None:
        super().__init__(config)
        self.network = build_network(config)
        self.resampler = Resampler(config) if config.resampler_heads else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Networks draw their own weights when they are built."""

    def train(self, mode: bool = True) -> Eyes:
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """Args:
            pixel_values: (B, 3, input_px, input_px), normalised.

        Returns:
            last_hidden_state (B, T, D), and hidden_states with this one entry.
        """
        grid = self.grid(pixel_values)
        tokens = self.resampler(grid) if self.resampler is not None else averaged_down(grid, self.config.tokens)
        return BaseModelOutputWithPooling(last_hidden_state=tokens, hidden_states=(tokens,))

    def grid(self, pixel_values: Tensor) -> Tensor:
        """Features (B, G, D) of the places of the picture, row by row."""
        pixels = pixel_values.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return _as_tokens(_features(self.network, self.config.library, pixels), self.config)


class Resampler(nn.Module):
    """Learned queries (T, D) that attend to the grid, with a residual and a norm.

    Flamingo (arXiv 2204.14198) stacks several such layers; one is enough for a projector.
    """

    def __init__(self, config: EyesConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.tokens, config.hidden_size) * config.hidden_size**-0.5)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.attend = nn.MultiheadAttention(config.hidden_size, config.resampler_heads, batch_first=True)
        self.norm_out = nn.LayerNorm(config.hidden_size)

    def forward(self, grid_BGD: Tensor) -> Tensor:
        """(B, G, D) -> (B, T, D)."""
        seen = self.norm(grid_BGD)
        queries = self.queries.expand(len(seen), -1, -1)
        return self.norm_out(queries + self.attend(queries, seen, seen, need_weights=False)[0])


def averaged_down(grid_BGD: Tensor, tokens: int) -> Tensor:
    """A square grid of features averaged down to a smaller square of `tokens` places; row-major both."""
    batch, size, width = grid_BGD.shape
    if size == tokens:
        return grid_BGD
    side, small = math.isqrt(size), math.isqrt(tokens)
    picture = grid_BGD.transpose(1, 2).reshape(batch, width, side, side)
    return F.adaptive_avg_pool2d(picture, small).flatten(2).transpose(1, 2)


def build_network(config: EyesConfig) -> nn.Module:
    """The network of a config, with random weights.

    Raises:
        MissingExtraError: its library is not installed.
    """
    options = dict(config.options or {})
    if config.library == "timm":
        timm = need("timm", "encoders")
        return timm.create_model(config.architecture, pretrained=False, **_layers(options))  # type: ignore[no-any-return]
    if config.library == "open_clip":
        return need("open_clip", "encoders").create_model(config.architecture, **options).visual  # type: ignore[no-any-return]
    told = dict(config.network_config or {})
    return AutoModel.from_config(AutoConfig.for_model(told.pop("model_type"), **told))  # type: ignore[no-any-return]


def _layers(options: dict[str, Any]) -> dict[str, Any]:
    """Options whose name ends in _layer are classes, which a config names: of timm's layers, or of torch."""
    named = {k: v for k, v in options.items() if k.endswith("_layer") and isinstance(v, str)}
    return options | {k: getattr(need("timm.layers", "encoders"), v, None) or getattr(nn, v) for k, v in named.items()}


def _features(network: Any, library: str, pixels: Tensor) -> Tensor:
    """What the network knows of every place, before it is pooled."""
    if library == "timm":
        return network.forward_features(pixels)  # type: ignore[no-any-return]
    if library == "open_clip":
        trunk = getattr(network, "trunk", None)
        if trunk is not None:
            return trunk.forward_features(pixels)  # type: ignore[no-any-return]
        found = network.forward_intermediates(pixels, indices=1, normalize_intermediates=True, output_fmt="NLC")
        return found["image_intermediates"][-1]  # type: ignore[no-any-return]
    return network(pixel_values=pixels).last_hidden_state  # type: ignore[no-any-return]


def _as_tokens(features: Tensor, config: EyesConfig) -> Tensor:
    """(B, D, h, w), (B, h, w, D) or (B, prefix + G, D) -> (B, G, D)."""
    if features.ndim == 4:
        if features.shape[1] == config.hidden_size:
            return features.flatten(2).transpose(1, 2)
        return features.flatten(1, 2)
    return features[:, config.prefix_tokens :]


def measure(config: EyesConfig, network: nn.Module) -> EyesConfig:
    """The config with its grid and width filled in, by one look at an empty picture.

    Raises:
        EosinError: the network does not take a picture of this side, or gives no grid.
    """
    side = config.input_px
    try:
        with torch.no_grad():
            device = next(network.parameters()).device
            seen = _features(network.eval(), config.library, torch.zeros(1, 3, side, side, device=device))
    except (RuntimeError, ValueError, AssertionError, AttributeError, TypeError) as exc:
        raise EosinError(
            f"The eyes {config.name} do not take a picture of {side} x {side} px.",
            found=f"{type(exc).__name__}: {(str(exc).splitlines() or [''])[0][:160]}", where="model.eyes.input_px",
            next_step="leave input_px out, or give a multiple of the patch size that the network was made for",
        ) from exc  # fmt: skip
    if seen.ndim == 4:
        config.hidden_size = int(seen.shape[1] if seen.shape[2] == seen.shape[3] else seen.shape[3])
    else:
        config.hidden_size = int(seen.shape[-1])
        side = math.isqrt(seen.shape[1])
        config.prefix_tokens = int(seen.shape[1] - side * side)
    config.grid_tokens = config.tokens = int(_as_tokens(seen, config).shape[1])
    return config


def channels_last(model: nn.Module) -> int:
    """Lay the weights of eyes out as CPUs' kernels of convolutions like them best. Returns how many eyes there are."""
    found = [m for m in model.modules() if isinstance(m, Eyes)]
    for eyes in found:
        eyes.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return len(found)


AutoConfig.register(MODEL_TYPE, EyesConfig)
AutoModel.register(EyesConfig, Eyes)
