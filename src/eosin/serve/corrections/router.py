"""The endpoints of readings and corrections."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response

from eosin.core.errors import EosinError
from eosin.serve.blinding import Labels
from eosin.serve.corrections.agreement import agreement
from eosin.serve.corrections.archive import files_of, zipped
from eosin.serve.corrections.body import INITIALS, KEY, Correction
from eosin.serve.corrections.shapes import label_studio, shapes_of, slides_of, with_shapes
from eosin.serve.corrections.store import CorrectionStore, OtherContentError, Version
from eosin.serve.refusals import refusal, told
from eosin.serve.settings import ServeSettings
from eosin.serve.slides import KEY as SLIDE_KEY
from eosin.serve.slides import SlideShelf
from eosin.slides.annotations.geojson import collection
from eosin.slides.annotations.geojson_read import read_geojson

Id = Annotated[str, InPath(pattern=r"^[0-9a-f]{32}$")]
Reader = Annotated[str | None, Query(pattern=INITIALS)]
SomeReader = Annotated[str, Query(pattern=INITIALS)]
_OPEN = ("id", "asked", "slide", "slide_name", "slides", "case", "question", "options", "box", "created", "model",
         "note")  # fmt: skip
"""What a reader of a blinded study sees of a reading before having signed."""
LIST = 500


class Desk:
    """Who may see what: in a blinded study a reader sees the model's reply, and others' corrections, only after
    having signed; and of two models the names only after having signed what both of them said."""

    def __init__(
        self, store: CorrectionStore, shelf: SlideShelf, settings: ServeSettings, labels: Labels | None = None
    ) -> None:
        self.store, self.shelf, self.blinded, self.labels = store, shelf, settings.blinded, labels

    def has_signed(self, id: str, reader: str | None) -> bool:
        if not self.blinded:
            return True
        return reader is not None and any(v.correction.is_signed for v in self.store.versions(id, reader))

    def reading(self, id: str, reader: str | None) -> dict[str, Any] | None:
        """A reading as a reader may see it."""
        found = self.store.reading(id)
        if found is None or not self.blinded:
            return found
        return self._shown(found, self.store.readings(found["slide"]) if self.labels else [], self._signed(reader))

    def readings(self, slide: str | None, reader: str | None) -> list[dict[str, Any]]:
        """The last readings, of one slide or of all, as a reader may see them."""
        found = self.store.readings(slide, LIST)
        if not self.blinded:
            return found
        signed = self._signed(reader)
        by_slide: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for one in found if self.labels else []:
            by_slide[one["slide"]].append(one)
        return [self._shown(r, by_slide[r["slide"]], signed) for r in found]

    def _signed(self, reader: str | None) -> set[str]:
        """Ids of the readings that a reader has signed."""
        versions = self.store.versions(reader=reader) if reader is not None else []
        return {v.reading for v in versions if v.correction.is_signed}

    def _shown(self, found: dict[str, Any], of_slide: list[dict[str, Any]], signed: set[str]) -> dict[str, Any]:
        told = found
        if found["id"] not in signed:
            told = {k: found[k] for k in _OPEN if k in found} | {"statements": [], "answer": "", "hidden": True}
        if self.labels is None:
            return told
        label = self.labels.label_of(found)
        named = self.labels.may_be_named(found, of_slide, signed)
        if not named:  # the form of its replies, and what its confidence comes from, may belong to one model alone
            told = {k: v for k, v in told.items() if k != "grammar"}
            if told.get("confidence"):
                told["confidence"] = told["confidence"] | {"from": "its own calibration"}
        return told | {"label": label, "model": found.get("model") if named else label}

    def versions(self, id: str, reader: str | None) -> list[Version]:
        """The corrections of a reading that a reader may see."""
        if self.has_signed(id, reader):
            return self.store.versions(id)
        return self.store.versions(id, reader) if reader else []

    def told(self, versions: list[Version], reader: str | None) -> list[dict[str, Any]]:
        """Versions of one reading, and which model's reply they correct, as far as `reader` may know it."""
        about = self.reading(versions[0].reading, reader) or {} if versions else {}
        return [v.record() | {"model": about.get("model")} for v in versions]

    def size_of(self, slide: str) -> tuple[int, int] | None:
        try:
            with self.shelf.slide(slide) as opened:
                return opened.size_px
        except (EosinError, OSError):
            return None


def corrections_router(
    store: CorrectionStore, shelf: SlideShelf, settings: ServeSettings, labels: Labels | None = None
) -> APIRouter:
    """Readings, their corrections, agreement, export."""
    router = APIRouter(tags=["corrections"])
    desk = Desk(store, shelf, settings, labels)

    @router.get("/readings")
    def listed(slide: Annotated[str | None, Query(pattern=SLIDE_KEY)] = None, reader: Reader = None) -> dict[str, Any]:
        """The last readings, of all slides or of one."""
        rows = desk.readings(slide, reader)
        keys = ("id", "slide", "slide_name", "question", "answer", "created", "box", "model", "label", "asked",
                "slides")  # fmt: skip
        return {"readings": [{k: r.get(k) for k in keys} for r in rows]}

    @router.get("/readings/{id}", response_model=None, responses=told(404))
    def reading(id: Id, reader: Reader = None) -> JSONResponse:
        """One reading."""
        found = desk.reading(id, reader)
        return refusal(404, "There is no such reading.") if found is None else JSONResponse(found)

    @router.get("/readings/{id}/corrections", response_model=None)
    def versions(id: Id, reader: Reader = None) -> dict[str, Any]:
        """Every version of every reader, as far as `reader` may see them."""
        return {"versions": desk.told(desk.versions(id, reader), reader)}

    @router.post("/readings/{id}/corrections", response_model=None, responses=told(404, 409, 503))
    def correct(id: Id, body: Correction) -> JSONResponse:
        """Keep a version. The same key and content again give the same version; with another content 409."""
        return _keep(desk, id, body)

    @router.get("/corrections/agreement", response_model=None, responses=told(403))
    def agree(
        first: SomeReader, second: SomeReader, model: Annotated[str | None, Query(max_length=200)] = None
    ) -> dict[str, Any] | JSONResponse:
        """Kappa of two readers with its interval: answers, statements kept or not, ratings; of one model's replies, or
        of all. In a blinded study of two models it is not told for one of them."""
        if labels is not None and model is not None:
            return refusal(403, "In a blinded study one model's agreement is measured on the command line.")
        return agreement(store, first, second, model)

    @router.get("/corrections/export", response_class=Response, responses=told(403, ok="application/zip"))
    def export() -> Response:
        """A zip archive of all versions, pairs, GeoJSON and Label Studio tasks."""
        if settings.blinded:
            return refusal(403, "In a blinded study corrections are exported on the command line.")
        headers = {"Content-Disposition": 'attachment; filename="eosin-corrections.zip"'}
        return Response(zipped(files_of(store, size_of=desk.size_of)), media_type="application/zip", headers=headers)

    _add_shapes(router, desk)
    return router


def _keep(desk: Desk, id: str, body: Correction, more: dict[str, Any] | None = None) -> JSONResponse:
    try:
        kept = desk.store.add(id, body)
    except OtherContentError:
        return refusal(409, "This key stands for another correction; a new version needs a new key.")
    except EosinError as exc:
        return refusal(404 if exc.message.startswith("There is no such") else 503, exc.message)
    shown = desk.reading(id, body.reader) if desk.blinded and body.is_signed else None
    return JSONResponse({**desk.told([kept], body.reader)[0], **(more or {}), **({"revealed": shown} if shown else {})})


def _add_shapes(router: APIRouter, desk: Desk) -> None:
    def last(id: str, reader: str) -> Correction | None:
        found = desk.store.versions(id, reader)
        return found[-1].correction if found else None

    @router.get("/readings/{id}/geojson", response_model=None, responses=told(404))
    def geojson(id: Id, reader: SomeReader) -> JSONResponse:
        """The regions of a reader's last version, for QuPath."""
        reading, said = desk.store.reading(id), last(id, reader)
        known = desk.reading(id, reader) or {}
        if reading is None or said is None:
            return refusal(404, "There is no correction by this reader.")
        about = {
            "slide": reading["slide_name"],
            "model": known.get("model"),
            "note": "Research use only, not for diagnosis.",
        }
        headers = {"Content-Disposition": f'attachment; filename="{id[:8]}-{reader}.geojson"'}
        return JSONResponse(collection(shapes_of(reading, said), about), headers=headers)

    @router.post("/readings/{id}/geojson", response_model=None, responses=told(400, 404, 409, 503))
    def back(id: Id, reader: SomeReader, key: Annotated[str, Query(pattern=KEY)], body: dict[str, Any]) -> JSONResponse:
        """Regions as QuPath saved them: a new, unsigned version of this reader."""
        said = last(id, reader)
        if said is None:
            return refusal(404, "There is no correction by this reader.")
        with tempfile.TemporaryDirectory(prefix="eosin-") as folder:
            path = Path(folder) / "shapes.geojson"
            path.write_text(json.dumps(body), "utf-8")
            try:
                read = read_geojson(path)
                made, aside = with_shapes(said, read.kept, key)
            except (EosinError, ValueError) as exc:
                return refusal(400, "These shapes cannot be used: " + str(getattr(exc, "found", None) or exc)[:300])
        aside += [f"{d.id}: {d.reason}" for d in read.dropped]
        return _keep(desk, id, made, {"set_aside": aside})

    @router.get("/readings/{id}/labelstudio", response_model=None, responses=told(404))
    def tasks(id: Id, reader: Reader = None) -> JSONResponse:
        """A task of Label Studio with what the readers said."""
        reading = desk.reading(id, reader)
        if reading is None or "hidden" in reading:
            return refusal(404, "There is no such reading, or it is not shown yet.")
        newest = {v.correction.reader: v for v in desk.versions(id, reader)}
        said = list(newest.values())
        return JSONResponse([label_studio(reading, said, desk.size_of(s["key"]), s) for s in slides_of(reading)])
