"""Whatever stands at a path, as samples: our own artifacts, dialogues, tables, parquet of strangers, class folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats import kind_of, read_samples
from eosin.core.formats.parquet import column_names
from eosin.core.formats.rows import Outcome, file_errors, read_row, unique
from eosin.core.formats.sharegpt import sharegpt_row
from eosin.core.nouns.outcome import Dropped, Kept, filtered
from eosin.core.nouns.sample import ImageBytes, Sample
from eosin.core.nouns.splits import read_split
from eosin.core.settings.data import FolderData, QuestionsData, SamplesData, TableData
from eosin.core.store import artifacts as store

TABLES = (".csv", ".tsv")
QUESTION, ANSWER, CAPTION = (
    ("question", "prompt", "query"),
    ("answer", "gt", "response", "label"),
    ("caption", "text", "report"),
)
IMAGE = ("image", "file", "image_path", "img", "path", "filename", "file_name", "image_id")
LABEL = ("class_text", "class_name", "label_name", "label", "class", "category", "diagnosis", "tissue")
UNITS = ("patient", "case", "slide", "article")
_TAG = re.compile(rb"<(info|observe|think|answer)>")


@dataclass(frozen=True)
class Read:
    """A data set as an audit sees it.

    Attributes:
        tags: how often each tag of a reply stands in the file as it is.
        notes: what the source says of itself.
    """

    name: str
    samples: tuple[Sample, ...]
    dropped: tuple[Dropped, ...]
    tags: Mapping[str, int]
    notes: tuple[str, ...] = ()


def read_any(path: Path, *, image_folders: Sequence[str] = (), licence: str | None = None) -> Read:
    """Samples of a file or folder, whatever its layout; nothing is dropped that an audit should name.

    Args:
        licence: of samples that state none.

    Raises:
        EosinError: nothing that can be read is there.
    """
    outcomes, notes = _outcomes(path, image_folders)
    read = filtered(unique(outcomes))
    if not read.kept:
        first = f"; the first: {read.dropped[0].detail}" if read.dropped else ""
        raise EosinError("No sample could be read.", found=f"{read.reasons()}{first}", where=path,
                         next_step="see docs/audit.md for the layouts that can be read")  # fmt: skip
    samples = read.kept
    if licence:
        samples = tuple(_licensed(s, licence) for s in samples)
    return Read(path.stem if path.is_file() else path.name, samples, read.dropped, _tags(path), tuple(notes))


def _licensed(sample: Sample, licence: str) -> Sample:
    if sample.origin.licence.casefold() not in ("", "unknown"):
        return sample
    return sample.model_copy(update={"origin": sample.origin.model_copy(update={"licence": licence})})


def _outcomes(path: Path, folders: Sequence[str]) -> tuple[Iterable[Outcome], Sequence[str]]:
    if not path.exists():
        raise EosinError("There is no such data set.", expected="a file or folder, or the name of an exam", where=path,
                         next_step="eosin exams list names the exams")  # fmt: skip
    if (
        path.is_dir()
        and not store.exists(path)
        and not any((path / n).exists() for n in ("dataset_info.json", "dataset_dict.json"))
    ):
        return _folder(path, folders)
    if path.suffix.lower() in TABLES:
        return _table(path, folders)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _recipe(path)
    if path.suffix.lower() == ".json" and not _is_list_of_dialogues(path):
        return _collected(
            _source(
                QuestionsData(path=str(path), name=path.stem, own_splits=_has_splits(path), image_folders=list(folders))
            )
        )
    if path.suffix.lower() == ".parquet" and kind_of(path) == "parquet" and "sample" not in column_names(path):
        return _parquet(path), ()
    read = read_samples(path, image_folders=folders)
    return [*(Kept(s) for s in read.kept), *read.dropped], ()


def _source(settings: Any) -> Any:
    from eosin.chain.recipe.data import read_source

    return read_source(settings, 0)


def _collected(collection: Any) -> tuple[list[Outcome], Sequence[str]]:
    return [*(Kept(s) for s in collection.kept), *collection.dropped], collection.warnings


def _recipe(path: Path) -> tuple[list[Outcome], Sequence[str]]:
    from eosin.core.settings.recipe import load_recipe

    recipe = load_recipe(path).recipe
    if isinstance(recipe.data, SamplesData):
        read = read_samples(recipe.data.path, image_folders=recipe.data.image_folders)
        return [*(Kept(s) for s in read.kept), *read.dropped], ()
    return _collected(_source(recipe.data))


def _is_list_of_dialogues(path: Path) -> bool:
    """Whether a JSON file is a list whose first row is a dialogue; others are files of questions."""
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError, OSError):
        return True  # its reader says what is wrong
    first = rows[0] if isinstance(rows, list) and rows else None
    return not isinstance(rows, dict) and not (isinstance(first, Mapping) and "question" in first)


def _has_splits(path: Path) -> bool:
    """Whether names in a file of questions are splits: {"train": [...], "test": [...]}, or one name further down."""
    rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    names: set[str] = set()
    while isinstance(rows, dict) and rows:
        names = set(map(str, rows))
        rows = next((v for v in rows.values() if isinstance(v, dict | list)), None)
    try:
        return bool(names) and all(read_split(n) for n in names)
    except ValueError:
        return False


def _folder(path: Path, folders: Sequence[str]) -> tuple[Iterable[Outcome], Sequence[str]]:
    """A folder with a manifest, one subfolder a class, or one a split and below it one a class."""
    manifest = next((path / n for n in ("manifest.csv", "metadata.csv", "labels.csv") if (path / n).exists()), None)
    if manifest is not None:
        return _table(manifest, folders)
    below = {p.name for p in path.iterdir() if p.is_dir()}
    try:
        in_splits = len(below) > 1 and all(read_split(name) for name in below)
    except ValueError:
        in_splits = False
    pattern = r"^(?P<split>[^/]+)/(?P<label>[^/]+)/" if in_splits else None
    return _collected(_source(FolderData(root=str(path), name=path.name, pattern=pattern, image_folders=list(folders))))


def _table(path: Path, folders: Sequence[str]) -> tuple[Iterable[Outcome], Sequence[str]]:
    from eosin.sources.table import read_cells

    header, rows = read_cells(path)
    names = {h.strip().casefold(): h for h in header}
    question, image = _named(names, QUESTION), _named(names, IMAGE)
    if (question is None or _named(names, ANSWER) is None) and _named(names, CAPTION) is None:
        return _labelled_table(path, names, image, folders)
    made = ((n, dict(zip(header, cells, strict=False))) for n, cells in rows)
    return list(_rows(made, path, folders)), ()


def _named(names: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((names[w] for w in wanted if w in names), None)


def _labelled_table(
    path: Path, names: Mapping[str, str], image: str | None, folders: Sequence[str]
) -> tuple[Iterable[Outcome], Sequence[str]]:
    """A table of labelled images. Its own splits are taken as they are: what stands in two of them is to be named."""
    label = _named(names, LABEL)
    if image is None or label is None:
        raise EosinError(
            "The columns of this table are not known.", where=path, found=", ".join(names.values()),
            expected=f"an image ({', '.join(IMAGE)}) and a label ({', '.join(LABEL)}), a question, or a caption",
            next_step="rename the columns, or give a recipe with the data's columns in place of the table",
        )  # fmt: skip
    unit = next((u for u in UNITS if u in names), None)
    split = _named(names, ("split", "set", "fold", "suggested_split", "partition"))
    settings = TableData(
        root=str(path.parent), manifest=path.name, name=path.parent.name or path.stem, image_column=image,
        label_column=label, group_column=names[unit] if unit else None, group_kind=unit or "slide",  # type: ignore[arg-type]
        extra_columns=[split] if split else [], image_folders=list(folders),
    )  # fmt: skip
    outcomes, notes = _collected(_source(settings))
    return [Kept(_split_by(o.value, split)) if split and isinstance(o, Kept) else o for o in outcomes], notes


def _split_by(sample: Sample, column: str) -> Sample:
    try:
        split = read_split(str(sample.extra.get(column) or "").strip() or None)
    except ValueError:
        split = None
    return sample.model_copy(update={"split": split})


def _parquet(path: Path) -> Iterator[Outcome]:
    """Rows of a foreign parquet with question and answer, or a caption; pictures as paths, bytes, or {bytes, path}."""
    import pyarrow.parquet as pq

    with file_errors(path, "parquet file"), pq.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches(256):
            rows = [(number + i, row) for i, row in enumerate(batch.to_pylist(), 1)]
            number += len(rows)
            yield from _rows(rows, path, ())


def _rows(rows: Iterable[tuple[int, Mapping[str, Any]]], path: Path, folders: Sequence[str]) -> Iterator[Outcome]:
    for number, row in rows:
        place = f"{path.name}:{number}"
        yield read_row(partial(_row, row, path, place, folders), row, place)


def _row(row: Mapping[str, Any], path: Path, place: str, folders: Sequence[str]) -> Outcome:
    """One row as a dialogue: the reader of dialogues finds options, answers and tags in it."""
    names = {str(k).strip().casefold(): str(k) for k in row}
    question, answer, caption = (row.get(_named(names, w) or "") for w in (QUESTION, ANSWER, CAPTION))
    picture = row.get(_named(names, IMAGE) or "")
    data = picture.get("bytes") if isinstance(picture, Mapping) else picture if isinstance(picture, bytes) else None
    told = str(question) if question else "Describe the image."
    options = [
        f"{letter}. {row[names[letter.lower()]]}" for letter in "ABCDEF" if row.get(names.get(letter.lower(), ""))
    ]
    turns = [{"from": "human", "value": "\n".join([told, *options])}]
    if question and answer not in (None, ""):
        turns.append({"from": "gpt", "value": str(answer)})
    fields: dict[str, Any] = {
        "id": row.get("id", place), "conversations": turns, "split": row.get(names.get("split", "")) or None,
        **{u: row[names[u]] for u in UNITS if u in names},
    }  # fmt: skip
    if caption and not question:
        fields["caption"] = str(caption)
    if isinstance(picture, str) and picture:
        fields["image"] = picture
    made = sharegpt_row(fields, path.parent, place, path.stem, folders)
    if isinstance(made, Dropped) or not data:
        return made
    return Kept(_with_picture(made.value, data))


def _with_picture(sample: Sample, data: bytes) -> Sample:
    from eosin.core.nouns.sample import ImagePart

    first = sample.messages[0]
    shown = first.model_copy(update={"parts": (ImagePart(index=0), *first.parts)})
    return sample.model_copy(update={"images": (ImageBytes(data=data),), "messages": (shown, *sample.messages[1:])})


def _tags(path: Path) -> dict[str, int]:
    """How often each opening tag stands in a text file: two names for one block make a format reward always zero."""
    if not path.is_file() or path.suffix.lower() not in (".json", ".jsonl", ".ndjson", *TABLES):
        return {}
    counts: dict[str, int] = {}
    with path.open("rb") as handle:
        for line in handle:
            for tag in _TAG.findall(line):
                counts[tag.decode()] = counts.get(tag.decode(), 0) + 1
    return counts
