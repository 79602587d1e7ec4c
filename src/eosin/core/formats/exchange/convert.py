"""Samples from any format into any other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from eosin.core.errors import EosinError
from eosin.core.formats import Format, write_samples
from eosin.core.formats.dialogue import DEFAULT_GRAMMAR
from eosin.core.formats.exchange.messages import write_llamafactory, write_swift
from eosin.core.formats.exchange.verl import write_verl
from eosin.core.formats.exchange.webdataset import write_webdataset
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample

Exchange = Literal["llamafactory", "swift", "verl", "webdataset"]
NAMES: tuple[str, ...] = (*get_args(Format), *get_args(Exchange))
SUFFIX = {"parquet": ".parquet", "jsonl": ".jsonl", "sharegpt": ".json", "trl": ".parquet", "llamafactory": ".json",
          "swift": ".jsonl", "verl": ".parquet", "webdataset": ".tar"}  # fmt: skip


def convert(
    samples: Iterable[Sample], path: Path, form: str, *, grammar: Grammar = DEFAULT_GRAMMAR, instruction: bool = True
) -> tuple[int, list[Dropped]]:
    """Write samples in a format by name; how many, and what it cannot hold.

    Raises:
        EosinError: no such format, a file name that its readers would not know, or something stands there.
    """
    if form not in NAMES:
        raise EosinError("This is not a format.", expected=", ".join(NAMES), found=form)
    wanted = SUFFIX.get(form)
    if wanted is not None and path.suffix.lower() != wanted:
        raise EosinError("The file needs another name.", expected=f"a name that ends with {wanted}", found=path.name)
    if path.exists():
        raise EosinError("There is something at this place already, and Eosin never overwrites.", where=path)
    if form == "webdataset":
        return write_webdataset(samples, path)
    write = {"llamafactory": write_llamafactory, "swift": write_swift, "verl": write_verl}.get(form)
    if write is not None:
        return write(samples, path, grammar=grammar, instruction=instruction), []
    return write_samples(samples, path, form, grammar=grammar, instruction=instruction), []  # type: ignore[arg-type]
