"""Samples as embeddings. A picture that cannot be read is set aside with its reason, never a zero vector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import RegionReader, load_image
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import Sample, SlideBag

if TYPE_CHECKING:
    from eosin.models.clip.clip import Clip

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Embedded:
    """Samples with their vectors.

    Attributes:
        samples: N that could be embedded.
        vectors: (N, D), rows of length 1.
        dropped: those that could not, each with its reason.
    """

    samples: tuple[Sample, ...]
    vectors: F32
    dropped: tuple[Dropped, ...]

    def require(self, what: str) -> Embedded:
        """Itself; an error where nothing could be embedded."""
        if not self.samples:
            reasons = Filtered((), self.dropped).reasons()
            raise EosinError(
                f"There is nothing to {what}.", expected="samples with a readable image", found=str(reasons)
            )
        return self


def embed_samples(
    clip: Clip, samples: Sequence[Sample], read_region: RegionReader | None = None, *, batch_size: int = 64,
    look: Callable[[Sample, Image.Image], None] | None = None,
) -> Embedded:  # fmt: skip
    """Vectors of the first picture of each sample.

    Args:
        look: called with every picture that was read, so that others can measure it in the same reading.
    """
    kept: list[Sample] = []
    parts: list[F32] = []
    dropped: list[Dropped] = []
    for start in range(0, len(samples), batch_size):
        pictures = []
        for sample in samples[start : start + batch_size]:
            found = _picture(sample, read_region)
            if isinstance(found, Dropped):
                dropped.append(found)
                continue
            if look is not None:
                look(sample, found)
            kept.append(sample)
            pictures.append(found)
        if pictures:
            parts.append(clip.embed_images(pictures, batch_size))
    vectors = np.concatenate(parts) if parts else np.empty((0, clip.dim), np.float32)
    return _without_odd(kept, vectors, dropped)


def _without_odd(samples: list[Sample], vectors: F32, dropped: list[Dropped]) -> Embedded:
    fine = np.isfinite(vectors.sum(axis=1))
    odd = [
        Dropped(s.id, "the embedding is no number", step="clip") for s, ok in zip(samples, fine, strict=True) if not ok
    ]
    kept = tuple(s for s, ok in zip(samples, fine, strict=True) if ok)
    return Embedded(kept, np.ascontiguousarray(vectors[fine]), (*dropped, *odd))


def _picture(sample: Sample, read_region: RegionReader | None) -> Image.Image | Dropped:
    if not sample.images or isinstance(sample.images[0], SlideBag):
        return Dropped(sample.id, "no picture", step="clip")
    try:
        return load_image(sample.images[0], read_region)
    except ImageError as exc:
        return Dropped(sample.id, exc.message, exc.where or "", "clip")


def batches(num: int, size: int) -> Iterator[slice]:
    """Slices that cover num rows."""
    return (slice(i, min(num, i + size)) for i in range(0, num, size))
