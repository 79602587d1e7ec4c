"""What a recipe may say about its training stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eosin.core.settings.base import PositiveInt, Settings
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.masking import PseudoBags, Trajectory
from eosin.core.settings.rl import Algorithm, AnchorSettings, CollapseStop, Difficulty, Rewards, RewardSpec, Vllm
from eosin.core.settings.scoring import OutageStop, ScoringSettings
from eosin.core.settings.stage import Part, Stage

KeepBy = Literal["score", "accuracy", "entities"]


class Lora(Settings):
    """Low-rank adapters on the language model's linear layers.

    Attributes:
        r: rank of the adapters.
        alpha: their scale; what they add is multiplied by alpha / r.
        dropout: of what goes into the adapters, in training.
        targets: ends of the names of the modules that get adapters; a part's own names take it in, such as "fc1" of
            many eyes, unless the stage freezes that part.
        whole: modules that train whole beside the adapters, such as "multi_modal_projector" of LLaVA's form; they are
            saved with the adapters.
    """

    r: PositiveInt = 16
    alpha: PositiveInt = 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] = Field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    whole: list[str] = Field(default_factory=list)


class Moved(Settings):
    """How a stage moves its weights.

    Attributes:
        optimizer: "muon" makes the updates of matrices orthogonal, and needs about half of the steps that AdamW needs
            from random weights; it bears two to three times the learning rate, of which what is no hidden matrix
            (embeddings, heads, patch embedding, norms) gets a third with AdamW. Each process must hold whole matrices.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"


class WarmupStage(Stage, Moved):
    """Warm-up of the vision tower by classification of the training labels, before any language.

    A tower with random weights learns nothing useful through the language model in a short run. The head is
    thrown away; only the tower and its projector go on.

    Attributes:
        label_smoothing: share of each label's weight that is spread over all labels.
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
    words: bool = Field(
        default=False,
        description="tokens of a picture are drawn to the language model's own embedding of its class in words: for a "
        "pretrained language model, which then reads them as it reads words",
    )
    freeze_first: float = Field(
        default=0.0, ge=0, lt=1,
        description="share of the tower's layers, from the picture on, that stay as they are: for pretrained eyes",
    )  # fmt: skip
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


class _LanguageStage(Stage):
    """What the stages share that train the language model.

    Attributes:
        lora: adapters in the place of whole weights; null trains the weights themselves.
        gradient_accumulation: batches whose gradients are added before one optimiser step.
        gradient_checkpointing: compute activations again instead of keeping them: less memory, more time.
        schedule: how the learning rate falls after the warm-up.
        max_tokens: rows with more are cut, and counted; None: none is cut.
        vision_cache_gib: outputs of a frozen vision tower kept for a run, on disk and memory-mapped; 0 keeps none.
        max_cut_share: largest share of gold replies that may be longer than the stage's length cap.
        over_cap: what happens where more are: "refuse" does not start, "warn" says so and goes on.
        packing: rows of a batch stand one after the other without padding, each seeing itself alone. "on" refuses to
            start with a model that cannot, "auto" then pads. Not for rl, whose prompts are shared.
    """

    lora: Lora | None = None
    gradient_accumulation: PositiveInt = 1
    gradient_checkpointing: bool = False
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_tokens: PositiveInt | None = None
    vision_cache_gib: float = Field(default=1.0, ge=0)
    max_cut_share: float = Field(default=0.1, ge=0, le=1)
    over_cap: Literal["refuse", "warn"] = "refuse"
    packing: Literal["auto", "on", "off"] = "auto"

    @field_validator("packing", mode="before")
    @classmethod
    def _switch(cls, value: object) -> object:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # YAML reads on and off so


class _PairStage(_LanguageStage, Moved):
    """What the stages share that learn replies as they stand.

    Attributes:
        batches: "by_length" puts rows of about one length into every optimiser step, so that little is padded; for
            stages whose rows are padded (see `packing`). Its order follows from the seed and the epoch.
    """

    batches: Literal["random", "by_length"] = "random"


class WatchedStage(_LanguageStage):
    """A stage that asks the valid split while it trains.

    Attributes:
        keep: "best" keeps the checkpoint with the highest figure on the valid split, the start included, so that a
            stage that does harm changes nothing; "last" the end.
        keep_by: the figure: balanced "accuracy", "entities" (hardened Dice of the findings), or "score", their mean.
        valid_every: steps between greedy exams on the valid split; by default six over the stage where it keeps the
            best, else none.
        valid_samples: questions of such an exam, drawn with the seed.
        average_with_start: share of the start in the weights that the stage leaves, the rest being the end's or, if the
            valid questions think more of it, the best checkpoint's; with keep "best". Where the mean is worse than the
            start, or than the best checkpoint beyond noise, it is not taken (docs/rl.md). 0 averages nothing.
    """

    keep: Literal["best", "last"] = "last"
    keep_by: KeepBy = "score"
    valid_every: PositiveInt | None = None
    valid_samples: PositiveInt = 128
    average_with_start: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _averages_what_it_keeps(self) -> WatchedStage:
        if self.average_with_start and self.keep == "last":
            raise ValueError("average_with_start needs keep: best, whose valid questions say whether it does harm")
        return self


class PretrainStage(_PairStage):
    """Continued pretraining on image-caption pairs; the loss is on the caption (Patho-R1, arXiv 2505.11404)."""

    kind: Literal["pretrain"] = "pretrain"


class SftStage(WatchedStage, _PairStage):
    """Supervised fine-tuning on reasoning chains; the loss is on the reply only.

    Attributes:
        trajectory: also train on the ends of chains, with the steps before as context (docs/masking.md).
        pseudo_bags: also train on slides from which a cluster of patches was taken out (docs/masking.md).
        max_new_tokens: length cap of the replies to the valid questions.
    """

    kind: Literal["sft"] = "sft"
    max_new_tokens: PositiveInt = 256
    trajectory: Trajectory | None = None
    pseudo_bags: PseudoBags | None = None


class RlStage(WatchedStage):
    """Reinforcement learning with verifiable rewards on groups of sampled replies (docs/rl.md).

    Attributes:
        batch_size: completions of one optimiser step; a multiple of num_generations.
        num_generations: replies sampled to each prompt (G).
        temperature: of the sampling.
        algorithm: grpo, dapo, dr_grpo or gspo, or a mapping with its name and its changed fields.
        rewards: the name of a set; terms with weights; or a mapping from the source of a sample to either, where
            "default" serves the sources that are not named.
        scoring: judge, sentence encoder, CLIP and knowledge graph of the rewards; what is left out is the run's.
        outage: when to stop because too many replies have no reward; null never stops.
        max_new_tokens: length cap of a completion.
        generation_parts: draw the replies of a generation in so many parts, each as large as all before it, so that
            a judge reads the first while the next are drawn; small batches decode slower. 1 draws all at once; a
            judge then reads those that end first.
        updates_per_batch: optimiser steps on the completions of one generation, each on its own share of them. From
            the second on the ratio is no longer 1 and the clip bounds bind (DAPO's paper makes 16, GSPO's 4).
        constrain: "grammar" draws only what keeps the reply grammar, and trains that policy: log-probabilities are
            those under the mask. Form is then no part of what the rewards decide (docs/rl.md).
        greedy_replies: so many replies of each group take the likeliest token each time, so that what exams and users
            see is rewarded and punished too; where a sampled reply ends by chance, a greedy one may run in circles
            (docs/rl.md). Only where the prompt is shared.
        balance_classes: the prompts of a step are drawn evenly over the classes of their answers; those of a rare class
            come again sooner. Prompts that dynamic sampling draws in addition are not.
        anchor: cross-entropy of gold replies beside the policy loss; a number is its weight. None for none.
        fast_path: read the prompt once a group. "auto" uses it where the model is known to allow it, "on" refuses to
            start where it does not, "off" is plain TRL.
        roundtrip_tolerance: largest difference between the generator's and the trainer's log-probabilities that may
            start; None means 1e-3 in fp32 and 5e-2 in bf16.
        collapse: when to stop because the policy has collapsed; null never stops.
        difficulty: keep the prompts whose measured pass rate lies in a band.
        diagnose_every: steps between measurements of the gradient's noise, each of which costs one more backward pass
            over the batch (docs/rl.md, Looking inside); None for none.
        vllm: replies are drawn by vLLM (docs/scale.md); None draws them here.
    """

    kind: Literal["rl"] = "rl"
    keep: Literal["best", "last"] = "best"
    algorithm: Algorithm = Algorithm()
    rewards: Rewards = Field(
        default_factory=lambda: [RewardSpec(name="accuracy", weight=0.9), RewardSpec(name="format", weight=0.1)]
    )
    scoring: ScoringSettings = ScoringSettings()
    outage: OutageStop | None = OutageStop()
    num_generations: int = Field(default=8, ge=2)
    batch_size: PositiveInt = 32
    max_new_tokens: PositiveInt = 256
    generation_parts: PositiveInt = 1
    updates_per_batch: PositiveInt = 1
    temperature: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=1e-6, gt=0)
    constrain: Literal["nothing", "grammar"] = "nothing"
    greedy_replies: int = Field(default=0, ge=0)
    balance_classes: bool = False
    anchor: AnchorSettings | None = None
    fast_path: Literal["auto", "on", "off"] = "auto"
    roundtrip_tolerance: float | None = Field(default=None, gt=0)
    collapse: CollapseStop | None = CollapseStop()
    difficulty: Difficulty | None = None
    diagnose_every: PositiveInt | None = None
    over_cap: Literal["refuse", "warn"] = "warn"
    vllm: Vllm | None = None
    keep_rollouts: PositiveInt = Field(default=400, description="rollouts kept on disk, evenly over the run")

    @field_validator("fast_path", mode="before")
    @classmethod
    def _yaml_switch(cls, value: object) -> object:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value  # YAML reads on and off so

    @field_validator("rewards", mode="before")
    @classmethod
    def _some_rewards(cls, value: object) -> object:
        if isinstance(value, Mapping) and "name" in value:
            raise ValueError("a set or a term with options is written in a list, such as [{name: accuracy, weight: 1}]")
        for terms in value.values() if isinstance(value, Mapping) else [value]:
            if not isinstance(terms, str | list | tuple) or not terms:
                raise ValueError("rewards are the name of a set, a list of terms, or a mapping {source: either}")
        return value

    @field_validator("augment")
    @classmethod
    def _one_view(cls, value: bool) -> bool:
        if value:
            raise ValueError("all replies of a group must be shown the same picture; RL has no augmentation")
        return value

    @model_validator(mode="after")
    def _groups(self) -> RlStage:
        if self.vllm is not None and self.constrain == "grammar":
            raise ValueError("constrain: grammar holds what is drawn here; vLLM draws otherwise. Take one of the two")
        if self.greedy_replies >= self.num_generations or (self.greedy_replies and self.vllm is not None):
            raise ValueError("greedy_replies is less than num_generations, and not for vLLM")
        if self.batch_size % self.num_generations:
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of num_generations ({self.num_generations})"
            )
        return self


class RejectionStage(WatchedStage, _PairStage):
    """Rejection sampling, then SFT: replies are drawn, and the best one to each question is what the model learns.

    The best of G replies of the start, where its reward stands out of its group, as in RAFT (arXiv 2304.06767) and the
    rejection sampling of Llama 2 (arXiv 2307.09288). Its loss is plain cross-entropy: nothing is pushed down.

    Attributes:
        rewards, scoring, outage: as in an rl stage; `outage` looks at the replies that are drawn together.
        num_generations: replies drawn to each question (G).
        sample_batch_size: replies drawn together.
        temperature, max_new_tokens: of the drawing; the cap also holds for the valid questions.
        margin: how far the best reply's reward must lie above the mean of its group.
        min_share: a reply that earns less than this share of the largest possible reward is not learned from.
        gold_share: gold replies among the rows, as a share of all of them: an anchor. They are those of other questions
            first.
    """

    kind: Literal["rejection"] = "rejection"
    keep: Literal["best", "last"] = "best"
    rewards: Rewards = Field(
        default_factory=lambda: [RewardSpec(name="accuracy", weight=0.9), RewardSpec(name="format", weight=0.1)]
    )
    scoring: ScoringSettings = ScoringSettings()
    outage: OutageStop | None = OutageStop()
    num_generations: int = Field(default=8, ge=2)
    sample_batch_size: PositiveInt = 128
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: PositiveInt = 256
    margin: float = Field(default=0.01, ge=0)
    min_share: float = Field(default=0.5, ge=0, le=1)
    gold_share: float = Field(default=0.0, ge=0, lt=1)


class DpoStage(_LanguageStage):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) on corrected replies (docs/serve.md).

    A pair is a sample whose `extra` holds the reply that an expert put right: the gold reply is chosen, that one is
    rejected. Samples without one are left out.

    Attributes:
        beta: how strongly the policy is held to its start.
        loss: "sigmoid" is the paper's, "ipo" that of arXiv 2310.12036.
        sft_weight: weight of plain cross-entropy on the chosen reply beside it, so that it does not itself become less
            likely; 0 for the paper's loss alone.
    """

    kind: Literal["dpo"] = "dpo"
    learning_rate: float = Field(default=1e-6, gt=0)
    batch_size: PositiveInt = 8
    beta: float = Field(default=0.1, gt=0)
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    sft_weight: float = Field(default=0.0, ge=0)


StageSettings = Annotated[
    WarmupStage | PretrainStage | SftStage | RejectionStage | RlStage | DpoStage | ClipStage,
    Field(discriminator="kind"),
]
STAGE_CLASSES: dict[str, type[Stage]] = {
    "warmup": WarmupStage,
    "pretrain": PretrainStage,
    "sft": SftStage,
    "rejection": RejectionStage,
    "rl": RlStage,
    "dpo": DpoStage,
    "clip": ClipStage,
}
