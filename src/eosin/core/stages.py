"""What a recipe may say about its model and its training stages."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
Part = Literal["vision", "projector", "language"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TinyVision(_Settings):
    """Size of the small vision tower. `window_px` is the side of an attention window; every block is also
    listed as a full-attention block, so that small images are seen whole."""

    depth: PositiveInt = 4
    hidden_size: PositiveInt = 128
    intermediate_size: PositiveInt = 256
    num_heads: PositiveInt = 4
    patch_size: PositiveInt = 14
    window_px: PositiveInt = 112


class TinyText(_Settings):
    """Size of the small language model."""

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


class TinyModel(_Settings):
    """The small Qwen2.5-VL that Eosin builds itself. Images are resized to about image_px x image_px."""

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


class HubModel(_Settings):
    """Any image-text-to-text model of transformers, by hub name or folder."""

    kind: Literal["hub"] = "hub"
    name: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    revision: str | None = None
    max_pixels: int | None = Field(default=None, ge=28 * 28)


ModelSettings = Annotated[TinyModel | HubModel, Field(discriminator="kind")]


class Lora(_Settings):
    """Low-rank adapters on the language model's linear layers."""

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] = Field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )


class _Stage(_Settings):
    """What all stages share.

    Attributes:
        start: the stage whose checkpoint this one starts from; by default the one before it ("base": the first model).
        exam: whether the exams run after this stage.
        steps: optimiser steps; None means `epochs` passes over the training samples.
        freeze: parts that do not train.
        augment: flips, quarter turns and stain jitter on training images.
        image_cache_gib: decoded, resized training images kept in memory; 0 decodes each time.
    """

    start: str | None = None
    exam: bool = True
    epochs: float = Field(default=1.0, gt=0)
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 16
    learning_rate: float = Field(default=1e-5, gt=0)
    warmup_fraction: float = Field(default=0.03, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    freeze: list[Part] = Field(default_factory=list)
    augment: bool = False
    max_samples: PositiveInt | None = None
    log_every: PositiveInt = 10
    save_every: PositiveInt = 200
    num_workers: int = Field(default=0, ge=0)
    image_cache_gib: float = Field(default=1.0, ge=0)


class WarmupStage(_Stage):
    """Warm-up of the vision tower by classification of the training labels, before any language.

    A tower with random weights learns nothing useful through the language model in a short run. The head is
    thrown away; only the tower and its projector go on.
    """

    kind: Literal["warmup"] = "warmup"
    epochs: float = Field(default=8.0, gt=0)
    batch_size: PositiveInt = 64
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.05, ge=0)
    augment: bool = True
    exam: bool = False
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    options: dict[str, Any] = Field(
        default_factory=dict, description="how far augmentation goes: fields of train.augment.AugmentSettings"
    )

    @field_validator("freeze")
    @classmethod
    def _nothing_to_freeze(cls, value: list[Part]) -> list[Part]:
        if value:
            raise ValueError(
                "the warm-up trains the vision tower with its projector and nothing else; leave freeze out"
            )
        return value


class _LanguageStage(_Stage):
    lora: Lora | None = None
    gradient_accumulation: PositiveInt = 1
    gradient_checkpointing: bool = False
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_tokens: PositiveInt | None = None


class PretrainStage(_LanguageStage):
    """Continued pretraining on image-caption pairs; the loss is on the caption (Patho-R1, arXiv 2505.11404)."""

    kind: Literal["pretrain"] = "pretrain"


class SftStage(_LanguageStage):
    """Supervised fine-tuning on reasoning chains; the loss is on the reply only."""

    kind: Literal["sft"] = "sft"


class RewardSpec(BaseModel):
    """One reward term: its name, its weight, and options of that reward."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    weight: float = 1.0


class Algorithm(_Settings):
    """A policy-gradient algorithm as data. Its name tells the truth: a changed field is printed with it.

    Attributes:
        epsilon, epsilon_high: lower and upper clip bound of the probability ratio.
        beta: weight of the KL penalty to the starting policy (k3 estimator); 0 loads no reference.
        loss_type: "grpo" averages over the tokens of a sequence, then over sequences.
        scale_rewards: divide the advantage by the standard deviation of its group.
        mask_truncated: completions cut off by the length cap carry no loss.
    """

    PAPER: ClassVar[dict[str, dict[str, Any]]] = {
        "grpo": {
            "epsilon": 0.2,
            "epsilon_high": 0.2,
            "beta": 0.04,
            "loss_type": "grpo",
            "scale_rewards": "group",
            "num_iterations": 1,
            "mask_truncated": False,
        },
    }

    name: Literal["grpo"] = "grpo"
    epsilon: float = Field(gt=0, default=0.2)
    epsilon_high: float = Field(gt=0, default=0.2)
    beta: float = Field(ge=0, default=0.04)
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "grpo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    num_iterations: PositiveInt = 1
    mask_truncated: bool = False

    @property
    def true_name(self) -> str:
        """ "GRPO" for the paper's settings, else "GRPO+{beta=0.0}" with every changed field."""
        paper = self.PAPER[self.name]
        changed = [f"{k}={getattr(self, k)}" for k, v in paper.items() if getattr(self, k) != v]
        title = self.name.upper()
        return f"{title}+{{{', '.join(changed)}}}" if changed else title


class RlStage(_LanguageStage):
    """Reinforcement learning with verifiable rewards on groups of sampled replies.

    Attributes:
        batch_size: completions of one optimiser step; a multiple of num_generations.
        rewards: terms with weights, or the name of a set.
        algorithm: "grpo", or a mapping with its changed fields.
        max_new_tokens: length cap of a completion.
    """

    kind: Literal["rl"] = "rl"
    algorithm: Algorithm = Algorithm()
    rewards: list[RewardSpec] | str = Field(
        default_factory=lambda: [RewardSpec(name="accuracy", weight=0.9), RewardSpec(name="format", weight=0.1)]
    )
    num_generations: int = Field(default=8, ge=2)
    batch_size: PositiveInt = 32
    max_new_tokens: PositiveInt = 256
    temperature: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=1e-6, gt=0)
    keep_rollouts: PositiveInt = Field(default=400, description="rollouts kept on disk, evenly over the run")

    @field_validator("algorithm", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _groups(self) -> RlStage:
        if self.batch_size % self.num_generations:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of num_generations ({self.num_generations})"
            )
        return self


StageSettings = Annotated[WarmupStage | PretrainStage | SftStage | RlStage, Field(discriminator="kind")]
STAGE_CLASSES: dict[str, type[_Stage]] = {
    "warmup": WarmupStage,
    "pretrain": PretrainStage,
    "sft": SftStage,
    "rl": RlStage,
}
