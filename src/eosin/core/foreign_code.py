"""Code that comes with a checkpoint is never run: transformers is told so at every door, and says which file it was.

Without an answer to `trust_remote_code` transformers asks on the terminal, and a "y" on standard input runs the code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError

__all__ = ["NO_CODE", "no_foreign_code"]

NO_CODE: dict[str, Any] = {"trust_remote_code": False}
_CONFIGS = (
    "config.json", "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "tokenizer_config.json",
)  # fmt: skip


@contextmanager
def no_foreign_code(source: str | Path) -> Iterator[None]:
    """Around calls of `from_pretrained(..., **NO_CODE)`: what needs code of its own becomes an EosinError."""
    try:
        yield
    except ValueError as exc:
        if "trust_remote_code" not in str(exc):
            raise
        raise EosinError(
            "This model brings code of its own, and Eosin runs no code that comes with a checkpoint.",
            expected="a model type that the installed transformers knows",
            found=_named_code(Path(source)),
            where=str(source),
            next_step="take a release of transformers that has this model, or convert the checkpoint",
        ) from None


def _named_code(folder: Path) -> str:
    """The files of code that a folder's settings name: "modeling_x.py in config.json"."""
    found: dict[str, str] = {}
    for name in _CONFIGS:
        try:
            told = json.loads((folder / name).read_text("utf-8")).get("auto_map") or {}
            for target in told.values():
                for one in target if isinstance(target, list) else [target]:
                    if one:
                        found[f"{str(one).split('--')[-1].split('.')[0]}.py"] = name
        except (OSError, ValueError, AttributeError):
            continue
    return ", ".join(f"{file} in {name}" for file, name in found.items()) or "code on the hub"
