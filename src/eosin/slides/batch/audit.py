"""What is wrong with a slide, before it costs a day: one row a slide, with every issue in words."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eosin.slides.batch.work import NAMING, facts, opened
from eosin.slides.open.backends.base import RegionError
from eosin.slides.open.levels import MAX_DIFFERENCE, level_difference
from eosin.slides.open.slide import Slide
from eosin.slides.privacy.find import traces
from eosin.slides.tiles.grid import TileGrid, sample_uniform, tile_grid
from eosin.slides.tiles.quality import blur_flags
from eosin.slides.tiles.reading import Failed, read_tiles
from eosin.slides.tissue.segmentation import tissue_mask

Row = dict[str, Any]
SAMPLE_TILES = 48
_PROBES = 8


def audit(path: str, key: str, out: str | None, settings: Mapping[str, Any]) -> Row:
    """Facts of a slide and its issues; reads tissue and some tiles. See `issues`."""
    with opened(path, settings) as slide:
        row = facts(slide, key)
        found = dict(issues(slide, row))
        if told := [str(t) for t in traces(slide.path)]:
            found["can tell who it is from"] = ", ".join(told[:8])
        keys = ("slide", "reader", "format", "width_px", "height_px", "mpp", "levels", "bytes")
        kept = {k: row[k] for k in keys}
        kept |= {k: row.get(k, "") for k in ("tissue_mm2", "tissue_share", "tiles_read", "tiles_failed", "blurred")}
        return {**kept, "issues": "; ".join(found), "details": "; ".join(f"{k}: {v}" for k, v in found.items() if v),
                "hash": _hash(slide)}  # fmt: skip


def issues(slide: Slide, row: Row) -> Iterator[tuple[str, str]]:
    """Issue and detail, one at a time; fills further columns of `row`."""
    if slide.associated and {"label", "macro"} & set(slide.associated):
        yield "label or macro image can hold names", " ".join(slide.associated)
    named = [k for k in slide.properties if NAMING.search(k) and not k.startswith("openslide.")]
    if named:
        yield "properties can hold names", ", ".join(named[:6])
    for level in range(1, len(slide.level_sizes_px)):
        off = level_difference(slide, level, level - 1)
        if off > MAX_DIFFERENCE:
            yield "levels disagree in content", f"level {level}, {off:.0f} grey levels"
    if max(slide.size_px) > 30_000 and len(slide.level_sizes_px) == 1:
        yield "no pyramid", "overviews will be slow"
    broken = _damaged(slide)
    if broken:
        yield "damaged tiles", f"{broken} of {_PROBES**2} places tried"
    if not slide.has_mpp:
        yield "microns per pixel unknown", slide.mpp_note
        return
    yield from _content(slide, row)


def _content(slide: Slide, row: Row) -> Iterator[tuple[str, str]]:
    tissue = tissue_mask(slide)
    row["tissue_mm2"], row["tissue_share"] = round(tissue.area_um2 / 1e6, 4), round(tissue.share, 4)
    if not tissue.mask.any():
        yield "no tissue found", ""
        return
    for name in ("pen", "bubble", "border"):
        share = float(getattr(tissue, name).mean())
        if share > 0.002:
            yield {"pen": "pen marks", "bubble": "air bubble", "border": "black border"}[name], f"{100 * share:.1f} %"
    coarse = max(0.5, slide.mpp)
    tiles = sample_uniform(tile_grid(slide, tissue, TileGrid(mpp=coarse, min_tissue=0.6)), SAMPLE_TILES)
    pixels = list(read_tiles(slide, tiles))
    failed = sum(isinstance(t, Failed) for _, t in pixels)
    blurred = int((blur_flags(tiles, pixels) > 0).sum())
    row |= {"tiles_read": len(pixels), "tiles_failed": failed, "blurred": blurred}
    if failed:
        yield "damaged tiles in the tissue", f"{failed} of {len(pixels)} tried"
    if blurred > 0.2 * max(1, len(pixels)):
        yield "out of focus", f"{blurred} of {len(pixels)} tiles"


def _damaged(slide: Slide) -> int:
    """How many of some small places of level 0 cannot be decoded."""
    width, height = slide.size_px
    side = min(16, width, height)
    bad = 0
    for y in np.linspace(0, height - side, _PROBES).astype(int):
        for x in np.linspace(0, width - side, _PROBES).astype(int):
            try:
                slide.backend.region(0, int(x), int(y), side, side)
            except RegionError:
                bad += 1
    return bad


def _hash(slide: Slide) -> str:
    """The same for copies of one slide: a digest of size, first and last megabyte."""
    path = slide.path if slide.path.is_file() else next(iter(sorted(slide.path.iterdir())))
    size, piece = path.stat().st_size, 2**20
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        digest.update(handle.read(piece))
        handle.seek(max(0, size - piece))
        digest.update(handle.read(piece))
    return digest.hexdigest()[:16]


def with_copies(rows: Sequence[Row]) -> list[Row]:
    """The rows, with an issue on each slide that is there more than once."""
    counts = Counter(r["hash"] for r in rows)
    result = []
    for row in rows:
        copies = [str(r["slide"]) for r in rows if r["hash"] == row["hash"] and r is not row]
        if counts[row["hash"]] > 1:
            told = "copies: " + ", ".join(copies[:5])
            more = {"issues": _joined(row["issues"], "there more than once"), "details": _joined(row["details"], told)}
            row = row | more
        result.append(row)
    return result


def _joined(before: str, more: str) -> str:
    return f"{before}; {more}" if before else more
