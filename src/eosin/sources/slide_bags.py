"""Feature files of a folder by the name of their slide."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import SlideBag
from eosin.core.settings.data import SlidesData
from eosin.core.store.names import inside
from eosin.slides.features.files import SUFFIXES
from eosin.slides.open.find import SUFFIXES as SLIDE_SUFFIXES

_TCGA = re.compile(r"^(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(?=-|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A slide's bag, and the units that its name tells."""

    bag: SlideBag
    slide: str
    units: dict[str, str]


class Bags:
    """Feature files of a folder by the name of their slide. Files in folders called `patches` hold corners only."""

    def __init__(self, settings: SlidesData, root: Path, manifest: Path) -> None:
        self._settings, self._root = settings, root
        self._files = _by_name(root, SUFFIXES, skip="patches", manifest=manifest)
        self._slides = _by_name(Path(settings.slides).expanduser(), SLIDE_SUFFIXES) if settings.slides else {}
        if not self._files:
            raise EosinError("This folder holds no feature files.", expected=", ".join(SUFFIXES), where=root,
                             next_step="eosin slides features SLIDES --out DIR")  # fmt: skip

    def find(self, told: str) -> Found | tuple[str, str]:
        """The bag of a slide, told by a path or a name with or without suffix; else reason and detail."""
        told = told.strip().replace("\\", "/")
        if not told:
            return "no slide named", ""
        name = slide_name(told)
        exact = self._root / told
        if inside(self._root, told) is not None and os.path.isfile(exact) and exact.suffix.lower() in SUFFIXES:
            return self._found(exact, name)
        files = self._files.get(name) or [f for n, g in self._files.items() if n.startswith(f"{name}.") for f in g]
        if not files:
            return "no feature file of this slide", told
        if len(files) > 1:
            near = [f for f in files if Path(told).parent.name and Path(told).parent.name in f.parts]
            files = near if len(near) == 1 else files
        if len(files) > 1:
            return "several feature files of this slide", ", ".join(str(f.relative_to(self._root)) for f in files[:4])
        return self._found(files[0], name)

    def _found(self, file: Path, name: str) -> Found:
        chosen = self._settings
        slides = self._slides.get(name, [])
        bag = SlideBag(
            path=str(file), encoder=chosen.encoder, slide=str(slides[0]) if len(slides) == 1 else None,
            mpp=chosen.patch_mpp, tile_um=chosen.tile_um,
        )  # fmt: skip
        return Found(bag, name, units_of(name))


def slide_name(told: str) -> str:
    """The name of a slide from a path: without folders, and without the suffix of a feature file or a slide."""
    name = Path(told).name
    for suffix in sorted({*SUFFIXES, *SLIDE_SUFFIXES, ".npy"}, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def units_of(name: str) -> dict[str, str]:
    """Slide, and patient where the name is a TCGA barcode."""
    barcode = _TCGA.match(name)
    return {"slide": name, **({"patient": barcode.group(1).upper()} if barcode else {})}


def _by_name(
    root: Path, suffixes: Sequence[str], skip: str | None = None, manifest: Path | None = None
) -> dict[str, list[Path]]:
    """Files with one of these suffixes by the name of their slide; tables that list slides are left out."""
    found: dict[str, list[Path]] = defaultdict(list)
    for folder, subfolders, files in os.walk(root, followlinks=True):
        above = {Path(folder).resolve(), *Path(folder).resolve().parents}
        subfolders[:] = sorted(
            f for f in subfolders if not f.startswith(".") and f != skip and Path(folder, f).resolve() not in above
        )
        for file in sorted(files):
            path = Path(folder, file)
            listing = path == manifest or file.startswith("eosin_")
            if path.suffix.lower() in suffixes and not file.startswith(".") and not listing:
                found[slide_name(file)].append(path)
    return dict(found)
