"""Where things stand in a run's folder. docs/formats.md shows it whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The folder of one run."""

    out: Path

    @property
    def recipe(self) -> Path:
        return self.out / "recipe.yaml"

    @property
    def provenance(self) -> Path:
        return self.out / "provenance.json"

    @property
    def samples(self) -> Path:
        return self.out / "samples"

    @property
    def curated(self) -> Path:
        """What the steps of `data.curate` left, with their ledger, before the samples of the run are made of it."""
        return self.out / "curated"

    @property
    def slides(self) -> Path:
        """Slides that the run itself made, and the features of their patches."""
        return self.out / "slides"

    @property
    def base(self) -> Path:
        return self.out / "base"

    @property
    def baselines(self) -> Path:
        return self.out / "baselines.json"

    @property
    def baseline_results(self) -> Path:
        """One file a baseline, with whether it was right on each item."""
        return self.out / "baselines"

    @property
    def summary(self) -> Path:
        return self.out / "summary.json"

    @property
    def metrics(self) -> Path:
        return self.out / "metrics.jsonl"

    @property
    def rollouts(self) -> Path:
        return self.out / "rollouts.jsonl"

    @property
    def report(self) -> Path:
        return self.out / "report" / "index.html"

    @property
    def lock(self) -> Path:
        return self.out / "run.lock"

    @property
    def verdicts(self) -> Path:
        """What judges answered, one file a question; a run that goes on does not ask again."""
        return self.out / "verdicts"

    @property
    def graphs(self) -> Path:
        """Digests of the knowledge graphs that the run scores with."""
        return self.out / "graphs.json"

    @property
    def cache(self) -> Path:
        """What can be computed again; removed when the run is finished."""
        return self.out / "cache"

    def stage(self, name: str) -> Path:
        return self.out / "stages" / name

    def stage_record(self, name: str) -> Path:
        return self.stage(name) / "stage.json"

    def stage_work(self, name: str) -> Path:
        """What only a resume of the stage needs; removed when the stage is done."""
        return self.stage(name) / "work"

    def checkpoint(self, stage: str) -> Path:
        return self.base if stage == "base" else self.stage(stage) / "checkpoint"

    def clip_exam(self, stage: str) -> Path:
        """Zero-shot, few-shot and retrieval of a clip stage."""
        return self.stage(stage) / "exam"

    def exam(self, stage: str, exam: str) -> Path:
        return self.out / "evals" / stage / exam
