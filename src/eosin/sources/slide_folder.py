"""Slides whose patches are encoded already: feature files found by the name of the slide, and a table of labels."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Sieve
from eosin.core.nouns.sample import ImageFile, Sample, SlideBag
from eosin.core.settings.data import SlidesData
from eosin.slides.features.files import SUFFIXES
from eosin.slides.open.find import SUFFIXES as SLIDE_SUFFIXES
from eosin.sources.card import Collection
from eosin.sources.labelled import STEP, LabelledImage, card_of, collect, nearest
from eosin.sources.slide_instructions import read_conversations, read_questions
from eosin.sources.table import read_cells, row_of

_TCGA = re.compile(r"^(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(?=-|$)", re.IGNORECASE)
_QUESTIONS = (
    "What is the diagnosis?",
    "Which of these classes fits the slide best?",
    "Which class does this slide show?",
)


def read_slides(settings: SlidesData) -> Collection:
    """Samples of encoded slides; which reader is used follows from the manifest.

    Raises:
        EosinError: no such folder or manifest; no feature file; other columns than the recipe; no usable row.
    """
    root = Path(settings.root).expanduser()
    if not root.is_dir():
        raise EosinError(
            "There is no such folder of features.", found="a file" if root.exists() else "nothing", where=root,
            next_step="eosin slides features SLIDES --out DIR   makes them",
        )  # fmt: skip
    manifest = _manifest(settings, root)
    bags = Bags(settings, root, manifest)
    if manifest.suffix.lower() in (".json", ".jsonl"):
        return _told(read_conversations(manifest, bags, settings.name), settings, manifest)
    header, rows = read_cells(manifest, encoding=settings.encoding, delimiter=settings.delimiter)
    if {"question", "answer"} <= {h.strip().lower() for h in header}:
        return _told(read_questions(header, rows, manifest, bags, settings.name), settings, manifest)
    return _labelled(header, rows, manifest, bags, settings)


def _manifest(settings: SlidesData, root: Path) -> Path:
    for path in (root / settings.manifest, Path(settings.manifest).expanduser()):
        if path.is_file():
            return path
    raise EosinError(
        "There is no such list of slides.", expected="a .json, .jsonl or .csv file", found=settings.manifest,
        where=root, next_step="set data.manifest",
    )  # fmt: skip


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
        if exact.is_file() and exact.suffix.lower() in SUFFIXES:
            return self._found(exact, name)
        files = self._files.get(name) or [f for n, g in self._files.items() if n.startswith(f"{name}.") for f in g]
        if not files:
            return "no feature file of this slide", told
        if len(files) > 1:
            inside = [f for f in files if Path(told).parent.name and Path(told).parent.name in f.parts]
            files = inside if len(inside) == 1 else files
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


def _told(samples: Sieve[Sample], settings: SlidesData, manifest: Path) -> Collection:
    """A collection of samples that were read from conversations or questions."""
    for key in ("hold_out", "hold_out_valid", "max_train_per_class", "report_column"):
        if getattr(settings, key):
            raise EosinError(
                f"data.{key} is for a table with a slide and a label a row.", where=manifest,
                next_step="give the rows a split (train, valid, test), or use test_fraction",
            )  # fmt: skip
    if not samples.kept:
        raise EosinError(
            "No row of this file could be used.", where=manifest,
            found=", ".join(f"{n} x {reason}" for reason, n in samples.reasons().items()) or "no rows",
        )  # fmt: skip
    return Collection(card=card_of(samples.kept, settings), samples=samples)


def _labelled(
    header: Sequence[str], rows: Sequence[tuple[int, list[str]]], manifest: Path, bags: Bags, settings: SlidesData
) -> Collection:
    """Samples of a table with a slide and a label a row."""
    wanted = {"slide_column": settings.slide_column, "label_column": settings.label_column}
    for key in ("group_column", "split_column", "report_column"):
        if getattr(settings, key) is not None:
            wanted[key] = getattr(settings, key)
    _check_columns(header, wanted, manifest)
    images: list[LabelledImage] = []
    dropped: list[Dropped] = []
    found: dict[str, Found] = {}
    for number, cells in rows:
        made = _row(header, cells, f"{manifest.name}:{number}", bags, settings, found)
        (dropped if isinstance(made, Dropped) else images).append(made)  # type: ignore[arg-type]
    if not images:
        reasons = Sieve((), tuple(dropped)).reasons()
        raise EosinError("No row of this table could be used.", where=manifest,
                         found=", ".join(f"{n} x {r}" for r, n in reasons.items()) or "no rows")  # fmt: skip
    asked = settings if settings.questions else settings.model_copy(update={"questions": list(_QUESTIONS)})
    made_of = collect(images, dropped, asked)
    kept = tuple(_with_bag(s, found) for s in made_of.kept)
    return made_of.model_copy(update={"samples": Sieve(kept, made_of.dropped)})


def _check_columns(header: Sequence[str], wanted: dict[str, str], path: Path) -> None:
    for key, column in wanted.items():
        if column not in header:
            near = nearest(column, header)
            raise EosinError(
                f"The table has no column {column!r}.", expected=", ".join(wanted.values()), found=", ".join(header),
                where=path, next_step=f"set in the recipe: data.{key}: {near or '<one of the columns above>'}",
            )  # fmt: skip


def _row(
    header: Sequence[str], cells: Sequence[str], place: str, bags: Bags, settings: SlidesData, found: dict[str, Found]
) -> LabelledImage | Dropped:
    row = row_of(header, cells, place)
    if isinstance(row, Dropped):
        return row
    told, label = row[settings.slide_column], row[settings.label_column]
    if not label:
        return Dropped(told or place, "no label", place, STEP)
    held = bags.find(told)
    if isinstance(held, tuple):
        return Dropped(told or place, held[0], held[1], STEP)
    units = dict(held.units)
    if settings.group_column is not None:
        if not row[settings.group_column]:
            return Dropped(told, "no group", f"{place}: {settings.group_column} is empty", STEP)
        units[settings.group_kind] = row[settings.group_column]
    found[f"{settings.name}/{held.slide}"] = held
    report = {"report": row[settings.report_column]} if settings.report_column else {}
    split = row[settings.split_column] if settings.split_column else None
    return LabelledImage(held.slide, Path(held.bag.path), label, units, split or None, row, report)


def _with_bag(sample: Sample, found: dict[str, Found]) -> Sample:
    """The same sample, showing the bag in place of the file, without reasoning that only names the class."""
    assert isinstance(sample.images[0], ImageFile)
    update: dict[str, Any] = {"images": (found[sample.id].bag,), "reasoning": (), "caption": None}
    return sample.model_copy(update=update)
