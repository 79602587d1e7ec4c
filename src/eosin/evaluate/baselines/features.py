"""What baselines see of images and slides. An image asked about many times is read once.

colour: shares of pixels in 16 equal bins of each of R, G, B, H, S, V (Pillow's 8-bit HSV), square roots taken
(Hellinger map): 96 numbers. texture: the 112 numbers of the encoder `colour-texture`. Both of pictures of at most 512
px a side, averaged over an item's images. Of slides that are shown as patch features: mean, standard deviation,
smallest and largest of every feature over all patches, and a seeded draw of the patches themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.images import RegionReader, load_image
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.evaluate.exam.items import image_key
from eosin.slides.encoders.colour_texture import describe

F64 = NDArray[np.float64]
NUM_BINS = 16
MAX_SIDE_PX = 512
MIN_SIDE_PX = 32
MAX_PATCHES = 1024
MIN_PATCHES = 32
PATCH_BYTES = 2**29
"""Memory for drawn patches of all slides together; above it fewer patches of each slide are drawn."""


def colour_histogram(image: Image.Image) -> F64:
    """Square roots of the pixel shares in 16 bins of R, G, B, H, S, V: shape (96,)."""
    rgb = _reduced(image.convert("RGB"))
    counts = np.asarray(rgb.histogram() + rgb.convert("HSV").histogram(), dtype=float)
    shares = counts.reshape(6 * NUM_BINS, 256 // NUM_BINS).sum(axis=1) / (rgb.width * rgb.height)
    return np.asarray(np.sqrt(shares))


def colour_texture(image: Image.Image, mpp: float | None) -> F64:
    """The 112 numbers of the encoder `colour-texture` (`eosin.slides.encoders.colour_texture`).

    Args:
        mpp: microns per pixel of the image; unknown: 1. It only sets the size at which nuclei are looked for.
    """
    rgb = _reduced(image.convert("RGB"))
    scale = (mpp or 1.0) * image.width / rgb.width
    if min(rgb.size) < MIN_SIDE_PX:
        factor = MIN_SIDE_PX / min(rgb.size)
        rgb = rgb.resize((round(rgb.width * factor), round(rgb.height * factor)), Image.Resampling.BILINEAR)
        scale /= factor
    return np.asarray(describe(np.asarray(rgb)[None], scale)[0], dtype=np.float64)


def _reduced(rgb: Image.Image) -> Image.Image:
    if max(rgb.size) <= MAX_SIDE_PX:
        return rgb
    small = rgb.copy()
    small.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BOX)
    return small


@dataclass(frozen=True)
class _Seen:
    """What is kept of one image or slide. Of a picture colour and texture, of a bag four statistics and patches."""

    colour: F64 | None = None
    texture: F64 | None = None
    statistics: F64 | None = None
    patches: NDArray[np.float32] | None = None


class Features:
    """Features of samples, kept for all baselines of all exams of a run.

    Args:
        read_region: reads slide regions and bags.
        num_slides: slides that will be asked for in all; it bounds the patches kept of each.
        seed: of the draw of patches.
        progress: called with the number of images read so far.

    Attributes:
        with_texture: texture is wanted, too: it is then found in the same reading as colour.
    """

    with_texture = False

    def __init__(
        self, read_region: RegionReader | None, *, num_slides: int = 0, seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._read_region = read_region
        self._num_slides = max(1, num_slides)
        self._seed = seed
        self._progress = progress
        self._seen: dict[str, _Seen | None] = {}

    def usable(self, sample: Sample) -> bool:
        """Whether every image of a sample can be used; true without images."""
        return all(self._of(ref, sample) is not None for ref in sample.images)

    def colour(self, sample: Sample) -> F64 | None:
        """Mean colour histogram of the sample's pictures (96,); None without, or with an unusable one."""
        return _mean([s.colour for s in self._pictures(sample)])

    def texture(self, sample: Sample) -> F64 | None:
        """Mean of the colour-texture numbers of the sample's pictures (112,); None likewise."""
        self.with_texture = True
        return _mean([s.texture for s in self._pictures(sample)])

    def mean(self, sample: Sample) -> F64 | None:
        """Mean of every feature over the patches (D,), averaged over the sample's slides; None likewise."""
        found = _mean([s.statistics for s in self._slides(sample)])
        return None if found is None else found[: len(found) // 4]

    def extremes(self, sample: Sample) -> F64 | None:
        """Mean, standard deviation, smallest and largest of every feature (4 D,); None likewise."""
        return _mean([s.statistics for s in self._slides(sample)])

    def patches(self, sample: Sample) -> NDArray[np.float32] | None:
        """(N, D) patches of the sample's slides: all, or a seeded draw where there are many; None likewise."""
        parts = [s.patches for s in self._slides(sample)]
        if not parts or any(p is None for p in parts):
            return None
        return np.concatenate([p for p in parts if p is not None])

    def image(self, sample: Sample) -> F64 | None:
        """What a nearest neighbour is looked for by: texture of pictures, else the statistics of slides."""
        texture = self.texture(sample)
        return self.extremes(sample) if texture is None else texture

    def _pictures(self, sample: Sample) -> list[_Seen]:
        return self._all(sample, bags=False)

    def _slides(self, sample: Sample) -> list[_Seen]:
        return self._all(sample, bags=True)

    def _all(self, sample: Sample, bags: bool) -> list[_Seen]:
        found = [self._of(ref, sample) for ref in sample.images if isinstance(ref, SlideBag) == bags]
        kept = [f for f in found if f is not None]
        dims = {f.statistics.shape for f in kept if f.statistics is not None}
        return kept if len(kept) == len(found) and len(dims) < 2 else []

    def _of(self, ref: object, sample: Sample) -> _Seen | None:
        key = ref.model_dump_json() if isinstance(ref, SlideBag) else image_key(ref)  # type: ignore[arg-type]
        if key not in self._seen or self._lacks_texture(self._seen[key]):
            try:
                self._seen[key] = self._bag(ref, key) if isinstance(ref, SlideBag) else self._picture(ref, sample)
            except ImageError:
                self._seen[key] = None
            if self._progress is not None:
                self._progress(len(self._seen))
        return self._seen[key]

    def _lacks_texture(self, seen: _Seen | None) -> bool:
        return self.with_texture and seen is not None and seen.colour is not None and seen.texture is None

    def _picture(self, ref: object, sample: Sample) -> _Seen:
        image = load_image(ref, self._read_region)  # type: ignore[arg-type]
        mpp = getattr(ref, "mpp", None) or sample.origin.mpp
        return _Seen(colour=colour_histogram(image), texture=colour_texture(image, mpp) if self.with_texture else None)

    def _bag(self, ref: SlideBag, key: str) -> _Seen:
        bag = self._read(ref)
        X = bag.features
        parts = [X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64), X.min(axis=0), X.max(axis=0)]
        share = PATCH_BYTES // (4 * bag.dimension * self._num_slides)
        most = int(min(MAX_PATCHES, max(MIN_PATCHES, share)))
        if len(X) > most:
            digest = hashlib.sha256(f"{self._seed}{key}".encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
            X = X[np.sort(rng.permutation(len(X))[:most])]
        return _Seen(statistics=np.concatenate(parts).astype(np.float64), patches=np.array(X, np.float32))

    def _read(self, ref: SlideBag) -> PatchBag:
        if self._read_region is not None:
            return self._read_region.bag(ref)
        from eosin.slides.features.bags import read_bag

        return read_bag(ref)


def _mean(parts: Sequence[F64 | None]) -> F64 | None:
    found = [p for p in parts if p is not None]
    return np.mean(found, axis=0) if found and len(found) == len(parts) else None
