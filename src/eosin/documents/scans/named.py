"""Engines that read words, by name."""

from __future__ import annotations

from eosin.core.errors import EosinError
from eosin.documents.scans.engine import Reads, rapidocr
from eosin.documents.scans.tesseract import tesseract


def engine_of(name: str) -> Reads:
    """The engine of a name.

    Raises:
        EosinError: it is not on this machine, or there is none of this name.
    """
    if name == "rapidocr":
        return rapidocr()
    if name == "tesseract":
        return tesseract()
    raise EosinError("There is no OCR engine of this name.", expected="rapidocr or tesseract", found=name)
