"""Many phantom slides into one folder, several at a time, resumable a slide at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

from eosin.core.processes import one_thread, worker_processes
from eosin.phantom.slides.slide import write_slide

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class SlideJob:
    """One slide to write: OUT.tiff with OUT.geojson and OUT.txt beside it; see `write_slide`."""

    out: Path
    case_number: int
    seed: int
    size_px: int
    mpp: float
    lesion_um: float | None
    page_px: int
    artefacts: tuple[str, ...] = ()
    finding_share: float = 1.0

    @property
    def truth(self) -> Path:
        return self.out.with_suffix(".geojson")

    @property
    def is_done(self) -> bool:
        """The slide itself is renamed to its place last."""
        return self.out.exists() and self.truth.exists()


def write_slides(jobs: Sequence[SlideJob], *, workers: int | None = None, report: Report | None = None) -> int:
    """Write those slides that are not there yet; returns how many were written.

    Args:
        workers: processes, each with one slide at a time; None: one a core, at most 8.
        report: called after each slide with how many are done and how many there are.
    """
    todo = [job for job in jobs if not job.is_done]
    num = min(workers or min(os.cpu_count() or 1, 8), max(1, len(todo)))
    done = len(jobs) - len(todo)
    if num == 1:
        for job in todo:
            _write(job)
            done += 1
            _tell(report, done, len(jobs))
        return len(todo)
    with worker_processes(num, one_thread) as pool:
        for future in as_completed([pool.submit(_write, job) for job in todo]):
            future.result()
            done += 1
            _tell(report, done, len(jobs))
    return len(todo)


def _write(job: SlideJob) -> None:
    for left in (job.truth, job.out.with_suffix(".txt"), job.out):  # of a run that was killed
        left.unlink(missing_ok=True)
    write_slide(
        job.out, case_number=job.case_number, seed=job.seed, size_px=job.size_px, mpp=job.mpp,
        artefacts=job.artefacts, lesion_um=job.lesion_um, page_px=job.page_px,
        finding_share=job.finding_share, workers=1,
    )  # fmt: skip


def _tell(report: Report | None, done: int, total: int) -> None:
    if report is not None:
        report(done, total)
