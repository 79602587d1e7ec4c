"""Rows of an exam that is under way: appended batch by batch, read again after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import disk_errors
from eosin.core.nouns.sample import Sample
from eosin.core.store.lock import lock_beside, locked

EVIDENCE = "evidence"
"""Name of the phase that measures evidence, and of the folder of its maps."""


def exam_key(samples: Iterable[Sample], terms: Mapping[str, Any]) -> str:
    """Digest of all that an exam's rows depend on: its samples and `terms` (weights, decoding, grammar)."""
    total = hashlib.sha256(json.dumps(terms, sort_keys=True).encode())
    for sample in samples:
        total.update(hashlib.sha256(sample.model_dump_json().encode()).digest())
    return total.hexdigest()


def work_root(out: Path) -> Path:
    """Where the unfinished rows of the exam at `out` stand."""
    return out.with_name(f".{out.name}.work")


def remove_work(out: Path) -> None:
    """Remove the unfinished rows of the exam at `out`, of earlier settings too. The caller holds its lock."""
    shutil.rmtree(work_root(out), ignore_errors=True)


def clear(out: Path) -> None:
    """Remove what a kill between an exam's last file and its end left beside the finished exam at `out`."""
    if work_root(out).exists() or lock_beside(out).exists():
        with locked(lock_beside(out)):
            remove_work(out)


class Work:
    """The work folder of one exam: one JSON lines file a phase."""

    def __init__(self, out: Path, key: str) -> None:
        self.root = work_root(out)
        self.dir = self.root / key[:16]
        with disk_errors(self.dir):
            self.dir.mkdir(parents=True, exist_ok=True)

    def load(self, phase: str) -> list[dict[str, Any]]:
        """Rows of a phase. A last line that a kill cut off is removed from the file."""
        path = self.dir / f"{phase}.jsonl"
        if not path.exists():
            return []
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with disk_errors(path), path.open("r+b") as handle:
                handle.truncate(len(whole))
        return [json.loads(line) for line in whole.split(b"\n") if line]

    def append(self, phase: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of one batch."""
        path = self.dir / f"{phase}.jsonl"
        with disk_errors(path), path.open("a", encoding="ascii", newline="\n") as handle:
            handle.write("".join(json.dumps(r) + "\n" for r in rows))
