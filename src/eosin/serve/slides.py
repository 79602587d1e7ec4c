"""Slides of one folder as DeepZoom tiles, thumbnails and regions, with a bounded cache."""

from __future__ import annotations

import hashlib
import io
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Query
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.nouns.cases import tcga_case
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.units import BoxLevel0
from eosin.serve.refusals import refusal, told
from eosin.serve.settings import ServeSettings
from eosin.slides.open.find import Found, find_slides
from eosin.slides.open.slide import Slide, open_slide

TILE_PX = 254
OVERLAP_PX = 1
"""A tile is TILE_PX wide and shows OVERLAP_PX of each neighbour, as DeepZoom viewers expect."""
MAX_REGION_PX = 4096
KEY = r"^[0-9a-f]{16}$"


@dataclass(frozen=True)
class Shown:
    """A slide that may be seen. `key` stands in addresses in the place of its path; `case` is None where it is not
    known."""

    key: str
    name: str
    path: Path
    case: str | None = None


@dataclass
class _Handle:
    """An open slide, how many use it, and whether it has given way."""

    slide: Slide
    users: int = 0
    is_out: bool = False


class SlideShelf:
    """The slides below one folder, opened when they are asked for; the one longest unused is closed first.

    Args:
        folder: only what lies in it when the server starts can be seen, by a key; no path ever comes from a client.
        max_open: slides open at a time. tile_cache_bytes: encoded tiles kept.
        cases: case by slide, which is named by its path below the folder, or by its file name, with or without suffix.
            A slide that is not among them belongs to the case of its TCGA barcode, else to none.
        mpp: µm per pixel of level 0 of every slide; None takes what their files state.
    """

    def __init__(
        self, folder: Path, max_open: int, tile_cache_bytes: int, cases: Mapping[str, str] | None = None,
        mpp: float | None = None,
    ) -> None:  # fmt: skip
        root = folder.resolve()
        found, self.dropped = find_slides([folder])
        inside = [f for f in found if f.path.resolve().is_relative_to(root)]
        self.dropped += [
            Dropped(f.key, "outside the folder", "a link that leads out of it", "serve")
            for f in found
            if f not in inside
        ]
        shown = [
            Shown(hashlib.sha256(f.key.encode("utf-8", "surrogateescape")).hexdigest()[:16], f.key, f.path,
                  _case_of(f, root, cases or {}))
            for f in inside
        ]  # fmt: skip
        self.slides = {s.key: s for s in shown}
        self._open: OrderedDict[str, _Handle] = OrderedDict()
        self._max_open, self._mpp = max_open, mpp
        self._lock = threading.Lock()
        self.tiles = TileCache(tile_cache_bytes)

    @contextmanager
    def slide(self, key: str) -> Iterator[Slide]:
        """An open slide, for as long as it is used; one that had to give way meanwhile is closed at the end.

        Raises:
            EosinError: there is none of this key, or it cannot be read.
        """
        shown = self.slides.get(key)
        if shown is None:
            raise EosinError("There is no such slide here.")
        with self._lock:
            handle = self._taken(key)
        if handle is None:
            handle = self._put(key, open_slide(shown.path, mpp=self._mpp))
        try:
            yield handle.slide
        finally:
            with self._lock:
                handle.users -= 1
                is_over = handle.is_out and handle.users == 0
            if is_over:
                handle.slide.close()

    def open_first(self) -> None:
        """Open the first slide that can be read, so that nobody waits for the libraries that read slides.

        One that cannot, or goes away meanwhile, says so when somebody asks for it.
        """
        for key in self.slides:
            with suppress(EosinError, OSError), self.slide(key) as slide:
                encoded(slide.thumbnail(64))
                return

    def _taken(self, key: str) -> _Handle | None:
        """The handle of a slide that is open, with one user more. Under the lock."""
        handle = self._open.get(key)
        if handle is not None:
            self._open.move_to_end(key)
            handle.users += 1
        return handle

    def _put(self, key: str, slide: Slide) -> _Handle:
        """Keep a slide that was just opened; those longest unused give way, and are closed once nobody reads them."""
        over: list[Slide] = []
        with self._lock:
            handle = self._taken(key)
            if handle is not None:  # another thread was quicker
                over.append(slide)
            else:
                handle = self._open[key] = _Handle(slide, 1)
            while len(self._open) > self._max_open:
                _, old = self._open.popitem(last=False)
                old.is_out = True
                if old.users == 0:
                    over.append(old.slide)
        for one in over:
            one.close()
        return handle

    def of_case(self, case: str | None) -> list[Shown]:
        """The slides of a case, in the order of the list; none of no case."""
        return [s for s in self.slides.values() if case is not None and s.case == case]

    def version(self, key: str) -> str:
        """What changes when the file does."""
        about = self.slides[key].path.stat()
        return f"{about.st_mtime_ns:x}-{about.st_size:x}"

    @property
    def num_open(self) -> int:
        with self._lock:
            return len(self._open)


def _case_of(found: Found, root: Path, cases: Mapping[str, str]) -> str | None:
    path = found.path
    below = str(path.relative_to(root)) if path.is_relative_to(root) else path.name
    names = (found.key, below, path.name, Path(found.key).name, path.stem)
    return next((cases[n] for n in names if n in cases), None) or tcga_case(path.name)


class TileCache:
    """Encoded pictures by key, the oldest of which give way. Safe over threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self.size = self.hits = self.misses = 0

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The picture of a key, made where it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self.hits += 1
                return self._kept[key]
            self.misses += 1
        made = make()
        with self._lock:
            if key not in self._kept and len(made) <= self._limit:
                self._kept[key] = made
                self.size += len(made)
                while self.size > self._limit:
                    self.size -= len(self._kept.popitem(last=False)[1])
        return made


def deepest(size_px: tuple[int, int]) -> int:
    """DeepZoom's number of the level of full size: level n is 2^(deepest - n) times smaller, level 0 one pixel."""
    return math.ceil(math.log2(max(*size_px, 1)))


def tile_box(size_px: tuple[int, int], level: int, column: int, row: int) -> tuple[BoxLevel0, tuple[int, int]] | None:
    """Where a DeepZoom tile lies at level 0, and its width and height; None where there is none.

    A level is as large as the slide divided by its scale, rounded up. A tile shows one pixel more on each side that
    has a neighbour.
    """
    scale = 2 ** (deepest(size_px) - level)
    wide, high = (math.ceil(side / scale) for side in size_px)
    x0, y0 = column * TILE_PX, row * TILE_PX
    if scale < 1 or level < 0 or not (0 <= x0 < wide and 0 <= y0 < high):
        return None
    left, top = max(0, x0 - OVERLAP_PX), max(0, y0 - OVERLAP_PX)
    right, bottom = min(wide, x0 + TILE_PX + OVERLAP_PX), min(high, y0 + TILE_PX + OVERLAP_PX)
    box = BoxLevel0(
        x0=left * scale, y0=top * scale, x1=min(size_px[0], right * scale), y1=min(size_px[1], bottom * scale)
    )
    return box, (right - left, bottom - top)


def encoded(pixels: np.ndarray, quality: int = 85) -> bytes:
    """JPEG of pixels (H, W, 3) uint8."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


Key = Annotated[str, InPath(pattern=KEY)]
Match = Annotated[str | None, Header(alias="If-None-Match")]
_PICTURE = told(404, ok="image/jpeg") | {304: {"description": "You have it already."}}


def slides_router(shelf: SlideShelf, settings: ServeSettings) -> APIRouter:
    """Slides, their tiles, thumbnails and regions. Label and macro images are never given."""
    router = APIRouter(prefix="/slides", tags=["slides"])

    @router.get("")
    def listed() -> dict[str, Any]:
        """Every slide of the folder with its case, and what was set aside while looking."""
        aside = [{"name": Path(d.id).name, "reason": d.reason} for d in shelf.dropped]
        shown = [{"key": s.key, "name": s.name, "case": s.case} for s in shelf.slides.values()]
        return {"slides": shown, "set_aside": aside}

    @router.get("/{key}", responses=told(404), response_model=None)
    def about(key: Key) -> dict[str, Any] | JSONResponse:
        """Size, scale and levels of a slide."""
        return _tried(lambda: _about(shelf, key))

    @router.get("/{key}/dz.dzi", response_model=None, responses=told(404, ok="application/xml"))
    def deepzoom(key: Key) -> Response:
        """The DeepZoom description that OpenSeadragon reads."""
        return _tried(lambda: Response(_dzi(shelf, key), media_type="application/xml"))

    @router.get("/{key}/dz_files/{level}/{column}_{row}.jpeg", response_model=None, responses=_PICTURE)
    def tile(key: Key, level: Annotated[int, InPath(ge=0, le=64)], column: Annotated[int, InPath(ge=0, le=2**31)],
             row: Annotated[int, InPath(ge=0, le=2**31)], if_none_match: Match = None) -> Response:  # fmt: skip
        """One DeepZoom tile."""

        def made() -> Response:
            with shelf.slide(key) as slide:
                place = tile_box(slide.size_px, level, column, row)
                if place is None:
                    return refusal(404, "There is no such tile.")
                name = f"{key}-{shelf.version(key)}-{level}-{column}-{row}"
                return _picture(shelf, name, if_none_match, lambda: slide.read(place[0], out_px=place[1]))

        return _tried(made)

    _add_pictures(router, shelf)
    return router


def _add_pictures(router: APIRouter, shelf: SlideShelf) -> None:
    @router.get("/{key}/thumbnail", response_model=None, responses=_PICTURE)
    def thumbnail(key: Key, px: Annotated[int, Query(ge=16, le=2048)] = 256, if_none_match: Match = None) -> Response:
        """The whole slide, its longer side `px` at most."""

        def made() -> Response:
            with shelf.slide(key) as slide:
                name = f"{key}-{shelf.version(key)}-thumb-{px}"
                return _picture(shelf, name, if_none_match, lambda: slide.thumbnail(px))

        return _tried(made)

    @router.get("/{key}/region", response_model=None, responses=_PICTURE)
    def region(key: Key, x0: Annotated[int, Query(ge=0)], y0: Annotated[int, Query(ge=0)],
               x1: Annotated[int, Query(ge=1)], y1: Annotated[int, Query(ge=1)],
               px: Annotated[int, Query(ge=16, le=MAX_REGION_PX)] = 1024) -> Response:  # fmt: skip
        """A box in pixels of level 0, its longer side `px` at most."""

        def made() -> Response:
            with shelf.slide(key) as slide:
                wide, high = slide.size_px
                if not (x0 < x1 <= wide and y0 < y1 <= high):
                    return refusal(404, f"The box does not lie on the slide, which has {wide} x {high} px.")
                shrink = max(1.0, max(x1 - x0, y1 - y0) / px)
                out = max(1, round((x1 - x0) / shrink)), max(1, round((y1 - y0) / shrink))
                pixels = slide.read(BoxLevel0(x0=x0, y0=y0, x1=x1, y1=y1), out_px=out)
            return Response(encoded(pixels), media_type="image/jpeg")

        return _tried(made)


def _about(shelf: SlideShelf, key: str) -> dict[str, Any]:
    with shelf.slide(key) as slide:
        return {
            "key": key, "name": shelf.slides[key].name, "case": shelf.slides[key].case,
            "size_px": slide.size_px, "levels_px": slide.level_sizes_px,
            "mpp": slide.mpp if slide.has_mpp else None, "mpp_note": slide.mpp_note, "reader": slide.reader,
            "vendor": slide.vendor, "notes": slide.notes, "note": "Research use only, not for diagnosis.",
        }  # fmt: skip


def _dzi(shelf: SlideShelf, key: str) -> str:
    with shelf.slide(key) as slide:
        wide, high = slide.size_px
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpeg" Overlap="{OVERLAP_PX}" '
        f'TileSize="{TILE_PX}"><Size Width="{wide}" Height="{high}"/></Image>'
    )


def _picture(shelf: SlideShelf, name: str, known: str | None, read: Callable[[], np.ndarray]) -> Response:
    """A picture with its ETag, or 304 where the client has it."""
    tag = f'"{hashlib.sha256(name.encode()).hexdigest()[:24]}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=3600"}
    if known is not None and tag in (t.strip().removeprefix("W/") for t in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(shelf.tiles.get(name, lambda: encoded(read())), media_type="image/jpeg", headers=headers)


def _tried(make: Callable[[], Any]) -> Any:
    """What a slide gives, or what is wrong with it; a path of this machine is never told."""
    try:
        return make()
    except EosinError as exc:
        return refusal(404 if exc.message.startswith("There is no such slide") else 422, exc.message)
    except FileNotFoundError:
        return refusal(404, "The file of this slide is gone.")
