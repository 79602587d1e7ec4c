"""What baselines came to, kept by samples: exams of one run over the same items, and a run that goes on, compute once.

One file a baseline, written whole or not at all. Its name holds a digest of all that the figures depend on: the samples
(and size and time of the files that they name), the seed, the bootstrap, the version of the baselines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from eosin.core.errors import EosinError, disk_errors
from eosin.core.nouns.sample import ImageBytes, Sample
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.evaluate.baselines.problem import Result

VERSION = 1
"""Raised when a baseline's figures on the same samples change."""


class Cache:
    """Results in a folder; without one nothing is kept."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self._digests: dict[int, tuple[Sample, bytes]] = {}

    def key(
        self, train: Sequence[Sample], valid: Sequence[Sample], asked: Sequence[Sample], settings: ExamSettings
    ) -> str:
        """Digest of all that the results depend on."""
        if self._root is None:
            return ""
        total = hashlib.sha256(json.dumps([VERSION, settings.seed, settings.bootstrap]).encode())
        for part in (train, valid, asked):
            total.update(b"\nsplit\n")
            for sample in part:
                total.update(self._digest(sample))
        return total.hexdigest()

    def read(self, name: str, key: str) -> Result | None:
        """A result that was kept; None where there is none, or none that can be read."""
        if self._root is None or not (path := self._path(name, key)).exists():
            return None
        try:
            found = store.read_object(path)
        except EosinError:
            return None
        if found.get("key") != key or not isinstance(found.get("figures"), dict):
            return None
        return Result(found["figures"], {k: bool(v) for k, v in found.get("right", {}).items()})

    def write(self, name: str, key: str, result: Result) -> None:
        """Keep a result. One without figures is found again quickly, and its reason (no torch) may pass."""
        if self._root is None or not result.rows:
            return
        with disk_errors(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
        right = {k: int(v) for k, v in result.rows.items()}
        store.write_json(self._path(name, key), {"key": key, "figures": dict(result.figures), "right": right})

    def _path(self, name: str, key: str) -> Path:
        assert self._root is not None
        return self._root / f"{name}-{key[:12]}.json"

    def _digest(self, sample: Sample) -> bytes:
        held = self._digests.get(id(sample))
        if held is not None:
            return held[1]
        total = hashlib.sha256(sample.model_dump_json().encode())
        for ref in sample.images:
            if not isinstance(ref, ImageBytes):
                total.update(_state_of(Path(ref.path)))
        self._digests[id(sample)] = (sample, total.digest())  # the sample is held, so that its id stays its own
        return total.digest()


def _state_of(path: Path) -> bytes:
    try:
        facts = path.stat()
    except (OSError, ValueError):
        return b"missing"
    return f"{facts.st_size} {facts.st_mtime_ns}".encode()
