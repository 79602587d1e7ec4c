"""`colour-texture`: a patch encoder without weights. numpy and scipy only; the default of the demo.

A feature describes how much of which stain is in a tile and how it is spread: colour deconvolution into haematoxylin
and eosin (Ruifrok and Johnston 2001), rotation-invariant local binary patterns (Ojala, Pietikainen and Maenpaa 2002),
Haar wavelet energies, structure-tensor coherence, and blobs of nuclear size. Flips and turns by a right angle change a
feature little. It is a baseline that runs everywhere, not a replacement for a trained encoder.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from eosin.slides.encoders.encoder import check_features, check_tiles
from eosin.slides.encoders.records import EncoderRecord

F32 = np.ndarray
# Optical density of haematoxylin, eosin and a residual, one a row (Ruifrok and Johnston 2001), rows of length 1.
_STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], dtype=np.float64)
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)
_UNMIX = np.linalg.inv(_STAINS).astype(np.float32)
_QUANTILES = (5, 25, 50, 75, 95)
_BINS = 8
_LEVELS = 4
_OD = (-np.log10((np.arange(256) + 1) / 256)).astype(np.float32)
_CHUNK = 8  # tiles at a time: arrays stay in the processor's cache


def _uniform_patterns() -> np.ndarray:
    """Class of each of the 256 patterns of 8 neighbours: ones if the pattern is uniform, else 9."""
    codes = np.arange(256)
    bits = (codes[:, None] >> np.arange(8)) & 1
    changes = (bits != np.roll(bits, 1, axis=1)).sum(axis=1)
    return np.where(changes <= 2, bits.sum(axis=1), 9).astype(np.uint8)


_UNIFORM = _uniform_patterns()
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


class ColourTexture:
    """The encoder; see `eosin.slides.encoders.encoder.Encoder`."""

    device = "cpu"

    def __init__(self, record: EncoderRecord, mpp: float) -> None:
        self.record = record
        self.mpp = mpp

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Features (N, dim) float32. Each tile is described alone: batches do not matter."""
        check_tiles(self.record, tiles)
        chunks = [describe(tiles[i : i + _CHUNK], self.mpp) for i in range(0, len(tiles), _CHUNK)]
        features = np.concatenate(chunks) if chunks else np.empty((0, self.record.dim), np.float32)
        check_features(self.record, features)
        return features


def describe(tiles: np.ndarray, mpp: float) -> F32:
    """Features (N, D) float32 of tiles (N, h, w, 3) uint8 at `mpp` microns per pixel."""
    od = _OD[tiles]
    stains = od @ _UNMIX  # (N, h, w, 3): haematoxylin, eosin, residual
    planes = [np.ascontiguousarray(stains[..., k]) for k in range(3)]
    grey = (od[..., 0] + od[..., 1] + od[..., 2]) / np.float32(3)
    parts = [
        *_statistics(planes),
        _histograms(planes[0], planes[1], grey),
        _colours(tiles, grey),
        *_patterns(planes[0], planes[1]),
        *(_wavelets(p) for p in planes[:2]),
        _coherence(_halve(planes[0])),
        _nuclei(planes[0], mpp),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _statistics(planes: list[F32]) -> Iterator[F32]:
    """Mean, spread and quantiles of each stain: 7 numbers a stain."""
    for plane in planes:
        flat = plane.reshape(len(plane), -1)
        cut = np.percentile(flat[:, ::4], _QUANTILES, axis=1).T  # every fourth pixel: quantiles of 16 k are enough
        yield np.concatenate([flat.mean(1)[:, None], flat.std(1)[:, None], cut], axis=1) * 2


def _histograms(haematoxylin: F32, eosin: F32, grey: F32) -> F32:
    """Shares of pixels in 8 bins of each stain and of mean optical density: 24 numbers."""
    out = []
    for plane, top in ((haematoxylin, 0.8), (eosin, 0.8), (grey, 0.8)):
        index = np.clip(plane * (_BINS / top), 0, _BINS - 1).astype(np.intp).reshape(len(plane), -1)
        index += np.arange(len(plane))[:, None] * _BINS
        counts = np.bincount(index.ravel(), minlength=_BINS * len(plane)).reshape(len(plane), _BINS)
        out.append(np.sqrt(counts / (plane.shape[1] * plane.shape[2])))
    return np.concatenate(out, axis=1)


def _colours(tiles: np.ndarray, grey: F32) -> F32:
    """Mean and spread of red, green, blue; share of glass; saturation: 9 numbers."""
    n = len(tiles)
    red, green, blue = (np.ascontiguousarray(tiles[..., k]) for k in range(3))
    mean, std = zip(*(_moments(plane) for plane in (red, green, blue)), strict=True)
    glass = (grey < 0.05).reshape(n, -1).mean(axis=1)
    top, bottom = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    saturation, uneven = _moments(top - bottom)
    return np.stack([*mean, *(3 * s for s in std), glass, saturation, 3 * uneven], axis=1)


def _moments(plane: np.ndarray) -> tuple[F32, F32]:
    """Mean and spread of each (h, w) uint8 picture, of values in 0..1, from its histogram."""
    n = len(plane)
    index = plane.reshape(n, -1).astype(np.intp) + 256 * np.arange(n)[:, None]
    share = np.bincount(index.ravel(), minlength=256 * n).reshape(n, 256) / (plane.size / n)
    values = np.arange(256) / 255
    mean = share @ values
    return mean, np.sqrt(np.maximum(share @ values**2 - mean**2, 0))


def _patterns(haematoxylin: F32, eosin: F32) -> Iterator[F32]:
    """Shares of the 10 rotation-invariant uniform patterns of haematoxylin at two scales and of eosin at one."""
    for plane in (haematoxylin, _halve(haematoxylin), _halve(eosin)):
        n, h, w = plane.shape
        centre = plane[:, 1:-1, 1:-1] + 0.01  # a step of 0.01 optical density is noise
        code = np.zeros(centre.shape, np.uint8)
        for bit, (dy, dx) in enumerate(_RING):
            code |= (plane[:, 1 + dy : h - 1 + dy, 1 + dx : w - 1 + dx] > centre).astype(np.uint8) << bit
        kinds = _UNIFORM[code].reshape(n, -1).astype(np.intp) + np.arange(n)[:, None] * 10
        yield np.bincount(kinds.ravel(), minlength=10 * n).reshape(n, 10) / centre[0].size * 2


def _halve(plane: F32) -> F32:
    """Means of 2 x 2 pixels."""
    h, w = plane.shape[1] // 2 * 2, plane.shape[2] // 2 * 2
    p = plane[:, :h, :w]
    return np.asarray((p[:, ::2, ::2] + p[:, 1::2, ::2] + p[:, ::2, 1::2] + p[:, 1::2, 1::2]) * np.float32(0.25))


def _wavelets(plane: F32) -> F32:
    """Log energies of Haar wavelets, straight and diagonal, at four octaves: 8 numbers."""
    out = []
    for _ in range(_LEVELS):
        h, w = plane.shape[1] // 2 * 2, plane.shape[2] // 2 * 2
        a, b = plane[:, :h:2, :w:2], plane[:, :h:2, 1:w:2]
        c, d = plane[:, 1:h:2, :w:2], plane[:, 1:h:2, 1:w:2]
        across, down, diagonal = a - b + c - d, a + b - c - d, a - b - c + d
        straight = (across**2 + down**2).mean(axis=(1, 2))
        out += [np.log10(straight + 1e-5), np.log10((diagonal**2).mean(axis=(1, 2)) + 1e-5)]
        plane = (a + b + c + d) * np.float32(0.25)
    return np.stack(out, axis=1) * 0.5 + 1


def _coherence(plane: F32) -> F32:
    """How far edges run one way, at two scales: mean edge strength, mean coherence, their product: 6 numbers."""
    out = []
    for sigma in (2.0, 6.0):
        gy, gx = np.gradient(plane, axis=(1, 2))
        xx, yy, xy = (ndimage.uniform_filter(p, (0, *[int(2 * sigma) + 1] * 2)) for p in (gx * gx, gy * gy, gx * gy))
        trace = np.maximum(xx + yy, 0)  # running sums round below zero on flat glass
        gap = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
        ratio = gap / (trace + 1e-5)
        strength = np.sqrt(trace)
        weighted = (ratio * strength).mean(axis=(1, 2)) / (strength.mean(axis=(1, 2)) + 1e-5)
        out += [strength.mean(axis=(1, 2)) * 10, ratio.mean(axis=(1, 2)), weighted]
    return np.stack(out, axis=1)


def _nuclei(haematoxylin: F32, mpp: float) -> F32:
    """Blobs of nuclear size: number, darkness, area, evenness, size: 6 numbers."""
    plane, scale = haematoxylin, mpp
    while scale < 0.75 and min(plane.shape[1:]) > 64:
        plane, scale = _halve(plane), scale * 2
    small, wide = max(1.5 / scale, 0.6), max(6.0 / scale, 2.0)
    near = ndimage.gaussian_filter(plane, (0, small, small))
    blob = near - ndimage.uniform_filter(near, (0, *[2 * int(round(wide)) + 1] * 2))
    side = 2 * int(round(max(2.5 / scale, 1))) + 1
    peak = (blob == ndimage.maximum_filter(blob, (0, side, side))) & (blob > 0.05)
    inside = blob > 0.04
    area = plane[0].size * scale**2
    n = len(plane)
    count = peak.reshape(n, -1).sum(1)
    rows = np.array_split(peak, 4, axis=1)
    cells = [c.reshape(n, -1).sum(1) for row in rows for c in np.array_split(row, 4, axis=2)]
    share = inside.reshape(n, -1).mean(1)
    depth = (blob * inside).reshape(n, -1).sum(1) / np.maximum(inside.reshape(n, -1).sum(1), 1)
    dark = (plane * inside).reshape(n, -1).sum(1) / np.maximum(inside.reshape(n, -1).sum(1), 1)
    size = share * area / np.maximum(count, 1) / 100
    uneven = np.std(cells, axis=0) / (np.mean(cells, axis=0) + 1)
    per_mm2 = np.sqrt(count / area * 1e6) / 50
    return np.stack([per_mm2, share * 3, depth * 5, dark * 2, np.minimum(size, 5), uneven], axis=1)
