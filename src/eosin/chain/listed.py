"""What `eosin evaluate` is given as an exam: a listed one, or samples of one's own; and how it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Filtered
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.core.store.names import file_name
from eosin.evaluate.exams.exam import Asked, Exam
from eosin.evaluate.exams.prompts import OWN, Preset, preset_named
from eosin.evaluate.exams.registry import exam_named, split_name
from eosin.evaluate.exams.variants import image_figures, one_by_one, shift_figures, with_shifts


@dataclass(frozen=True)
class Part:
    """Which questions are asked.

    Attributes:
        told: as it was written on the command line.
        exam: the listed exam; None for samples of one's own.
    """

    told: str
    exam: Exam | None = None
    asked: Asked | None = None

    @property
    def path(self) -> Path:
        return Path(self.told)

    @property
    def name(self) -> str:
        """A name for the folder of its results."""
        if self.exam is None or self.asked is None:
            return file_name(self.path.stem or self.told)
        subset = [] if self.asked.subset == "all" else [self.asked.subset]
        split = [self.asked.split] if len(self.exam.splits) > 1 else []
        return file_name("-".join([self.exam.name, *subset, *split]).casefold())

    def read(self) -> Filtered[Sample]:
        """Its questions, and what could not be read.

        Raises:
            EosinError: none can be read.
        """
        if self.exam is not None and self.asked is not None:
            return self.exam.samples(self.asked)
        from eosin.core.formats import read_samples

        read = read_samples(self.path)
        if not read.kept:
            raise EosinError("No sample could be read.", found=str(read.reasons()), where=self.told)
        return read

    def facts(self) -> dict[str, Any]:
        """For the record: which exam, which edition."""
        if self.exam is None or self.asked is None:
            return {"samples": self.told}
        return {
            "samples": self.told, "exam": self.exam.name, "exam_digest": self.exam.digest,
            "exam_version": self.exam.card.version, "subset": self.asked.subset, "exam_split": self.asked.split,
        }  # fmt: skip


def part_of(told: str, root: Path | None, limit: int | None, seed: int) -> Part:
    """What an EXAM of the command line stands for: what lies on the disk under this name, else a listed exam.

    With a root it is always a listed exam.

    Raises:
        EosinError: neither; the nearest exam is named.
    """
    if root is None and Path(told).exists():
        return Part(told)
    if root is None and _looks_like_a_path(told):
        raise EosinError(
            "There are no samples here, and no listed exam has this name.", found="nothing", where=told,
            next_step="eosin exams list",
        )  # fmt: skip
    exam, subset, split = split_name(told)
    return Part(told, exam, Asked(root, subset, split, limit, seed))


def _looks_like_a_path(told: str) -> bool:
    name = told.split("/")[0]
    try:
        exam_named(name)
    except EosinError:
        return told.startswith((".", "/", "~")) or "/" in told or Path(told).suffix != ""
    return False


def preset_of(settings: ExamSettings, part: Part, *, has_own_grammar: bool) -> Preset:
    """How an exam is asked: as the settings say; else a model that was trained on a grammar is asked in it; else as the
    listed exam is asked."""
    if settings.prompt is not None:
        return preset_named(settings.prompt)
    if part.exam is not None and not has_own_grammar:
        return preset_named(part.exam.prompt)
    return preset_named(OWN)


def asked_as(read: Filtered[Sample], preset: Preset, settings: ExamSettings) -> Filtered[Sample]:
    """The questions as they are put: with the preset's system message, and a picture at a time where that is asked."""
    kept: Sequence[Sample] = [preset.applied(s) for s in read.kept]
    if not settings.input.joint:
        kept = one_by_one(kept)
    return Filtered(tuple(kept), read.dropped)


Examine = Callable[[Sequence[Sample], ExamSettings, Path], dict[str, Any]]


def further_figures(samples: Sequence[Sample], settings: ExamSettings, out: Path, examine: Examine) -> dict[str, Any]:
    """What is asked beside the exam: options moved on; and the vote over pictures that were asked one by one.

    Writes `out`/shifts.json and `out`/by_image.json.
    """
    found: dict[str, Any] = {}
    if not settings.input.joint:
        found["by_image"] = image_figures(_rows(out / "exam"))
        store.write_json(out / "by_image.json", found["by_image"])
    if settings.shifts:
        plain = settings.model_copy(update={"probes": [], "baselines": "none", "num_sampled": 0, "evidence": None,
                                            "terms": None, "shifts": 0, "max_samples": None,
                                            "option_probabilities": False})  # fmt: skip
        from eosin.core.draw import subset

        asked = subset(samples, settings.max_samples, settings.seed)
        examine(with_shifts(asked, settings.shifts), plain, out / "shifted")
        found["shifts"] = shift_figures(_rows(out / "shifted" / "exam"))
        store.write_json(out / "shifts.json", found["shifts"])
    return found


def _rows(exam: Path) -> list[dict[str, Any]]:
    text = (exam / "predictions.jsonl").read_text("ascii")
    return [json.loads(line) for line in text.splitlines()]


def export_exam(
    name: str, to: str, out: Path, root: Path | None, limit: int | None, prompt: str | None
) -> tuple[list[Path], int, dict[str, int]]:
    """Write a listed exam as a task of another harness.

    Returns:
        Files to name to the harness, how many questions, and why others were set aside.
    """
    from eosin.evaluate.exams.export.harnesses import write_export
    from eosin.evaluate.exams.export.rows import ExportRow, export_rows
    from eosin.slides.features.regions import SlideRegions

    exam, subset, split = split_name(name)
    read = exam.samples(Asked(root, subset, split, limit))
    preset = preset_named(prompt or exam.prompt)
    grammar = preset.grammar or Grammar.of("think/answer")
    made = list(export_rows([preset.applied(s) for s in read.kept], grammar, SlideRegions()))
    rows = [r for r in made if isinstance(r, ExportRow)]
    dropped: Filtered[Sample] = Filtered((), (*read.dropped, *(r for r in made if not isinstance(r, ExportRow))))
    version = f"{exam.name} edition {exam.edition}, digest {exam.digest[:16]}"
    return (
        write_export(rows, to, Part(name, exam, Asked(root, subset, split)).name, version, out),
        len(rows),
        dropped.reasons(),
    )
