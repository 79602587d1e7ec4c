"""Answers kept under a key: in memory, or one small JSON file each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from eosin.core.errors import EosinError, disk_errors
from eosin.core.store.artifacts import write_bytes_atomic


class TextCache:
    """Texts under hexadecimal keys.

    Args:
        folder: where they are kept; None keeps them in memory only.
        name: name of the text in its file.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._folder = folder
        self._name = name
        self._memory: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        """The text of a key. A file that is missing or damaged holds none."""
        if self._folder is None:
            return self._memory.get(key)
        try:
            text = json.loads(self._place(self._folder, key).read_text("utf-8"))[self._name]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return text if isinstance(text, str) else None

    def put(self, key: str, text: str, facts: Mapping[str, str]) -> None:
        """Keep a text, and in a file also what it belongs to.

        Raises:
            EosinError: the disk is full, or writing there is not permitted.
        """
        if self._folder is None:
            self._memory[key] = text
            return
        place = self._place(self._folder, key)
        try:
            with disk_errors(place):
                place.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise EosinError("The cache must be a folder.", where=place.parent) from None
        write_bytes_atomic(place, json.dumps({"schema_version": 1, **facts, self._name: text}).encode())

    @staticmethod
    def _place(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"
