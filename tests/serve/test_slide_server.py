"""Slides over HTTP: DeepZoom tiles are the slide's own pixels, nothing but the folder's slides can be seen."""

from __future__ import annotations

import io
import json
import os
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.serve.served import WordEngine, serving

from eosin.core.nouns.units import BoxLevel0
from eosin.phantom.slides.slide import write_slide
from eosin.serve.slides import SlideShelf, TileCache, deepest, encoded, tile_box
from eosin.slides.open.slide import open_slide

SIZE = (700, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides, one in a subfolder; a broken one; a link that leads out; a file that is none."""
    root = tmp_path_factory.mktemp("slides")
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    pixels = np.stack([x % 256, y % 256, (x + y) // 4 % 256], -1).astype(np.uint8)
    (root / "deeper").mkdir()
    for path in (root / "a.tif", root / "deeper" / "b c.tif"):
        tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", resolution=(20000, 20000), resolutionunit=3)
    (root / "broken.svs").write_bytes(b"II*\x00nothing")
    (root / "notes.txt").write_text("private")
    outside = tmp_path_factory.mktemp("outside") / "secret.tif"
    tifffile.imwrite(outside, pixels, tile=(256, 256), photometric="rgb")
    os.symlink(outside, root / "link.tif")
    return root


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as reply:
            return reply.status, reply.read(), reply.headers
    except HTTPError as exc:
        return exc.code, exc.read(), exc.headers


def listed(url: str) -> dict[str, str]:
    told = json.loads(get(f"{url}/slides")[1])
    return {s["name"]: s["key"] for s in told["slides"]}


def test_every_pixel_of_a_level_is_in_its_tiles(folder: Path) -> None:
    """Tiles of the deepest level, their overlaps cut off, make the slide again (JPEG within a few grey levels)."""
    slide = open_slide(folder / "a.tif")
    whole = slide.read(BoxLevel0(x0=0, y0=0, x1=SIZE[0], y1=SIZE[1]))
    level = deepest(SIZE)
    assert level == 10  # 2^10 = 1,024 is the first power of two that holds 700
    built = np.zeros_like(whole)
    with serving(WordEngine(lambda r: ""), slides=folder) as (url, _):
        key = next(k for n, k in listed(url).items() if n.startswith("a"))
        assert b'Width="700" Height="300"' in get(f"{url}/slides/{key}/dz.dzi")[1]
        for column in range(3):
            for row in range(2):
                status, data, _ = get(f"{url}/slides/{key}/dz_files/{level}/{column}_{row}.jpeg")
                assert status == 200
                tile = np.asarray(Image.open(io.BytesIO(data)))
                left, top = min(column, 1), min(row, 1)  # one pixel of the neighbour
                inner = tile[top : top + 254, left : left + 254]
                built[row * 254 : row * 254 + inner.shape[0], column * 254 : column * 254 + inner.shape[1]] = inner
        assert get(f"{url}/slides/{key}/dz_files/{level}/3_0.jpeg")[0] == 404
        assert get(f"{url}/slides/{key}/dz_files/{level + 1}/0_0.jpeg")[0] == 404
    difference = np.abs(built.astype(int) - whole.astype(int))
    assert np.median(difference) <= 4


@pytest.mark.parametrize(
    ("level", "column", "row", "box", "size"),
    [
        (10, 0, 0, (0, 0, 255, 255), (255, 255)),
        (10, 1, 1, (253, 253, 509, 300), (256, 47)),
        (10, 2, 0, (507, 0, 700, 255), (193, 255)),
        (9, 1, 0, (506, 0, 700, 300), (97, 150)),
        (0, 0, 0, (0, 0, 700, 300), (1, 1)),
    ],
)
def test_places_of_tiles_by_hand(level: int, column: int, row: int, box: Any, size: Any) -> None:
    found = tile_box(SIZE, level, column, row)
    assert found is not None
    assert (found[0].x0, found[0].y0, found[0].x1, found[0].y1) == box
    assert found[1] == size


def test_only_slides_of_the_folder_are_seen(folder: Path) -> None:
    with serving(WordEngine(lambda r: ""), slides=folder) as (url, _):
        names = listed(url)
        assert not any("link" in n or "secret" in n or "notes" in n for n in names)
        aside = json.loads(get(f"{url}/slides")[1])["set_aside"]
        assert any("outside the folder" in d["reason"] for d in aside)
        for key in ("0" * 16, "../notes.txt", "..%2F..%2Fetc%2Fpasswd", "a.tif", "%00"):
            status, body, _ = get(f"{url}/slides/{key}/thumbnail")
            assert status in (404, 422)
            assert str(folder).encode() not in body
        broken = next(k for n, k in names.items() if n.startswith("broken"))
        status, body, _ = get(f"{url}/slides/{broken}")
        assert status == 422
        assert str(folder).encode() not in body


def test_the_first_slide_that_can_be_read_is_open_before_anybody_asks(folder: Path) -> None:
    with serving(WordEngine(lambda r: ""), slides=folder) as (_, app):
        until = time.monotonic() + 60
        while not app.state.shelf.num_open and time.monotonic() < until:
            time.sleep(0.01)
        assert app.state.shelf.num_open == 1
    shelf = SlideShelf(folder, 4, 2**20)
    broken = sorted(shelf.slides, key=lambda k: not shelf.slides[k].name.startswith("broken"))
    shelf.slides = {k: shelf.slides[k] for k in broken}
    shelf.open_first()
    assert shelf.num_open == 1, "a broken slide at the head of the list is passed over"


def test_a_picture_that_the_client_has_is_not_sent_again_and_a_new_file_is(folder: Path) -> None:
    with serving(WordEngine(lambda r: ""), slides=folder) as (url, app):
        key = next(k for n, k in listed(url).items() if n.startswith("deeper"))
        status, data, headers = get(f"{url}/slides/{key}/thumbnail?px=64")
        assert (status, Image.open(io.BytesIO(data)).size) == (200, (64, 27))
        assert get(f"{url}/slides/{key}/thumbnail?px=64", {"If-None-Match": headers["ETag"]})[0] == 304
        get(f"{url}/slides/{key}/thumbnail?px=64")
        assert app.state.shelf.tiles.hits == 1
        os.utime(folder / "deeper" / "b c.tif", (1, 1))
        assert get(f"{url}/slides/{key}/thumbnail?px=64", {"If-None-Match": headers["ETag"]})[0] == 200
        told = json.loads(get(f"{url}/slides/{key}")[1])
        assert told["size_px"] == list(SIZE)
        assert told["mpp"] == pytest.approx(0.5)
        status, data, _ = get(f"{url}/slides/{key}/region?x0=0&y0=0&x1=100&y1=50&px=50")
        assert Image.open(io.BytesIO(data)).size == (50, 25)
        assert get(f"{url}/slides/{key}/region?x0=0&y0=0&x1=9999&y1=50")[0] == 404


def test_a_cache_keeps_its_bound() -> None:
    cache = TileCache(100)
    made = []
    for i in range(5):
        cache.get(str(i), lambda i=i: made.append(i) or bytes(40))  # type: ignore[misc,func-returns-value]
    assert cache.size == 80
    cache.get("4", lambda: made.append(99) or b"")  # type: ignore[func-returns-value]
    cache.get("0", lambda: made.append(0) or bytes(40))  # type: ignore[func-returns-value]
    assert made == [0, 1, 2, 3, 4, 0]
    cache.get("large", lambda: bytes(101))
    assert cache.size == 80


def test_of_two_hundred_slides_only_the_last_ones_stay_open(tmp_path: Path) -> None:
    """A phantom slide under 200 names, looked at by 8 viewers at once."""
    first = write_slide(tmp_path / "0000.tiff", case_number=2, size_px=512, mpp=4.0, workers=1)[0]
    for number in range(1, 200):
        os.link(first, tmp_path / f"{number:04}.tiff")
    shelf = SlideShelf(tmp_path, 6, 2**20)
    keys = list(shelf.slides)
    assert len(keys) == 200
    most: list[int] = []

    def view(own: list[str]) -> None:
        for key in own:
            with shelf.slide(key) as slide:
                shelf.tiles.get(key, lambda slide=slide: encoded(slide.thumbnail(64)))  # type: ignore[misc]
            most.append(shelf.num_open)

    with ThreadPoolExecutor(8) as viewers:
        list(viewers.map(view, [keys[k::8] for k in range(8)]))
    assert len(most) == 200 and max(most) <= 6
    assert shelf.tiles.size <= 2**20
    if Path("/proc/self/fd").is_dir():  # what is no longer held is closed, and not only forgotten
        names = [os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.exists()]
        assert sum(str(tmp_path) in n for n in names) <= 2 * 6  # a reader holds the file of its slide twice
