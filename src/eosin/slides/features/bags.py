"""A `SlideBag` of a sample becomes the `PatchBag` that a model is shown."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np

from eosin.core.errors import EosinError, ImageError
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import SlideBag
from eosin.slides.encoders.records import RECORDS
from eosin.slides.features.files import read_features
from eosin.slides.features.h5 import FeatureBag
from eosin.slides.untrusted import told


def read_bag(ref: SlideBag) -> PatchBag:
    """The patches of a slide, without those of the clusters that are not shown.

    Raises:
        ImageError: no such file, no patch, features that are not finite or of another encoder, no coordinates,
            no scale. The message says what to do; `where` names the file.
    """
    try:
        whole = patch_bag(read_features(Path(ref.path)), ref)
    except ImageError:
        raise
    except EosinError as exc:
        raise ImageError(
            exc.message, expected=exc.expected, found=exc.found, where=exc.where or ref.path, next_step=exc.next_step
        ) from exc
    return whole.take(_shown(ref, len(whole))) if ref.without_clusters else whole


def patch_bag(found: FeatureBag, ref: SlideBag) -> PatchBag:
    """A bag from the content of a feature file; what the file does not state is taken from the reference."""
    held, wanted = _one_name(found.encoder), _one_name(ref.encoder)
    if wanted is not None and held is not None and held != wanted:
        raise ImageError(
            "these features are of another encoder", expected=ref.encoder, found=found.encoder, where=ref.path,
            next_step=f"eosin slides features SLIDES --encoder {ref.encoder} --out DIR",
        )  # fmt: skip
    geometry = found.geometry
    mpp = geometry.mpp or ref.mpp
    tile_um = geometry.tile_px * geometry.mpp if geometry.tile_px and geometry.mpp else ref.tile_um
    centres = found.centres_um
    if mpp is None or tile_um is None:
        raise ImageError(
            "scale of the patches not known", expected="mpp and size of a patch in the feature file, or in the sample",
            where=ref.path, next_step="state mpp and tile_um of the bag",
        )  # fmt: skip
    if centres is None:
        raise ImageError(
            "patches without coordinates", expected="coords (N, 2) and the µm per pixel of level 0", where=ref.path,
            next_step="make the features again with coordinates",
        )  # fmt: skip
    return PatchBag(
        name=found.name, features=np.ascontiguousarray(found.features, dtype=np.float32),
        centres_um=np.asarray(centres, dtype=np.float64), tile_um=float(tile_um), mpp=float(mpp),
        encoder=held or wanted,
    )  # fmt: skip


def _one_name(encoder: str | None) -> str | None:
    """Eosin's name of an encoder that has two: TRIDENT's folders call uni uni_v1. An unknown name stays as it is."""
    return next((r.name for r in RECORDS if encoder in (r.name, r.trident_name)), encoder)


def _shown(ref: SlideBag, num: int) -> np.ndarray:
    """Mask (N,) of the patches that are shown."""
    try:
        clusters = np.lib.format.open_memmap(str(ref.clusters), mode="r")
    except (OSError, ValueError, EOFError, OverflowError, MemoryError) as exc:
        raise ImageError("clusters of this slide not readable", found=told(exc), where=ref.clusters) from None
    if clusters.shape != (num,):
        found = f"{clusters.shape} for {num} patches"
        raise ImageError("clusters of another bag", expected="a cluster for every patch", found=found, where=ref.path)
    shown = ~np.isin(clusters, ref.without_clusters)
    if not shown.any():
        raise ImageError("empty bag: every patch of this slide was taken out", where=ref.path)
    return np.asarray(shown)


class BagCache:
    """Whole bags by file, kept up to a bound, least recently used first out. A changed file is read again."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[tuple[object, ...], PatchBag] = OrderedDict()
        self._held = 0

    def get(self, ref: SlideBag) -> PatchBag:
        """The bag of a reference. Raises as `read_bag`."""
        plain = ref.model_copy(update={"clusters": None, "without_clusters": ()})
        key = (plain, file_stamp(ref.path))
        if key in self._kept:
            self._kept.move_to_end(key)
        else:
            self._kept[key] = read_bag(plain)
            self._held += self._kept[key].features.nbytes
        bag = self._kept[key]
        while self._held > self._limit and self._kept:
            _, old = self._kept.popitem(last=False)
            self._held -= old.features.nbytes
        return bag.take(_shown(ref, len(bag))) if ref.without_clusters else bag


def file_stamp(path: str) -> tuple[int, int] | None:
    """Time and size of a file as it stands; None where there is none."""
    try:
        about = Path(path).stat()
    except (OSError, ValueError):
        return None
    return about.st_mtime_ns, about.st_size
