"""Rows of streamed samples, made when they are asked for, in the process that asks: a worker reads and decodes."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from eosin.core.errors import EosinError, ImageError
from eosin.core.formats.stream.reader import Streamed
from eosin.core.images import Picture
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.core.store import artifacts as store
from eosin.train.data.rows import Augmentation, ImageCache, Row

ASIDE = "set_aside.jsonl"
STEP = "stream"


class StreamedRows(Dataset[Row]):
    """Rows by the numbers of an index.

    A sample whose picture cannot be used is set aside with its reason, in the stage's set_aside.jsonl, and the next one
    of its block stands in its place: on every process the same.

    Args:
        pictures: decodes; it keeps none, as each sample comes once an epoch.
        refuses: whether the model's processor refuses a picture of a width and height, and in which words.
        aside: the file of what was set aside.
    """

    def __init__(
        self, stream: Streamed, make_row: Callable[[Sample, list[Picture]], Row], pictures: ImageCache,
        refuses: Callable[[int, int], str | None], aside: Path, augment: Augmentation | None = None,
    ) -> None:  # fmt: skip
        self.stream, self._make_row, self._pictures = stream, make_row, pictures
        self._refuses, self._aside, self._augment = refuses, aside, augment

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, number: int) -> Row:
        sample, shown = self._usable(number)
        if self._augment is not None:
            shown = self._augment.changed(sample.id, shown)
        return {"sample_number": number, **self._make_row(sample, shown)}

    def __getitems__(self, numbers: Sequence[int]) -> list[Row]:
        return [self[number] for number in numbers]

    def _usable(self, number: int) -> tuple[Sample, list[Picture]]:
        """The sample of a row with its pictures, or of the next row of the block that has all of them."""
        found = self._try(number)
        if not isinstance(found, Dropped):
            return found
        self._note(found)
        part = self.stream.order.part
        rows = part.rows_of(part.index.block_of(number))
        for other in np.roll(rows, -int(np.searchsorted(rows, number, side="right"))):
            found = self._try(int(other))
            if not isinstance(found, Dropped):
                return found
        raise EosinError(
            "No sample of this block can be read.", found=f"{found.reason}: {found.detail}", where=found.id,
            next_step="see whether the shards are still there, and whole",
        )  # fmt: skip

    def _try(self, number: int) -> tuple[Sample, list[Picture]] | Dropped:
        outcome = self.stream.reader.get(number)
        if isinstance(outcome, Dropped):
            return outcome
        sample = outcome.value
        try:
            shown = self._pictures.get(sample)
        except ImageError as exc:
            return Dropped(sample.id, exc.message, "; ".join(t for t in (exc.where, exc.found) if t), STEP)
        for picture in shown:
            words = None if isinstance(picture, PatchBag) else self._refuses(picture.width, picture.height)
            if words is not None:
                return Dropped(sample.id, "picture refused by the model's processor", words, STEP)
        return sample, shown

    def _note(self, dropped: Dropped) -> None:
        """One line, written at once: several workers write into one file."""
        line = json.dumps(vars(dropped), ensure_ascii=False) + "\n"
        handle = os.open(self._aside, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode("utf-8"))
        finally:
            os.close(handle)


def streamed_facts(rows: StreamedRows, aside: Path) -> dict[str, Any]:
    """What stage.json says of a streamed stage: samples, and what was set aside while it trained, each id once."""
    lines = {row["id"]: row for row in store.read_jsonl(aside)} if aside.exists() else {}
    facts: dict[str, Any] = {"num_samples": len(rows), "set_aside": len(lines)}
    if lines:
        facts["reasons"] = dict(Counter(row["reason"] for row in lines.values()).most_common())
    return {"stream": facts}
