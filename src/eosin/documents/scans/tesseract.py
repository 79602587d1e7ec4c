"""Words of a picture by the program tesseract, where the machine has it. Its languages are those that it brings."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections import defaultdict

import numpy as np
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import encode_png
from eosin.documents.page.boxes import Box
from eosin.documents.scans.engine import U8, Reads, Word

TIMEOUT_S = 120
LANGUAGES = "EOSIN_TESSERACT_LANGUAGES"
"""Variable that names the languages to read, such as eng+deu; English without it."""
_WORD = "5"


@functools.cache
def tesseract() -> Reads:
    """The engine. Each picture is read by a process of its own, which gets it on its standard input.

    Raises:
        EosinError: the program is not on this machine.
    """
    program = shutil.which("tesseract")
    if program is None:
        raise EosinError(
            "The program tesseract is not on this machine.", expected="tesseract 4 or later on the search path",
            next_step="apt-get install tesseract-ocr, or --ocr rapidocr with pip install 'eosin[ocr]'",
        )  # fmt: skip
    command = [program, "stdin", "stdout", "-l", os.environ.get(LANGUAGES, "eng"), "--psm", "3", "tsv"]
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}

    def read(rgb: U8) -> list[Word]:
        picture = encode_png(Image.fromarray(np.ascontiguousarray(rgb)))
        try:
            done = subprocess.run(command, input=picture, capture_output=True, timeout=TIMEOUT_S, env=environment)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise EosinError("tesseract did not read the page", found=type(exc).__name__) from None
        if done.returncode:
            told = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise EosinError("tesseract did not read the page", found=(told or ["no reason"])[-1][:160])
        return lines_of(done.stdout.decode("utf-8", "replace"))

    return read


def lines_of(table: str) -> list[Word]:
    """Lines of words from tesseract's table: left, top, width, height, confidence in percent, and the word.

    Words of one line become one text with the box around them; its confidence is the mean by letter.
    """
    rows = [line.split("\t") for line in table.splitlines()]
    lines: dict[tuple[str, ...], list[tuple[Box, float, str]]] = defaultdict(list)
    for row in rows:
        if len(row) != 12 or row[0] != _WORD or not row[11].strip():
            continue
        left, top, width, height, confidence = (float(v) for v in row[6:11])
        box = Box(left, top, left + width, top + height)
        lines[tuple(row[1:5])].append((box, max(0.0, confidence) / 100, row[11].strip()))
    return [_line(words) for words in lines.values()]


def _line(words: list[tuple[Box, float, str]]) -> Word:
    boxes = [box for box, _, _ in words]
    around = Box(min(b.x0 for b in boxes), min(b.y0 for b in boxes), max(b.x1 for b in boxes), max(b.y1 for b in boxes))
    letters = sum(len(text) for _, _, text in words)
    sure = sum(confidence * len(text) for _, confidence, text in words) / letters
    return Word(" ".join(text for _, _, text in words), around, sure)
