"""The one reader of split names. A word that it does not know is refused: it would let exam rows into training."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid", "development": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip


def read_split(word: object) -> Split | None:
    """The split that a word means, in any case: train, valid (val, validation, dev) or test; None for nothing.

    Raises:
        ValueError: an unknown word.
    """
    if word is None or word == "":
        return None
    split = _NAMES.get(word.strip().casefold()) if isinstance(word, str) else None
    if split is None:
        raise ValueError(f"unknown split {word!r:.60}; known: {', '.join(_NAMES)}")
    return split
