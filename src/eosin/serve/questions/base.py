"""What the server asks of a model that reads slides, and of a keeper of readings. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from eosin.core.images import Picture
from eosin.core.nouns.bags import F64
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageRef
from eosin.core.nouns.units import BoxLevel0
from eosin.engines.base import Generation, Request

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Seen:
    """What a question shows.

    Attributes:
        picture: pixels of a region, or the patches of a slide. ref: the same as a sample names it.
        mpp: µm per pixel of level 0, or None. num_patches: of a bag.
        is_part: the patches are those of a region only, which no sample can name.
    """

    picture: Picture
    ref: ImageRef
    mpp: float | None
    num_patches: int | None = None
    is_part: bool = False


class SlideReader(Protocol):
    """A model with its reply grammar. `look` may be called from any thread; the others only from the model's own.

    Attributes:
        instruction: whether prompts state the grammar. sees_slides, sees_regions: what can be asked about.
        max_slides: how many slides of a case one question may show.
        about: what the page says of the model: checkpoint, data, licence; of one behind a server its address.
    """

    grammar: Grammar
    instruction: bool
    sees_slides: bool
    sees_regions: bool
    max_slides: int
    about: dict[str, Any]

    def look(self, path: Path, box: BoxLevel0 | None, tell: Tell) -> Seen:
        """What the model is shown of a slide, or of a box of it.

        Raises:
            EosinError: the slide cannot be used, or the model does not read such a thing.
        """
        ...

    def evidence(self, request: Request, reply: str, span: tuple[int, int], slide: int = 0) -> F64:
        """Score (N,) of every patch of a bag, the request's `slide`-th, for reply[span]; higher is more evidence."""
        ...

    def option_probabilities(self, request: Request, reply: Generation, options: Sequence[str]) -> list[float] | None:
        """How probable each option was where the reply names one, adding up to 1; None where that cannot be said."""
        ...


class Readings(Protocol):
    """Where finished readings are kept."""

    def add_reading(self, reading: dict[str, Any], image: str) -> None: ...

    def reading(self, id: str) -> dict[str, Any] | None: ...


@dataclass
class ReadingsInMemory:
    """The last readings, where no store of corrections is given."""

    limit: int = 256
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_reading(self, reading: dict[str, Any], image: str) -> None:
        self.kept[str(reading["id"])] = reading
        while len(self.kept) > self.limit:
            self.kept.pop(next(iter(self.kept)))

    def reading(self, id: str) -> dict[str, Any] | None:
        return self.kept.get(id)


class Confidence(Protocol):
    """From the probability of the chosen option to how often such answers were right."""

    def of(self, probability: float) -> dict[str, Any]:
        """{"value": 0..1, "abstains": bool, ...}."""
        ...
