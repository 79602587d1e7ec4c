"""`slide:` references become pictures here: for training, exams, asking and the viewer, all the same way.

Two bounded caches: pixels of regions that were read, by bytes, and open slides, by number. Safe between threads; a
copy in another process (pickled or forked) starts with empty caches.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import check_size
from eosin.core.nouns.sample import SlideBag, SlideRegion
from eosin.core.nouns.units import BoxLevel0, to_level0

if TYPE_CHECKING:
    from eosin.core.nouns.bags import PatchBag
    from eosin.slides.features.bags import BagCache
    from eosin.slides.open.slide import Slide

MIB = 2**20
MAX_PIXELS = 179_000_000  # as for picture files


@dataclass
class _Handle:
    """One open slide and how many threads are reading it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    slide: Slide | None = None
    users: int = 0


class SlideRegions:
    """Reads regions of slides; it is the RegionReader of `eosin.core.images`.

    Args:
        cache_mib: pixels that are kept, in MiB. 0 keeps none.
        max_open: slides that stay open while nobody reads them.
        mpp: microns per pixel of level 0, for slides that do not state it.
    """

    def __init__(self, *, cache_mib: float = 256.0, max_open: int = 16, mpp: float | None = None) -> None:
        self._settings = {"cache_mib": cache_mib, "max_open": max_open, "mpp": mpp}
        self._limit = int(cache_mib * MIB)
        self._max_open = max(1, max_open)
        self._mpp = mpp
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._handles: OrderedDict[str, _Handle] = OrderedDict()
        self._pixels: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()
        self._held = 0
        self._bags: BagCache | None = None
        self.num_read = 0
        self.num_found = 0

    def __call__(self, ref: SlideRegion) -> Image.Image:
        """The RGB picture of a region.

        Raises:
            ImageError: the slide cannot be opened or read, its scale is needed and unknown, or the region lies
                outside it or is too small or too large. The message is short enough to serve as a drop reason.
        """
        return Image.fromarray(self.pixels(ref))

    def bag(self, ref: SlideBag) -> PatchBag:
        """The patches of a slide. Raises ImageError as `slides.bags.read_bag`."""
        from eosin.slides.features.bags import BagCache

        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if self._bags is None:
                self._bags = BagCache(self._limit)
            return self._bags.get(ref)

    def pixels(self, ref: SlideRegion) -> np.ndarray:
        """Pixels (h, w, 3) uint8 of a region; not to be written to."""
        if self._pid != os.getpid():  # a forked copy: locks and handles are the parent's
            self._reset()
        key = (ref.path, ref.box, ref.mpp)
        with self._lock:
            if key in self._pixels:
                self._pixels.move_to_end(key)
                self.num_found += 1
                return self._pixels[key]
        try:
            with self._opened(ref.path) as slide:
                pixels = _read(slide, ref)
        except ImageError:
            raise
        except EosinError as exc:
            raise ImageError(exc.message, expected=exc.expected, found=exc.found, where=ref.path) from exc
        pixels.setflags(write=False)
        self._keep(key, pixels)
        return pixels

    def _keep(self, key: tuple[object, ...], pixels: np.ndarray) -> None:
        with self._lock:
            self.num_read += 1
            if pixels.nbytes > self._limit or key in self._pixels:
                return
            self._pixels[key] = pixels
            self._held += pixels.nbytes
            while self._held > self._limit:
                _, old = self._pixels.popitem(last=False)
                self._held -= old.nbytes

    @contextmanager
    def _opened(self, path: str) -> Iterator[Slide]:
        """An open slide, opened once however many threads ask for it."""
        with self._lock:
            handle = self._handles.setdefault(path, _Handle())
            self._handles.move_to_end(path)
            handle.users += 1
        try:
            with handle.lock:
                if handle.slide is None:
                    from eosin.slides.open.slide import open_slide

                    handle.slide = open_slide(path, mpp=self._mpp)
            yield handle.slide
        finally:
            with self._lock:
                handle.users -= 1
                self._close_old()

    def _close_old(self) -> None:
        """Close the slides that were not read for longest; called with the lock held."""
        idle = [p for p, h in self._handles.items() if not h.users]
        for path in idle[: max(0, len(self._handles) - self._max_open)]:
            slide = self._handles.pop(path).slide
            if slide is not None:
                slide.close()

    @property
    def held_bytes(self) -> int:
        """Bytes of pixels that are kept now."""
        return self._held

    @property
    def num_open(self) -> int:
        """Slides that are open now."""
        return sum(h.slide is not None for h in self._handles.values())

    def close(self) -> None:
        """Close all slides and forget all pixels."""
        with self._lock:
            for handle in self._handles.values():
                if handle.slide is not None and not handle.users:
                    handle.slide.close()
            self._handles = OrderedDict((p, h) for p, h in self._handles.items() if h.users)
            self._pixels.clear()
            self._held = 0

    def __getstate__(self) -> dict[str, Any]:
        return self._settings

    def __setstate__(self, state: dict[str, Any]) -> None:
        SlideRegions.__init__(self, **state)


def _read(slide: Slide, ref: SlideRegion) -> np.ndarray:
    """Pixels of a region, after its size and place were seen to be sensible."""
    box = ref.box if isinstance(ref.box, BoxLevel0) else to_level0(ref.box, slide.mpp)
    width, height = slide.size_px
    if box.x1 <= 0 or box.y1 <= 0 or box.x0 >= width or box.y0 >= height:
        raise ImageError(
            "region outside the slide", expected=f"within {width} x {height} px of level 0",
            found=f"({box.x0}, {box.y0}) to ({box.x1}, {box.y1})", where=ref.path,
        )  # fmt: skip
    scale = 1.0 if ref.mpp is None else ref.mpp / slide.mpp
    wide, high = max(1, round((box.x1 - box.x0) / scale)), max(1, round((box.y1 - box.y0) / scale))
    check_size(wide, high, ref.path)
    if wide * high > MAX_PIXELS:
        raise ImageError("image too large", found=f"{wide} x {high} px", where=ref.path)
    return slide.read(box, ref.mpp)
