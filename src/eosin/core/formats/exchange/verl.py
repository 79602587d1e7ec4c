"""verl's parquet: data_source, prompt, images, ability, reward_model with the ground truth, extra_info."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from eosin.core.formats.dialogue import OUR_KEY, read_turns, seal, shown_indices, turns_of
from eosin.core.formats.parquet import IMAGES_TYPE, image_cell, write_rows
from eosin.core.formats.sharegpt import with_places
from eosin.core.formats.trl import hidden_images
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("images", IMAGES_TYPE),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("split", pa.string()), ("index", pa.int64()), ("group", pa.string())])),
        (OUR_KEY, pa.string()),
    ]
)


def write_verl(samples: Iterable[Sample], path: Path, *, grammar: Grammar, instruction: bool) -> int:
    """Write rows for verl; returns how many. The ground truth is the letter of the right option, or the open answer."""
    return write_rows((_row(s, i, grammar, instruction) for i, s in enumerate(samples)), path, _SCHEMA)


def _row(sample: Sample, index: int, grammar: Grammar, instruction: bool) -> dict[str, Any]:
    prompt, _ = turns_of(sample.model_copy(update={"answer": None}), grammar, instruction=instruction)
    messages = [{"role": m.role, "content": with_places(m)} for m in prompt]
    shown = shown_indices(prompt)
    sealed = {**seal(sample, read_turns(messages)), "order": shown, **hidden_images(sample, shown)}
    return {
        "id": sample.id, "data_source": sample.origin.source, "prompt": messages,
        "images": [image_cell(sample.images[i]) for i in shown], "ability": "visual question answering",
        "reward_model": {"style": "rule", "ground_truth": sample.answer or ""},
        "extra_info": {"split": sample.split, "index": index, "group": sample.origin.group},
        OUR_KEY: json.dumps(sealed, ensure_ascii=False),
    }  # fmt: skip
