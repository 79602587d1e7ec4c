"""What all settings of a recipe share: unknown keys are refused, and nothing is changed once it is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """A mapping of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
