"""Digests and perceptual hashes of a sample's images, and near pairs among many hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import decode, digest_of, read_bytes
from eosin.core.nouns.sample import ImageRef, Sample, SlideBag, SlideRegion
from eosin.slides.features.bags import file_stamp

HASH_BITS = 64
FLAT_STD = 3.0
_BLOCK = 1024
HashOf = Callable[[Sample], int | None]


def image_digest(sample: Sample) -> str | None:
    """sha256 over the encoded images in order; None where there is no image or one cannot be read.

    A slide region counts with its path, box and scale; a bag of patches with its features, places and what is shown.
    """
    if not sample.images:
        return None
    try:
        return digest_of([content_of(ref) for ref in sample.images])
    except ImageError:
        return None


def content_of(ref: ImageRef) -> bytes:
    """Bytes that are equal for equal images: the encoded image, the place of a slide region, the features of a bag.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(ref, SlideRegion):
        return ref.model_dump_json().encode()
    if isinstance(ref, SlideBag):
        shown = ",".join(map(str, sorted(ref.without_clusters)))
        return f"bag:{_bag_digest(ref.path, file_stamp(ref.path))}:{shown}".encode()
    return read_bytes(ref)


@lru_cache(maxsize=65_536)
def _bag_digest(path: str, stamp: tuple[int, int] | None) -> str:
    """sha256 over features and coordinates, whatever else the file holds; made once for a file as it stands."""
    from eosin.slides.features.files import read_features

    try:
        held = read_features(Path(path))
    except EosinError as exc:
        raise ImageError(exc.message, expected=exc.expected, found=exc.found, where=path) from None
    total = hashlib.sha256(str(held.features.shape).encode())
    total.update(np.ascontiguousarray(held.features).tobytes())
    total.update(b"" if held.coords is None else np.ascontiguousarray(held.coords).tobytes())
    return total.hexdigest()


def dhash(image: Image.Image) -> int | None:
    """64-bit difference hash: whether each of 8 x 8 grey values is brighter than its right neighbour.

    None for a nearly flat image (standard deviation of the 9 x 8 grey values under 3 of 255): its bits are
    noise, and blank tiles would look like copies of each other.
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.float64)
    if grey.std() < FLAT_STD:
        return None
    bits = (grey[:, :-1] > grey[:, 1:]).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def first_image_hash(sample: Sample) -> int | None:
    """`dhash` of the first image; None where it is flat, a slide region, a bag of patches, or cannot be read."""
    if not sample.images or isinstance(sample.images[0], SlideRegion | SlideBag):
        return None
    try:
        return dhash(decode(read_bytes(sample.images[0])))
    except ImageError:
        return None


def remembering(hash_of: HashOf = first_image_hash) -> HashOf:
    """The same function, computing once for each sample id. For samples whose ids are unique."""
    known: dict[str, int | None] = {}

    def remembered(sample: Sample) -> int | None:
        if sample.id not in known:
            known[sample.id] = hash_of(sample)
        return known[sample.id]

    return remembered


def near_pairs(left: Sequence[int], right: Sequence[int], max_distance: int) -> list[tuple[int, int, int]]:
    """Pairs (index in left, index in right, distance) of hashes at most `max_distance` bits apart."""
    pairs: list[tuple[int, int, int]] = []
    if not left or not right:
        return pairs
    a, b = np.array(left, dtype=np.uint64), np.array(right, dtype=np.uint64)
    for start in range(0, len(a), _BLOCK):
        distance = bit_count(a[start : start + _BLOCK, None] ^ b[None, :])
        rows, columns = np.nonzero(distance <= max_distance)
        pairs += [(start + int(i), int(j), int(distance[i, j])) for i, j in zip(rows, columns, strict=True)]
    return pairs


def bit_count(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Number of set bits of each value (Hamming weight, by adding neighbouring bit fields)."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(values).astype(np.uint8)
    v = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    v = (v & np.uint64(0x3333333333333333)) + ((v >> np.uint64(2)) & np.uint64(0x3333333333333333))
    v = (v + (v >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((v * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)
