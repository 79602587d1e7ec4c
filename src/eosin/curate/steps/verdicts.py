"""Verdicts of a step that decides over all samples: kept on disk shard by shard, and given out when a shard is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import read_object, write_json

Verdict = tuple[str, str]
"""Reason and detail."""


def write_verdicts(state: Path, sizes: Sequence[int], verdicts: Mapping[int, Verdict]) -> None:
    """Write what is dropped, by the number of the sample in the whole, a file a shard."""
    folder = state / "verdicts"
    folder.mkdir(exist_ok=True)
    start, ordered, at = 0, sorted(verdicts), 0
    for shard, size in enumerate(sizes):
        part: dict[str, Verdict] = {}
        while at < len(ordered) and ordered[at] < start + size:
            part[str(ordered[at] - start)] = verdicts[ordered[at]]
            at += 1
        if part:
            write_json(folder / f"{shard:05d}.json", part)
        start += size


def judged(state: Path, shard: int, samples: Sequence[Sample], step: str) -> Iterator[Kept[Sample] | Dropped]:
    """The samples of a shard, kept or dropped as was decided."""
    file = state / "verdicts" / f"{shard:05d}.json"
    part = read_object(file) if file.is_file() else {}
    for i, sample in enumerate(samples):
        verdict = part.get(str(i))
        yield Kept(sample) if verdict is None else Dropped(sample.id, verdict[0], verdict[1], step)
