"""Pictures of samples that lie in slides reach the report, which reads no slides."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image
from tests.slides.make_slides import picture, write_tiff

from eosin.chain.recipe.previews import preview_run, write_previews
from eosin.core.formats.parquet import write_parquet
from eosin.core.nouns.sample import (
    ImageFile,
    ImageRef,
    Origin,
    Sample,
    SlideBag,
    SlideRegion,
    make_choices,
    user_prompt,
)
from eosin.core.nouns.units import BoxLevel0
from eosin.core.store.artifacts import append_jsonl, write_json
from eosin.report.drawing.pictures import load_pictures, preview_path
from eosin.slides.features.regions import SlideRegions


def sample(id: str, *images: ImageRef) -> Sample:
    return Sample(
        id=id, images=images, messages=user_prompt("What is it?"), choices=make_choices(("a", "b")), answer="A",
        label="a", origin=Origin(source="test", licence="CC0", case=id), split="test",
    )  # fmt: skip


def region(path: Path, x0: int, side: int = 512) -> SlideRegion:
    return SlideRegion(path=str(path), box=BoxLevel0(x0=x0, y0=200, x1=x0 + side, y1=200 + side), mpp=1.0)


def pixels(uri: str | None) -> np.ndarray:
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))), dtype=float)


def test_regions_and_slides_are_shown(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "a.tiff", picture())
    found = [
        sample("x/../1", region(slide, 400)),
        sample("bag", SlideBag(path=str(tmp_path / "a.h5"), slide=str(slide))),
        sample("bag without its slide", SlideBag(path=str(tmp_path / "a.h5"))),
        sample("gone", region(tmp_path / "gone.tiff", 0)),
        sample("not wanted", region(slide, 0)),
    ]
    (tmp_path / "samples").mkdir()
    write_parquet(found, tmp_path / "samples" / "test.parquet")
    wanted = [s.id for s in found[:4]]
    regions = SlideRegions()
    assert write_previews(tmp_path, wanted, found, regions) == 2
    assert write_previews(tmp_path, wanted, found, regions) == 0
    assert not preview_path(tmp_path, "not wanted").exists()
    assert len(list((tmp_path / "previews").iterdir())) == 2

    notes: list[str] = []
    shown = load_pictures(tmp_path, wanted, notes)
    assert not notes
    seen = np.asarray(regions(region(slide, 400)), dtype=float)
    assert pixels(shown["x/../1"].uri).shape == (256, 256, 3)
    assert np.abs(pixels(shown["x/../1"].uri) - seen).mean() < 6  # JPEG
    assert shown["bag"].size == (256, 188)
    for id in ("bag without its slide", "gone"):
        assert shown[id].uri is None and "without a preview" in shown[id].why_not


def test_a_run_previews_what_its_report_shows(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "a.tiff", picture())
    found = [sample(f"s{i}", region(slide, 100 * i)) for i in range(4)]
    exam = tmp_path / "evals" / "sft" / "quick"
    exam.mkdir(parents=True)
    (tmp_path / "recipe.yaml").write_text("name: small\nreport: {gallery: 2}\n")
    write_json(exam / "summary.json", {"n": 4, "accuracy": 0.5})
    rows = [{"id": s.id, "group": s.id, "correct": i % 2 == 0, "label": "a", "reply": "A"} for i, s in enumerate(found)]
    append_jsonl(exam / "predictions.jsonl", rows)
    assert preview_run(tmp_path, {"train": [], "test": found}, SlideRegions()) == 2
    no_slides = {"train": [], "test": [sample("a file", ImageFile(path="a.png"))]}
    assert preview_run(tmp_path, no_slides, SlideRegions()) == 0
