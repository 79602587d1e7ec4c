"""What a recipe may say about a CLIP model, its contrastive training and its exams."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eosin.core.settings.base import PositiveInt, Settings
from eosin.core.settings.stage import Part, Stage


class TinyClipVision(Settings):
    """Size of the small image tower: a vision transformer, or a network of timm by name (with new weights).

    Attributes:
        layers: blocks.
        width: of a block.
        heads: attention heads.
        patch_size: side of a patch.
        mlp_ratio: width of the feed-forward part, in widths of the block.
        pool: "tok" reads the class token, as CLIP does; "avg" the mean of the patches, which learns faster from little.
        timm_model: such as "efficientnet_lite0"; the other sizes then say nothing.
    """

    layers: PositiveInt = 4
    width: PositiveInt = 128
    heads: PositiveInt = 4
    patch_size: PositiveInt = 14
    mlp_ratio: float = Field(default=4.0, gt=0)
    pool: Literal["tok", "avg"] = "tok"
    timm_model: str | None = None


class TinyClipText(Settings):
    """Size of the small text tower.

    Attributes:
        layers: blocks.
        width: of a block.
        heads: attention heads.
    """

    layers: PositiveInt = 2
    width: PositiveInt = 128
    heads: PositiveInt = 4


class TinyClip(Settings):
    """A small CLIP with new weights, in open_clip's architecture and with CLIP's own tokens.

    Attributes:
        image_px: side of the pictures that it sees.
        context_length: tokens of a caption that it reads, begin and end included.
        dim: of the embeddings.
        vision: size of the image tower.
        text: size of the text tower.
        weights: for the image tower alone: a file (a timm state dict), or the name of a patch encoder of the same
            timm_model, such as efficientnet-lite0, whose ImageNet weights come in a package.
    """

    kind: Literal["tiny"] = "tiny"
    image_px: PositiveInt = 112
    context_length: int = Field(default=48, ge=4)
    dim: PositiveInt = 128
    vision: TinyClipVision = TinyClipVision()
    text: TinyClipText = TinyClipText()
    weights: str | None = None

    @model_validator(mode="after")
    def _divides(self) -> TinyClip:
        for name, tower in (("vision", self.vision), ("text", self.text)):
            if tower.width % tower.heads:
                raise ValueError(f"{name}.width must be a multiple of {name}.heads")
        if self.vision.timm_model is None and self.image_px % self.vision.patch_size:
            raise ValueError(f"image_px must be a multiple of vision.patch_size = {self.vision.patch_size}")
        if self.weights is not None and self.vision.timm_model is None:
            raise ValueError("weights are those of a timm_model; without one there is nowhere to put them")
        return self


class NamedClip(Settings):
    """A CLIP model by name.

    Attributes:
        name: a folder of open_clip or transformers; "MODEL@WEIGHTS" with a tag of open_clip or a file, such as
            "ViT-B-16@openai"; "hf-hub:ORG/NAME"; or a known name, such as plip or quiltnet-b-32.
    """

    kind: Literal["named"] = "named"
    name: str = "ViT-B-16@openai"


ClipModel = Annotated[TinyClip | NamedClip, Field(discriminator="kind")]


class ClipLora(Settings):
    """Low-rank adapters on the linear layers of both towers; they are merged into the weights of the checkpoint.

    Attributes:
        r: rank of the adapters.
        alpha: their scale; what they add is multiplied by alpha / r.
        dropout: of what goes into the adapters, in training.
        targets: ends of module names. The default fits open_clip's transformers.
    """

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] = Field(default_factory=lambda: ["attn", "c_fc", "c_proj"], min_length=1)


class FewShot(Settings):
    """Few-shot exam by Patho-CLIP's protocol (arXiv 2505.11404): logistic regression on frozen features.

    Attributes:
        shots: samples a class; a class with fewer gives all that it has, and that is counted.
        num_subsets: random subsets of each size; subset i is drawn with seed `seed` + i.
        c, max_iter: of the logistic regression.
        seed: of the first subset.
        encoder: a patch encoder by name, such as efficientnet-lite0: its frozen features, with the colour histogram,
            stand beside the model.
    """

    shots: list[PositiveInt] = Field(default_factory=lambda: [2, 8, 16, 32, 64, 128], min_length=1)
    num_subsets: PositiveInt = 10
    c: float = Field(default=1.0, gt=0)
    max_iter: PositiveInt = 1000
    seed: int = 42
    encoder: str | None = None


class ClipExam(Settings):
    """How a CLIP checkpoint is examined.

    Attributes:
        split: the samples that are asked about.
        prompts: a YAML file with class names, their wordings and templates; by default the labels' own words.
        class_words: wordings of each class in the recipe itself: {label: [words, ...]}; they go before the file's.
        templates: sentences with {} in the place of a wording; several are averaged.
        few_shot: None for none.
        baselines: whether baselines on colour and texture, fitted on the training samples, stand beside zero-shot.
        retrieval: whether captions are looked for by image and images by caption.
        batch_size: pictures embedded together.
        seed: of draws and of the bootstrap.
    """

    split: Literal["train", "valid", "test"] = "test"
    prompts: str | None = None
    class_words: dict[str, list[str]] = Field(default_factory=dict)
    templates: list[str] | None = Field(default=None, min_length=1)
    few_shot: FewShot | None = FewShot()
    baselines: bool = True
    retrieval: bool = True
    batch_size: PositiveInt = 64
    seed: int = 0

    @field_validator("templates")
    @classmethod
    def _with_place(cls, value: list[str] | None) -> list[str] | None:
        for template in value or ():
            if template.count("{}") != 1:
                raise ValueError(f"a template has {{}} once, in the place of the class; found {template!r}")
        return value


class ClipStage(Stage):
    """Contrastive training of an image tower and a text tower on captions (docs/patho-clip.md).

    A `clip` stage has a model of its own: other stages neither start from it nor feed it. It starts from the clip
    stage before it, where there is one, else from `model`.

    Attributes:
        model: where the first clip stage of a recipe starts.
        loss: "infonce" (CLIP, arXiv 2103.00020) or "siglip" (arXiv 2303.15343).
        batch_size: pairs of one step in one process; all processes' pairs are each other's negatives.
        chunk_size: pairs that the towers see at once; gradients are those of the whole batch. None: all at once.
        negatives: "other_groups": panels of one figure and tiles of one slide, case or patient are not each other's
            negatives; "all": they are.
        equal_captions: "positives": pictures with the same caption count as right for it; "negatives": they do not.
        freeze: [vision] is locked-image tuning (arXiv 2111.07991); [language] locks the text tower.
        freeze_first: share of the image tower's layers, from the picture on, that stay as they are: for pretrained
            towers.
        betas: of AdamW.
        lora: adapters instead of whole towers.
        precision: "auto" is bf16 on a GPU that has it, else fp32.
        batch_norm: "frozen" keeps running statistics as they are, which gradient caching needs.
        temperature: at the start, where the model is new; the loss learns it.
        options: how far augmentation goes: fields of train.data.augment.AugmentSettings. What a caption speaks of
            stays: no colour change where it names a stain or a colour, no flip where it says left or right.
        valid_every: steps between retrievals on the valid split; by default six over the stage.
        valid_samples: pairs of such a retrieval, drawn with the seed.
        keep: "best" keeps the weights with the highest mean recall on the valid split; "last" the end.
        clip_exam: how the stage's checkpoint is examined; `exam: false` for not at all.
    """

    kind: Literal["clip"] = "clip"
    model: ClipModel = TinyClip()
    loss: Literal["infonce", "siglip"] = "infonce"
    epochs: float = Field(default=10.0, gt=0)
    batch_size: PositiveInt = 64
    chunk_size: PositiveInt | None = None
    negatives: Literal["other_groups", "all"] = "other_groups"
    equal_captions: Literal["positives", "negatives"] = "positives"
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.2, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    freeze_first: float = Field(default=0.0, ge=0, lt=1)
    lora: ClipLora | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_norm: Literal["train", "frozen"] = "frozen"
    temperature: float = Field(default=0.07, gt=0)
    options: dict[str, Any] = Field(default_factory=dict)
    valid_every: PositiveInt | None = None
    valid_samples: PositiveInt = 512
    keep: Literal["best", "last"] = "last"
    clip_exam: ClipExam = ClipExam()

    @model_validator(mode="before")
    @classmethod
    def _kind_of_model(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("model"), dict) and "kind" not in values["model"]:
            return {**values, "model": {"kind": "tiny", **values["model"]}}
        return values

    @field_validator("freeze")
    @classmethod
    def _two_towers(cls, value: list[Part]) -> list[Part]:
        if set(value) - {"vision", "language"}:
            raise ValueError("a CLIP has two parts: vision and language")
        if {"vision", "language"} <= set(value):
            raise ValueError("with both towers locked nothing is left to train")
        return value

    @model_validator(mode="after")
    def _chunks_fit(self) -> ClipStage:
        if self.chunk_size is not None and self.batch_norm == "train":
            raise ValueError("with chunk_size, batch norm must be frozen: in chunks its statistics would be others")
        if self.freeze_first and (self.lora is not None or "vision" in self.freeze):
            raise ValueError("freeze_first lets the rest of the image tower train: not with lora or freeze: [vision]")
        return self
