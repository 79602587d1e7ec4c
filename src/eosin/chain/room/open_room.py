"""Everything `eosin serve` serves: a checkpoint or a run's folder, with slides, corrections, graph and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosin.chain.room.models import ModelPlace, ReadingOptions, opened_model
from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store

if TYPE_CHECKING:
    from fastapi import FastAPI

    from eosin.clients.settings import ServerSettings
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
        server: the model behind this address answers in the checkpoint's place. grammar: form of its replies.
        beside: a second model, asked the same questions.
    """

    work: Path | None = None
    corrections: str | None = None
    knowledge: Path | None = None
    calibration: Path | None = None
    max_risk: float = 0.1
    slide_mpp: float | None = None
    server: ServerSettings | None = None
    grammar: str | None = None
    beside: ModelPlace | None = None


@dataclass(frozen=True)
class Place:
    """What is served: of a plain checkpoint the checkpoint alone.

    Attributes:
        questions: usual ones, with their options. slides: that a run made. samples: of the run, which say the cases.
    """

    checkpoint: str
    slides: Path | None = None
    work: Path | None = None
    questions: tuple[dict[str, Any], ...] = QUESTIONS
    data: dict[str, Any] = field(default_factory=dict)
    samples: Path | None = None


def place_of(name: str) -> Place:
    """A checkpoint by name or folder; of a run's folder its last stage, its slides and its exam's questions.

    Raises:
        EosinError: a run without a finished stage.
    """
    run = Path(name)
    if not (run / "recipe.yaml").is_file() or not (run / "stages").is_dir():
        return Place(name, data={"data": told} if (told := _data_of(run.absolute().parent.parent.parent)) else {})
    from eosin.core.settings.recipe import load_recipe

    recipe = load_recipe(run / "recipe.yaml").recipe
    done = [s for s in recipe.stages if store.exists(run / "stages" / s / "checkpoint")]
    if not done:
        raise EosinError("This run has no finished stage yet.", where=run, next_step="eosin run, to finish it")
    wanted = recipe.report.result
    stage = wanted if wanted in done else done[-1]
    slides = run / "slides"
    return Place(
        str(run / "stages" / stage / "checkpoint"), slides if slides.is_dir() else None, run / "room",
        _questions_of(run) or QUESTIONS, {"run": run.name, "stage": stage, "data": _data_of(run)},
        run / "samples" if slides.is_dir() and list((run / "samples").glob("*.parquet")) else None,
    )  # fmt: skip


def _data_of(run: Path) -> dict[str, Any]:
    """Name and licence of what a run learned from, as its data card says; nothing where there is no card."""
    card = store.read_object(run / "samples" / "card.json") if (run / "samples" / "card.json").is_file() else {}
    return {k: card[k] for k in ("name", "licence", "title") if card.get(k)}


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
    from eosin.serve.app import Room, create_app

    work = options.work or place.work or Path(WORK)
    first = ModelPlace(settings.model_name, place.checkpoint, options.server, options.grammar, options.calibration)
    reading = ReadingOptions(work, options.slide_mpp, options.max_risk, settings.slides is not None)
    with ExitStack() as stack:
        store_of = _store(options, work) if settings.slides is not None else None
        caches: dict[str, Any] = {}
        guest = opened_model(first, reading, stack, caches)
        beside = opened_model(options.beside, reading, stack, caches) if options.beside else None
        graph = knowledge_of(options.knowledge) if settings.slides is not None else None
        facts = {"questions": list(place.questions), **place.data}
        room = Room(guest.reader, store_of, graph, guest.confidence, facts, beside)
        app = create_app(guest.engine, settings, room)
        app.state.kept = next(iter(caches.get("slides", [])), None)
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
