"""The models of a room: each with what answers for it, how it reads slides, and how sure it may call itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eosin.core.errors import EosinError
from eosin.serve.batching import Batcher, WatchedEngine
from eosin.serve.questions.base import Confidence, SlideReader
from eosin.serve.relay import AskedEngine, Relay
from eosin.serve.settings import ServeSettings


@dataclass(frozen=True)
class Guest:
    """A second model that is asked beside the first.

    Attributes:
        name: what clients and the page call it.
    """

    name: str
    engine: WatchedEngine | AskedEngine
    reader: SlideReader | None = None
    confidence: Confidence | None = None


@dataclass(frozen=True)
class Seat:
    """A model that is asked: `answerer` takes its questions, one model each."""

    name: str
    answerer: Batcher | Relay
    reader: SlideReader | None = None
    confidence: Confidence | None = None

    def facts(self) -> dict[str, Any]:
        """What the page has to know of it."""
        told: dict[str, Any] = {"name": self.name, "calibrated": self.confidence is not None}
        if self.reader is not None:
            told |= {"sees_slides": self.reader.sees_slides, "sees_regions": self.reader.sees_regions,
                     "max_slides": self.reader.max_slides, "about": self.reader.about}  # fmt: skip
        return told


def answerer_of(engine: WatchedEngine | AskedEngine, settings: ServeSettings) -> Batcher | Relay:
    """What takes the questions of an engine: batches for a model on this machine, a relay for one behind a server."""
    if isinstance(engine, WatchedEngine):
        return Batcher(engine, settings.batch_size, settings.batch_wait_s, settings.max_waiting)
    return Relay(engine, settings.max_waiting)


def seats_of(first: Guest, beside: Guest | None, settings: ServeSettings) -> dict[str, Seat]:
    """The seats by name, the first model first.

    Raises:
        EosinError: two models of one name.
    """
    if beside is not None and beside.name == first.name:
        raise EosinError("Two models cannot have one name.", found=first.name,
                         next_step="give --name and --beside-name")  # fmt: skip
    return {g.name: Seat(g.name, answerer_of(g.engine, settings), g.reader, g.confidence) for g in (first, beside) if g}
