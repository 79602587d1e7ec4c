"""The models of a room, opened: checkpoints on this machine, and models behind servers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar

if TYPE_CHECKING:
    from eosin.clients.settings import ServerSettings
    from eosin.serve.seats import Guest


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is.

    Attributes:
        name: what the page and clients call it.
        checkpoint: folder or hub name; of a model behind a server the one whose reply grammar it keeps, or "".
        server: the address that is asked in the checkpoint's place.
        grammar: tags of the replies, such as think/answer; None: those of the checkpoint.
        calibration: exam with option probabilities, for confidence.
    """

    name: str
    checkpoint: str = ""
    server: ServerSettings | None = None
    grammar: str | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class ReadingOptions:
    """How models read slides.

    Attributes:
        work: folder of what they keep. slide_mpp: µm per pixel of level 0, for slides that do not say.
        max_risk: wrong answers that a calibrated confidence accepts.
        reads_slides: whether there are slides at all; without them no reader is made.
    """

    work: Path
    slide_mpp: float | None = None
    max_risk: float = 0.1
    reads_slides: bool = True


def opened_model(place: ModelPlace, options: ReadingOptions, stack: ExitStack, kept: dict[str, Any]) -> Guest:
    """A model with its reader; what it holds is let go of when `stack` ends.

    Args:
        kept: is given the caches of towers, for who wants to count.

    Raises:
        EosinError: the checkpoint or calibration cannot be opened, or the server does not answer.
    """
    from eosin.chain.room.calibration import read_calibration

    sure = read_calibration(place.calibration, options.max_risk) if place.calibration else None
    if place.server is not None:
        return _behind_a_server(place, place.server, options, sure)
    return _on_this_machine(place, options, sure, stack, kept)


def _behind_a_server(place: ModelPlace, server: ServerSettings, options: ReadingOptions, sure: Any) -> Guest:
    from eosin.chain.room.remote import ServerReader
    from eosin.engines.server_engine import ServerEngine, refuse_silent
    from eosin.serve.seats import Guest

    grammar, instruction = Grammar.of(place.grammar or "think/answer"), True
    if place.checkpoint:
        from eosin.chain.exam import grammar_of

        grammar, instruction = grammar_of(place.checkpoint, place.grammar)
    refuse_silent(server)
    reader = ServerReader(server, grammar, instruction, options.slide_mpp) if options.reads_slides else None
    return Guest(place.name, ServerEngine(server), reader, sure)


def _on_this_machine(
    place: ModelPlace, options: ReadingOptions, sure: Any, stack: ExitStack, kept: dict[str, Any]
) -> Guest:
    from eosin.chain.ask.question import SlideOptions
    from eosin.chain.room.reader import CheckpointReader
    from eosin.engines.kept_prompts import KeptPrompts
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.load import load
    from eosin.models.slide_encoder.kept import kept_slides
    from eosin.models.vision_cache import cache_vision
    from eosin.serve.seats import Guest

    if place.grammar is not None:
        raise EosinError("The grammar of a checkpoint is its own.", found=place.grammar,
                         next_step="leave --grammar out; it is for --engine")  # fmt: skip
    loaded = load(place.checkpoint)
    loaded.model.eval().requires_grad_(False)
    if not options.reads_slides:
        return Guest(place.name, TransformersEngine(loaded), None, sure)
    reader = CheckpointReader(
        loaded, place.checkpoint, options.work / "slide-features", SlideOptions(slide_mpp=options.slide_mpp)
    )
    pictures = options.work / ("picture-features" if not kept else "picture-features-beside")
    kept.setdefault("slides", []).append(stack.enter_context(kept_slides(loaded.model)))
    kept.setdefault("pictures", []).append(
        stack.enter_context(cache_vision(loaded.model, pictures, 0.25, trains=False))
    )
    kept_prompts = KeptPrompts(loaded.model, loaded.processor.tokenizer.pad_token_id)
    return Guest(place.name, TransformersEngine(loaded, kept_prompts), reader, sure)
