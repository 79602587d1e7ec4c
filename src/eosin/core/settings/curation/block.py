"""Curation inside a run: the steps that stand in `data.curate`, and what they share with a recipe of `eosin curate`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from eosin.core.settings.base import Settings
from eosin.core.settings.curation.step import spelled_out
from eosin.core.settings.curation.steps import CurationStep
from eosin.core.settings.curation.writing import TeacherServer


class CurationSettings(Settings):
    """Steps in a row, and how they are done. In a run's data a list stands for its steps alone.

    Attributes:
        unknown_licence: samples whose source names no licence are set aside, or kept.
        max_text_chars: samples that say more than this are set aside when they are read.
        shard_samples: samples of a shard; a shard is closed earlier where its pictures reach 64 MiB.
        workers: processes that work on shards.
        engine: local, or ray (extra `cluster`).
        ray_address: of a cluster; None starts one on this machine.
        teacher: the server of the steps `reason` and `ground` that name none of their own.
        steps: in their order.
    """

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
        """Give the shared teacher to the steps that name none."""
        if isinstance(raw, list):
            return {"steps": raw}
        if not isinstance(raw, dict) or not raw.get("teacher") or not isinstance(raw.get("steps"), list):
            return raw
        steps = []
        for told in raw["steps"]:
            step = spelled_out(told)
            if isinstance(step, dict) and step.get("step") in ("reason", "ground") and not step.get("teacher"):
                step = {**step, "teacher": raw["teacher"]}
            steps.append(step)
        return {**raw, "steps": steps}

    @property
    def servers(self) -> list[TeacherServer]:
        """The servers that the steps ask, each once."""
        named = [getattr(s, name, None) for s in self.steps for name in ("teacher", "checker")]
        return list({s.model_dump_json(): s for s in named if s is not None}.values())


class SourceData(BaseModel):
    """What all kinds of data have in common.

    Attributes:
        curate: steps of a curation that the samples go through before a run uses them (docs/curation.md): a list of
            steps, or a mapping with `steps` and how they are done.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    curate: CurationSettings | None = None
