"""Texts as sets of runs of words, and what finds near ones: MinHash in bands, verified by the sets themselves.

MinHash (Broder 1997): with h a random order of all runs, P(min h(A) = min h(B)) = J(A, B) = |A & B| / |A | B|. Of b
bands of r such minima each, two texts share a whole band with probability 1 - (1 - J^r)^b. Rows and bands are chosen so
that a pair at the threshold is found with probability 0.99; every pair found is then compared as sets.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]
_WORD = re.compile(r"\w+")
_FOUND = 0.99
_MAX_MINIMA = 128
_BLOCK = 1 << 15
_MASK = (1 << 64) - 1


def words_of(text: str) -> list[str]:
    """Words of a text, folded: NFKC, lower case, without punctuation."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=500_000)
def _word_number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


@lru_cache(maxsize=8)
def _factors(run: int) -> list[int]:
    return [int.from_bytes(hashlib.blake2b(b"run %d" % i, digest_size=8).digest(), "big") | 1 for i in range(run)]


def numbers_mixed(values: U64) -> U64:
    """Numbers spread over 64 bits (the finisher of SplitMix64, Steele et al. 2014)."""
    x = values.copy()
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def runs(texts: Sequence[str], run: int, min_words: int = 1) -> tuple[U64, NDArray[np.int64]]:
    """Numbers of all runs of `run` words of each text, and where each text begins.

    A text of fewer words is one run; one of fewer than `min_words` has none.

    Returns:
        values (N,) and offsets (len(texts) + 1,): text i has values[offsets[i]:offsets[i + 1]].
    """
    numbers: list[int] = []
    starts, lengths = [], []
    for text in texts:
        found = [_word_number(w) for w in words_of(text)]
        if len(found) < max(1, min_words):
            found = []
        starts.append(len(numbers))
        lengths.append(len(found))
        numbers += found
        numbers += [0] * (run - 1 if found else 0)
    flat = np.array(numbers, dtype=np.uint64)
    total = np.zeros(max(0, len(flat) - run + 1) if run > 1 else len(flat), dtype=np.uint64)
    for i, factor in enumerate(_factors(run)):
        total += flat[i : i + len(total)] * np.uint64(factor)
    counts = np.array([0 if n == 0 else max(1, n - run + 1) for n in lengths], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    at = np.repeat(np.array(starts, dtype=np.int64) - offsets[:-1], counts) + np.arange(offsets[-1])
    return numbers_mixed(total[at]) if len(at) else np.zeros(0, np.uint64), offsets


@dataclass(frozen=True)
class Bands:
    """How many minima stand in how many bands."""

    rows: int
    bands: int

    @classmethod
    def for_threshold(cls, threshold: float) -> Bands:
        """The longest rows that find a pair at the threshold with probability 0.99, within 128 minima."""
        best = cls(1, 1)
        for rows in range(1, 33):
            chance = threshold**rows
            bands = 1 if chance >= 1 else math.ceil(math.log(1 - _FOUND) / math.log(1 - chance))
            if rows * bands <= _MAX_MINIMA:
                best = cls(rows, bands)
        return best


@lru_cache(maxsize=4)
def _orders(count: int) -> tuple[U64, U64]:
    rng = np.random.default_rng(20_030)
    a = rng.integers(1, 1 << 63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    return a, rng.integers(0, 1 << 63, count, dtype=np.uint64)


def band_keys(values: U64, offsets: NDArray[np.int64], shape: Bands) -> U64:
    """(len(offsets) - 1, bands) keys; texts that share one are candidates. Zeros for a text without runs.

    Orders are x -> high 32 bits of a x + b mod 2^64 (Dietzfelbinger et al. 1997).
    """
    num = len(offsets) - 1
    keys = np.zeros((num, shape.bands), np.uint64)
    full = np.flatnonzero(np.diff(offsets))
    a, b = _orders(shape.rows * shape.bands)
    for begin, end in _blocks(offsets, full):
        part = values[offsets[full[begin]] : offsets[full[end - 1] + 1]]
        starts = (offsets[full[begin:end]] - offsets[full[begin]]).astype(np.intp)
        mixed = ((part[None, :] * a[:, None] + b[:, None]) >> np.uint64(32)).astype(np.uint32)
        least = np.minimum.reduceat(mixed, starts, axis=1).astype(np.uint64)
        rows = least.reshape(shape.bands, shape.rows, -1)
        factors = np.array(_factors(shape.rows), np.uint64)[None, :, None]
        keys[full[begin:end]] = (numbers_mixed((rows * factors).sum(1, dtype=np.uint64)) | np.uint64(1)).T
    return keys


def _blocks(offsets: NDArray[np.int64], full: NDArray[np.intp]) -> Iterable[tuple[int, int]]:
    """Slices of `full` whose texts have about 32,768 runs together."""
    begin = 0
    while begin < len(full):
        end = int(np.searchsorted(offsets[full + 1], offsets[full[begin]] + _BLOCK, side="right"))
        end = max(begin + 1, end)
        yield begin, end
        begin = end


def jaccard(first: NDArray[np.unsignedinteger], second: NDArray[np.unsignedinteger]) -> float:
    """|A & B| / |A | B| of two sorted arrays without repeats."""
    both = len(np.intersect1d(first, second, assume_unique=True))
    either = len(first) + len(second) - both
    return both / either if either else 0.0


def bucket_pairs(keys: U64, most: int = 50) -> NDArray[np.int64]:
    """(P, 2) pairs i < j of rows that share a key in a column, each once. Key 0 counts for nothing.

    Of a bucket of more than `most` rows only neighbours, and each with the first, are paired.
    """
    num = len(keys)
    found = np.zeros(0, np.int64)
    for column in keys.T:
        order = np.argsort(column, kind="stable")  # so that the rows of a bucket stand in order
        ordered = column[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if num else order
        sizes = np.diff(np.append(starts, num))
        counts = (sizes > 1) & (ordered[starts] != 0)
        pairs = [
            _pairs(order[starts[counts & (sizes == size)][:, None] + np.arange(size)], most)
            for size in np.unique(sizes[counts])
        ]
        found = np.unique(np.concatenate([found, *(i * num + j for i, j in pairs)]))
    return np.stack([found // max(1, num), found % max(1, num)], 1)


def _pairs(rows: NDArray[np.intp], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and second of all pairs of some buckets of one size: (number of buckets, size) rows, in order."""
    size = rows.shape[1]
    if size <= most:
        i, j = np.triu_indices(size, 1)
    else:
        after = np.arange(1, size)
        i, j = np.concatenate([after - 1, np.zeros(size - 1, np.intp)]), np.concatenate([after, after])
    return rows[:, i].ravel().astype(np.int64), rows[:, j].ravel().astype(np.int64)
