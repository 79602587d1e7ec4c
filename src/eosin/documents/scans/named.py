"""Engines that read words, by name."""

from __future__ import annotations

import importlib.util

from eosin.core.errors import EosinError, MissingExtraError
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


def check_engine(name: str) -> None:
    """Refuse to begin without the engine that is asked for; nothing is loaded.

    Raises:
        MissingExtraError: its package is not installed.
        EosinError: it is not on this machine.
    """
    if name == "rapidocr" and importlib.util.find_spec("rapidocr") is None:
        raise MissingExtraError("rapidocr", "ocr")
    if name == "tesseract":
        tesseract()
