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
from eosin.core.store.names import inside_any
from eosin.slides.features.files import SUFFIXES
from eosin.slides.open.find import SUFFIXES as SLIDE_SUFFIXES
from eosin.sources.files import walk

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
        folders = settings.image_folders
        self._files, self._refused = _by_name(root, SUFFIXES, folders, skip="patches", manifest=manifest)
        slides = Path(settings.slides).expanduser() if settings.slides else None
        self._slides = _by_name(slides, SLIDE_SUFFIXES, folders)[0] if slides else {}
        if not self._files:
            linked = f"{self._refused} links out of this folder" if self._refused else None
            next_step = "name the folders of the links in data.image_folders" if linked else None
            raise EosinError("This folder holds no feature files.", expected=", ".join(SUFFIXES), found=linked,
                             where=root, next_step=next_step or "eosin slides features SLIDES --out DIR")  # fmt: skip

    def find(self, told: str) -> Found | tuple[str, str]:
        """The bag of a slide, told by a path or a name with or without suffix; else reason and detail."""
        told = told.strip().replace("\\", "/")
        if not told:
            return "no slide named", ""
        name = slide_name(told)
        exact = inside_any(self._root, told, self._settings.image_folders)
        if exact is not None and os.path.isfile(exact) and exact.suffix.lower() in SUFFIXES:
            return self._found(exact, name)
        files = self._files.get(name) or [f for n, g in self._files.items() if n.startswith(f"{name}.") for f in g]
        if not files:
            linked = f"; {self._refused} links lead out of the data's folder: data.image_folders"
            return "no feature file of this slide", told + (linked if self._refused else "")
        if len(files) > 1:
            beside = [f for f in files if Path(told).parent.name and Path(told).parent.name in f.parts]
            files = beside if len(beside) == 1 else files
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
    root: Path, suffixes: Sequence[str], folders: Sequence[str], skip: str | None = None, manifest: Path | None = None
) -> tuple[dict[str, list[Path]], int]:
    """Files with one of these suffixes by the name of their slide, and how many files or folders are links out of the
    data; tables that list slides are left out."""
    found: dict[str, list[Path]] = defaultdict(list)
    refused = 0
    for name, belongs in walk(root, folders):
        path = root / name
        if skip is not None and skip in Path(name).parts[:-1]:
            continue
        refused += not belongs
        listing = path == manifest or path.name.startswith("eosin_")
        if belongs and path.suffix.lower() in suffixes and not listing:
            found[slide_name(path.name)].append(path)
    return dict(found), refused
