"""A labelled folder: one subfolder a class. A pattern or a table tells patient, case or slide of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.settings.data import FolderData
from eosin.sources.card import Collection
from eosin.sources.files import OUTSIDE, is_missing, outside_detail, walk
from eosin.sources.labelled import STEP, LabelledImage, collect
from eosin.sources.table import read_cells

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
_UNITS = ("patient", "case", "slide", "article")


def read_folder(settings: FolderData) -> Collection:
    """Samples of a labelled folder.

    Raises:
        EosinError: there is no such folder, it holds no images, or its classes cannot make a question.
    """
    root = Path(settings.root).expanduser()
    if not root.is_dir():
        raise EosinError(
            "There is no such folder.", found="a file" if root.exists() else "nothing", where=root,
            next_step="set data.root, in the recipe or as data.root=PATH on the command line",
        )  # fmt: skip
    told = _groups_table(settings, root)
    images: list[LabelledImage] = []
    dropped: list[Dropped] = []
    for name, belongs in walk(root, settings.image_folders):
        made = _image(name, root, told, settings) if belongs else _refused(name, settings)
        if isinstance(made, Dropped):
            dropped.append(made)
        else:
            images.append(made)
    if not images:
        first = f"; the first: {dropped[0].reason}; {dropped[0].detail}" if dropped else ""
        raise EosinError(
            "This folder holds no labelled images.",
            expected="one subfolder a class with " + ", ".join(sorted(SUFFIXES)),
            found=f"{len(dropped)} other files{first}",
            where=root,
        )
    return collect(images, dropped, settings)


def _groups_table(settings: FolderData, root: Path) -> Mapping[str, Mapping[str, str]] | None:
    if settings.groups_csv is None:
        return None
    path = root / settings.groups_csv
    path = path if path.exists() else Path(settings.groups_csv)
    header, rows = read_cells(path, wanted={"file": "file"})
    if "file" not in header or not set(header) & {*_UNITS, "split"}:
        raise EosinError(
            "The table of groups has other columns.",
            expected="file, and any of patient, case, slide, article, split",
            found=", ".join(header), where=path,
        )  # fmt: skip
    at = header.index("file")
    return {
        cells[at].strip(): dict(zip(header, (c.strip() for c in cells), strict=False))
        for _, cells in rows
        if len(cells) > at
    }


def _refused(name: str, settings: FolderData) -> Dropped:
    return Dropped(f"{settings.name}/{name}", OUTSIDE, outside_detail(name), STEP)


def _image(
    name: str, root: Path, told: Mapping[str, Mapping[str, str]] | None, settings: FolderData
) -> LabelledImage | Dropped:
    sample_id = f"{settings.name}/{name}"
    if Path(name).suffix.lower() not in SUFFIXES:
        return Dropped(sample_id, "not an image suffix", Path(name).suffix, STEP)
    facts: dict[str, str] = {}
    if settings.pattern is not None:
        match = re.search(settings.pattern, name)
        if match is None:
            return Dropped(sample_id, "path does not match the pattern", settings.pattern, STEP)
        facts |= {k: v for k, v in match.groupdict().items() if v}
    if told is not None:
        row = told.get(name) or told.get(Path(name).name)
        if row is None:
            return Dropped(sample_id, "not in the table of groups", name, STEP)
        facts |= {k: v for k, v in row.items() if k != "file" and not is_missing(v)}
    first, _, below = name.partition("/")
    label = facts.get("label") or (first if below else "")
    if not label:
        return Dropped(sample_id, "not in a class folder", name, STEP)
    return LabelledImage(
        name=name,
        path=root / name,
        label=label,
        units={k: facts[k] for k in _UNITS if k in facts},
        split=facts.get("split"),
        columns={**facts, "label": label},
    )
