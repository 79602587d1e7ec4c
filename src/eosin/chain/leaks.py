"""What an exam of a checkpoint shares with the samples that it was trained on, and its accuracy without that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.nouns.sample import Sample
from eosin.core.store import artifacts as store
from eosin.curate.leaks import find_leaks
from eosin.evaluate.statistics.intervals import cluster_interval
from eosin.evaluate.statistics.metrics import accuracy

FILE = "leaks.json"
UNKNOWN = "training samples not known"


def training_of(checkpoint: str) -> list[Sample] | None:
    """The training samples of a checkpoint's own record: those of its run with the digest that its manifest names.

    None for a model without such a record, or whose samples are not beside it.
    """
    folder = Path(checkpoint).resolve()
    if not store.exists(folder):
        return None
    parents = store.open_artifact(folder).manifest.get("parents") or []
    wanted = {p.get("digest") for p in parents if isinstance(p, dict) and p.get("kind") == "samples"}
    for place in (p / "samples" for p in folder.parents):
        try:
            if store.exists(place) and store.open_artifact(place, "samples").digest in wanted:
                return [s for s in read_samples(place).kept if s.split == "train"]
        except EosinError:
            continue
    return None


def measure_leaks(
    training: Sequence[Sample] | None, samples: Sequence[Sample], exam: Path, *, resamples: int = 2000
) -> dict[str, Any]:
    """Write leaks.json beside a finished exam.

    Args:
        training: None where it is not known, which is then what is written.
        samples: of the exam, and maybe others. exam: its folder.

    Returns:
        {"reason"} where training is not known; else num_training, n, num_leaked, by_reason, clean_n, clean_accuracy,
        clean_ci95 (of the questions that training does not hold), and each leak with the training sample that holds it.
    """
    found = {"schema_version": 1, "reason": UNKNOWN} if training is None else _found(training, samples, exam, resamples)
    store.write_json(exam.parent / FILE, found)
    return found


def _found(training: Sequence[Sample], samples: Sequence[Sample], exam: Path, resamples: int) -> dict[str, Any]:
    rows = store.read_jsonl(exam / "predictions.jsonl")
    asked = {r["id"] for r in rows}
    leaks = find_leaks([s for s in samples if s.id in asked], training)
    leaked = {leak.id for leak in leaks}
    clean = [r for r in rows if r["id"] not in leaked]
    right = [bool(r["correct"]) for r in clean]
    interval = cluster_interval(right, [str(r["group"]) for r in clean], resamples=resamples) if clean else None
    return {
        "schema_version": 1,
        "num_training": len(training),
        "n": len(rows),
        "num_leaked": len(leaked),
        "by_reason": dict(Counter(leak.reason for leak in leaks).most_common()),
        "clean_n": len(clean),
        "clean_accuracy": accuracy(right) if clean else None,
        "clean_ci95": interval.pair if interval is not None else None,
        "leaks": [{"id": leak.id, "reason": leak.reason, "training": leak.training} for leak in leaks],
    }
