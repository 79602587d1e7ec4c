"""Slides of three kinds of patches, as feature files with truth beside them, and an engine that names what it is shown.

Patch kinds, in a 6 x 4 grid of 112 µm tiles: rows 0 and 1 are background, row 2 shows crowded glands and mitoses, row 3
necrosis. The kind stands in the features, so that k-means finds it and the engine can read it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.sample import Entity, Origin, Sample, SlideBag, make_choices, user_prompt
from eosin.engines.base import MockEngine, Request
from eosin.slides.features.h5 import FeatureBag, TileGeometry, write_bag

DIMENSION = 12
KINDS = np.repeat([0, 0, 1, 2], 6)
CHOICES = ("adenocarcinoma", "tubular adenoma", "normal colonic mucosa")
FINDINGS = "Crowded glands and mitoses are seen. There is necrosis. No mucin pools are present."
STEPS = ("Crowded glands with mitoses form a field.", "Necrosis lies beside it, without mucin pools.",
         "This fits adenocarcinoma.")  # fmt: skip


def slide_sample(folder: Path, number: int, split: str = "train", truth: bool = True) -> Sample:
    """A closed question about one slide, whose files are written into the folder."""
    rng = np.random.default_rng(number)
    features = rng.normal(0, 0.1, (24, DIMENSION)).astype(np.float32)
    features[np.arange(24), KINDS] += 4.0
    coords = np.stack([np.arange(24) % 6, np.arange(24) // 6], 1).astype(np.int64) * 224
    name = f"slide{number}"
    path = folder / f"{name}.h5"
    place = TileGeometry(tile_px=224, side_level0=224, mpp=0.5, level0_mpp=0.5)
    write_bag(path, FeatureBag(name, features, coords, place), encoder_name="toy-encoder")
    extra: dict[str, object] = {"entities_complete": True}
    if truth:
        file = folder / f"{name}.geojson"
        file.write_text(json.dumps({"type": "FeatureCollection", "features": [], **TRUTH}))
        extra["truth"] = str(file)
    return Sample(
        id=f"{split}-{number}",
        images=(SlideBag(path=str(path), encoder="toy-encoder"),),
        messages=user_prompt("What is the diagnosis?"),
        choices=make_choices(list(CHOICES)),
        answer="A",
        findings=FINDINGS,
        reasoning=STEPS,
        label="adenocarcinoma",
        entities=(
            Entity(name="crowded glands"), Entity(name="mitoses"), Entity(name="necrosis"),
            Entity(name="mucin pools", polarity="absent"), Entity(name="adenocarcinoma", kind="diagnosis"),
        ),
        origin=Origin(source="toy-slides", case=f"{split}-{number}", licence="CC0-1.0"),
        split=split,  # type: ignore[arg-type]
        extra=extra,
    )  # fmt: skip


def _lesion(x_um: float, y_um: float, *names: str) -> dict[str, object]:
    return {"x_um": x_um, "y_um": y_um, "radius_um": 20.0, "visible": True,
            "findings": {n: {"present": True} for n in names}}  # fmt: skip


# One small lesion on each patch of row 2 (y = 280 µm) and of row 3 (y = 392 µm): no neighbour is touched.
TRUTH = {
    "lesions": [
        *[_lesion(56 + 112 * k, 280, "crowded glands", "mitoses") for k in range(6)],
        *[_lesion(56 + 112 * k, 392, "necrosis") for k in range(6)],
    ]
}


def kinds_shown(bag: PatchBag) -> set[int]:
    """Which kinds of patches a bag holds."""
    return set(bag.features[:, :3].argmax(1).tolist())


def honest(request: Request) -> str:
    """A reply that names what the bag shows, and nothing else."""
    [bag] = request.images
    assert isinstance(bag, PatchBag)
    kinds = kinds_shown(bag)
    words = {1: "Crowded glands and mitoses are seen.", 2: "There is necrosis."}
    said = [*(w for kind, w in words.items() if kind in kinds), "No mucin pools are present."]
    return f"<info>{' '.join(said)}</info>\n<think>1. So.</think>\n<answer>A</answer>"


class CountingEngine(MockEngine):
    """The honest engine; it counts batches and can be killed before one."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__(honest)
        self.batches: list[int] = []
        self._dies_at = dies_at

    def generate(self, requests, decoding):  # type: ignore[no-untyped-def]
        if len(self.batches) == self._dies_at:
            raise KeyboardInterrupt
        self.batches.append(len(requests))
        return super().generate(requests, decoding)
