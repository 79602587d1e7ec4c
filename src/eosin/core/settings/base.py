"""What all settings of a recipe share: unknown keys are refused, and nothing is changed once it is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
FigureKind = Literal[
    "histology H&E", "histology IHC", "histology other stain", "cytology", "gross", "fluorescence", "radiology",
    "endoscopy", "plot", "diagram", "table", "photograph", "blank",
]  # fmt: skip


class Settings(BaseModel):
    """A mapping of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)
