"""Slides through OpenSlide: svs, ndpi, mrxs, scn, bif, tiled TIFF, DICOM and others."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eosin.slides.open.backends.base import RegionError, SlideError, SlideMetadata, has_pixels, scale_of
from eosin.slides.open.backends.verified import VerifiedTiles
from eosin.slides.open.colours import PixelOptions, not_for_openslide, refuse, unturned
from eosin.slides.open.native import MissingTileError

# Formats whose pixels lie in TIFF tiles or strips that must all be inside the file.
TIFF_VENDORS = ("aperio", "generic-tiff", "philips", "ventana", "leica", "trestle")


def open_openslide(file: Path, path: Path, magic: bytes, *, asked: bool) -> OpenSlideBackend | None:
    """An open file; None where OpenSlide does not know the format.

    Raises:
        SlideError: OpenSlide knows the format and cannot open the file, or `asked` and it does not know it.
    """
    import openslide

    from eosin.slides.open.magic import is_dicom

    try:
        vendor = openslide.OpenSlide.detect_format(str(file))
    except openslide.OpenSlideError as exc:
        vendor = None
        if asked:
            raise SlideError("slide damaged", found=str(exc)[:200], where=path) from None
    if vendor == "generic-tiff" and not asked and _is_ome(file):
        return None  # OpenSlide does not read the scale and the levels of OME-TIFF
    if vendor is None:
        if asked:
            raise SlideError("format unknown to OpenSlide", where=path)
        return None
    try:
        backend = OpenSlideBackend(file, vendor)
        if vendor == "dicom" and not asked and not has_pixels(backend):
            return None
        return backend
    except openslide.OpenSlideError as exc:
        if is_dicom(magic) and not asked:
            return None  # wsidicom reads some that OpenSlide does not
        raise SlideError("slide damaged", found=f"OpenSlide: {_words(exc)}", where=path) from None


class OpenSlideBackend:
    """One OpenSlide handle. After an error a handle is dead, so a new one takes its place."""

    def __init__(self, file: Path, vendor: str) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._handle: Any = self._open()
        self._tiles: VerifiedTiles | None = None
        self._downsamples = tuple(float(d) for d in self._handle.level_downsamples)
        properties = dict(self._handle.properties)
        if not self._handle.level_count:
            raise SlideError("slide without levels", where=file)
        notes: tuple[str, ...] = ()
        if vendor in TIFF_VENDORS:
            from eosin.slides.open.native import check_whole

            check_whole(file)
            notes = _check_colour(file)
        mpp_xy, note = scale_of(
            properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y"), print_limit=vendor == "generic-tiff"
        )
        self.metadata = SlideMetadata(
            reader="openslide",
            vendor=vendor,
            level_sizes_px=tuple((int(w), int(h)) for w, h in self._handle.level_dimensions),
            mpp_xy=mpp_xy,
            mpp_note=_with_power(note, properties) if mpp_xy is None else note,
            properties=properties,
            associated=tuple(self._handle.associated_images),
            icc=_profile(self._handle),
            notes=notes,
        )
        if vendor in TIFF_VENDORS:
            self._tiles = VerifiedTiles(file, self.metadata.level_sizes_px)

    def _open(self) -> Any:
        import openslide

        return openslide.OpenSlide(str(self._file))

    def region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """See Backend.region."""
        if self._tiles is not None:
            native = self._tiles.level(level, self.plain_region)
            if native is not None:
                with suppress(MissingTileError):  # OpenSlide knows what a missing tile means in this format
                    return native.region(level, x, y, width, height)
        return self.plain_region(level, x, y, width, height)

    def plain_region(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """The same pixels, by OpenSlide alone."""
        import openslide

        handle = self._handle
        down = self._downsamples[level]
        try:
            image = handle.read_region((round(x * down), round(y * down)), level, (width, height))
        except (openslide.OpenSlideError, OSError) as exc:
            self._replace(handle)
            raise RegionError("tile damaged", found=_words(exc), where=self._file) from None
        return on_white(image)

    def _replace(self, dead: Any) -> None:
        """Other threads may still use the dead handle; it is closed when the last of them lets it go."""
        with self._lock:
            if self._handle is dead:
                self._handle = self._open()

    def associated_image(self, name: str) -> np.ndarray:
        """See Backend.associated_image."""
        return on_white(self._handle.associated_images[name])

    def close(self) -> None:
        """See Backend.close."""
        if self._tiles is not None:
            self._tiles.close()
        self._handle.close()


def _check_colour(file: Path) -> tuple[str, ...]:
    """OpenSlide turns whatever it finds into red, green and blue of 8 bits: what is none of that is not for it.

    Returns:
        What the file holds that OpenSlide does not read, in words.

    Raises:
        SlideError: "not a colour picture of 8 bits", or "not read by OpenSlide".
    """
    from eosin.slides.open.native import open_tiff

    with open_tiff(file) as tiff:
        try:
            page = max(tiff.pages, key=lambda p: int(p.imagewidth) * int(p.imagelength))
            if 258 not in page.tags:
                raise SlideError("slide damaged", found="its largest page has no tag of bits a sample", where=file)
            refuse(page, PixelOptions(), file)
            if (found := not_for_openslide(page)) is not None:
                raise SlideError("not read by OpenSlide", found=found, where=file)
            size = (page.imagewidth, page.imagelength)
            alike = sum((p.imagewidth, p.imagelength) == size for p in tiff.pages) - 1
            more = (f"{alike} more pages like the first in this file not read",) if alike else ()
            return (*more, *unturned(page))
        except SlideError:
            raise
        except Exception as exc:  # damaged tags give many kinds of error
            raise SlideError("slide damaged", found=str(exc)[:200], where=file) from None


def _is_ome(file: Path) -> bool:
    from eosin.slides.open.native import open_tiff

    with open_tiff(file) as tiff:
        return bool(tiff.is_ome)


def on_white(image: Image.Image) -> np.ndarray:
    """RGBA to RGB; what was not scanned becomes white."""
    low, high = image.getchannel("A").getextrema()
    if low == 255:
        return np.asarray(image.convert("RGB"))
    if high == 0:
        return np.full((image.height, image.width, 3), 255, dtype=np.uint8)
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def _profile(handle: Any) -> bytes | None:
    profile = getattr(handle, "color_profile", None)
    return bytes(profile.tobytes()) if profile is not None else None


def _with_power(note: str, properties: dict[str, str]) -> str:
    power = properties.get("openslide.objective-power")
    return f"{note} (its objective power {power} is a label, not a scale)" if power else note


def _words(exc: Exception) -> str:
    return str(exc)[:200] or type(exc).__name__
