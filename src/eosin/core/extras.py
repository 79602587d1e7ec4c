"""Optional packages, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from eosin.core.errors import MissingExtraError

_SOLD_AS = {
    "open_clip": "open_clip_torch", "PIL": "pillow", "cv2": "opencv-python-headless", "rouge_score": "rouge-score",
}  # fmt: skip


def need(package: str, extra: str = "train") -> Any:
    """Import an optional package or module of one.

    Raises:
        MissingExtraError: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as exc:
        missing = (exc.name or package).split(".")[0]
        raise MissingExtraError(_SOLD_AS.get(missing, missing), extra) from exc
