"""What a recipe may say of experts' corrections: a source beside its data, with its own weight."""

from __future__ import annotations

from pydantic import Field

from eosin.core.settings.base import Settings


class CorrectionsSettings(Settings):
    """Signed corrections of the reading room (docs/serve.md), added to the training samples.

    Attributes:
        path: the store: a SQLite file, or a URL as SQLAlchemy takes it.
        weight: how often each is shown for once of another sample; 2.5 shows each twice, and half of them three times.
        readers: initials whose corrections are taken; by default all.
    """

    path: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, le=1000)
    readers: list[str] | None = Field(default=None, min_length=1)
