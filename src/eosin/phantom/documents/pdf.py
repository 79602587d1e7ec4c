"""Phantom documents as PDF, laid out by hand so that every box is known."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eosin.core.extras import need
from eosin.phantom.documents.pictures import GUTTER_PX, panel_boxes, picture, sign, table_picture
from eosin.phantom.documents.plan import DocumentPlan, FigurePlan, Pointing

PAGE = (595.0, 842.0)
_MARGIN, _TOP, _BOTTOM, _GUTTER = 54.0, 72.0, 70.0, 20.0
_BODY, _SMALL = ("Times-Roman", 10.0, 12.0), ("Helvetica", 8.5, 10.5)


@dataclass
class Truth:
    """What a document shows, in points from the top left of each page as it is read."""

    file: str
    language: str
    columns: int
    figures: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[dict[str, Any]] = field(default_factory=list)
    tables: int = 0
    pages: int = 0


def write_pdf(plan: DocumentPlan, path: Path, seed: int) -> Truth:
    """Write a document; returns the truth of it.

    Raises:
        MissingExtraError: reportlab is not installed.
    """
    canvas = need("reportlab.pdfgen.canvas", "documents")
    writer = _Writer(plan, canvas.Canvas(str(path), pagesize=PAGE, invariant=1), seed)
    for item in plan.order:
        writer.add(item)
    return writer.done(path.name)


class _Writer:
    """Fills columns from top to bottom; y is counted from the top of the page."""

    def __init__(self, plan: DocumentPlan, canvas: Any, seed: int) -> None:
        self._plan, self._canvas = plan, canvas
        self._rng = np.random.default_rng([seed, 78, len(plan.name)])
        self._truth = Truth("", plan.language, plan.columns)
        self._page, self._column, self._y = 0, 0, _TOP
        self._width = (PAGE[0] - 2 * _MARGIN - _GUTTER * (plan.columns - 1)) / plan.columns
        self._new_page()

    @property
    def _x(self) -> float:
        return _MARGIN + self._column * (self._width + _GUTTER)

    @property
    def _room(self) -> float:
        return PAGE[1] - _BOTTOM - self._y

    def add(self, item: list[Pointing] | FigurePlan | str) -> None:
        if isinstance(item, list):
            self._paragraph(item)
        elif isinstance(item, FigurePlan):
            self._figure(item)
        elif item == "table":
            self._table()
        else:
            self._lone_picture()

    def done(self, name: str) -> Truth:
        self._canvas.save()
        self._truth.file, self._truth.pages = name, self._page
        return self._truth

    # ---- pages and text

    def _new_page(self) -> None:
        if self._page:
            self._canvas.showPage()
        self._page += 1
        self._column, self._y = 0, _TOP
        self._image(sign(), 500, 24, 30, 20)
        self._words(f"PHANTOM Journal of Glands 12 (2026) {100 + self._page}", _MARGIN, 40, ("Helvetica", 8.0, 10.0))
        if self._page == 1:
            self._words("Made by code. https://creativecommons.org/publicdomain/zero/1.0/", _MARGIN, 62, _SMALL)
        self._words(str(self._page), 290, 815, ("Helvetica", 8.0, 10.0))
        self._canvas.line(_MARGIN, PAGE[1] - 50, PAGE[0] - _MARGIN, PAGE[1] - 50)

    def _next_column(self) -> None:
        if self._column + 1 < self._plan.columns:
            self._column, self._y = self._column + 1, _TOP
        else:
            self._new_page()

    def _words(self, text: str, x: float, y: float, font: tuple[str, float, float]) -> None:
        """Write a line whose baseline is `y` from the top; a label at its beginning in bold."""
        self._canvas.setFont(font[0], font[1])
        self._canvas.drawString(x, PAGE[1] - y, text)

    def _wrapped(self, text: str, width: float, font: tuple[str, float, float]) -> list[str]:
        from reportlab.pdfbase.pdfmetrics import stringWidth

        lines, line = [], ""
        for word in text.split():
            trial = f"{line} {word}".strip()
            if line and stringWidth(trial, font[0], font[1]) > width - 2:
                lines.append(line)
                line = word
            else:
                line = trial
        return [*lines, line]

    def _paragraph(self, sentences: list[Pointing]) -> None:
        for sentence in sentences:
            if sentence.to:
                told = [{"number": n, "panels": list(p)} for n, p in sentence.to]
                self._truth.sentences.append({"text": sentence.text, "page": self._page, "to": told})
        for line in self._wrapped("   " + " ".join(s.text for s in sentences), self._width, _BODY):
            if self._room < _BODY[2]:
                self._next_column()
            self._y += _BODY[2]
            self._words(line, self._x, self._y, _BODY)
        self._y += 6

    def _image(self, image: Image.Image, x: float, y: float, width: float, height: float) -> None:
        from reportlab.lib.utils import ImageReader

        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92) if image.width > 80 else image.save(buffer, "PNG")
        buffer.seek(0)
        self._canvas.drawImage(ImageReader(buffer), x, PAGE[1] - y - height, width, height)

    # ---- figures

    def _figure(self, plan: FigurePlan) -> None:
        if plan.turned:
            self._turned(plan)
            return
        lines = self._wrapped(plan.caption, self._width, _SMALL)
        height = len(lines) * _SMALL[2]
        wide, high = self._size(plan, self._width)
        if plan.layout == "next page":
            self._over_pages(plan)
            return
        if plan.layout == "beside":
            self._beside(plan)
            return
        if plan.layout == "over break" and self._break(plan, lines):
            return
        if self._room < high + height + 30:
            self._next_column()
        self._y += 10
        if plan.place == "above":
            caption = self._caption(lines, self._x)
            self._y += 8
        box = self._picture(plan, self._x, self._y, wide, high)
        self._y += high + 8
        if plan.place == "below":
            caption = self._caption(lines, self._x)
        self._note(plan, box, self._page, caption, self._page)
        self._y += 16

    def _size(self, plan: FigurePlan, width: float, most: float = 300.0) -> tuple[float, float]:
        """Width and height of a picture that fits."""
        if plan.layout == "plot":
            return min(width, 260.0), 150.0
        ratio = (plan.rows * 210 - GUTTER_PX) / (plan.columns * 210 - GUTTER_PX)
        wide = min(width * 0.9, 130.0 * plan.columns)
        return (wide, wide * ratio) if wide * ratio <= most else (most / ratio, most)

    def _caption(self, lines: list[str], x: float) -> list[float]:
        top = self._y
        for line in lines:
            self._y += _SMALL[2]
            self._words(line, x, self._y, _SMALL)
        return [x, top, x + self._width, self._y + 2]

    def _picture(self, plan: FigurePlan, x: float, y: float, wide: float, high: float) -> list[float]:
        """Draw the picture of a plan at (x, y); returns the box of all of it."""
        if plan.layout == "plot":
            return self._plot(x, y, wide, high)
        whole = picture(plan, self._rng)
        if plan.layout == "strips":
            num = 4
            step = whole.height // num
            for i in range(num):
                rest = whole.height - (num - 1) * step
                tall = step if i < num - 1 else rest
                strip = whole.crop((0, i * step, whole.width, i * step + tall))
                self._image(strip, x, y + high * i * step / whole.height, wide, high * tall / whole.height)
            return [x, y, x + wide, y + high]
        if plan.layout == "separate":
            return self._separate(plan, whole, x, y, wide / whole.width)
        self._image(whole, x, y, wide, high)
        return [x, y, x + wide, y + high]

    def _separate(self, plan: FigurePlan, whole: Image.Image, x: float, y: float, scale: float) -> list[float]:
        """Each panel its own picture object; their letters stand above them as text where the plan says so."""
        for i, (x0, y0, x1, y1) in enumerate(panel_boxes(plan)):
            self._image(
                whole.crop((x0, y0, x1, y1)), x + x0 * scale, y + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale
            )
            if plan.letters == "above" and plan.panels:
                self._canvas.setFillColorRGB(1, 1, 1)
                self._words(
                    plan.panels[i].letter, x + x0 * scale + 4, y + y0 * scale + 13, ("Helvetica-Bold", 11.0, 12.0)
                )
                self._canvas.setFillColorRGB(0, 0, 0)
        return [x, y, x + whole.width * scale, y + whole.height * scale]

    def _plot(self, x: float, y: float, wide: float, high: float) -> list[float]:
        """A plot of paths with words at its axes."""
        c, bottom = self._canvas, PAGE[1] - y - high + 24
        c.line(x + 24, bottom, x + wide, bottom)
        c.line(x + 24, bottom, x + 24, PAGE[1] - y)
        num = int(self._rng.integers(5, 10))
        for i in range(num):
            c.setFillColorRGB(*self._rng.uniform(0.2, 0.8, 3))
            c.rect(
                x + 32 + i * (wide - 40) / num,
                bottom,
                (wide - 60) / num,
                float(self._rng.uniform(10, high - 30)),
                fill=1,
            )
        c.setFillColorRGB(0, 0, 0)
        for i in range(num):
            self._words(str(i + 1), x + 34 + i * (wide - 40) / num, PAGE[1] - bottom + 9, ("Helvetica", 7.0, 8.0))
        self._words("grade", x + wide / 2, y + high - 2, ("Helvetica", 7.0, 8.0))
        self._words("n", x + 14, y + high / 2, ("Helvetica", 7.0, 8.0))
        return [x + 14, y, x + wide, y + high]

    def _beside(self, plan: FigurePlan) -> None:
        wide, high = self._size(plan, self._width * 0.55, 220.0)
        lines = self._wrapped(plan.caption, self._width - wide - 16, _SMALL)
        tall = max(high, len(lines) * _SMALL[2])
        if self._room < tall + 30:
            self._next_column()
        self._y += 12
        top = self._y
        box = self._picture(plan, self._x, top, wide, high)
        caption = self._caption(lines, self._x + wide + 14)
        self._note(plan, box, self._page, caption, self._page)
        self._y = top + tall + 16

    def _break(self, plan: FigurePlan, lines: list[str]) -> bool:
        """Two lines of the caption at the foot of the page, the others on the next; False where that cannot be."""
        if len(lines) < 3 or not 160 < self._room < 380 or self._column + 1 != self._plan.columns:
            return False
        high = min(self._room - 2 * _SMALL[2] - 20, 300.0)
        wide, tall = self._size(plan, self._width, high)
        self._y = PAGE[1] - _BOTTOM - 2 * _SMALL[2] - 8 - tall
        box, page = self._picture(plan, self._x, self._y, wide, tall), self._page
        self._y += tall + 8
        caption = self._caption(lines[:2], self._x)
        self._new_page()
        self._caption(lines[2:], self._x)
        self._note(plan, box, page, caption, page)
        self._y += 20
        return True

    def _over_pages(self, plan: FigurePlan) -> None:
        """The picture fills a page; its caption stands at the head of the next."""
        self._new_page()
        width = PAGE[0] - 2 * _MARGIN
        wide, high = self._size(plan, width / 0.9, 560.0)
        grow = min(width / wide, 560.0 / high)
        box, page = self._picture(plan, _MARGIN, _TOP + 20, wide * grow, high * grow), self._page
        self._new_page()
        lines = self._wrapped(plan.caption, self._width, _SMALL)
        caption = self._caption(lines, self._x)
        self._note(plan, box, page, caption, self._page)
        self._y += 20

    def _turned(self, plan: FigurePlan) -> None:
        """A landscape page: everything on it runs upwards, and an entry of the page may say so."""
        self._canvas.showPage()
        self._page += 1
        if plan.rotated:  # reportlab turns the page's box with it
            self._canvas.setPageSize(PAGE[::-1])
            self._canvas.setPageRotation(90)
        self._canvas.saveState()
        self._canvas.translate(PAGE[0], 0)
        self._canvas.rotate(90)
        self._canvas.translate(0, PAGE[0] - PAGE[1])  # y is counted from the top of a page that is 595 pt high now
        wide, high = self._size(plan, 400.0, 260.0)
        box = self._picture(plan, 120.0, 110.0, wide, high)
        self._y = 110.0 + high + 8
        width, self._width = self._width, 500.0
        caption = self._caption(self._wrapped(plan.caption, 500.0, _SMALL), 120.0)
        self._width = width
        self._note(plan, box, self._page, caption, self._page)
        self._canvas.restoreState()
        self._new_page()
        self._canvas.setPageSize(PAGE)
        self._canvas.setPageRotation(0)

    def _note(self, plan: FigurePlan, box: list[float], page: int, caption: list[float], caption_page: int) -> None:
        wide = plan.columns * 210 - GUTTER_PX
        high = plan.rows * 210 - GUTTER_PX
        shares = [[b[0] / wide, b[1] / high, b[2] / wide, b[3] / high] for b in panel_boxes(plan)]
        panels = [{"letter": p.letter.lower(), "caption": p.caption, "share": s}
                  for p, s in zip(plan.panels, shares, strict=False)]  # fmt: skip
        self._truth.figures.append(
            {"number": plan.numbers[0], "label": plan.label, "caption": plan.caption, "page": page,
             "box": [round(v, 1) for v in box], "caption_page": caption_page, "layout": plan.layout,
             "turned": plan.turned, "letters": plan.letters, "panels": panels}
        )  # fmt: skip

    # ---- what is no figure

    def _table(self) -> None:
        if self._room < 180:
            self._next_column()
        self._truth.tables += 1
        word = "Tabelle" if self._plan.language == "de" else "Table"
        self._y += 10
        self._caption([f"{word} {self._truth.tables}. PHANTOM counts of glands."], self._x)
        wide = min(self._width, 240.0)
        self._image(table_picture(self._rng), self._x, self._y + 6, wide, wide * 150 / 420)
        self._y += wide * 150 / 420 + 24

    def _lone_picture(self) -> None:
        """A picture without a caption: an advertisement, a portrait."""
        if self._room < 110:
            self._next_column()
        image = Image.fromarray(self._rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).resize((180, 120))
        self._image(image, self._x + 20, self._y + 10, 90, 60)
        self._y += 90
