"""A whole slide behind one interface: regions in level-0 pixels or microns, at any microns per pixel.

Coordinate rules (docs/slides.md has the drawing): level 0 starts at its upper left corner, x to the right, y down.
Pixel i of a level with downsample d covers [i d, (i + 1) d) of level 0. What lies outside level 0 is white.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from eosin.core.nouns.units import BoxLevel0, BoxMicrons, to_level0
from eosin.slides.open.backends.base import Backend, SlideError
from eosin.slides.open.colours import Depth, PixelOptions
from eosin.slides.open.opening import open_backend
from eosin.slides.open.resample import level_for, read_scaled, read_tolerant

if TYPE_CHECKING:
    from eosin.slides.open.zarr_view import ZarrView

ANISOTROPY_LIMIT = 0.01
SECRET_IMAGES = ("label", "macro")


class Slide:
    """An open slide. Use it in a `with` block; it can be pickled and shared between threads.

    After a fork or in another process the file is opened anew at the first read.

    Attributes:
        path: the file. reader: openslide, tifffile, wsidicom or image. vendor: maker of the format.
        size_px: width, height of level 0.
        level_sizes_px, level_downsamples: of each level, largest first; a downsample is an exact integer where the
            level's size allows it.
        properties: all that the file says, as text. They can hold names.
        associated: names of label, macro and thumbnail images.
        mpp_note: where µm per pixel come from, or why there are none.
        notes: what the file holds beside this picture that is not read, in words.
    """

    def __init__(
        self, path: Path, *, mpp: float | None = None, icc: bool = False, reader: str | None = None,
        grey: bool = False, depth16: Depth | None = None,
    ) -> None:  # fmt: skip
        self._stated_mpp = _checked_mpp(mpp, path)
        self._asked_reader = reader
        self._options = PixelOptions(grey, depth16)
        self.icc = icc
        self.path = Path(path)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._backend: Backend | None = open_backend(self.path, reader, self._options)
        facts = self._backend.metadata
        self.reader, self.vendor = facts.reader, facts.vendor
        self.level_sizes_px = facts.level_sizes_px
        self.level_downsamples = _downsamples(facts.level_sizes_px, self.path)
        self.size_px = facts.level_sizes_px[0]
        self.properties: Mapping[str, str] = facts.properties
        self.associated = facts.associated
        self.mpp_xy = facts.mpp_xy
        self.mpp_note = facts.mpp_note if mpp is None else "stated by the user"
        self.icc_profile = facts.icc
        self.notes = facts.notes
        self._colours: Any = None
        if icc and facts.icc is None:
            raise SlideError("slide without a colour profile", where=self.path, next_step="leave --icc away")

    @property
    def mpp(self) -> float:
        """Microns per pixel of level 0.

        Raises:
            SlideError: the file does not say and the user did not, or x and y differ by more than 1 %.
        """
        if self._stated_mpp is not None:
            return self._stated_mpp
        if self.mpp_xy is None:
            raise SlideError(
                "microns per pixel unknown",
                expected="a slide that states its scale",
                found=self.mpp_note,
                where=self.path,
                next_step="state it: --mpp 0.5 (open_slide(path, mpp=0.5)); it is never guessed",
            )
        x, y = self.mpp_xy
        if abs(x - y) > ANISOTROPY_LIMIT * min(x, y):
            raise SlideError(
                "pixels are not square",
                expected="microns per pixel along x and y within 1 % of each other",
                found=f"{x:g} x {y:g} µm",
                where=self.path,
                next_step="state the scale if this is a mistake of the file: --mpp",
            )
        return (x + y) / 2

    @property
    def has_mpp(self) -> bool:
        """Whether the scale is known and usable."""
        try:
            return self.mpp > 0
        except SlideError:
            return False

    @property
    def backend(self) -> Backend:
        """The open reader of this process."""
        with self._lock:
            if self._backend is None or self._pid != os.getpid():
                self._backend = open_backend(self.path, self._asked_reader, self._options)
                self._pid = os.getpid()
            return self._backend

    def read(
        self, box: BoxLevel0 | BoxMicrons, mpp: float | None = None, *, out_px: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Pixels of a box: uint8 (height, width, 3), averaged over area where they are coarser than the file.

        Args:
            box: in pixels of level 0, or in microns (rounded to whole pixels of level 0).
            mpp: microns per pixel of the result; None: those of level 0.
            out_px: width and height of the result, instead of `mpp`.

        Raises:
            SlideError: the scale is needed and unknown. RegionError: a part cannot be decoded.
        """
        level0 = box if isinstance(box, BoxLevel0) else to_level0(box, self.mpp)
        width, height = level0.x1 - level0.x0, level0.y1 - level0.y0
        if out_px is None:
            scale = 1.0 if mpp is None else mpp / self.mpp
            out_px = max(1, round(width / scale)), max(1, round(height / scale))
        level = level_for(self.level_downsamples, min(width / out_px[0], height / out_px[1]))
        pixels = read_scaled(
            self.backend, level, self.level_downsamples[level], (level0.x0, level0.y0, level0.x1, level0.y1), out_px
        )
        return self.coloured(pixels)

    def thumbnail(self, max_px: int) -> np.ndarray:
        """The whole slide, uint8 (height, width, 3), its longer side `max_px` at most."""
        width, height = self.size_px
        return self.read(BoxLevel0(x0=0, y0=0, x1=width, y1=height), out_px=self.fit_px(max_px))

    def fit_px(self, max_px: int) -> tuple[int, int]:
        """Width and height of the whole slide when its longer side is `max_px` at most."""
        scale = max(1.0, max(self.size_px) / max_px)
        return max(1, round(self.size_px[0] / scale)), max(1, round(self.size_px[1] / scale))

    def overview(self, out_px: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The whole slide at a size, and where it cannot be decoded; such parts are grey.

        Args:
            out_px: width, height.

        Returns:
            uint8 (height, width, 3) and bool (height, width).
        """
        scale = self.size_px[0] / out_px[0], self.size_px[1] / out_px[1]
        level = level_for(self.level_downsamples, min(scale))
        pixels, damaged = read_tolerant(self.backend, level, self.level_downsamples[level], scale, out_px)
        return self.coloured(pixels), damaged

    def associated_image(self, name: str, *, with_label: bool = False) -> np.ndarray:
        """A label, macro or thumbnail image, uint8 (height, width, 3).

        Raises:
            SlideError: there is none of this name, or it may hold a patient's name and `with_label` is not given.
        """
        if name not in self.associated:
            raise SlideError("no such image in this slide", expected=", ".join(self.associated), found=name,
                             where=self.path)  # fmt: skip
        if name != "thumbnail" and not with_label:
            raise SlideError("label and macro images can hold names", found=name, where=self.path,
                             next_step="--with-label, if that is what you want")  # fmt: skip
        return self.backend.associated_image(name)

    def zarr(self) -> ZarrView:
        """The levels as lazy zarr arrays, where zarr is installed and the file is a TIFF. See `zarr_view`."""
        from eosin.slides.open.zarr_view import zarr_view

        return zarr_view(self)

    def coloured(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels turned to sRGB by the file's own profile, where `icc` was asked for; else as they are."""
        if not self.icc:
            return pixels
        from eosin.slides.open.colour import to_srgb

        return to_srgb(pixels, self.icc_profile or b"")

    def close(self) -> None:
        """Give the file back. A later read opens it again."""
        with self._lock:
            if self._backend is not None and self._pid == os.getpid():
                self._backend.close()
            self._backend = None

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "mpp": self._stated_mpp, "icc": self.icc, "reader": self._asked_reader,
                "options": self._options}  # fmt: skip

    def __setstate__(self, state: dict[str, Any]) -> None:
        Slide.__init__(
            self, state["path"], mpp=state["mpp"], icc=state["icc"], reader=state["reader"],
            grey=state["options"].grey, depth16=state["options"].depth16,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Slide({str(self.path)!r}, {self.size_px[0]} x {self.size_px[1]} px, {self.reader})"


def open_slide(
    path: str | Path, *, mpp: float | None = None, icc: bool = False, reader: str | None = None, grey: bool = False,
    depth16: Depth | None = None,
) -> Slide:  # fmt: skip
    """Open a slide.

    Args:
        path: a file, or a folder of DICOM files.
        mpp: microns per pixel of level 0, where the file does not say or is wrong.
        icc: turn colours to sRGB with the profile in the file.
        reader: openslide, tifffile, wsidicom or image; None: the first that opens it, in this order.
        grey: read a picture of one channel too, as three equal colours; else it is refused.
        depth16: read more than 8 bits a channel too, scaled by the range that the file states, or by the one measured
            on its smallest level; else it is refused.

    Raises:
        SlideError: it cannot be opened; the message is the true reason. MissingExtraError: packages are missing.
    """
    return Slide(Path(path), mpp=mpp, icc=icc, reader=reader, grey=grey, depth16=depth16)


def _checked_mpp(mpp: float | None, path: Path) -> float | None:
    if mpp is not None and not 0 < mpp < 1000:
        raise SlideError("microns per pixel out of range", expected="0 < mpp < 1000", found=str(mpp), where=path)
    return mpp


def _downsamples(sizes: tuple[tuple[int, int], ...], path: Path) -> tuple[float, ...]:
    """Downsample of every level; refuses levels that cannot be pictures of one slide."""
    if not sizes or min(min(size) for size in sizes) < 1:
        raise SlideError("slide damaged", expected="levels of at least one pixel",
                         found=", ".join(f"{w} x {h} px" for w, h in sizes)[:120], where=path)  # fmt: skip
    width, height = sizes[0]
    found: list[float] = []
    for number, (w, h) in enumerate(sizes):
        down = _downsample((width, height), (w, h))
        off = max(abs(width / down - w) / w, abs(height / down - h) / h)
        if off > 0.01 and max(abs(width / down - w), abs(height / down - h)) > 2:
            raise SlideError("levels disagree in shape", expected=f"the shape of {width} x {height} px",
                             found=f"level {number}: {w} x {h} px", where=path)  # fmt: skip
        if found and down < found[-1]:
            raise SlideError("levels out of order", expected="largest level first",
                             found=f"level {number}: {w} x {h} px", where=path)  # fmt: skip
        found.append(down)
    return tuple(found)


def _downsample(full: tuple[int, int], level: tuple[int, int]) -> float:
    """How many times a level is smaller than level 0. Sizes are above 0."""
    whole = max(1, round((full[0] / level[0] + full[1] / level[1]) / 2))
    if all(side in (full_side // whole, -(-full_side // whole)) for full_side, side in zip(full, level, strict=True)):
        return float(whole)
    return (full[0] / level[0] + full[1] / level[1]) / 2
