"""The application: its doors, health, metrics, and the routers of models, slides, questions and corrections."""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException

from eosin import __version__
from eosin.serve.batching import WatchedEngine
from eosin.serve.blinding import FAILED, LABELS, Labels
from eosin.serve.chat import chat_router, closed_router
from eosin.serve.corrections.router import corrections_router
from eosin.serve.corrections.store import CorrectionStore, StoreAwayError
from eosin.serve.doors import Doors
from eosin.serve.pages import pages_router
from eosin.serve.questions.base import Confidence, ReadingsInMemory, SlideReader
from eosin.serve.questions.evidence import Tools
from eosin.serve.questions.router import questions_router
from eosin.serve.questions.statements import Knowledge
from eosin.serve.refusals import refusal
from eosin.serve.refusals import told as refusals
from eosin.serve.relay import AskedEngine, Relay
from eosin.serve.seats import Guest, Seat, seats_of
from eosin.serve.settings import ServeSettings, check_doors
from eosin.serve.slides import SlideShelf, slides_router

NOTE = "Research use only, not for diagnosis."
log = logging.getLogger("eosin.serve")


@dataclass(frozen=True)
class Room:
    """What the reading room has beside model and slides.

    Attributes:
        reader: the model as a reader of slides; without one no question is asked about a slide.
        store: of readings and corrections; without one the last readings are kept in memory, and none is corrected.
        facts: what the page says: licence and data of the model, usual questions with their options.
        beside: a second model, asked the same questions.
    """

    reader: SlideReader | None = None
    store: CorrectionStore | None = None
    knowledge: Knowledge | None = None
    confidence: Confidence | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    beside: Guest | None = None


def create_app(engine: WatchedEngine | AskedEngine, settings: ServeSettings, room: Room | None = None) -> FastAPI:
    """The application of one model, or of two, and of the slides of one folder where the settings name one.

    Args:
        engine: a model on this machine, whose questions are batched, or one behind a server, which is asked each.

    Raises:
        EosinError: a door that would stand open; a folder without slides; two models of one name.
    """
    check_doors(settings)
    room = room or Room()
    seats = seats_of(Guest(settings.model_name, engine, room.reader, room.confidence), room.beside, settings)
    shelf = (
        SlideShelf(
            settings.slides, settings.max_open_slides, settings.tile_cache_bytes, settings.cases, settings.slide_mpp
        )
        if settings.slides
        else None
    )

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        if shelf is not None:
            threading.Thread(target=shelf.open_first, name="eosin-serve-first-slide", daemon=True).start()
        yield
        for seat in seats.values():
            seat.answerer.close()
        if room.store is not None:
            room.store.close()

    # The interactive pages of FastAPI load scripts from elsewhere, so only the description itself is served.
    app = FastAPI(title="Eosin", version=__version__, description=NOTE, lifespan=life, docs_url=None, redoc_url=None,
                  responses=refusals(400, 401, 411, 413, 422))  # fmt: skip
    app.state.seats, app.state.shelf = seats, shelf
    app.state.batcher = seats[settings.model_name].answerer
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _refused)  # type: ignore[arg-type]
    app.add_exception_handler(StoreAwayError, _no_store)  # type: ignore[arg-type]
    app.add_middleware(Doors, settings=settings)
    app.include_router(closed_router() if settings.blinded else chat_router(seats, settings))
    if shelf is not None:
        app.include_router(slides_router(shelf, settings))
        _add_room(app, seats, shelf, settings, room)
    _add_health(app, seats, settings)
    return app


def _add_room(app: FastAPI, seats: dict[str, Seat], shelf: SlideShelf, settings: ServeSettings, room: Room) -> None:
    """Questions, corrections and the page."""
    facts: dict[str, Any] = {
        "model": settings.model_name, "version": __version__, "note": NOTE, "blinded": settings.blinded,
        "asks": room.reader is not None, "corrects": room.store is not None, "checks": room.knowledge is not None,
        "models": [s.facts() for s in seats.values()], **room.facts,
    }  # fmt: skip
    readings = room.store or ReadingsInMemory()
    labels = _labels(seats, settings, room)
    if labels is not None:
        sent_to = [s.reader.about["server"] for s in seats.values() if s.reader and s.reader.about.get("server")]
        facts |= {"model": " beside ".join(LABELS), "models": labels.facts(facts["models"]), "run": None, "stage": None,
                  "sent_to": sent_to}  # fmt: skip
    tools = {s.name: Tools(s, s.reader, readings, settings, room.knowledge, labels) for s in seats.values() if s.reader}
    if tools:
        app.include_router(questions_router(shelf, tools))
    if room.store is not None:
        app.include_router(corrections_router(room.store, shelf, settings, labels))
    app.include_router(pages_router(facts))


def _labels(seats: dict[str, Seat], settings: ServeSettings, room: Room) -> Labels | None:
    """What two models are called in a blinded study."""
    names = [s.name for s in seats.values() if s.reader]
    if not settings.blinded or len(names) < 2:
        return None
    return Labels((names[0], names[1]), room.store.secret() if room.store else secrets.token_bytes(32))


def _add_health(app: FastAPI, seats: dict[str, Seat], settings: ServeSettings) -> None:
    shelf: SlideShelf | None = app.state.shelf
    answerers = [s.answerer for s in seats.values()]

    @app.get("/health", tags=["server"])
    def health() -> dict[str, Any]:
        """Whether questions are answered, and what for. A model behind a server that gave no reply to the last question
        is named with the reason."""
        relays = {n: s.answerer for n, s in seats.items() if isinstance(s.answerer, Relay)}
        outages = {n: r.outage for n, r in relays.items() if r.outage}
        if settings.blinded and len(seats) > 1:
            name, names = " beside ".join(LABELS), list(LABELS)
            outages = {"one of them": FAILED} if outages else {}
        else:
            name, names = settings.model_name, list(seats)
        return {"status": "a model's server fails" if outages else "ok", "model": name,
                "models": names, "outages": outages, "waiting": sum(a.waiting for a in answerers),
                "version": __version__, "note": NOTE}  # fmt: skip

    @app.get("/metrics", tags=["server"], response_class=PlainTextResponse)
    def metrics() -> str:
        """Counters in Prometheus' text form; of two models the sums."""
        counts = {k: sum(getattr(a.counts, k) for a in answerers) for k in vars(answerers[0].counts)}
        told: dict[str, float] = {
            "batches": counts.pop("batches"), "reply_tokens": counts.pop("tokens"),
            "model_busy_seconds": counts.pop("busy_s"), **{f"questions_{k}": v for k, v in counts.items()},
        }  # fmt: skip
        if shelf is not None:
            told |= {"tile_cache_hits": shelf.tiles.hits, "tile_cache_misses": shelf.tiles.misses}
        lines = [f"# TYPE eosin_{k}_total counter\neosin_{k}_total {v:g}" for k, v in told.items()]
        gauges: dict[str, float] = {"questions_waiting": sum(a.waiting for a in answerers)}
        if shelf is not None:
            gauges |= {"tile_cache_bytes": shelf.tiles.size, "slides_open": shelf.num_open}
        lines += [f"# TYPE eosin_{k} gauge\neosin_{k} {v:g}" for k, v in gauges.items()]
        return "\n".join(lines) + "\n"


async def _refused(request: Request, exc: HTTPException) -> Response:
    """What the framework refuses, in the same form; a wrong method is told all the methods of its path."""
    headers = dict(exc.headers or {})
    if exc.status_code == 405:
        own = request.url.path.rstrip("/") or "/"
        paths = request.app.openapi()["paths"].items()
        fit = [m for path, methods in paths if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", path), own) for m in methods]
        headers["Allow"] = ", ".join(sorted({m.upper() for m in fit})) or headers.get("Allow", "GET")
    return refusal(exc.status_code, str(exc.detail), headers)


async def _invalid(request: Request, exc: RequestValidationError) -> Response:
    """Which field is wrong, in the form that OpenAI's clients read."""
    told = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in exc.errors()[:5]]
    return refusal(422, "; ".join(told)[:1000])


async def _no_store(request: Request, exc: StoreAwayError) -> Response:
    """The database of readings and corrections is away; where it is, the log says and the client is not told."""
    log.warning("%s (%s at %s)", exc.message, exc.found, exc.where)
    return refusal(503, exc.message, {"Retry-After": "5"})
