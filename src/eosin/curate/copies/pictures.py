"""Near pictures among many: candidates by whole-picture hashes and by marks, each verified on the pixels.

Of a picture are kept a thumbnail of 64 px, its hash, and up to 48 marks: about 7 KB. Candidates come from two indices:
bands of the difference hashes of the eight ways in which a picture can lie, and cells of the marks' descriptions in
rotated grids (Datar et al. 2004). See `marks` and `align` for what a mark is and how two pictures are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from eosin.core.errors import ImageError
from eosin.core.formats.rows import whole_file
from eosin.core.images import load_image
from eosin.core.nouns.sample import Sample, SlideBag, SlideRegion
from eosin.curate.copies.align import Seen, likeness, orientations
from eosin.curate.copies.marks import DIMS, THUMB, grey_of, marks_of
from eosin.curate.copies.texts import U64, bucket_pairs, numbers_mixed
from eosin.curate.hashes import dhash
from eosin.curate.steps.base import Inputs

LIKE = 0.9
"""Correlation from which two pictures are one; docs/curation.md says on what it was tried."""
_TABLES, _CELL, _MOST_DIMS, _MOST_BUCKET = 6, 2.4, 20, 60
_TURNED = 12
_LEAST, _MIN_VOTES, _CANDIDATES = 0.05, 1.0, 8
_BLOCK = 1 << 18
_COLUMNS = ("thumb", "thumb_width", "places", "words")


def measure_pictures(
    samples: Sequence[Sample], *, crops: bool, only: Sequence[bool] | None = None
) -> dict[str, pa.Array]:
    """Columns for the first picture of each sample; empty where there is none, or where `only` says no."""
    rows = [_measured(s, crops) if only is None or only[i] else _NOTHING for i, s in enumerate(samples)]
    return {
        "thumb": pa.array([r[0] for r in rows], pa.binary()),
        "thumb_width": pa.array([r[1] for r in rows], pa.int32()),
        "places": pa.array([r[2] for r in rows], pa.binary()),
        "words": pa.array([r[3] for r in rows], pa.binary()),
    }


_NOTHING = (b"", 0, b"", b"")


def _measured(sample: Sample, crops: bool) -> tuple[bytes, int, bytes, bytes]:
    if not sample.images or isinstance(sample.images[0], SlideRegion | SlideBag):
        return _NOTHING
    try:
        image = load_image(sample.images[0])
    except ImageError:
        return _NOTHING
    thumb = grey_of(image, THUMB).round().astype(np.uint8)
    if not crops:
        return thumb.tobytes(), thumb.shape[1], b"", b""
    marks = marks_of(image)
    return thumb.tobytes(), thumb.shape[1], marks.places.tobytes(), marks.words.astype(np.float16).tobytes()


def write_pictures(folder: Path, samples: Iterable[Sample], *, crops: bool, batch: int = 1000) -> None:
    """Measure pictures and write them as parquet files, a batch a file."""
    folder.mkdir(parents=True, exist_ok=True)
    rest = iter(samples)
    for number in range(10**9):
        part = list(islice(rest, batch))
        if not part:
            return
        with whole_file(folder / f"{number:05d}.parquet") as handle:
            pq.write_table(pa.table(measure_pictures(part, crops=crops)), handle, compression="zstd")


def near_pictures(inputs: Inputs, *, crops: bool) -> list[tuple[int, int, float]]:
    """Pairs i < j of samples whose first pictures show the same, with their likeness."""
    held = Pictures([t.select(_COLUMNS) for t in inputs.measured()])
    return [(i, j, like) for i, j, like in held.verified(held.candidates(crops)) if i < j]


def pictures_near(inputs: Inputs, folder: Path, *, crops: bool) -> Iterator[tuple[int, int, float]]:
    """Samples with a picture that shows the same as one of the pictures in `folder`: (sample, the other, likeness).

    The nearest one is given for each sample.
    """
    protected = [pq.read_table(f, columns=list(_COLUMNS)) for f in sorted(folder.glob("*.parquet"))]
    num = sum(t.num_rows for t in protected)
    if not num:
        return
    held = Pictures([*protected, *(t.select(_COLUMNS) for t in inputs.measured())])
    pairs = held.candidates(crops)
    pairs = pairs[(pairs[:, 0] < num) & (pairs[:, 1] >= num)]
    best: dict[int, tuple[float, int]] = {}
    for i, j, like in held.verified(pairs):
        best[j - num] = max(best.get(j - num, (0.0, -1)), (like, i))
    for sample in sorted(best):
        yield sample, best[sample][1], best[sample][0]


@dataclass
class Pictures:
    """Measured pictures, as Arrow tables: what is looked at becomes arrays, one picture at a time."""

    tables: list[pa.Table]

    def __post_init__(self) -> None:
        self._all = pa.concat_tables(self.tables)
        self._centre, self._axes = self._axes_of_words()

    def __len__(self) -> int:
        return int(self._all.num_rows)

    def thumb(self, number: int) -> NDArray[np.uint8] | None:
        width = self._all["thumb_width"][number].as_py()
        if not width:
            return None
        return np.frombuffer(self._all["thumb"][number].as_buffer(), np.uint8).reshape(-1, width)

    def _words(self, number: int) -> NDArray[np.float32]:
        held = self._all["words"][number].as_buffer()
        return np.frombuffer(held, np.float16).reshape(-1, DIMS).astype(np.float32)

    def seen(self, number: int) -> Seen:
        thumb = self.thumb(number)
        assert thumb is not None
        places = np.frombuffer(self._all["places"][number].as_buffer(), np.float32).reshape(-1, 3)
        return Seen(
            thumb.astype(np.float32), places, ((self._words(number) - self._centre) @ self._axes).astype(np.float32)
        )

    def _axes_of_words(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean of the descriptions, and their principal axes scaled to equal spread, from up to 2,000 pictures."""
        step = max(1, len(self) // 2000)
        words = [w for i in range(0, len(self), step) if len(w := self._words(i))]
        flat = np.concatenate(words) if words else np.zeros((0, DIMS), np.float32)
        if len(flat) <= DIMS:
            return np.zeros(DIMS, np.float32), np.eye(DIMS, _MOST_DIMS, dtype=np.float32)
        centre = flat.mean(0)
        values, vectors = np.linalg.eigh(np.cov((flat - centre).T.astype(np.float64)))
        order = np.argsort(-values)[:_MOST_DIMS]
        axes = vectors[:, order] / np.sqrt(np.maximum(values[order], 1e-6))
        return centre, axes.astype(np.float32)

    def candidates(self, crops: bool) -> NDArray[np.int64]:
        """(P, 2) pairs i < j that may show the same."""
        found = [self._by_hash()]
        if crops:
            found.append(self._by_marks())
        return np.unique(np.concatenate(found), axis=0)

    def _by_hash(self) -> NDArray[np.int64]:
        """Pictures of which some ways of lying share a quarter of the bits of their hashes."""
        hashes, of = [], []
        for number in range(len(self)):
            thumb = self.thumb(number)
            if thumb is None:
                continue
            made = {dhash(Image.fromarray(np.ascontiguousarray(t))) for t in orientations(thumb)}
            hashes += [h for h in made if h is not None]
            of += [number] * sum(h is not None for h in made)
        if not hashes:
            return np.zeros((0, 2), np.int64)
        return _as_pictures(bucket_pairs(_hash_bands(np.array(hashes, np.uint64))), np.array(of))

    def _by_marks(self) -> NDArray[np.int64]:
        """Pictures with several marks that are alike, for each the ones with most.

        A pair of marks in a common cell counts exp(-|x - y|^2 / 4) of their descriptions x and y, so that pictures
        with many common marks do not crowd out the true ones; every mark of the second picture counts once.
        """
        words = [(i, w) for i in range(len(self)) if len(w := self._words(i))]
        if not words:
            return np.zeros((0, 2), np.int64)
        of = np.repeat(np.array([i for i, _ in words]), [len(w) for _, w in words])
        spread = np.concatenate([(w - self._centre) @ self._axes for _, w in words])
        found = np.zeros(0, np.int64)
        for table in range(_TABLES):
            pairs = bucket_pairs(_cells(spread, table)[:, None], _MOST_BUCKET)
            pairs = pairs[of[pairs[:, 0]] != of[pairs[:, 1]]]
            near = _alike(spread, pairs) >= _LEAST
            found = np.union1d(found, pairs[near, 0] * len(of) + pairs[near, 1])
        marks = np.stack([found // len(of), found % len(of)], 1)
        pairs, votes = _votes(of[marks], marks[:, 1], _alike(spread, marks))
        return _most_voted(pairs[votes >= _MIN_VOTES], votes[votes >= _MIN_VOTES])

    def verified(self, pairs: NDArray[np.int64]) -> Iterator[tuple[int, int, float]]:
        """Pairs that show the same, with their likeness."""
        for i, j in pairs:
            like = likeness(self.seen(int(i)), self.seen(int(j)))
            if like >= LIKE:
                yield int(i), int(j), like


def _hash_bands(hashes: U64) -> U64:
    """(n, 8) keys: the four quarters of the bits as they stand, and four that take every fourth bit."""
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1)
    quarters = [bits[:, 16 * k : 16 * (k + 1)] for k in range(4)] + [bits[:, k::4] for k in range(4)]
    keys = [np.packbits(q, axis=1).view(">u2").astype(np.uint64).ravel() + np.uint64(1) for q in quarters]
    return np.stack(keys, 1)


def _as_pictures(pairs: NDArray[np.int64], of: NDArray[Any]) -> NDArray[np.int64]:
    made = np.sort(of[pairs], axis=1)
    return np.unique(made[made[:, 0] != made[:, 1]], axis=0).astype(np.int64).reshape(-1, 2)


def _cells(spread: NDArray[np.float32], table: int) -> U64:
    """A key for the cell of a rotated grid in which each description lies.

    Axes are taken until a cell holds four descriptions on average, so that many pictures make no large cells.
    """
    rng = np.random.default_rng([19, table])
    turned = spread.copy()
    axes, _ = np.linalg.qr(rng.normal(size=(_TURNED, _TURNED)))
    turned[:, :_TURNED] = spread[:, :_TURNED] @ np.asarray(axes, np.float32)
    shift = rng.random((spread.shape[1],)).astype(np.float32) * _CELL
    cells = np.floor((turned + shift) / _CELL).astype(np.int64).astype(np.uint64)
    keys = np.zeros(len(spread), np.uint64)
    for axis in range(spread.shape[1]):
        keys = numbers_mixed(keys * np.uint64(31) + cells[:, axis] + np.uint64(7))
        if axis >= _TURNED - 1 and len(np.unique(keys)) * 4 > len(keys):
            break
    return keys | np.uint64(1)


def _alike(spread: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """exp(-|x - y|^2 / 4) of the descriptions of each pair of marks. Two marks of one place are some tenths apart, two
    marks at random about four."""
    made = [np.zeros(0, np.float32)]
    for begin in range(0, len(pairs), _BLOCK):
        i, j = pairs[begin : begin + _BLOCK].T
        made.append(np.exp(-((spread[i] - spread[j]) ** 2).sum(1) / 4).astype(np.float32))
    return np.concatenate(made)


def _votes(
    pictures: NDArray[np.int64], mark: NDArray[np.int64], alike: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of pictures i < j, and the sum over the marks of j of how alike their best match in i is."""
    order = np.lexsort((-alike, mark, pictures[:, 1], pictures[:, 0]))
    pictures, mark, alike = pictures[order], mark[order], alike[order]
    new = np.concatenate([[True], (pictures[1:] != pictures[:-1]).any(1)])[: len(mark)]
    best = new | np.concatenate([[True], mark[1:] != mark[:-1]])[: len(mark)]
    starts = np.flatnonzero(new[best])
    return pictures[new], np.add.reduceat(alike[best], starts) if len(starts) else alike


def _most_voted(pairs: NDArray[np.int64], votes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Of each picture the pairs with most votes."""
    order = np.argsort(-votes, kind="stable")
    taken: dict[int, int] = {}
    kept = []
    for i, j in pairs[order]:
        if min(taken.get(int(i), 0), taken.get(int(j), 0)) < _CANDIDATES:
            kept.append((i, j))
            taken[int(i)] = taken.get(int(i), 0) + 1
            taken[int(j)] = taken.get(int(j), 0) + 1
    return np.array(kept, np.int64).reshape(-1, 2)
