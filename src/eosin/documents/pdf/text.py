"""The text layer of a PDF page as lines: letters in the order of the file, parted where the eye parts them."""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from eosin.documents.page.boxes import Box, around
from eosin.documents.page.page import SOFT_HYPHEN, Line
from eosin.documents.pdf.frame import Frame

MAX_CHARS = 200_000
"""Letters of one page that are looked at; a page of a book has some 3,000."""
_GAP = 1.3
"""A gap of so many letter heights parts two lines that stand side by side."""
_HYPHEN = "\x02"


@dataclass(frozen=True)
class Letter:
    """A character with its box on the page as read; `break_before` where the file ends a line before it."""

    text: str
    box: Box
    number: int
    space_before: bool
    break_before: bool


def text_turn(textpage: Any, raw: Any) -> int | None:
    """Quarter turns clockwise that set the text of an unturned page upright; None where it does not say."""
    total = min(textpage.count_chars(), 4000)
    turns: Counter[int] = Counter()
    for i in range(0, total, 1 + total // 300):
        if raw.FPDFText_GetUnicode(textpage, i) > 32:
            angle = raw.FPDFText_GetCharAngle(textpage, i)
            turns[-round(angle / (0.5 * math.pi)) % 4] += 1  # the angle is counted clockwise
    if not turns:
        return None
    most, count = turns.most_common(1)[0]
    return most if count > 0.6 * sum(turns.values()) else None


def lines_of(textpage: Any, raw: Any, frame: Frame) -> tuple[Line, ...]:
    """Lines of text of a page, in the order of the file.

    Args:
        textpage: of pypdfium2. raw: its module of C functions.
    """
    lines: list[Line] = []
    run: list[Letter] = []
    for letter in _letters(textpage, raw, frame):
        if run and (letter.break_before or _parts(run, letter)):
            lines += _line(run, textpage, raw)
            run = []
        run.append(letter)
        if letter.text == SOFT_HYPHEN:
            lines += _line(run, textpage, raw)
            run = []
    lines += _line(run, textpage, raw)
    return tuple(lines)


def _letters(textpage: Any, raw: Any, frame: Frame) -> list[Letter]:
    corner = raw.FS_RECTF()
    page = Box(0.0, 0.0, *frame.size).grown(2.0)
    letters: list[Letter] = []
    space = ends = False
    for i in range(min(textpage.count_chars(), MAX_CHARS)):
        code = raw.FPDFText_GetUnicode(textpage, i)
        text = chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
        if text in "\r\n":
            ends = True
            continue
        if text.isspace():
            space = True
            continue
        text = SOFT_HYPHEN if text in (_HYPHEN, "\ufffe") else text
        if not raw.FPDFText_GetLooseCharBox(textpage, i, corner):
            continue
        box = frame.box(corner.left, corner.bottom, corner.right, corner.top)
        if page.meet(box) is None:
            continue  # outside of what the page shows
        letters.append(Letter(text, box, i, space, ends))
        space = ends = False
    return letters


def _parts(run: Sequence[Letter], letter: Letter) -> bool:
    """Whether a letter begins a new line after these."""
    last = run[-1].box
    height = max(last.height, letter.box.height, 1.0)
    if last.overlap_y(letter.box) < 0.3 * min(last.height, letter.box.height):
        return True
    return letter.box.x0 - last.x1 > _GAP * height or letter.box.x1 < last.x0 - height


def _line(run: Sequence[Letter], textpage: Any, raw: Any) -> list[Line]:
    if not run:
        return []
    text = "".join((" " if c.space_before and i else "") + c.text for i, c in enumerate(run))
    size = float(median(c.box.height for c in run))
    box = around(c.box for c in run if c.box.height > 0.5 * size)
    if box.width <= 0 or box.height <= 0:
        return []
    return [Line(text, box, round(size, 2), _is_bold(textpage, raw, run[0].number))]


def _is_bold(textpage: Any, raw: Any, number: int) -> bool:
    weight = raw.FPDFText_GetFontWeight(textpage, number)
    if weight >= 600:
        return True
    name = ctypes.create_string_buffer(128)
    flags = ctypes.c_int()
    length = raw.FPDFText_GetFontInfo(textpage, number, name, 128, ctypes.byref(flags))
    return 0 < length <= 128 and b"bold" in name.value.lower()
