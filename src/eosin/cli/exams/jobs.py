"""Which exams `eosin evaluate` runs one after the other: exams times input policies, and the table at the end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from eosin.core.errors import EosinError

if TYPE_CHECKING:
    from eosin.chain.listed import Part
    from eosin.core.settings.exam import ExamSettings, InputPolicy

PromptOption = Annotated[
    str | None, typer.Option("--prompt", help="Way of asking, such as chain-of-draft or direct (docs/exams.md).")
]
ShiftsOption = Annotated[
    int, typer.Option("--shifts", help="Ask again with the options moved on 1..N places; -1: every place.")
]
MppOption = Annotated[str | None, typer.Option("--mpp", help="Show pictures at this scale. Several: a sweep.")]
PatchOption = Annotated[str | None, typer.Option("--patch-px", help="Show the middle of this side. Several: a sweep.")]
PixelsOption = Annotated[
    str | None, typer.Option("--max-pixels", help="Make pictures smaller to this. Several, by comma: a sweep.")
]
ImagesOption = Annotated[str | None, typer.Option("--num-images", help="Show the first so many. Several: a sweep.")]
OneByOneOption = Annotated[
    bool, typer.Option("--one-by-one", help="Ask about each picture of a question for itself; the answers vote.")
]


@dataclass(frozen=True)
class Job:
    """One exam under one input policy."""

    part: Part
    settings: ExamSettings
    place: Path

    @property
    def title(self) -> str:
        return f"{self.part.name}, input {self.settings.input.name}"


def policies_of(
    mpp: str | None, patch_px: str | None, max_pixels: str | None, num_images: str | None, *, one_by_one: bool
) -> list[InputPolicy]:
    """Every combination of the values that were given, by comma.

    Raises:
        EosinError: a value is no number, or out of range.
    """
    from eosin.core.settings.exam import InputPolicy
    from eosin.core.settings.recipe import check_settings

    told = {"mpp": mpp, "patch_px": patch_px, "max_pixels": max_pixels, "num_images": num_images}
    values = {name: _numbers(name, text, whole=name != "mpp") for name, text in told.items()}
    return [
        check_settings(
            InputPolicy, {**dict(zip(values, chosen, strict=True)), "joint": not one_by_one}, "eosin evaluate"
        )
        for chosen in itertools.product(*values.values())
    ]


def _numbers(name: str, text: str | None, *, whole: bool) -> list[float | int | None]:
    if text is None:
        return [None]
    found: list[float | int | None] = []
    for part in text.split(","):
        try:
            found.append(None if part.strip() in ("", "stored") else int(part) if whole else float(part))
        except ValueError:
            raise EosinError(
                f"--{name.replace('_', '-')} takes numbers, divided by commas.",
                expected="224 or 224,448, and `stored` for as it is", found=text,
            ) from None  # fmt: skip
    return found


def jobs_of(
    exams: Sequence[str], policies: Sequence[InputPolicy], root: Path | None, settings: ExamSettings, place: Path
) -> list[Job]:
    """What is run, in order. One set of samples of one's own is written to `place` itself, as ever."""
    from eosin.chain.listed import part_of

    parts = [part_of(told, root, settings.max_samples, settings.seed) for told in exams]
    names = [p.name for p in parts]
    if len(set(names)) < len(names):
        raise EosinError(
            "Two exams would be written to one folder.", found=", ".join(sorted(names)),
            next_step="examine them one after the other, each with its own --out",
        )  # fmt: skip
    own = len(parts) == 1 and parts[0].exam is None
    jobs = []
    for part in parts:
        for policy in policies:
            folder = place if own else place / part.name
            folder = folder if len(policies) == 1 else folder / policy.name
            jobs.append(Job(part, settings.model_copy(update={"input": policy}), folder))
    return jobs


def further_lines(result: dict[str, Any]) -> list[str]:
    """Lines about moved options and about pictures asked one by one."""
    lines = []
    shifts = result.get("shifts")
    if shifts and shifts["n"]:
        lines.append(
            f"options moved: {shifts['shifts']} askings of {shifts['n']} questions, consistency "
            f"{shifts['consistency']:.3f}, "
            f"right in all {shifts['accuracy_in_all']:.3f}, mean accuracy {shifts['accuracy']:.3f}"
        )
    by_image = result.get("by_image")
    if by_image and by_image["n"]:
        lines.append(
            f"one by one: {by_image['pictures']} pictures of {by_image['n']} questions, majority accuracy "
            f"{by_image['majority_accuracy']:.3f}"
        )
    return lines


def tell_together(jobs: Sequence[Job], results: Sequence[dict[str, Any]]) -> None:
    """One table of all exams, with the input policy beside each figure. Nothing where there is only one."""
    if len(jobs) < 2:
        return
    table = Table(box=None, pad_edge=False)
    for name in ("exam", "input", "n", "accuracy", "95 %", "tolerant", "chance"):
        table.add_column(name)
    for job, result in zip(jobs, results, strict=True):
        exam = result.get("exam")
        if exam is None:
            table.add_row(job.part.name, job.settings.input.name, str(result["sealed"]["n"]), "sealed", "", "", "")
            continue
        low, high = exam["ci95"]
        chance = "" if exam["chance"] is None else f"{exam['chance']:.3f}"
        table.add_row(
            job.part.name, job.settings.input.name, str(exam["n"]), f"{exam['accuracy']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{exam['tolerant_accuracy']:.3f}", chance,
        )  # fmt: skip
    Console(soft_wrap=True, highlight=False).print(table)
