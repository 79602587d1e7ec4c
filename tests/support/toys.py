"""Toy samples whose answer is a colour: a model of a few thousand parameters learns them in seconds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eosin.core.images import encode_png
from eosin.core.nouns.sample import Entity, ImageBytes, Origin, Sample, make_choices, user_prompt

NAMES = ("red tissue", "green tissue", "blue tissue")


def toy_image(label: int, rng: np.random.Generator, size_px: int = 56) -> Image.Image:
    """A noisy field of one colour."""
    pixels = rng.integers(0, 120, (size_px, size_px, 3), dtype=np.uint8)
    pixels[..., label] += 120
    return Image.fromarray(pixels)


def toy_samples(num: int, split: str | None, seed: int = 0, per_case: int = 3) -> list[Sample]:
    """Closed questions with shuffled options, a trace, a caption and a gold entity."""
    rng = np.random.default_rng([seed, sum(map(ord, split or ""))])
    samples = []
    for i in range(num):
        label = i % 3
        order = list(rng.permutation(3))
        samples.append(
            Sample(
                id=f"{split}-{i}",
                images=(ImageBytes(data=encode_png(toy_image(label, rng))),),
                messages=user_prompt("Which colour is this field?"),
                choices=make_choices([NAMES[k] for k in order]),
                answer="ABC"[order.index(label)],
                reasoning=(f"The field is {NAMES[label].split()[0]}.", f"This is {NAMES[label]}."),
                caption=f"A field of {NAMES[label]}.",
                label=NAMES[label],
                entities=(Entity(name=NAMES[label]),),
                origin=Origin(source="toy", case=f"{split}-{i // per_case}", licence="CC0-1.0"),
                split=split,  # type: ignore[arg-type]
            )
        )
    return samples


def toy_table(folder: Path, num: int = 90, seed: int = 0) -> Path:
    """A folder of tiles with manifest.csv: file, label, slide. Slide s2 is meant to be held out."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(num):
        name = f"tile_{i:03}.png"
        toy_image(i % 3, rng).save(folder / name)
        rows.append({"file": name, "label": NAMES[i % 3].split()[0], "slide": f"s{(i // 3) % 5}"})
    with (folder / "manifest.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=["file", "label", "slide"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def toy_recipe(tiles: Path, rl_stage: dict[str, Any], answer: str) -> dict[str, Any]:
    """A recipe of one RL stage on the tiles of `toy_table`, with a very small model and no exams."""
    return {
        "data": {"source": "table", "name": "toy", "root": str(tiles), "label_column": "label",
                 "group_column": "slide", "hold_out": {"slide": ["s2"]}, "hold_out_valid": {"slide": ["s4"]}},
        "prompt": {"instruction": False, "answer": answer},
        "model": {"kind": "tiny", "image_px": 56, "vocab_size": 400,
                  "vision": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2},
                  "text": {"hidden_size": 48, "intermediate_size": 96, "num_layers": 1, "num_heads": 2,
                           "num_kv_heads": 1}},
        "stages": {"rl": rl_stage},
        "base_exam": False,
        "exams": {},
        "report": {"curves": False},
    }  # fmt: skip
