"""A curation recipe: a source of samples, and steps in a row."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from eosin.core.settings.curation.block import CurationSettings
from eosin.core.settings.data import DataSettings


class CurationRecipe(CurationSettings):
    """What `eosin curate` does. The steps and how they are done are those of `CurationSettings`.

    Attributes:
        data: any source that the recipe of a run may name. Samples (`source: samples`) are read a shard at a time.
    """

    schema_version: Literal[1] = 1
    name: str = ""
    description: str = ""
    seed: int = 0
    data: DataSettings

    @field_validator("data")
    @classmethod
    def _steps_stand_once(cls, value: DataSettings) -> DataSettings:
        if value.curate is not None:
            raise ValueError("data.curate is for the recipe of a run; here the steps stand under `steps`")
        return value
