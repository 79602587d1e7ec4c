"""Questions that training must not hold, as an index on disk: runs of their words, their pictures, their groups.

Only numbers and names are held, and no text or picture of an exam is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from eosin.core.formats.rows import whole_file
from eosin.core.nouns.cases import tcga_case
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import read_object, write_json
from eosin.curate.copies.texts import U64, runs
from eosin.curate.decontaminate import image_keys

_BATCH = 2000
_WORLDWIDE = re.compile(r"(?:PMC\d{4,}|10\.\d{4,}/\S+|TCGA-\w\w-\w{4}.*)", re.IGNORECASE)


def said(sample: Sample) -> list[str]:
    """The texts of a sample, each looked at by itself: question with options and answer, caption, findings, reasoning.

    Options stand in alphabetical order, so that shuffled ones are found.
    """
    options = sorted(c.text for c in sample.choices)
    asked = " ".join(t for t in (sample.question, *options, sample.answer_text) if t)
    return [asked, *(t for t in (sample.caption, sample.findings, " ".join(sample.reasoning)) if t)]


def places_of(sample: Sample) -> list[str]:
    """Names of the unit of a sample: within its source, and by itself where it is known beyond it (PMC, DOI, TCGA)."""
    group = sample.origin.group
    if group is None:
        return []
    names = [f"{sample.origin.source}/{group}"]
    value = group.partition(":")[2]
    if _WORLDWIDE.fullmatch(value):
        names.append(tcga_case(value) or value.upper())
    return names


def picture_numbers(sample: Sample) -> list[int]:
    """An unsigned 64-bit number for each picture that can be read, equal for equal pictures."""
    return [int(key[:16], 16) for key in image_keys(sample)]


def run_numbers(samples: Sequence[Sample], words: int, min_words: int) -> tuple[U64, NDArray[np.int32]]:
    """All runs of words of the samples, each once a sample, and the number of the sample that each is of."""
    texts = [(i, t) for i, s in enumerate(samples) for t in said(s)]
    values, offsets = runs([t for _, t in texts], words, min_words)
    of = np.repeat(np.array([i for i, _ in texts], np.int64), np.diff(offsets))
    if not len(values):
        return values, of.astype(np.int32)
    order = np.lexsort((values, of))
    values, of = values[order], of[order]
    first = np.concatenate([[True], (values[1:] != values[:-1]) | (of[1:] != of[:-1])])
    return values[first], of[first].astype(np.int32)


@dataclass(frozen=True)
class Question:
    """Where a question stands and what it is called."""

    where: str
    id: str


class QuestionIndex:
    """The index in a folder. It is read when something is first looked up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def write(
        cls, folder: Path, questions: Iterable[tuple[str, Sample]], *, words: int, min_words: int, common: int
    ) -> QuestionIndex:
        """Index questions, a batch in memory at a time.

        Args:
            questions: where each stands, and the question.
            common: a run that more questions than this share (or than 1 % of them) is wording, and left out.
        """
        folder.mkdir(parents=True, exist_ok=True)
        names: list[tuple[str, str]] = []
        pieces: list[tuple[U64, NDArray[np.int32]]] = []
        pictures: dict[int, int] = {}
        groups: dict[str, int] = {}
        for batch in _batches(questions):
            values, of = run_numbers([s for _, s in batch], words, min_words)
            pieces.append((values, of + np.int32(len(names))))
            for where, sample in batch:
                for number in picture_numbers(sample):
                    pictures.setdefault(number, len(names))
                for name in places_of(sample):
                    groups.setdefault(name, len(names))
                names.append((where, sample.id))
        values, of = _without_wording(pieces, max(common, len(names) // 100))
        _write(folder / "runs.parquet", {"run": values, "of": of})
        _write(folder / "names.parquet", {"where": [w for w, _ in names], "id": [i for _, i in names]})
        ordered = sorted(pictures)
        _write(folder / "pictures.parquet", {
            "picture": np.array(ordered, np.uint64), "of": np.array([pictures[p] for p in ordered], np.int32),
        })  # fmt: skip
        write_json(folder / "groups.json", groups)
        return cls(folder)

    @cached_property
    def _runs(self) -> tuple[U64, NDArray[np.int32]]:
        table = pq.read_table(self._folder / "runs.parquet")
        return table["run"].to_numpy(), table["of"].to_numpy()

    @cached_property
    def _pictures(self) -> dict[int, int]:
        table = pq.read_table(self._folder / "pictures.parquet")
        return dict(zip(table["picture"].to_pylist(), table["of"].to_pylist(), strict=True))

    @cached_property
    def _groups(self) -> dict[str, int]:
        return read_object(self._folder / "groups.json")

    @cached_property
    def _names(self) -> pa.Table:
        return pq.read_table(self._folder / "names.parquet")

    def __len__(self) -> int:
        return int(self._names.num_rows)

    def question(self, number: int) -> Question:
        return Question(self._names["where"][number].as_py(), self._names["id"][number].as_py())

    def runs_in(self, samples: Sequence[Sample], words: int, min_words: int) -> list[list[int]]:
        """For each sample the places in the index of the runs that stand in a question too."""
        known, _ = self._runs
        found: list[list[int]] = [[] for _ in samples]
        if not len(known):
            return found
        values, of = run_numbers(samples, words, min_words)
        at = np.searchsorted(known, values).clip(max=len(known) - 1)
        for hit in np.flatnonzero(known[at] == values):
            found[int(of[hit])].append(int(at[hit]))
        return found

    def question_of_run(self, place: int) -> int:
        """A question that holds a run."""
        return int(self._runs[1][place])

    def picture(self, sample: Sample) -> int:
        """A question that shows a picture of a sample, byte for byte; -1 where there is none."""
        return next((self._pictures[n] for n in picture_numbers(sample) if n in self._pictures), -1)

    def group(self, sample: Sample) -> int:
        """A question about the same patient, case, slide or article; -1 where there is none."""
        return next((self._groups[n] for n in places_of(sample) if n in self._groups), -1)


def _batches(questions: Iterable[tuple[str, Sample]]) -> Iterator[list[tuple[str, Sample]]]:
    batch: list[tuple[str, Sample]] = []
    for question in questions:
        batch.append(question)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _without_wording(pieces: Sequence[tuple[U64, NDArray[np.int32]]], most: int) -> tuple[U64, NDArray[np.int32]]:
    """Runs in order, each once with the first question that holds it; those of more than `most` questions left out."""
    if not pieces:
        return np.zeros(0, np.uint64), np.zeros(0, np.int32)
    values, of = np.concatenate([v for v, _ in pieces]), np.concatenate([o for _, o in pieces])
    order = np.lexsort((of, values))
    values, of = values[order], of[order]
    unique, first, counts = np.unique(values, return_index=True, return_counts=True)
    rare = counts <= most
    return unique[rare], of[first[rare]]


def _write(path: Path, columns: dict[str, Any]) -> None:
    with whole_file(path) as handle:
        pq.write_table(pa.table(columns), handle, compression="zstd")
