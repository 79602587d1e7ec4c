"""Small slides for tests: a piece of stained tissue on glass, made by arithmetic, written as pyramidal TIFF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

GLASS = (238, 236, 240)


def picture(width: int = 1500, height: int = 1100, seed: int = 0) -> np.ndarray:
    """Tissue with cells inside an ellipse on glass: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    inside = ((x / width - 0.5) / 0.36) ** 2 + ((y / height - 0.5) / 0.34) ** 2 < 1
    grain = np.asarray(Image.fromarray(rng.random((height // 3 + 1, width // 3 + 1)).astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC))  # fmt: skip
    cells = grain > 0.68
    result = np.empty((height, width, 3), dtype=np.float32)
    result[:] = GLASS
    result[inside] = (226, 150, 190)
    result[inside & cells] = (96, 64, 140)
    result += rng.normal(0, 1.5, result.shape)
    return np.clip(result, 0, 255).astype(np.uint8)


def truth(width: int = 1500, height: int = 1100) -> np.ndarray:
    """Where the tissue of `picture` is, bool (height, width)."""
    y, x = np.mgrid[:height, :width]
    return np.asarray(((x / width - 0.5) / 0.36) ** 2 + ((y / height - 0.5) / 0.34) ** 2 < 1)


def write_tiff(
    path: Path,
    pixels: np.ndarray,
    *,
    mpp: float | tuple[float, float] | None = 0.5,
    levels: int = 3,
    tile: int = 240,
    jpeg: bool = True,
    level_pixels: dict[int, np.ndarray] | None = None,
    subsampling: str = "420",
) -> Path:
    """A pyramid whose levels are two times smaller each, as OpenSlide's generic TIFF.

    Args:
        level_pixels: what some levels show instead.
    """
    import imagecodecs
    import tifffile

    options: dict[str, Any] = {"tile": (tile, tile), "metadata": None, "photometric": "rgb", "compression": "deflate"}
    if jpeg:
        sub = {"420": (2, 2), "444": (1, 1)}[subsampling]
        options |= {"photometric": "ycbcr", "compression": "jpeg", "subsampling": sub}
    with tifffile.TiffWriter(path) as tiff:
        for number in range(levels):
            level = (level_pixels or {}).get(number)
            if level is None:
                level = pixels if number == 0 else np.asarray(Image.fromarray(pixels).reduce(2**number))
            pieces = (_tiles(level, tile) if not jpeg else
                      (imagecodecs.jpeg8_encode(t, 90, colorspace="rgb", outcolorspace="ycbcr", subsampling=subsampling)
                       for t in _tiles(level, tile)))  # fmt: skip
            scale: dict[str, Any] = {}
            if mpp is not None:
                x, y = mpp if isinstance(mpp, tuple) else (mpp, mpp)
                scale = {"resolution": (1e4 / x / 2**number, 1e4 / y / 2**number), "resolutionunit": "CENTIMETER"}
            tiff.write(pieces, shape=level.shape, dtype=np.uint8, subfiletype=int(number > 0), **scale, **options)
    return path


def _tiles(level: np.ndarray, tile: int) -> Any:
    for y in range(0, level.shape[0], tile):
        for x in range(0, level.shape[1], tile):
            full = np.full((tile, tile, 3), 255, dtype=np.uint8)
            part = level[y : y + tile, x : x + tile]
            full[: part.shape[0], : part.shape[1]] = part
            yield full


def write_ome(path: Path, pixels: np.ndarray, mpp: float | None = 0.25) -> Path:
    """An OME-TIFF of one level, which OpenSlide does not know."""
    import tifffile

    metadata: dict[str, Any] = {"axes": "YXS"}
    if mpp is not None:
        metadata |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="deflate", ome=True,
                     metadata=metadata)  # fmt: skip
    return path


def tile_place(path: Path, column: int, row: int, level: int = 0) -> tuple[int, int]:
    """Offset and count of a tile's bytes."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        across = -(-page.imagewidth // page.tilewidth)
        index = row * across + column
        return int(page.dataoffsets[index]), int(page.databytecounts[index])


def damage(path: Path, column: int, row: int, how: str = "body", level: int = 0) -> None:
    """Spoil a tile in the middle of a file: its body, its header, or all of it with zeros."""
    offset, count = tile_place(path, column, row, level)
    data = bytearray(path.read_bytes())
    if how == "zeros":
        data[offset : offset + count] = bytes(count)
    elif how == "header":
        data[offset : offset + 40] = struct.pack("40s", b"this is no picture at all")
    else:
        middle = offset + count // 2
        noise = np.random.default_rng(1).integers(0, 256, count // 4, dtype=np.uint8).tobytes()
        data[middle : middle + len(noise)] = noise
    path.write_bytes(bytes(data))
