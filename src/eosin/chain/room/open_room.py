"""Everything `eosin serve` serves: a checkpoint or a run's folder, with slides, corrections, graph and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store

if TYPE_CHECKING:
    from fastapi import FastAPI

    from eosin.serve.settings import ServeSettings

WORK = "eosin-room"
QUESTIONS: tuple[dict[str, Any], ...] = (
    {"question": "What is the diagnosis?", "options": []},
    {"question": "Which findings does the slide show?", "options": []},
    {"question": "Is there evidence of malignancy?", "options": ["yes", "no"]},
)


@dataclass(frozen=True)
class RoomOptions:
    """What the command line says of the room.

    Attributes:
        work: folder of features and, unless `corrections` says otherwise, of corrections.
        corrections: path of a SQLite file, or a URL; "none" keeps none.
        knowledge: folder of a graph; None takes Eosin's own tables.
        calibration: folder of an exam with option probabilities; max_risk: wrong answers that are accepted.
        slide_mpp: µm per pixel of level 0, for slides that do not say.
    """

    work: Path | None = None
    corrections: str | None = None
    knowledge: Path | None = None
    calibration: Path | None = None
    max_risk: float = 0.1
    slide_mpp: float | None = None


@dataclass(frozen=True)
class Place:
    """What is served: of a plain checkpoint the checkpoint alone.

    Attributes:
        questions: usual ones, with their options. slides: that a run made.
    """

    checkpoint: str
    slides: Path | None = None
    work: Path | None = None
    questions: tuple[dict[str, Any], ...] = QUESTIONS
    data: dict[str, Any] = field(default_factory=dict)


def place_of(name: str) -> Place:
    """A checkpoint by name or folder; of a run's folder its last stage, its slides and its exam's questions.

    Raises:
        EosinError: a run without a finished stage.
    """
    run = Path(name)
    if not (run / "recipe.yaml").is_file() or not (run / "stages").is_dir():
        return Place(name)
    from eosin.core.settings.recipe import load_recipe

    recipe = load_recipe(run / "recipe.yaml").recipe
    done = [s for s in recipe.stages if store.exists(run / "stages" / s / "checkpoint")]
    if not done:
        raise EosinError("This run has no finished stage yet.", where=run, next_step="eosin run, to finish it")
    wanted = recipe.report.result
    stage = wanted if wanted in done else done[-1]
    slides = run / "slides"
    card = store.read_object(run / "samples" / "card.json") if (run / "samples" / "card.json").is_file() else {}
    data = {k: card[k] for k in ("name", "licence", "title") if card.get(k)}
    return Place(
        str(run / "stages" / stage / "checkpoint"), slides if slides.is_dir() else None, run / "room",
        _questions_of(run) or QUESTIONS, {"run": run.name, "stage": stage, "data": data},
    )  # fmt: skip


def _questions_of(run: Path) -> tuple[dict[str, Any], ...]:
    """The different questions of the run's test items, with their options in the order of the alphabet."""
    from eosin.core.formats import read_samples

    path = run / "samples" / "test.parquet"
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    for sample in read_samples(path).kept if path.is_file() else ():
        found.setdefault((sample.question, tuple(sorted(c.text for c in sample.choices))))
    return tuple({"question": q, "options": list(options)} for q, options in list(found)[:8])


@contextmanager
def opened_room(place: Place, settings: ServeSettings, options: RoomOptions) -> Iterator[FastAPI]:
    """The application with everything that belongs to it, for as long as it serves.

    Raises:
        EosinError: whatever of it cannot be opened, before anything is served.
    """
    from eosin.chain.ask.question import SlideOptions
    from eosin.chain.room.calibration import read_calibration
    from eosin.chain.room.reader import CheckpointReader
    from eosin.engines.transformers_engine import TransformersEngine
    from eosin.models.load import load
    from eosin.models.slide_encoder.kept import kept_slides
    from eosin.models.vision_cache import cache_vision
    from eosin.serve.app import Room, create_app

    work = options.work or place.work or Path(WORK)
    calibration = read_calibration(options.calibration, options.max_risk) if options.calibration else None
    if settings.slides is None:
        yield create_app(TransformersEngine(load(place.checkpoint)), settings)
        return
    kept = _store(options, work)
    loaded = load(place.checkpoint)
    loaded.model.eval().requires_grad_(False)
    reader = CheckpointReader(
        loaded, place.checkpoint, work / "slide-features", SlideOptions(slide_mpp=options.slide_mpp)
    )
    facts = {"questions": list(place.questions), **place.data}
    room = Room(reader, kept, knowledge_of(options.knowledge), calibration, facts)
    with (
        kept_slides(loaded.model) as slides,
        cache_vision(loaded.model, work / "picture-features", 0.25, trains=False) as pictures,
    ):
        app = create_app(TransformersEngine(loaded), settings, room)
        app.state.kept, app.state.kept_pictures = slides, pictures
        yield app


def _store(options: RoomOptions, work: Path) -> Any:
    from eosin.serve.corrections.store import CorrectionStore

    if options.corrections == "none":
        return None
    return CorrectionStore(options.corrections or work / "corrections.sqlite")


def knowledge_of(folder: Path | None) -> Any:
    """The graph of a folder, or Eosin's own tables, with its linker."""
    from eosin.knowledge.graph.graph import Graph
    from eosin.knowledge.linking.linker import Linker
    from eosin.serve.questions.statements import Knowledge

    graph = Graph.open(folder) if folder else Graph.builtin()
    linker = Linker.of(graph, with_tables=any(s.kind == "tables" for s in graph.sources))
    return Knowledge(graph, linker, str(folder.name) if folder else "Eosin's own tables")
