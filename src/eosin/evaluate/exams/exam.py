"""A listed exam: card, reader, prompt and scorer, frozen; and what is asked of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import Sample
from eosin.evaluate.exams.card import ExamCard
from eosin.evaluate.exams.reading.drafts import Draft, finish
from eosin.evaluate.exams.reading.names import nearest_name

Scorer = Literal["option", "text", "report", "answers"]
ALL = "all"


@dataclass(frozen=True)
class Asked:
    """Which part of an exam is asked, and where it stands.

    Attributes:
        root: the folder of the published set. An exam that is made by code needs none.
        subset: name of a subset; "all" takes every one.
        split: name of a split of this exam.
        limit: a seeded random subset of this size. Only its pictures are looked for.
    """

    root: Path | None = None
    subset: str = ALL
    split: str = ""
    limit: int | None = None
    seed: int = 0

    def folder(self) -> Path:
        """The folder of the set.

        Raises:
            EosinError: none is given, or it is not there.
        """
        if self.root is None:
            raise EosinError(
                "This exam is read from a folder, and none is named.", expected="--root DIR",
                next_step="eosin exams show NAME   says how to get it and how the folder looks",
            )  # fmt: skip
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise EosinError(
                "There is no such folder.", expected="the folder of the exam",
                found="a file" if root.exists() else "nothing", where=root,
            )  # fmt: skip
        return root


Read = Callable[[Asked], Iterable["Draft | Sample | Dropped"]]


@dataclass(frozen=True)
class Exam:
    """A listed exam.

    Attributes:
        read: rows of the published layout as drafts (pictures still named), samples, or what cannot be used.
        prompt: name of the preset that asks as the exam is usually asked (`exams.prompts`).
        scorer: option (a letter among options), text (exact text, or a judge), report, or answers (the gold answers
            are sealed: replies are written in the form that the organisers take).
        subsets, splits: their names; the first split is asked where none is named.
        needs_root: False for exams that are made by code.
        edition: raised whenever reader, prompt or scorer change what a question is.
    """

    card: ExamCard
    read: Read = field(compare=False)
    prompt: str = "grammar"
    scorer: Scorer = "option"
    subsets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test",)
    needs_root: bool = True
    edition: int = 1

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def digest(self) -> str:
        """SHA-256 over all that fixes the exam: its edition, names, counts, prompt and scorer. Figures do not count."""
        facts = {
            "name": self.name, "edition": self.edition, "kind": self.card.kind, "prompt": self.prompt,
            "scorer": self.scorer, "subsets": self.subsets, "splits": self.splits, "counts": self.card.counts,
            "version": self.card.version,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def samples(self, asked: Asked) -> Filtered[Sample]:
        """The questions, and what was set aside with its reason.

        Raises:
            EosinError: no folder, no such subset or split, no file of the layout, no usable question.
        """
        asked = self.checked(asked)
        read = finish(self.read(asked), asked.limit, asked.seed)
        if not read.kept:
            found = ", ".join(f"{n} x {reason}" for reason, n in list(read.reasons().items())[:6]) or "no rows"
            first = f"; the first: {read.dropped[0].detail}" if read.dropped and read.dropped[0].detail else ""
            raise EosinError(
                f"No question of {self.name} could be used.", found=found + first, where=asked.root,
                next_step=f"eosin exams show {self.name}   says how the folder looks",
            )  # fmt: skip
        return read

    def checked(self, asked: Asked) -> Asked:
        """The same request with the default split, its names as the exam writes them."""
        split = _one_of(asked.split, self.splits, "split", self.name) if asked.split else self.splits[0]
        subset = ALL
        if asked.subset and asked.subset.casefold() != ALL:
            subset = _one_of(asked.subset, self.subsets, "subset", self.name)
        if self.needs_root:
            asked.folder()
        return Asked(asked.root, subset, split, asked.limit, asked.seed)


def _one_of(told: str, names: tuple[str, ...], kind: str, exam: str) -> str:
    for name in names:
        if _plain(name) == _plain(told):
            return name
    near = nearest_name(told, names)
    raise EosinError(
        f"{exam} has no {kind} {told!r}.", expected=", ".join(names) or f"none: this exam has no {kind}s", found=told,
        next_step=f"did you mean {near}?" if near else None,
    )  # fmt: skip


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")
