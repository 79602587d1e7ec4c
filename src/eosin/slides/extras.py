"""The packages of slides, asked for before anything is written."""

from __future__ import annotations

from eosin.core.extras import need


def need_slides() -> None:
    """Refuse early where the packages that write and read slides are missing.

    Raises:
        MissingExtraError: as `need`.
    """
    for package in ("cv2", "tifffile", "h5py"):
        need(package, "slides")
