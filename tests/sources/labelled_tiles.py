"""Small labelled folders and tables, made by code."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image


def tile(path: Path, number: int) -> None:
    """A tile of random blocks, different for every number."""
    rng = random.Random(number)
    small = Image.new("RGB", (8, 8))
    small.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(64)])
    path.parent.mkdir(parents=True, exist_ok=True)
    small.resize((32, 32), Image.Resampling.NEAREST).save(path)


def folder(root: Path, classes: tuple[str, ...] = ("fat", "gland"), slides: int = 5, each: int = 2) -> Path:
    """root/CLASS/slideNN_K.png."""
    number = 0
    for label in classes:
        for slide in range(1, slides + 1):
            for k in range(each):
                number += 1
                tile(root / label / f"slide{slide:02d}_{k}.png", number)
    return root


def table(root: Path, name: str = "manifest.csv", delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """A folder and a manifest with the columns file, class, slide, note."""
    folder(root)
    lines = [delimiter.join(("file", "class", "slide", "note"))]
    for path in sorted(root.rglob("*.png")):
        slide = path.name[5:7]
        cells = (path.relative_to(root).as_posix(), path.parent.name, slide, "grün")
        lines.append(delimiter.join(cells))
    (root / name).write_text("\n".join(lines) + "\n", encoding)
    return root
