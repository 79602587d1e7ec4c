"""Readers and writers of samples: every format gives back the equal sample; a bad row stops no reading."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from eosin.core.errors import EosinError
from eosin.core.formats.artifact import iter_artifact, read_dropped, write_artifact
from eosin.core.formats.dialogue import DEFAULT_GRAMMAR
from eosin.core.formats.jsonl import iter_jsonl, write_jsonl
from eosin.core.formats.parquet import column_names, iter_parquet, write_parquet
from eosin.core.formats.rows import Outcome, unique
from eosin.core.formats.sharegpt import iter_sharegpt, write_sharegpt
from eosin.core.formats.trl import (
    from_dataset,
    from_trl,
    iter_dataset_folder,
    iter_trl_parquet,
    to_dataset,
    to_trl,
    write_dataset,
    write_trl,
)
from eosin.core.nouns.outcome import Filtered, filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import exists

__all__ = [
    "Format", "from_dataset", "from_trl", "iter_parquet", "iter_samples", "kind_of", "read_dropped",
    "read_samples", "to_dataset", "to_trl", "write_artifact", "write_parquet", "write_samples",
]  # fmt: skip

Format = Literal["parquet", "jsonl", "sharegpt", "trl", "datasets", "artifact"]
_SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "sharegpt",
}


def kind_of(path: Path) -> Format:
    """The format of what stands at `path`, by suffix and content.

    Raises:
        EosinError: nothing is there, or it is of no known kind.
    """
    if path.is_dir():
        if exists(path):
            return "artifact"
        if (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists():
            return "datasets"
    elif not path.exists():
        raise EosinError("There is no such file or folder.", where=path)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None or path.is_dir():
        raise EosinError(
            "This is no kind of samples that can be read.",
            expected="a .parquet, .jsonl or .json file, or a folder of samples (manifest.json) or datasets",
            found="a folder without manifest.json" if path.is_dir() else f"the suffix {path.suffix!r}",
            where=path,
            next_step="for a folder of images use `source: folder` or `source: table` in the recipe's data",
        )
    if kind == "parquet":
        names = column_names(path)
        if "sample" not in names and {"prompt", "messages", "conversations"} & set(names):
            return "trl"
    return kind


def iter_samples(
    path: str | os.PathLike[str],
    *,
    source: str | None = None,
    image_folders: Sequence[str | os.PathLike[str]] = (),
) -> Iterator[Outcome]:
    """Kept samples and Dropped rows of any format, in order. Ids are not compared; `read_samples` does that.

    Args:
        source: data set name for rows that do not carry one (dialogues of other programs).
        image_folders: further folders, beside the data's own, from which rows of other programs may take images.
    """
    path = Path(path)
    kind = kind_of(path)
    if kind == "artifact":
        return iter_artifact(path)
    if kind == "parquet":
        return iter_parquet(path)
    readers = {"sharegpt": iter_sharegpt, "jsonl": iter_jsonl, "trl": iter_trl_parquet, "datasets": iter_dataset_folder}
    return readers[kind](path, source=source, image_folders=image_folders)


def read_samples(
    path: str | os.PathLike[str],
    *,
    source: str | None = None,
    image_folders: Sequence[str | os.PathLike[str]] = (),
) -> Filtered[Sample]:
    """All samples of a file or folder, and what was dropped. Of several rows with one id the first is kept.

    Args:
        source, image_folders: as for `iter_samples`.

    Raises:
        EosinError: the file as a whole cannot be read.
    """
    with _no_collection():
        return filtered(unique(iter_samples(path, source=source, image_folders=image_folders)))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Samples hold no cycles. Walking through all of them again and again takes half of a bulk reading's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def write_samples(
    samples: Iterable[Sample],
    path: str | os.PathLike[str],
    format: Format | None = None,
    *,
    grammar: Grammar = DEFAULT_GRAMMAR,
    instruction: bool = True,
) -> int:
    """Write samples; returns how many. The file appears only when it is whole.

    Args:
        format: by default the suffix decides; no suffix means an artifact.
        grammar: form of the gold reply in sharegpt, trl and datasets.
        instruction: whether those formats state that form in the question.
    """
    path = Path(path)
    if format is None:
        format = _SUFFIXES.get(path.suffix.lower(), "artifact")
    if format not in get_args(Format):
        raise EosinError("This is not a format.", expected=", ".join(get_args(Format)), found=str(format))
    if format == "artifact":
        return int(write_artifact(samples, path).manifest["counts"]["samples"])
    if format == "jsonl":
        return write_jsonl(samples, path)
    if format == "parquet":
        return write_parquet(samples, path)
    write = {"sharegpt": write_sharegpt, "trl": write_trl, "datasets": write_dataset}[format]
    return write(samples, path, grammar=grammar, instruction=instruction)
