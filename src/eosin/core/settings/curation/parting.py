"""Steps that part samples into splits, and mix them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from eosin.core.settings.curation.step import StepSettings

Fraction = Annotated[float, Field(ge=0, lt=1)]


class SplitStep(StepSettings):
    """Give samples without a split one: by patient, case or slide, else by article or book, else by picture.

    Attributes:
        valid, test: share of the samples that have no split yet, whole groups only; the rest is train.
        by: must be "group". A split by question is refused.
        join_images: groups that show the same picture are one group.
        on_conflict: for a group that stands in two splits: stop, or drop its samples outside the most protected one.
    """

    step: Literal["split"] = "split"
    valid: Fraction = 0.0
    test: Fraction = 0.0
    by: str = "group"
    join_images: bool = True
    on_conflict: Literal["error", "drop"] = "error"

    @field_validator("by")
    @classmethod
    def _never_by_question(cls, value: str) -> str:
        if value != "group":
            raise ValueError(
                f"a split by {value} is refused: questions about one patient would stand on both sides. "
                "Expected group: patient, case or slide, else article, else picture"
            )
        return value

    @model_validator(mode="after")
    def _leaves_some(self) -> SplitStep:
        if self.valid + self.test >= 1:
            raise ValueError("valid + test must leave something to train on")
        return self


class MixtureStep(StepSettings):
    """Put training samples into a mixed order by weight, the same in every run. Valid and test follow unmixed.

    Attributes:
        by: what divides the samples: their source, organ, stain, label, or a key of `Sample.extra` ("extra.KEY").
        weights: part -> weight, relative to the others. Parts without one weigh as many samples as they hold, each
            raised to 1/temperature and scaled so that they add up to what they would without a temperature.
        temperature: 1 keeps proportions; larger values draw small parts up, towards equal parts.
        max_repeats: how often a sample of a small part may come. 1: never twice.
        size: training samples of the mixture. None: as many as there are, or as the parts allow within max_repeats.
    """

    step: Literal["mixture"] = "mixture"
    by: str = "source"
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    temperature: float = Field(default=1.0, ge=1, le=100)
    max_repeats: int = Field(default=1, ge=1, le=100)
    size: int | None = Field(default=None, ge=1)

    @field_validator("by")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if value not in ("source", "organ", "stain", "modality", "label") and not value.startswith("extra."):
            raise ValueError("expected source, organ, stain, modality, label or extra.KEY")
        return value
