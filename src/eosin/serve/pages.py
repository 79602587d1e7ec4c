"""The page: its own files, and OpenSeadragon where it was fetched. Nothing is loaded from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, JSONResponse, Response

from eosin.serve.refusals import refusal

HERE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
    ".js": "text/javascript; charset=utf-8",
}  # fmt: skip
VIEWER = "openseadragon.min.js"
VIEWER_VERSION = "6.1.1"


def viewer_folder() -> Path:
    """Where a fetched OpenSeadragon lies: EOSIN_VIEWER, else the user's cache."""
    told = os.environ.get("EOSIN_VIEWER")
    if told:
        return Path(told)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "eosin" / f"viewer-{VIEWER_VERSION}"


def viewer_file() -> Path | None:
    """OpenSeadragon's script: in the wheel, or where `eosin serve --get-viewer` put it; None where it is not."""
    places = (HERE / "viewer" / VIEWER, viewer_folder() / VIEWER)
    return next((p for p in places if p.is_file()), None)


def pages_router(facts: dict[str, Any]) -> APIRouter:
    """The page at /, its files at /page, and /server: what the page has to know. No token is needed for the files:
    they hold nothing of any slide."""
    router = APIRouter(include_in_schema=False)
    known = {p.name: p for p in HERE.iterdir() if p.suffix in KINDS}

    @router.get("/")
    def index() -> Response:
        return _file(HERE / "index.html")

    @router.get("/page/{name}")
    def part(name: str) -> Response:
        path = viewer_file() if name == VIEWER else known.get(name)
        return refusal(404, "There is no such file.") if path is None else _file(path)

    @router.get("/server")
    def server() -> JSONResponse:
        return JSONResponse({**facts, "viewer": viewer_file() is not None})

    return router


def _file(path: Path) -> Response:
    return FileResponse(path, media_type=KINDS[path.suffix], headers={"Cache-Control": "no-cache"})
