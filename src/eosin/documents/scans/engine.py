"""An engine that reads words from pictures: rapidocr, whose package brings its models. Nothing is downloaded."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eosin.core.extras import need
from eosin.documents.page.boxes import Box

U8 = NDArray[np.uint8]
MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Word:
    """A line of words with its box in pixels and the engine's confidence, 0..1."""

    text: str
    box: Box
    confidence: float


class Reads(Protocol):
    """Whatever reads words from a picture."""

    def __call__(self, rgb: U8) -> list[Word]:
        """Words of a picture (H, W, 3) that stands upright or on its head."""
        ...


@functools.cache
def rapidocr() -> Reads:
    """The engine, made once in a process.

    Raises:
        MissingExtraError: it is not installed.
    """
    RapidOCR = need("rapidocr", "ocr").RapidOCR
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    engine = RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 2,
                              "EngineConfig.onnxruntime.inter_op_num_threads": 1})  # fmt: skip

    def read(rgb: U8) -> list[Word]:
        found: Any = engine(np.ascontiguousarray(rgb[:, :, ::-1]), use_cls=False)
        if found.boxes is None or found.txts is None:
            return []
        words = []
        for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
            x, y = np.asarray(corners)[:, 0], np.asarray(corners)[:, 1]
            box = Box(float(x.min()), float(y.min()), float(x.max()), float(y.max()))
            words.append(Word(str(text), box, float(score)))
        return words

    return read
