"""Slides whose patches are encoded already: feature files found by the name of the slide, and a table of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats.options import option_notes
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import ImageFile, Sample
from eosin.core.settings.data import SlidesData
from eosin.sources.card import Collection
from eosin.sources.files import is_missing
from eosin.sources.labelled import STEP, LabelledImage, card_of, collect, nearest
from eosin.sources.slide_bags import Bags, Found
from eosin.sources.slide_instructions import read_conversations, read_questions
from eosin.sources.table import read_cells, row_of

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


def _told(samples: Filtered[Sample], settings: SlidesData, manifest: Path) -> Collection:
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
    return Collection(card=card_of(samples.kept, settings), samples=samples, warnings=option_notes(samples.kept))


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
        reasons = Filtered((), tuple(dropped)).reasons()
        raise EosinError("No row of this table could be used.", where=manifest,
                         found=", ".join(f"{n} x {r}" for r, n in reasons.items()) or "no rows")  # fmt: skip
    asked = settings if settings.questions else settings.model_copy(update={"questions": list(_QUESTIONS)})
    made_of = collect(images, dropped, asked)
    kept = tuple(_with_bag(s, found) for s in made_of.kept)
    return made_of.model_copy(update={"samples": Filtered(kept, made_of.dropped)})


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
        if is_missing(row[settings.group_column]):
            return Dropped(
                told, "no group", f"{place}: {settings.group_column} is {row[settings.group_column]!r}", STEP
            )
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
