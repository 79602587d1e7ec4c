"""What `eosin evaluate CHECKPOINT SAMPLES [--out DIR]` runs once the engine is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors
from eosin.core.images import RegionReader
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.core.store.lock import lock_beside, locked
from eosin.engines.base import Engine
from eosin.evaluate.baselines.baselines import BaselineRunner, Results, Tell
from eosin.evaluate.evidence.tests import Attributor
from eosin.evaluate.exam.evaluator import Progress
from eosin.evaluate.exam.exam import run_exam
from eosin.scoring.sets.compose import RewardSet


def pick_split(samples: Sequence[Sample], split: str) -> list[Sample]:
    """Samples of a split. Where no sample names a split, all of them: the file is the exam."""
    if all(s.split is None for s in samples):
        return list(samples)
    chosen = [s for s in samples if s.split == split]
    if not chosen:
        found = sorted({s.split or "none" for s in samples})
        raise EosinError("There are no samples in this split.", expected=split, found=", ".join(found))
    return chosen


def baselines_beside(
    samples: Sequence[Sample], asked: Sequence[Sample], settings: ExamSettings, out: Path, *,
    read_region: RegionReader | None = None, tell: Tell | None = None,
) -> Results | None:  # fmt: skip
    """Baselines fitted on the train samples and asked the exam's, kept in `out`/baselines.json and `out`/baselines.

    Returns:
        None where there is nothing to fit them on.
    """
    train, valid = ([s for s in samples if s.split == name] for name in ("train", "valid"))
    if not train or settings.split == "train":
        return None
    found = BaselineRunner(train, valid, read_region=read_region, cache=out / "baselines", tell=tell).of(
        asked, settings
    )
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    store.write_json(out / "baselines.json", found.figures)
    return found


def evaluate_samples(
    engine: Engine,
    samples: Sequence[Sample],
    grammar: Grammar,
    out: Path,
    *,
    settings: ExamSettings | None = None,
    record: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    parents: Sequence[store.Artifact] = (),
    instruction: bool = True,
    read_region: RegionReader | None = None,
    evidence: Attributor | None = None,
    tell: Tell | None = None,
    rewards: RewardSet | None = None,
) -> dict[str, Any]:
    """Examine a model on the split that the settings name, and fit baselines if there are train samples.

    Writes `out`/exam (artifact "eval") and, with train samples, `out`/baselines.json and `out`/baselines.

    Args:
        tell: is given a line as each baseline is done.

    Returns:
        {"exam": summary.json, "baselines": {...} or None, "path": where the exam stands}.
    """
    settings = settings or ExamSettings()
    asked = pick_split(samples, settings.split)
    place = out / "exam"
    with locked(lock_beside(out)):
        store.remove_leftovers(out)
        found = baselines_beside(samples, asked, settings, out, read_region=read_region, tell=tell)
        summary = run_exam(
            engine, asked, grammar, settings, place, record=record, progress=progress, parents=parents,
            instruction=instruction, read_region=read_region, evidence=evidence, baselines=found, rewards=rewards,
        )  # fmt: skip
    return {"exam": summary, "baselines": None if found is None else found.figures, "path": str(place)}
