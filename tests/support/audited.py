"""Data sets for audits: clean ones of cheap pictures, into which faults are planted."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt

CLASSES = ("tubular adenoma", "adenocarcinoma", "normal mucosa", "hyperplastic polyp", "ulcerative colitis")
SIGNS = {
    "tubular adenoma": "Crowded glands with elongated nuclei are seen.",
    "adenocarcinoma": "Irregular glands with atypical nuclei are seen.",
    "normal mucosa": "Straight glands with goblet cells are seen.",
    "hyperplastic polyp": "Serrated glands with goblet cells are seen.",
    "ulcerative colitis": "Crypt abscesses and many neutrophils are seen.",
}


@lru_cache(maxsize=512)
def picture(seed: int, side: int = 96) -> Image.Image:
    """A smooth random picture; equal seeds give equal pictures."""
    noise = np.random.default_rng(seed).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(1))


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def clean_sample(i: int, **changes: Any) -> Sample:
    """Sample number i of a clean set: two of a case, cases in three splits, options shuffled, classes in turn."""
    case = i // 2
    label = CLASSES[case % len(CLASSES)]
    order = [CLASSES[k] for k in np.random.default_rng([i, 7]).permutation(len(CLASSES))]
    split = "test" if case % 5 == 4 else "valid" if case % 5 == 3 else "train"
    fields = {
        "id": f"clean/{i}", "images": (ImageBytes(data=encoded(picture(i))),),
        "messages": user_prompt("Which diagnosis fits best?"), "choices": make_choices(order),
        "answer": "ABCDE"[order.index(label)], "label": label,
        "reasoning": (SIGNS[label], f"Together this is {label}, seen at low and at high power in this field."),
        "origin": Origin(source="clean", licence="CC0-1.0", case=f"c{case}", modality="histology", stain="H&E"),
        "split": split,
    }  # fmt: skip
    return Sample.model_validate(fields | changes)


def clean_samples(n: int = 120) -> list[Sample]:
    """Samples without a fault. Classes go round by case in steps of five, so every class is shifted between splits."""
    made = []
    for i in range(n):
        case = i // 2
        label = CLASSES[(case + case // 5) % len(CLASSES)]
        order = [CLASSES[k] for k in np.random.default_rng([i, 7]).permutation(len(CLASSES))]
        made.append(
            clean_sample(
                i, choices=make_choices(order), answer="ABCDE"[order.index(label)], label=label,
                reasoning=(SIGNS[label], f"Together this is {label}, seen at low and at high power in this field."),
            )
        )  # fmt: skip
    return made


def changed(sample: Sample, **changes: Any) -> Sample:
    """A sample with other fields, checked again."""
    return Sample.model_validate(sample.model_dump() | changes)
