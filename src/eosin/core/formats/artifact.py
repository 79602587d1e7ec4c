"""A samples artifact: a whole directory with the samples as parquet, what was set aside, and a manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eosin.core.formats.parquet import iter_parquet, write_parquet
from eosin.core.formats.rows import Outcome
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import Artifact, open_artifact, writing

KIND = "samples"
SAMPLES_FILE = "samples.parquet"
DROPPED_FILE = "dropped.jsonl"


def dropped_line(dropped: Dropped) -> str:
    """One line of a dropped file."""
    fields = {"id": dropped.id, "reason": dropped.reason, "detail": dropped.detail, "step": dropped.step}
    return json.dumps(fields, ensure_ascii=False) + "\n"


def write_artifact(
    samples: Iterable[Sample],
    path: Path,
    *,
    dropped: Sequence[Dropped] = (),
    card: Mapping[str, Any] | None = None,
    parents: Sequence[Artifact] = (),
    record: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Artifact:
    """Write samples, what was dropped on the way, and the data set's card. Counts stand in the manifest.

    Raises:
        EosinError: something stands at `path` already (unless `replace`), or the disk is full.
    """
    splits: Counter[str] = Counter()

    def counted() -> Iterator[Sample]:
        for sample in samples:
            splits[sample.split or "none"] += 1
            yield sample

    with writing(path, KIND, parents=parents, record=record, replace=replace) as writer:
        num_samples = write_parquet(counted(), writer.dir / SAMPLES_FILE)
        if dropped:
            text = "".join(dropped_line(d) for d in dropped)
            (writer.dir / DROPPED_FILE).write_text(text, encoding="utf-8")
        writer.counts |= {"samples": num_samples, "dropped": len(dropped)}
        writer.facts["splits"] = dict(splits)
        writer.facts["drop_reasons"] = dict(Counter(d.reason for d in dropped).most_common())
        if card is not None:
            writer.facts["card"] = dict(card)
    return open_artifact(path, KIND)


def iter_artifact(path: Path) -> Iterator[Outcome]:
    """Read the samples of an artifact."""
    open_artifact(path, KIND)
    for file in sorted(path.glob("*.parquet")):
        yield from iter_parquet(file)


def read_dropped(path: Path) -> tuple[Dropped, ...]:
    """What a step set aside: the file, or the artifact that holds it. Empty where nothing was dropped."""
    file = path / DROPPED_FILE if path.is_dir() else path
    if not file.exists():
        return ()
    return tuple(Dropped(**json.loads(line)) for line in file.read_bytes().split(b"\n") if line.strip())
