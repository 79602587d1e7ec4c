"""DICOM slides through wsidicom, for those that OpenSlide does not open."""

from __future__ import annotations

import importlib.util
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from eosin.core.errors import MissingExtraError
from eosin.slides.open.backends.base import RegionError, SlideError, SlideMetadata, has_pixels, scale_of


class DicomBackend:
    """A DICOM slide: one file, or a folder with the files of one slide."""

    def __init__(self, path: Path) -> None:
        if importlib.util.find_spec("wsidicom") is None:
            raise MissingExtraError("wsidicom", "slides")
        self._path = path
        self._lock = threading.Lock()
        self._wsi = _open(path)
        levels = list(self._wsi.levels)
        self._numbers = [level.level for level in levels]
        names = [n for n, held in (("label", self._wsi.labels), ("macro", self._wsi.overviews)) if held]
        base = levels[0]
        mpp_xy, note = scale_of(base.mpp.width, base.mpp.height)
        self.metadata = SlideMetadata(
            reader="wsidicom",
            vendor="dicom",
            level_sizes_px=tuple((int(level.size.width), int(level.size.height)) for level in levels),
            mpp_xy=mpp_xy,
            mpp_note=note,
            properties={"dicom.tile": f"{base.tile_size.width} x {base.tile_size.height}"},
            associated=tuple(names),
        )
        if not has_pixels(self):
            self._wsi.close()
            raise SlideError("slide without pixel data", where=path)

    def region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See Backend.region."""
        try:
            with self._lock:
                image = self._wsi.read_region((x, y), self._numbers[level], (width, height))
        except Exception as exc:  # decoders meet damaged data with many kinds of error
            raise RegionError("tile damaged", found=str(exc)[:160], where=self._path) from None
        return np.asarray(image.convert("RGB"))

    def associated_image(self, name: str) -> np.ndarray:
        """See Backend.associated_image."""
        with self._lock:
            image = self._wsi.read_label() if name == "label" else self._wsi.read_overview()
        return np.asarray(image.convert("RGB"))

    def close(self) -> None:
        """See Backend.close."""
        self._wsi.close()


def _open(path: Path) -> Any:
    import wsidicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wsi = wsidicom.WsiDicom.open(path)
            if not len(wsi.levels):
                raise SlideError("slide without levels", where=path)
            return wsi
    except SlideError:
        raise
    except Exception as exc:  # damaged data sets give many kinds of error
        raise SlideError("slide damaged", found=f"{type(exc).__name__}: {str(exc)[:160]}", where=path) from None
