"""Shapes of models, from which their parameters follow: of a recipe, of a local config, or of a model known by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.settings.model import ComposedModel, HubModel, ModelSettings, SlideModel, TinyModel
from eosin.core.store import artifacts as store


@dataclass(frozen=True)
class Text:
    """A decoder of the Qwen and Llama form: RMSNorm, gated MLP, grouped key and value heads."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool
    head_dim: int = 0
    has_bias: bool = False

    @property
    def kv_width(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.dim

    @property
    def dim(self) -> int:
        return self.head_dim or self.hidden // self.heads

    @property
    def per_layer(self) -> int:
        """Parameters of a layer."""
        wide = self.heads * self.dim
        bias = wide + 2 * self.kv_width if self.has_bias else 0
        attention = 2 * self.hidden * wide + 2 * self.hidden * self.kv_width + bias
        return attention + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def ends(self) -> int:
        """Of the embedding and the head."""
        return self.embedding * (1 if self.tied else 2)

    @property
    def embedding(self) -> int:
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.per_layer + self.ends + self.hidden

    def lora(self, rank: int) -> int:
        """Parameters of adapters on all linear layers."""
        wide = self.heads * self.dim
        pairs = [(self.hidden, wide), (self.hidden, self.kv_width), (self.hidden, self.kv_width), (wide, self.hidden)]
        pairs += [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        return self.layers * rank * sum(a + b for a, b in pairs)


@dataclass(frozen=True)
class Vision:
    """A vision transformer with what makes `merge` x `merge` patches one token of the language model.

    Attributes:
        gated: three matrices in the MLP (Qwen2.5-VL), else two.
        mergers: projectors like the last one that feed deeper layers too (Qwen3-VL's DeepStack), itself included.
        side_px: side of the square that every picture is resized to; None: pictures keep their size.
    """

    hidden: int
    layers: int
    intermediate: int
    heads: int
    patch: int
    out: int
    merge: int = 2
    temporal: int = 2
    gated: bool = True
    mergers: int = 1
    side_px: int | None = None

    @property
    def per_layer(self) -> int:
        mlp = (3 if self.gated else 2) * self.hidden * self.intermediate
        return 4 * self.hidden**2 + 4 * self.hidden + mlp + 2 * self.hidden

    @property
    def projector(self) -> int:
        wide = self.hidden * self.merge**2
        return self.mergers * (wide * wide + wide * self.out + wide + self.out)

    @property
    def patches(self) -> int:
        """Parameters of the convolution that reads a patch."""
        return 3 * self.temporal * self.patch**2 * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.per_layer + self.patches + self.projector

    def tokens(self, area_px: float) -> int:
        """Tokens of the language model that a picture of this area becomes."""
        area = area_px if self.side_px is None else self.side_px**2
        return max(1, round(area / (self.patch * self.merge) ** 2))


@dataclass(frozen=True)
class Slide:
    """The tower over the patches of a slide: layers of LongNet and a projector."""

    width: int
    layers: int
    ffn: int
    dimension: int
    out: int

    @property
    def parameters(self) -> int:
        layer = 4 * self.width**2 + 2 * self.width * self.ffn + 9 * self.width + self.ffn
        return self.layers * layer + self.dimension * self.width + self.width * self.out + self.out**2


@dataclass(frozen=True)
class Shape:
    """A model: its text, and what sees."""

    name: str
    text: Text
    vision: Vision | None = None
    slide: Slide | None = None

    @property
    def parameters(self) -> int:
        """All of them."""
        seen = (self.vision.parameters if self.vision else 0) + (self.slide.parameters if self.slide else 0)
        return self.text.parameters + seen


def _qwen25(hidden: int, layers: int, heads: int, kv: int, wide: int, vocab: int, tied: bool, eye: int) -> Shape:
    text = Text(hidden, layers, heads, kv, wide, vocab, tied, has_bias=True)
    return Shape("", text, Vision(1280, 32, eye, 16, 14, hidden))


def _qwen3(hidden: int, layers: int, heads: int, kv: int, wide: int, tied: bool, large_eye: bool) -> Shape:
    text = Text(hidden, layers, heads, kv, wide, 151_936, tied, head_dim=128)
    eye = (1152, 27, 4304) if large_eye else (1024, 24, 4096)
    return Shape("", text, Vision(*eye, 16, 16, hidden, gated=False, mergers=4))


# From the config.json that each model is published with.
KNOWN: dict[str, Shape] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen25(2048, 36, 16, 2, 11_008, 151_936, True, 3420),
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen25(3584, 28, 28, 4, 18_944, 152_064, False, 3420),
    "Qwen/Qwen2.5-VL-32B-Instruct": _qwen25(5120, 64, 40, 8, 27_648, 152_064, False, 3456),
    "Qwen/Qwen2.5-VL-72B-Instruct": _qwen25(8192, 80, 64, 8, 29_568, 152_064, False, 3456),
    "Qwen/Qwen3-VL-2B-Instruct": _qwen3(2048, 28, 16, 8, 6144, True, False),
    "Qwen/Qwen3-VL-4B-Instruct": _qwen3(2560, 36, 32, 8, 9728, True, False),
    "Qwen/Qwen3-VL-8B-Instruct": _qwen3(4096, 36, 32, 8, 12_288, False, True),
    "Qwen/Qwen3-VL-32B-Instruct": _qwen3(5120, 64, 64, 8, 25_600, False, True),
    "Qwen/Qwen2.5-0.5B-Instruct": Shape("", Text(896, 24, 14, 2, 4864, 151_936, True, has_bias=True)),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape("", Text(1536, 28, 12, 2, 8960, 151_936, True, has_bias=True)),
    "Qwen/Qwen2.5-3B-Instruct": Shape("", Text(2048, 36, 16, 2, 11_008, 151_936, True, has_bias=True)),
    "Qwen/Qwen2.5-7B-Instruct": Shape("", Text(3584, 28, 28, 4, 18_944, 152_064, False, has_bias=True)),
    "Qwen/Qwen2.5-14B-Instruct": Shape("", Text(5120, 48, 40, 8, 13_824, 152_064, False, has_bias=True)),
    "Qwen/Qwen2.5-32B-Instruct": Shape("", Text(5120, 64, 40, 8, 27_648, 152_064, False, has_bias=True)),
    "smollm2-135m": Shape("", Text(576, 30, 9, 3, 1536, 49_152, True)),
}
# Eyes of a composed model by name: width, layers, MLP, heads, patch, side. A network without layers of attention is
# given as its parameters in one layer.
EYES = {
    "efficientnet-lite0": Vision(320, 0, 0, 1, 32, 0, merge=1, side_px=224),
    "uni": Vision(1024, 24, 4096, 16, 16, 0, merge=1, temporal=1, gated=False, side_px=224),
    "virchow2": Vision(1280, 32, 5120, 16, 14, 0, merge=1, temporal=1, gated=True, side_px=224),
    "phikon-v2": Vision(1024, 24, 4096, 16, 16, 0, merge=1, temporal=1, gated=False, side_px=224),
}


def shape_of(settings: ModelSettings) -> Shape:
    """The shape of a recipe's model. Nothing is downloaded.

    Raises:
        EosinError: a model by name that is neither known here nor a folder with a config.json.
    """
    if isinstance(settings, TinyModel):
        return _of_tiny(settings)
    if isinstance(settings, HubModel):
        return _by_name(settings.name, "model.name")
    if isinstance(settings, SlideModel):
        return _of_slide(settings)
    return _of_composed(settings)


def _of_tiny(settings: TinyModel) -> Shape:
    t, v = settings.text, settings.vision
    text = Text(t.hidden_size, t.num_layers, t.num_heads, t.num_kv_heads, t.intermediate_size, settings.vocab_size,
                True, has_bias=True)  # fmt: skip
    eye = Vision(v.hidden_size, v.depth, v.intermediate_size, v.num_heads, v.patch_size, t.hidden_size,
                 side_px=settings.image_px)  # fmt: skip
    return Shape("tiny", text, eye)


def _of_slide(settings: SlideModel) -> Shape:
    base = shape_of(settings.base)
    sizes = settings.tower.sizes()
    dimension = settings.dimension or 1024
    tower = Slide(sizes["width"], sizes["layers"], sizes["ffn"], dimension, base.text.hidden)
    return Shape(base.name, base.text, base.vision if settings.sees_images else None, tower)


def _of_composed(settings: ComposedModel) -> Shape:
    base = _by_name(settings.language, "model.language")
    eyes = settings.eyes
    if eyes.name == "small":
        s = eyes.small
        seen = Vision(s.hidden_size, s.depth, s.intermediate_size, s.num_heads, s.patch_size, 0, merge=1, temporal=1,
                      gated=False, side_px=eyes.input_px or 224)  # fmt: skip
    elif eyes.name in EYES:
        seen = EYES[eyes.name]
    else:
        seen = EYES["uni"]  # a large vision transformer: said among the assumptions
    values = {**vars(seen), "out": base.text.hidden, "side_px": eyes.input_px or seen.side_px}
    return Shape(f"{eyes.name} + {base.name}", base.text, Vision(**values))


def _by_name(name: str, where: str) -> Shape:
    config = Path(name) / "config.json"
    if config.is_file():
        return _of_config(name, store.read_object(config))
    for known, shape in KNOWN.items():
        if name.lower() in (known.lower(), known.lower().rpartition("/")[2]):
            return Shape(known, shape.text, shape.vision, shape.slide)
    raise EosinError(
        "The shape of this model is not known.",
        expected=f"one of {', '.join(KNOWN)}; or a folder with its config.json",
        found=name, where=where, next_step=f"eosin plan RECIPE {where}=FOLDER   with the folder of a downloaded model",
    )  # fmt: skip


def _of_config(name: str, config: dict[str, Any]) -> Shape:
    """A config of transformers, with its text and vision parts where it has them."""
    t: dict[str, Any] = {**config, **(config.get("text_config") or {})}
    try:
        heads = int(t["num_attention_heads"])
        text = Text(
            int(t["hidden_size"]), int(t["num_hidden_layers"]), heads, int(t.get("num_key_value_heads") or heads),
            int(t["intermediate_size"]), int(t["vocab_size"]), bool(t.get("tie_word_embeddings", False)),
            int(t.get("head_dim") or 0), "qwen2" in str(t.get("model_type", "")),
        )  # fmt: skip
        seen = _vision_of(config.get("vision_config"), text.hidden)
    except (KeyError, TypeError, ValueError) as exc:
        raise EosinError("This config does not say what shape the model has.", found=f"{exc!s:.80}", where=name,
                         expected="a config.json of transformers") from None  # fmt: skip
    return Shape(name, text, seen)


def _vision_of(v: dict[str, Any] | None, out: int) -> Vision | None:
    if not v:
        return None
    hidden = int(v["hidden_size"])
    merge = int(v.get("spatial_merge_size") or 1)
    return Vision(
        hidden, int(v.get("depth") or v["num_hidden_layers"]), int(v["intermediate_size"]),
        int(v.get("num_heads") or v["num_attention_heads"]), int(v["patch_size"]), out, merge,
        int(v.get("temporal_patch_size") or 1), "qwen2_5" in str(v.get("model_type", "")),
        1 + len(v.get("deepstack_visual_indexes") or ()),
        None if "spatial_merge_size" in v else int(v.get("image_size") or 336),
    )  # fmt: skip
