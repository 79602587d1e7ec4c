"""The pictures of phantom documents: panels of phantom tissue, put together with gutters and letters."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eosin.core.images import open_own
from eosin.phantom.documents.plan import FigurePlan
from eosin.phantom.tiles.tile import make_case, render_tile

PANEL_PX = 200
GUTTER_PX = 10
_TILES = 6
_TURNS = 8


@functools.lru_cache(maxsize=_TILES)
def _tile(number: int) -> Image.Image:
    return open_own(render_tile(make_case(5, number), 0, size_px=PANEL_PX).jpeg).convert("RGB")


def tissue(number: int) -> Image.Image:
    """Phantom tissue: a few tiles, turned and mirrored, are shared by all documents."""
    tile, turn = _tile(number % _TILES), number // _TILES % _TURNS
    return tile if not turn else tile.transpose(list(Image.Transpose)[turn - 1])


@functools.lru_cache(maxsize=8)
def font(size: int, bold: bool = True) -> ImageFont.FreeTypeFont:
    """A font that comes with matplotlib."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def panel_boxes(plan: FigurePlan) -> list[tuple[int, int, int, int]]:
    """Boxes of the panels in pixels of the picture, row by row."""
    step = PANEL_PX + GUTTER_PX
    return [(c * step, r * step, c * step + PANEL_PX, r * step + PANEL_PX)
            for r in range(plan.rows) for c in range(plan.columns)]  # fmt: skip


def picture(plan: FigurePlan, rng: np.random.Generator) -> Image.Image:
    """The figure as one picture: its panels on white, letters in their upper left corners where the plan says so."""
    boxes = panel_boxes(plan)
    whole = Image.new("RGB", (max(b[2] for b in boxes), max(b[3] for b in boxes)), "white")
    style = int(rng.integers(3))
    for i, box in enumerate(boxes):
        whole.paste(tissue(int(rng.integers(_TILES * _TURNS))), box[:2])
        if plan.letters == "inside" and plan.panels:
            _letter(whole, plan.panels[i].letter, box, style)
    return whole


def _letter(image: Image.Image, letter: str, box: tuple[int, int, int, int], style: int) -> None:
    """A letter in the corner of a panel: white, black, or black on a white field."""
    draw = ImageDraw.Draw(image)
    x, y = box[0] + 6, box[1] + 4
    if style == 2:
        draw.rectangle((box[0], box[1], box[0] + 30, box[1] + 32), fill="white")
    draw.text((x, y), letter, fill="white" if style == 0 else "black", font=font(24))


def table_picture(rng: np.random.Generator) -> Image.Image:
    """A table as a picture, as older articles hold them."""
    image = Image.new("RGB", (420, 150), "white")
    draw = ImageDraw.Draw(image)
    for row in range(6):
        draw.line((0, row * 25 + 24, 420, row * 25 + 24), fill="black")
        for column in range(4):
            draw.text(
                (column * 105 + 6, row * 25 + 5), str(int(rng.integers(1, 999))), fill="black", font=font(12, False)
            )
    return image


def sign() -> Image.Image:
    """The sign of the publisher that stands on every page."""
    image = Image.new("RGB", (60, 40), (82, 63, 148))
    ImageDraw.Draw(image).ellipse((15, 5, 45, 35), fill="white")
    return image
