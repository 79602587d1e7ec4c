"""What each verb does to one slide. These functions run in a child process; they take and give plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import disk_errors
from eosin.core.images import encode_png
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.slides.annotations.geojson import tile_shapes, tissue_shapes, write_geojson
from eosin.slides.open.levels import check_levels
from eosin.slides.open.slide import Slide, open_slide
from eosin.slides.tiles.contact_sheet import contact_sheet, overlay, save_picture
from eosin.slides.tiles.grid import TileGrid, colour_clusters, sample_stratified, sample_uniform, tile_grid, write_table
from eosin.slides.tiles.quality import blur_flags
from eosin.slides.tiles.reading import Failed, read_tiles
from eosin.slides.tiles.tiles import Tiles
from eosin.slides.tissue.segmentation import Tissue, TissueSettings, overview, tissue_mask

Row = dict[str, Any]
Settings = Mapping[str, Any]
NAMING = re.compile(
    r"patient|barcode|accession|physician|birth|filename|operator|\.user$|institution|containeridentifier|"
    r"specimenidentifier$|studyid|imagedescription|\.comment$|title$|reference$|labeltext", re.IGNORECASE)  # fmt: skip


def opened(path: str, settings: Settings) -> Slide:
    """The slide, with the scale, colours and reader that the user asked for."""
    return open_slide(
        path, mpp=settings.get("mpp"), icc=bool(settings.get("icc")), reader=settings.get("reader"),
        grey=bool(settings.get("grey")), depth16=settings.get("depth16"),
    )  # fmt: skip


def facts(slide: Slide, key: str) -> Row:
    """What `info` shows of a slide: numbers only, nothing that can hold a name."""
    width, height = slide.size_px
    known = slide.has_mpp
    return {
        "slide": key,
        "reader": slide.reader,
        "format": slide.vendor,
        "width_px": width,
        "height_px": height,
        "mpp": round(slide.mpp, 6) if known else "",
        "mpp_note": slide.mpp_note if known or slide.mpp_xy is None else "pixels are not square",
        "width_mm": round(width * slide.mpp / 1000, 4) if known else "",
        "height_mm": round(height * slide.mpp / 1000, 4) if known else "",
        "levels": len(slide.level_sizes_px),
        "downsamples": " ".join(f"{d:g}" for d in slide.level_downsamples),
        "objective": slide.properties.get("openslide.objective-power", ""),
        "associated": " ".join(slide.associated),
        "icc": slide.icc_profile is not None,
        "notes": "; ".join(slide.notes),
        "bytes": slide.path.stat().st_size,
    }


def info(path: str, key: str, out: str | None, settings: Settings) -> Row:
    """Facts; with `properties` also what the file says, without what can hold a name unless `with_label`."""
    with opened(path, settings) as slide:
        row = facts(slide, key)
        if settings.get("properties"):
            secret = not settings.get("with_label")
            row["properties"] = {k: v for k, v in slide.properties.items() if not (secret and NAMING.search(k))}
        return row


def thumbnail(path: str, key: str, out: str | None, settings: Settings) -> Row:
    """thumbnail.png; label and macro images too with `with_label`."""
    with opened(path, settings) as slide:
        place = _folder(out)
        pixels, damaged = slide.overview(slide.fit_px(int(settings["size_px"])))
        save_picture(place / "thumbnail.png", pixels)
        if settings.get("with_label"):
            for name in (n for n in slide.associated if n != "thumbnail"):
                save_picture(place / f"{name}.png", slide.associated_image(name, with_label=True))
        return {"slide": key, "width_px": pixels.shape[1], "height_px": pixels.shape[0],
                "damaged_share": round(float(damaged.mean()), 4)}  # fmt: skip


def tissue(path: str, key: str, out: str | None, settings: Settings) -> Row:
    """tissue.geojson, and tissue.png to look at."""
    with opened(path, settings) as slide:
        check_levels(slide)
        found = tissue_mask(slide, TissueSettings(**settings["tissue"]))
        place = _folder(out)
        write_geojson(place / "tissue.geojson", tissue_shapes(found), _origin(slide))
        write_bytes_atomic(place / "tissue.png", encode_png(overlay(slide, found, None)))
        return {"slide": key, **_tissue_row(found)}


def tiles(path: str, key: str, out: str | None, settings: Settings) -> Row:
    """tissue.geojson, tiles.geojson, tiles.csv and sheet.png; with `pictures` every tile as PNG."""
    with opened(path, settings) as slide:
        found = tissue_mask(slide, TissueSettings(**settings["tissue"]))
        chosen = _chosen(slide, found, settings)
        if settings.get("quality"):
            chosen = chosen.with_flags(blur_flags(chosen, read_tiles(slide, chosen)))
        place = _folder(out)
        failed = _pictures(slide, chosen, place / "tiles") if settings.get("pictures") else 0
        write_geojson(place / "tissue.geojson", tissue_shapes(found), _origin(slide))
        write_geojson(place / "tiles.geojson", tile_shapes(chosen), _origin(slide))
        write_table(chosen, place / "tiles.csv")
        write_bytes_atomic(place / "sheet.png", encode_png(contact_sheet(slide, found, chosen, name=key)))
        return {
            "slide": key,
            **_tissue_row(found),
            "tiles": len(chosen),
            "tile_px": chosen.tile_px,
            "mpp": round(chosen.mpp, 6),
            "side_level0": chosen.side_level0,
            "flagged": int((chosen.flags > 0).sum()),
            "failed": failed,
        }


def _chosen(slide: Slide, found: Tissue, settings: Settings) -> Tiles:
    grid = tile_grid(slide, found, TileGrid(**settings["grid"]))
    num, seed = settings.get("sample"), int(settings.get("seed", 0))
    if num is None or int(num) >= len(grid):
        return grid
    if settings.get("sample_how") != "stratified":
        return sample_uniform(grid, int(num), seed)
    picture, _, _ = overview(slide, TissueSettings(**settings["tissue"]))
    scale = slide.size_px[0] / picture.shape[1], slide.size_px[1] / picture.shape[0]
    clusters = colour_clusters(picture, grid, scale, int(settings.get("clusters", 8)), seed)
    return sample_stratified(grid, clusters, int(num), seed)


def _pictures(slide: Slide, chosen: Tiles, place: Path) -> int:
    """Every tile as PNG, named by its corner; returns how many could not be read."""
    failed = 0
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    for index, tile in read_tiles(slide, chosen):
        if isinstance(tile, Failed):
            failed += 1
            continue
        x, y = chosen.coords_level0[index]
        save_picture(place / f"{x}_{y}.png", tile)
    return failed


def _tissue_row(found: Tissue) -> Row:
    return {
        "tissue_mm2": round(found.area_um2 / 1e6, 4),
        "tissue_share": round(found.share, 4),
        "parts": len(found.polygons()),
        "pen_share": round(float(np.mean(found.pen)), 4),
        "border_share": round(float(np.mean(found.border)), 4),
        "damaged_share": round(float(np.mean(found.damaged)), 4),
    }


def _folder(out: str | None) -> Path:
    place = Path(out or ".")
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    return place


def _origin(slide: Slide) -> Row:
    return {"eosin": {"slide": slide.path.name, "size_px": list(slide.size_px), "mpp": slide.mpp,
                      "unit": "pixels of level 0", "use": "research only"}}  # fmt: skip
