"""Pictures to look at: a contact sheet a slide with its tissue, its tiles and some of them at full size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eosin.core.images import encode_png
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.slides.open.slide import Slide
from eosin.slides.tiles.grid import sample_uniform
from eosin.slides.tiles.reading import Failed, read_tiles
from eosin.slides.tiles.tiles import Tiles
from eosin.slides.tissue.segmentation import Tissue

OUTLINE, TILE, FLAGGED = (0, 140, 60), (60, 110, 220), (220, 60, 40)
_MARGIN = 12


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Write PNG, whole or not at all."""
    write_bytes_atomic(path, encode_png(Image.fromarray(pixels)))


def overlay(slide: Slide, tissue: Tissue, tiles: Tiles | None, max_px: int = 900) -> Image.Image:
    """The slide with outlines of tissue and, thinly, the tiles; flagged tiles in red."""
    image = Image.fromarray(slide.overview(slide.fit_px(max_px))[0])
    draw = ImageDraw.Draw(image)
    sx, sy = image.width / slide.size_px[0], image.height / slide.size_px[1]
    if tiles is not None:
        for i in np.argsort(tiles.flags, kind="stable"):
            box = tiles.box(int(i))
            colour = FLAGGED if tiles.flags[i] else TILE
            draw.rectangle((box.x0 * sx, box.y0 * sy, box.x1 * sx - 1, box.y1 * sy - 1), outline=colour)
    for rings in tissue.polygons():
        for ring in rings:
            draw.line([(float(x) * sx, float(y) * sy) for x, y in ring], fill=OUTLINE, width=2)
    return image


def contact_sheet(slide: Slide, tissue: Tissue, tiles: Tiles, *, name: str, num: int = 12) -> Image.Image:
    """Plain thumbnail, overlay, and some tiles, with the facts in words."""
    plain = Image.fromarray(slide.overview(slide.fit_px(560))[0])
    marked = overlay(slide, tissue, tiles, 560)
    some = sample_uniform(tiles, num)
    pictures = [_tile_picture(t) for _, t in read_tiles(slide, some, workers=2)]
    columns = 6
    rows = -(-len(pictures) // columns)
    width = max(plain.width + marked.width + 3 * _MARGIN, columns * 184 + 2 * _MARGIN)
    lines = _facts(slide, tissue, tiles, name)
    top = _MARGIN + 18 * len(lines)
    height = top + plain.height + 2 * _MARGIN + rows * 184
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), _font(13)
    for number, line in enumerate(lines):
        draw.text((_MARGIN, 6 + 18 * number), line, fill="black", font=font)
    sheet.paste(plain, (_MARGIN, top))
    sheet.paste(marked, (plain.width + 2 * _MARGIN, top))
    for number, picture in enumerate(pictures):
        place = _MARGIN + number % columns * 184, top + plain.height + _MARGIN + number // columns * 184
        sheet.paste(picture, place)
    return sheet


def _tile_picture(tile: np.ndarray | Failed) -> Image.Image:
    if isinstance(tile, np.ndarray):
        return Image.fromarray(tile).resize((176, 176), Image.Resampling.BOX if tile.shape[0] > 176 else None)
    image = Image.new("RGB", (176, 176), (235, 235, 235))
    ImageDraw.Draw(image).text((6, 80), tile.reason[:26], fill=FLAGGED, font=_font(12))
    return image


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that has µ and ²; Pillow's own has not."""
    import matplotlib

    place = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(place), size) if place.is_file() else ImageFont.load_default(size)


def _facts(slide: Slide, tissue: Tissue, tiles: Tiles, name: str) -> list[str]:
    width, height = slide.size_px
    flagged = int((tiles.flags > 0).sum())
    return [
        f"{name}   {slide.reader}, {slide.vendor}   {width} x {height} px, {slide.mpp:.4g} µm/px, "
        f"{width * slide.mpp / 1000:.2f} x {height * slide.mpp / 1000:.2f} mm, {len(slide.level_sizes_px)} levels",
        f"tissue {tissue.area_um2 / 1e6:.2f} mm², {100 * tissue.share:.1f} % of the slide   "
        f"{len(tiles)} tiles of {tiles.tile_px} px at {tiles.mpp:.4g} µm/px, {flagged} flagged   "
        "green: tissue, blue: tiles, red: flagged   research use only",
    ]
