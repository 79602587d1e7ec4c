"""Pictures of every kind that stands in books, made by code: what the classifier of figures is trained on.

Histology is phantom tissue in several stains; the others are drawn from simple shapes in the colours and textures that
such pictures have. None of them is a picture of anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from eosin.phantom.documents.pictures import font, tissue

Rng = np.random.Generator
F = NDArray[np.float64]


def _tile(rng: Rng) -> Image.Image:
    """A piece of phantom tissue at a scale of its own, or two of them side by side."""
    tile = tissue(int(rng.integers(48)))
    side = int(rng.integers(70, 200))
    x, y = (int(v) for v in rng.integers(0, 201 - side, 2))
    return tile.crop((x, y, x + side, y + side)).resize((160, 160), Image.Resampling.BICUBIC)


def _jitter(image: Image.Image, rng: Rng, spread: float = 0.12) -> Image.Image:
    """Other light, other camera, other JPEG."""
    pixels = np.asarray(image.convert("RGB"), np.float64) / 255
    pixels = pixels ** rng.uniform(1 - spread, 1 + spread, 3) * rng.uniform(1 - spread / 2, 1.02)
    pixels += rng.normal(0, rng.uniform(0, 0.02), pixels.shape)
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def _stained(rng: Rng, first: F, second: F) -> Image.Image:
    """Phantom tissue with two dyes in place of haematoxylin and eosin: optical densities (3,) of each."""
    grey = np.asarray(_tile(rng), np.float64) / 255
    nuclei = np.clip(-np.log(grey[..., 0] + 0.02) - 0.15, 0, None)
    rest = np.clip(-np.log(grey[..., 1] + 0.02), 0, None)
    density = nuclei[..., None] * first + rest[..., None] * second
    return Image.fromarray((np.exp(-density).clip(0, 1) * 255).astype(np.uint8))


def _fat(rng: Rng) -> Image.Image:
    """Fat: empty cells with thin walls, folds of pale tissue between some, few nuclei at the walls."""
    ground = rng.uniform(228, 246) + rng.normal(0, 2, 3)
    image = Image.new("RGB", (160, 160), tuple(int(v) for v in ground))
    draw = ImageDraw.Draw(image, "RGBA")
    cells = rng.uniform(-40, 200, (int(rng.integers(3, 14)), 2))
    y, x = np.mgrid[0:160:2, 0:160:2]
    near = np.sort(np.hypot(x[..., None] - cells[:, 0], y[..., None] - cells[:, 1]), axis=2)
    walls = (near[..., 1] - near[..., 0] < rng.uniform(2, 8)).astype(np.uint8) * 255
    wall = Image.fromarray(walls).resize((160, 160), Image.Resampling.BICUBIC)
    pink, dark = (int(rng.integers(150, 225)), int(rng.integers(70, 170)), int(rng.integers(140, 205))), (75, 45, 105)
    for _ in range(int(rng.integers(0, 5))):
        corners = [tuple(c) for c in (rng.uniform(-20, 180, 2) + rng.normal(0, 28, (5, 2)))]
        draw.polygon(corners, fill=(*pink, int(rng.integers(20, 90))))
    image.paste(pink, mask=wall.point(lambda v: v * 3 // 4))
    draw = ImageDraw.Draw(image)
    for row, column in rng.permutation(np.argwhere(walls))[: int(rng.integers(0, 7))] * 2:
        r, thin = float(rng.uniform(3, 8)), float(rng.uniform(0.4, 0.8))
        draw.ellipse((column - r, row - thin * r, column + r, row + thin * r), fill=dark)
    return _jitter(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2)))), rng, 0.1)


def _blank(rng: Rng) -> Image.Image:
    """Glass without tissue: even light, its noise, at most some dust."""
    light = rng.uniform(205, 252) + rng.normal(0, 2, 3)
    slope = np.linspace(-1, 1, 160)[:, None, None] * rng.uniform(-4, 4, 3)
    pixels = light + slope + rng.normal(0, rng.uniform(0.3, 4), (160, 160, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 4)) if rng.integers(2) else 0):
        px, py, r = (*rng.integers(0, 160, 2), float(rng.uniform(1, 5)))
        grey = int(rng.integers(120, 235))
        draw.ellipse((px - r, py - r, px + r, py + r), fill=(grey, grey, grey))
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.2))))


def _he(rng: Rng) -> Image.Image:
    image = _fat(rng) if rng.integers(5) == 0 else _jitter(_tile(rng), rng, 0.3)
    pixels = np.asarray(image.convert("HSV")).copy()
    pixels[..., 0] = (pixels[..., 0].astype(int) + int(rng.integers(-12, 8))) % 256
    pixels[..., 1] = (pixels[..., 1] * rng.uniform(0.5, 1.3)).clip(0, 255)
    return Image.fromarray(pixels, "HSV").convert("RGB")


def _ihc(rng: Rng) -> Image.Image:
    grey = np.asarray(_tile(rng), np.float64) / 255
    nuclei = np.clip(-np.log(grey[..., 0] + 0.02) - 0.15, 0, None)
    where = np.asarray(
        Image.effect_noise((12, 12), 60).resize((160, 160), Image.Resampling.BICUBIC), np.float64
    ) > rng.uniform(80, 140)
    brown, blue = np.array([0.35, 0.9, 1.5]), np.array([1.0, 0.7, 0.3])
    density = nuclei[..., None] * np.where(where[..., None], brown * rng.uniform(0.8, 1.6), blue * 0.6)
    density += np.clip(-np.log(grey[..., 1] + 0.02), 0, None)[..., None] * np.array([0.10, 0.10, 0.08])
    return _jitter(Image.fromarray((np.exp(-density).clip(0, 1) * 255).astype(np.uint8)), rng)


def _other_stain(rng: Rng) -> Image.Image:
    pairs = [
        ([1.0, 0.9, 0.5], [0.9, 0.5, 0.1]), ([0.9, 0.9, 0.4], [0.15, 0.9, 0.35]), ([1.0, 1.0, 1.0], [0.1, 0.2, 0.6]),
        ([1.1, 0.7, 0.2], [0.6, 0.3, 0.1]), ([0.6, 1.1, 0.9], [0.9, 0.3, 0.5]),
    ]  # fmt: skip
    first, second = pairs[int(rng.integers(len(pairs)))]
    return _jitter(_stained(rng, np.array(first), np.array(second) * rng.uniform(0.7, 1.3)), rng)


def _cytology(rng: Rng) -> Image.Image:
    image = Image.new("RGB", (160, 160), tuple(int(v) for v in rng.integers(205, 250, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(5, 28))):
        x, y, r = (*rng.integers(0, 160, 2), int(rng.integers(9, 24)))
        body = [(150, 190, 200), (235, 170, 180), (240, 190, 140), (170, 160, 215)][int(rng.integers(4))]
        draw.ellipse((x - r, y - r * 0.9, x + r, y + r * 0.9), fill=body)
        n = r * rng.uniform(0.3, 0.75)
        draw.ellipse(
            (x - n, y - n, x + n, y + n), fill=tuple(int(v) for v in rng.integers((50, 30, 90), (110, 70, 150)))
        )
    return _jitter(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.6, 1.6)))), rng)


def _cloud(rng: Rng, cells: int, size: int = 160) -> F:
    """Smooth noise of 0 to 1."""
    small = Image.fromarray(rng.integers(0, 255, (cells, cells), dtype=np.uint8))
    return np.asarray(small.resize((size, size), Image.Resampling.BICUBIC), np.float64) / 255


def _blob(rng: Rng, wide: float) -> F:
    y, x = np.mgrid[-1:1:160j, -1:1:160j]
    angle = np.arctan2(y, x)
    edge = wide * (1 + 0.12 * np.sin(angle * int(rng.integers(2, 6)) + rng.uniform(0, 6)))
    return (np.hypot(x * rng.uniform(0.8, 1.2), y) < edge).astype(np.float64)


def _gross(rng: Rng) -> Image.Image:
    back = np.array([(40, 80, 140), (20, 20, 25), (235, 235, 235), (60, 120, 90)][int(rng.integers(4))], np.float64)
    flesh = np.array([(160, 60, 50), (190, 140, 90), (120, 60, 55), (215, 180, 140)][int(rng.integers(4))], np.float64)
    inside = (
        np.asarray(
            Image.fromarray((_blob(rng, rng.uniform(0.5, 0.85)) * 255).astype(np.uint8)).filter(
                ImageFilter.GaussianBlur(2)
            ),
            np.float64,
        )[..., None]
        / 255
    )
    texture = 0.75 + 0.5 * _cloud(rng, int(rng.integers(6, 26)))[..., None]
    image = Image.fromarray((back * (1 - inside) + flesh * texture * inside).clip(0, 255).astype(np.uint8))
    if rng.integers(2):
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 146, 160, 160), fill="white")
        for i in range(0, 160, 8):
            draw.line((i, 146, i, 152), fill="black")
    return _jitter(image, rng)


def _fluorescence(rng: Rng) -> Image.Image:
    pixels = np.zeros((160, 160, 3))
    for channel in rng.permutation(3)[: int(rng.integers(1, 4))]:
        spots = Image.new("L", (160, 160), 0)
        draw = ImageDraw.Draw(spots)
        for _ in range(int(rng.integers(6, 60))):
            x, y, r = (*rng.integers(0, 160, 2), float(rng.uniform(1.5, 14)))
            draw.ellipse((x - r, y - r, x + r, y + r), fill=int(rng.integers(90, 255)))
        pixels[..., channel] += np.asarray(
            spots.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 3)))), np.float64
        )
    return Image.fromarray((pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8))


def _radiology(rng: Rng) -> Image.Image:
    body = _blob(rng, rng.uniform(0.7, 1.3)) * rng.uniform(60, 150)
    for _ in range(int(rng.integers(2, 7))):
        body += np.roll(_blob(rng, rng.uniform(0.08, 0.35)), rng.integers(-50, 50, 2), (0, 1)) * rng.uniform(-60, 90)
    body += 40 * _cloud(rng, int(rng.integers(4, 20)))
    soft = Image.fromarray(body.clip(0, 255).astype(np.uint8)).filter(
        ImageFilter.GaussianBlur(float(rng.uniform(0.8, 2.5)))
    )
    return Image.merge("RGB", [soft] * 3)


def _endoscopy(rng: Rng) -> Image.Image:
    y, x = np.mgrid[-1:1:160j, -1:1:160j]
    far = np.hypot(x - rng.uniform(-0.3, 0.3), y - rng.uniform(-0.3, 0.3))
    red = np.array([215, 110, 85]) * rng.uniform(0.85, 1.1, 3)
    light = (0.35 + 0.65 * np.minimum(1.0, far / 0.9))[..., None] * (
        0.75 + 0.5 * _cloud(rng, int(rng.integers(4, 9)))[..., None]
    )
    pixels = red * light
    pixels[np.hypot(x, y) > rng.uniform(0.95, 1.3)] = 5
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 7))):
        px, py, r = (*rng.integers(30, 130, 2), float(rng.uniform(1, 4)))
        draw.ellipse((px - r, py - r, px + r, py + r), fill=(255, 250, 240))
    return image.filter(ImageFilter.GaussianBlur(0.8))


def _ink(rng: Rng) -> tuple[int, int, int]:
    if rng.integers(3) == 0:
        return (20, 20, 20)
    a, b, c = (int(v) for v in rng.integers(10, 230, 3))
    return a, b, c


def _plot(rng: Rng) -> Image.Image:
    image = Image.new("RGB", (200, 160), "white")
    draw = ImageDraw.Draw(image)
    for k in range(1 + int(rng.integers(2))):
        left, width = 22 + 95 * k, 80 if k or rng.integers(2) else 170
        draw.line((left, 8, left, 140), fill="black")
        draw.line((left, 140, left + width, 140), fill="black")
        style, num = int(rng.integers(3)), int(rng.integers(4, 14))
        for _ in range(int(rng.integers(1, 4))):
            ys = 140 - np.abs(np.cumsum(rng.normal(8, 12, num))).clip(2, 130)
            xs = left + 4 + np.arange(num) * (width - 8) / num
            ink = _ink(rng)
            for i in range(num):
                if style == 0:
                    draw.rectangle((xs[i], ys[i], xs[i] + 0.6 * width / num, 140), fill=ink)
                elif style == 1 and i:
                    draw.line((xs[i - 1], ys[i - 1], xs[i], ys[i]), fill=ink, width=2)
                else:
                    draw.ellipse((xs[i] - 2, ys[i] - 2, xs[i] + 2, ys[i] + 2), fill=ink)
    for i in range(int(rng.integers(3, 9))):
        draw.text((24 + 20 * i, 144), str(i), fill="black", font=font(9, False))
        draw.text((4, 130 - 14 * i), str(10 * i), fill="black", font=font(9, False))
    return image


def _diagram(rng: Rng) -> Image.Image:
    image = Image.new("RGB", (200, 160), "white")
    draw = ImageDraw.Draw(image)
    spots = [(int(x), int(y)) for x, y in zip(rng.integers(5, 140, 6), rng.integers(5, 125, 6), strict=True)]
    for a, b in zip(spots, spots[1:], strict=False):
        draw.line((a[0] + 25, a[1] + 12, b[0] + 25, b[1] + 12), fill="black", width=int(rng.integers(1, 3)))
    for x, y in spots:
        fill = tuple(int(v) for v in rng.integers(170, 255, 3))
        shape = draw.rounded_rectangle if rng.integers(2) else draw.ellipse
        shape((x, y, x + 50, y + 24), fill=fill, outline="black")  # type: ignore[operator]
        draw.text(
            (x + 8, y + 7), str(rng.choice(["cell", "gene", "p53", "stem", "graft"])), fill="black", font=font(9, False)
        )
    return image


def _table(rng: Rng) -> Image.Image:
    image = Image.new("RGB", (240, 150), "white")
    draw = ImageDraw.Draw(image)
    rows, columns = int(rng.integers(5, 11)), int(rng.integers(3, 7))
    for r in range(rows):
        y = 4 + r * 142 // rows
        if rng.integers(2) or r in (0, 1):
            draw.line((2, y - 2, 238, y - 2), fill="black")
        for c in range(columns):
            word = str(rng.choice(["case", "grade", "12", "0.81", "n.s.", "34 (5%)", "female"]))
            draw.text((6 + c * 234 // columns, y), word, fill="black", font=font(int(rng.integers(8, 11)), False))
    if rng.integers(2):
        for c in range(columns + 1):
            draw.line((2 + c * 234 // columns, 2, 2 + c * 234 // columns, 146), fill="black")
    return image


def _photograph(rng: Rng) -> Image.Image:
    back = (np.array(rng.integers(60, 220, 3)) * (0.7 + 0.6 * _cloud(rng, 4)[..., None])).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(back).filter(ImageFilter.GaussianBlur(4))
    draw = ImageDraw.Draw(image)
    skin = [(226, 180, 150), (190, 135, 100), (120, 80, 55), (240, 200, 175)][int(rng.integers(4))]
    cloth, hair = _ink(rng), [(40, 30, 25), (120, 90, 60), (200, 180, 140), (90, 90, 90)][int(rng.integers(4))]
    cx, cy, r = int(rng.integers(60, 100)), int(rng.integers(55, 80)), int(rng.integers(26, 44))
    draw.ellipse((cx - 2 * r, cy + r, cx + 2 * r, cy + 5 * r), fill=cloth)
    draw.ellipse((cx - 1.1 * r, cy - 1.5 * r, cx + 1.1 * r, cy + r), fill=hair)
    draw.ellipse((cx - 0.8 * r, cy - r, cx + 0.8 * r, cy + 1.2 * r), fill=skin)
    for side in (-0.35, 0.35):
        draw.ellipse((cx + side * r - 3, cy - 3, cx + side * r + 3, cy + 2), fill=(30, 25, 25))
    draw.line((cx - 0.3 * r, cy + 0.6 * r, cx + 0.3 * r, cy + 0.6 * r), fill=(150, 60, 60), width=2)
    return _jitter(image.filter(ImageFilter.GaussianBlur(1.2)), rng, 0.2)


MAKERS: dict[str, Callable[[Rng], Image.Image]] = {
    "histology H&E": _he, "histology IHC": _ihc, "histology other stain": _other_stain, "cytology": _cytology,
    "gross": _gross, "fluorescence": _fluorescence, "radiology": _radiology, "endoscopy": _endoscopy, "plot": _plot,
    "diagram": _diagram, "table": _table, "photograph": _photograph, "blank": _blank,
}  # fmt: skip


def picture_of(kind: str, rng: Rng) -> Image.Image:
    """A picture of a kind; every fourth is two of them with a white gutter, as figures are."""
    make = MAKERS[kind]
    if rng.integers(4):
        return make(rng)
    first, second = make(rng), make(rng)
    both = Image.new("RGB", (first.width + second.width + 8, max(first.height, second.height)), "white")
    both.paste(first, (0, 0))
    both.paste(second, (first.width + 8, 0))
    return both
