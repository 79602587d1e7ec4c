"""What a correction says. Nothing in it is a path or code; every text has a bound."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

State = Literal["kept", "edited", "struck", "added"]
INITIALS = r"^[A-Za-z][A-Za-z0-9._-]{0,15}$"
KEY = r"^[A-Za-z0-9_-]{8,64}$"
Number = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Region(_Strict):
    """A polygon in pixels of level 0: 3 to 2,000 corners (x, y); a box has four. `slide`: the key of its slide, in a
    reading of several; else None, and it is not written."""

    points: list[tuple[Number, Number]] = Field(min_length=3, max_length=2000)
    slide: str | None = Field(default=None, pattern=r"^[0-9a-f]{16}$")

    @model_serializer(mode="wrap")
    def _without_nothing(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As it was before regions named slides: what was kept then keeps its digest."""
        return {k: v for k, v in plain(self).items() if k != "slide" or v is not None}

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        xs, ys = zip(*self.points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def area(self) -> float:
        """In square pixels (the shoelace formula)."""
        around = [*self.points[1:], self.points[0]]
        return abs(math.fsum(a[0] * b[1] - b[0] * a[1] for a, b in zip(self.points, around, strict=True))) / 2


class CorrectedStatement(_Strict):
    """A statement as the expert leaves it. `regions`: where it is seen; None leaves the model's own as they are."""

    id: str = Field(pattern=r"^[a-z][0-9]{1,4}$")
    block: Literal["findings", "reasoning"]
    text: str = Field(min_length=1, max_length=4000)
    state: State = "kept"
    regions: list[Region] | None = Field(default=None, max_length=200)


class Correction(_Strict):
    """One version of what one reader says of one reading.

    Attributes:
        key: made by the client, once a version: sent again, it is the same version and not a second one.
        reader: initials. is_signed: the reader stands by it; only signed versions are given out.
        rating: 1 (useless) to 5 (as I would write it).
    """

    key: str = Field(pattern=KEY)
    reader: str = Field(pattern=INITIALS)
    statements: list[CorrectedStatement] = Field(default_factory=list, max_length=200)
    answer: str = Field(default="", max_length=4000)
    rating: int | None = Field(default=None, ge=1, le=5)
    comment: str = Field(default="", max_length=8000)
    is_signed: bool = Field(default=False, strict=True)

    @field_validator("statements")
    @classmethod
    def _different(cls, value: list[CorrectedStatement]) -> list[CorrectedStatement]:
        if len({s.id for s in value}) < len(value):
            raise ValueError("two statements have the same id")
        return value

    def digest(self) -> str:
        """Of all it says, the key aside: whether the same key was sent with the same content."""
        return hashlib.sha256(self.model_dump_json(exclude={"key"}).encode()).hexdigest()
