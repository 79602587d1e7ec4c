"""What an exam does, as a recipe states it. It stands in core so that recipes need no exam code."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

ProbeName = Literal["blank", "swapped", "question_only", "options_shuffled"]
PROBE_NAMES: tuple[str, ...] = get_args(ProbeName)


class ExamSettings(BaseModel):
    """Settings of one exam. Unknown keys are refused.

    Attributes:
        split: which split of the samples is examined.
        max_samples: examine a seeded random subset of this size; None examines all.
        probes: which probes run beside the exam.
        probe_samples: items of each probe, a seeded class-balanced subset; None probes every item.
        max_new_tokens: length cap of a reply, in tokens.
        batch_size: prompts decoded together.
        num_sampled: sampled replies an item beside the greedy one; 0 turns sampling off.
        temperature, top_p: of the sampled replies only. The exam's own score is greedy.
        bootstrap: resamples of the cluster bootstrap.
        seed: of subsets, swaps, sampled replies and the bootstrap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["train", "valid", "test"] = "test"
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

    @field_validator("probes")
    @classmethod
    def _once_each(cls, probes: list[ProbeName]) -> list[ProbeName]:
        if len(set(probes)) != len(probes):
            raise ValueError("a probe is named twice")
        return probes
