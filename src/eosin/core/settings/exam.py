"""What an exam does, as a recipe states it. It stands in core so that recipes need no exam code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from eosin.core.settings.rl import RewardTerms
from eosin.core.settings.scoring import ScoringSettings

ProbeName = Literal[
    "blank", "noise", "swapped", "wrong_organ", "question_only", "options_shuffled", "cut_reasoning", "corrupted_step",
    "other_reasoning",
]  # fmt: skip
PROBE_NAMES: tuple[str, ...] = get_args(ProbeName)
BaselineName = Literal[
    "majority", "text_only", "colour_histogram", "colour_forest", "colour_texture", "mean_features", "feature_extremes",
    "attention_mil", "nearest_image", "nearest_caption",
]  # fmt: skip
BASELINE_NAMES: tuple[str, ...] = get_args(BaselineName)
_PROMPT_OF_STYLE = {"plain": "think", "chain-of-thought": "chain-of-thought", "chain-of-draft": "chain-of-draft"}
EvidenceMethod = Literal["sensitivity", "features", "centred", "gradient", "rollout"]


class EvidenceSettings(BaseModel):
    """Whether the patches that a model's scores point to are those that its answer depends on (docs/evidence.md).

    Attributes:
        methods: sensitivity (length of gradient x centred input on the patch features, through the slide tower),
            features (its sum, signed), centred (the same sum on the slide tokens), gradient (gradient x input on the
            slide tokens), rollout (attention rollout). The first is drawn. Random scores always stand beside them.
        of: what is attributed: the whole reply (findings, reasoning and answer), or its answer alone, given the
            reasoning, from which a model that reasons mostly copies it.
        answer: the model's own answer, or the gold one put in its place.
        num_samples: items measured, a seeded class-balanced subset of those with a slide; None: every one.
        fractions: shares of the patches that are removed.
        num_random: random removals of each share.
        reread: let the model reply again without the patches of the first method, and see whether its answer changes.
        num_maps: items whose map is drawn and written as GeoJSON.
        batch_size: bags that are read together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    methods: list[EvidenceMethod] = Field(default=["sensitivity", "centred", "gradient", "rollout"], min_length=1)
    of: Literal["reply", "answer"] = "reply"
    answer: Literal["own", "gold"] = "own"
    num_samples: int | None = Field(default=24, ge=1)
    fractions: list[float] = Field(default=[0.05, 0.1, 0.2, 0.4], min_length=1)
    num_random: int = Field(default=3, ge=1)
    reread: bool = True
    num_maps: int = Field(default=6, ge=0)
    batch_size: int = Field(default=4, ge=1)

    @field_validator("methods")
    @classmethod
    def _once_each(cls, methods: list[EvidenceMethod]) -> list[EvidenceMethod]:
        if len(set(methods)) != len(methods):
            raise ValueError("a method is named twice")
        return methods

    @field_validator("fractions")
    @classmethod
    def _rising(cls, fractions: list[float]) -> list[float]:
        if any(not 0 < f < 1 for f in fractions) or sorted(set(fractions)) != fractions:
            raise ValueError("fractions rise, and lie between 0 and 1")
        return fractions


class InputPolicy(BaseModel):
    """What a model is shown of a picture. It stands in every exam's log and table: scale and size alone move figures.

    Pictures are first brought to `mpp`, then cut to `patch_px`, then made smaller to `max_pixels`.

    Attributes:
        mpp: microns per pixel at which a picture is shown; pictures whose own scale is not known are set aside. None:
            as stored.
        patch_px: side of the square that is cut out of the middle; None: the whole picture.
        max_pixels: a picture with more is made smaller; None: as large as it is (the model's own processor may shrink).
        num_images: of a question with more pictures the first so many are shown; None: all.
        joint: all pictures of a question in one prompt; False: each for itself, and the answers are put to the vote.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mpp: float | None = Field(default=None, gt=0, lt=1000)
    patch_px: int | None = Field(default=None, ge=8)
    max_pixels: int | None = Field(default=None, ge=64)
    num_images: int | None = Field(default=None, ge=1)
    joint: bool = True

    def described(self) -> dict[str, Any]:
        """All of it, for the log."""
        return self.model_dump()

    @property
    def name(self) -> str:
        """What differs from "as stored", in words fit for a table and a folder."""
        told = [f"{k}={v:g}" for k, v in self.model_dump(exclude={"joint"}).items() if v is not None]
        return ",".join([*told, *([] if self.joint else ["one-by-one"])]) or "as-stored"


class ExamSettings(BaseModel):
    """Settings of one exam. Unknown keys are refused.

    Attributes:
        split: which split of the samples is examined.
        questions: other wordings of the question, one of which is put to each item in the place of its own: does the
            model read, or does it know one sentence? Seeded; options and answers stay.
        earlier_turns: pairs of a question and a reply that stand before the question, as of a dialogue that goes on.
        max_samples: examine a seeded random subset of this size; None examines all.
        probes: which probes run beside the exam.
        probe_samples: items of each probe, a seeded class-balanced subset; None probes every item.
        max_new_tokens: length cap of a reply, in tokens.
        batch_size: prompts decoded together.
        num_sampled: sampled replies an item beside the greedy one; 0 turns sampling off.
        temperature, top_p: of the sampled replies only. The exam's own score is greedy.
        bootstrap: resamples of the cluster bootstrap.
        seed: of subsets, swaps, sampled replies, random removals and the bootstrap.
        evidence: deletion and pointing tests on items that show a slide; None measures none.
        baselines: what is asked the same items without the model (docs/baselines.md): auto (all that fit the items),
            none, or names.
        baseline_train: training samples that baselines are fitted on, a seeded random subset; None: every one.
        terms: reward terms, or a set, that the greedy replies are also scored by, such as a judge's checklist.
        scoring: judge, sentence encoder, CLIP and knowledge graph of these terms; what is left out is the run's.
        same_judge: allow the judge that also gives the rewards of a stage. It then grades what it has taught.
        option_probabilities: also ask how probable each option was where the reply names one, for calibration: by a
            pass an option where the engine holds the model; behind a server by its token probabilities, and where it
            gives none by the shares of sampled replies (`num_sampled`, else 8). The exam says which.
        max_unscored: share of the replies without a score of some term above which the exam stops.
        prompt: name of a way of asking (docs/exams.md); None: the checkpoint's own grammar, or the listed exam's. The
            prompt then states the form of the reply, whatever the recipe says.
        input: what is shown of a picture.
        shifts: each question is asked again with its options moved on by 1, 2, ... places, so many times; -1: by every
            number of places. The exam then says how often the same option was named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _think_style_is_a_prompt(cls, raw: object) -> object:
        """Recipes and records of before `prompt` said `think_style`."""
        if not isinstance(raw, Mapping) or "think_style" not in raw:
            return raw
        rest = {k: v for k, v in raw.items() if k != "think_style"}
        style = raw["think_style"]
        if style is None:
            return rest
        if rest.get("prompt") is not None or style not in _PROMPT_OF_STYLE:
            raise ValueError(f"think_style is now prompt, such as prompt: {_PROMPT_OF_STYLE.get(str(style), 'think')}")
        return {**rest, "prompt": _PROMPT_OF_STYLE[style]}

    split: Literal["train", "valid", "test"] = "test"
    questions: list[str] | None = Field(default=None, min_length=1)
    earlier_turns: list[tuple[str, str]] = Field(default=[])
    max_samples: int | None = Field(default=None, ge=1)
    probes: list[ProbeName] = Field(default=["blank", "swapped", "question_only"])
    probe_samples: int | None = Field(default=None, ge=1)
    max_new_tokens: int = Field(default=256, ge=1)
    batch_size: int = Field(default=32, ge=1)
    num_sampled: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    bootstrap: int = Field(default=2000, ge=100)
    seed: int = Field(default=0, ge=0)
    evidence: EvidenceSettings | None = None
    baselines: Literal["auto", "none"] | Annotated[list[BaselineName], Field(min_length=1)] = "auto"
    baseline_train: int | None = Field(default=4000, ge=10)

    @field_validator("baselines")
    @classmethod
    def _named_once(cls, baselines: str | list[BaselineName]) -> str | list[BaselineName]:
        if isinstance(baselines, list) and len(set(baselines)) != len(baselines):
            raise ValueError("a baseline is named twice")
        return baselines

    terms: RewardTerms | None = None
    scoring: ScoringSettings = ScoringSettings()
    same_judge: bool = False
    option_probabilities: bool = False
    max_unscored: float = Field(default=0.5, ge=0, le=1)
    prompt: str | None = None
    input: InputPolicy = InputPolicy()
    shifts: int = Field(default=0, ge=-1)

    @field_validator("terms", mode="before")
    @classmethod
    def _some_terms(cls, value: object) -> object:
        if value is not None and (not isinstance(value, str | list | tuple) or not value):
            raise ValueError("terms are the name of a set or a list, such as [{name: checklist}]")
        return value

    @field_validator("probes")
    @classmethod
    def _once_each(cls, probes: list[ProbeName]) -> list[ProbeName]:
        if len(set(probes)) != len(probes):
            raise ValueError("a probe is named twice")
        return probes
