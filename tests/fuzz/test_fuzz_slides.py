"""Changed bytes of small slides: they are read or refused with a reason, and no reader ends the process."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.fuzz.budget import fuzz_seconds

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (512, 512, 3), dtype=np.uint8)
APERIO = "Aperio Image Library v10.0.51\n512x512 [0,0 512x512] (256x256) JPEG/RGB Q=30|AppMag = 20|MPP = 0.5"
_READ = """
import faulthandler, resource, sys
faulthandler.enable()
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from eosin.core.nouns.units import BoxLevel0
from eosin.slides.open.backends.base import SlideError
from eosin.slides.open.slide import open_slide
for line in sys.stdin:
    name = line.rstrip("\\n")
    try:
        with open_slide(name) as slide:
            w, h = slide.size_px
            slide.read(BoxLevel0(x0=0, y0=0, x1=min(300, w), y1=min(300, h)))
            slide.has_mpp
    except SlideError:
        pass
    print(name, flush=True)
"""


def write(kind: str, path: Path) -> None:
    tiles = {"tile": (256, 256)}
    with tifffile.TiffWriter(path, ome=kind == "ome") as tiff:
        if kind == "svs":
            tiff.write(PIXELS, photometric="rgb", compression="jpeg", description=APERIO, metadata=None, **tiles)
            tiff.write(PIXELS[::4, ::4], photometric="rgb", description=APERIO, metadata=None)
        elif kind == "ome":
            tiff.write(PIXELS, photometric="rgb", subifds=1, metadata={"axes": "YXS", "PhysicalSizeX": 0.5,
                       "PhysicalSizeY": 0.5}, **tiles)  # fmt: skip
            tiff.write(PIXELS[::2, ::2], photometric="rgb", subfiletype=1, **tiles)
        else:
            options = {"photometric": "rgb", "compression": "deflate", "resolution": (20_000, 20_000), "metadata": None,
                       "resolutionunit": "CENTIMETER"}  # fmt: skip
            tiff.write(PIXELS, **options, **(tiles if kind == "tiled" else {"rowsperstrip": 64}))


def changed(data: bytes, rng: random.Random, places: list[int]) -> bytes:
    """A copy with some bytes changed, mostly in tags and headers, or cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.choice(places) if rng.random() < 0.8 else rng.randrange(len(out))
        out[at] = rng.choice([0, 1, 2, 255, 127, 128, rng.randrange(256)])
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.05 else out)


def header_places(path: Path) -> list[int]:
    """Bytes of the header, the page tables and what tags point to."""
    found = list(range(8))
    with tifffile.TiffFile(path) as tiff:
        pages = list(tiff.pages)
        for page in pages + [p for q in pages for p in (q.pages or [])]:
            found += range(page.offset, page.offset + 2 + 12 * len(page.tags) + 4)
            for tag in page.tags:
                found += range(tag.valueoffset, tag.valueoffset + min(tag.valuebytecount, 64))
    size = path.stat().st_size
    return [p for p in found if p < size]


@pytest.mark.parametrize("kind", ["svs", "tiled", "strips", "ome"])
def test_changed_bytes_end_in_pixels_or_a_reason(kind: str, tmp_path: Path) -> None:
    whole = tmp_path / ("whole.ome.tif" if kind == "ome" else "whole.svs" if kind == "svs" else "whole.tif")
    write(kind, whole)
    data, places, rng = whole.read_bytes(), header_places(whole), random.Random(kind)
    files = []
    for number in range(max(5, round(fuzz_seconds() * 15))):
        file = tmp_path / f"{number}{''.join(whole.suffixes)}"
        file.write_bytes(changed(data, rng, places))
        files.append(str(file))
    done = subprocess.run([sys.executable, "-c", _READ], input="\n".join([str(whole), *files]) + "\n", text=True,
                          capture_output=True, timeout=20 + 20 * len(files), check=False)  # fmt: skip
    read = done.stdout.splitlines()
    failed = [*files, "?"][len(read) - 1]
    assert done.returncode == 0 and len(read) == len(files) + 1, f"{Path(failed).name}: {done.stderr[-1500:]}"
