"""A curation recipe: a source of samples, and steps in a row."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from eosin.core.settings.base import Settings
from eosin.core.settings.curation.step import spelled_out
from eosin.core.settings.curation.steps import CurationStep
from eosin.core.settings.curation.writing import TeacherServer
from eosin.core.settings.data import DataSettings


class CurationRecipe(Settings):
    """What `eosin curate` does.

    Attributes:
        data: any source that the recipe of a run may name. Samples (`source: samples`) are read a shard at a time.
        unknown_licence: samples whose source names no licence are set aside, or kept.
        max_text_chars: samples that say more than this are set aside when they are read.
        shard_samples: samples of a shard; a shard is closed earlier where its pictures reach 64 MiB.
        workers: processes that work on shards.
        engine: local, or ray (extra `cluster`). ray_address: of a cluster; None starts one on this machine.
        teacher: the server of the steps `reason` and `ground` that name none of their own.
        steps: in their order.
    """

    schema_version: Literal[1] = 1
    name: str = ""
    description: str = ""
    seed: int = 0
    data: DataSettings
    unknown_licence: Literal["drop", "keep"] = "drop"
    max_text_chars: int = Field(default=100_000, ge=100)
    shard_samples: int = Field(default=2000, ge=1, le=100_000)
    workers: int = Field(default=1, ge=1, le=256)
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    teacher: TeacherServer | None = None
    steps: list[CurationStep] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _taught(cls, raw: Any) -> Any:
        """Give the recipe's teacher to the steps that name none."""
        if not isinstance(raw, dict) or not raw.get("teacher") or not isinstance(raw.get("steps"), list):
            return raw
        steps = []
        for told in raw["steps"]:
            step = spelled_out(told)
            if isinstance(step, dict) and step.get("step") in ("reason", "ground") and not step.get("teacher"):
                step = {**step, "teacher": raw["teacher"]}
            steps.append(step)
        return {**raw, "steps": steps}
