"""`eosin ask CHECKPOINT SLIDE "question"`: from the slide file to a reading that says where it looked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support import slide_files
from tests.support.memorise import memorise
from tests.support.slide_toys import CORPUS, SMALL, new_reader
from tests.support.toys import toy_image
from typer.testing import CliRunner

from eosin.chain.ask.question import SlideOptions
from eosin.chain.ask.whole_slide import EncoderPlan, features_of
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import SlideBag, user_prompt
from eosin.engines.base import Request
from eosin.evaluate.evidence.tests import AttributionTarget
from eosin.models import checkpoint
from eosin.models.tiny import build_tiny
from eosin.phantom.slides.slide import write_slide
from eosin.slides.annotations.geojson_read import read_geojson
from eosin.slides.features.bags import read_bag

MPP, TILE_UM = 2.0, 128.0
QUESTION = "What is the diagnosis?"
REPLY = "<think>Glands are seen.</think>\n<answer>tumour glands</answer>"
FACTS = {"stage": "base", "step": 0, "grammar": {"tags": "think/answer", "numbered_steps": False}, "instruction": False}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slides") / "ph.tiff", case_number=2, size_px=640, mpp=MPP, workers=1)[0]


@pytest.fixture(scope="module")
def reader(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A slide reader that knows its patches (colour and texture, 64 px at 2 µm) and one reply by heart."""
    made = new_reader(dimension=112, encoder="colour-texture", tile_um=TILE_UM, mpp=MPP, sees_images=False)
    plan = EncoderPlan("colour-texture", None, round(TILE_UM / MPP), MPP)
    cache = tmp_path_factory.mktemp("features")
    bag = read_bag(SlideBag(path=str(features_of(slide, plan, cache, SlideOptions(), None))))
    made.model.slide_tower.set_scale(torch.from_numpy(bag.features.mean(0)), torch.from_numpy(bag.features.std(0)))
    rng = np.random.default_rng(0)
    bags = [bag, *(bag.take(rng.permutation(len(bag))[: len(bag) // 2]) for _ in range(2))]
    asked = [AttributionTarget(Request("a", user_prompt(QUESTION), (b,)), REPLY, (0, len(REPLY))) for b in bags]
    memorise(made, asked)
    place = tmp_path_factory.mktemp("models") / "reader"
    checkpoint.save(made.model, made.processor, place, facts=FACTS)
    return str(place)


@pytest.fixture(scope="module")
def tile_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    model, processor = build_tiny(CORPUS, SMALL, 0)
    place = tmp_path_factory.mktemp("models") / "tile"
    checkpoint.save(model, processor, place, facts=FACTS)
    return str(place)


def eosin(*args: str) -> Any:
    return CliRunner().invoke(app, ["ask", *args])


def mistake(*args: str) -> EosinError:
    """The error that a user sees."""
    done = eosin(*args)
    assert isinstance(done.exception, EosinError), (done.output, done.exception)
    return done.exception


@pytest.fixture(scope="module")
def answered(reader: str, slide: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("readings") / "one"
    done = eosin(reader, str(slide), QUESTION, "--json", "--out", str(out), "--max-new-tokens", "60")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout), out


def test_a_slide_file_is_read_and_the_evidence_told(answered: tuple[dict[str, Any], Path]) -> None:
    told, out = answered
    about, evidence = told["slide"], told["evidence"]
    assert told["blocks"] == {"think": "Glands are seen.", "answer": "tumour glands"}
    assert evidence["of"] == "reply" and evidence["text"] == told["reply"]
    assert about["encoder"] == "colour-texture" and about["tile_um"] == TILE_UM and about["mpp"] == MPP
    assert about["num_patches"] > 10 and about["num_tokens"] == about["num_patches"] + 1
    assert evidence["method"] == "sensitivity" and "tower" in evidence["notes"]["rollout"]
    assert 0 < sum(p["share"] for p in evidence["top"]) <= 1.000001
    assert [p["share"] for p in evidence["top"]] == sorted((p["share"] for p in evidence["top"]), reverse=True)
    assert "not for diagnosis" in told["note"]
    assert json.loads((out / "reply.json").read_text())["evidence"] == evidence


def test_what_is_written_can_be_opened(answered: tuple[dict[str, Any], Path], slide: Path) -> None:
    told, out = answered
    shapes = read_geojson(out / "evidence.geojson").kept
    assert len(shapes) == told["slide"]["num_patches"]
    best = min(shapes, key=lambda s: s.measurements["Rank"])
    first = told["evidence"]["top"][0]
    assert best.name == f"patch {first['patch']}"
    centre = best.parts[0][0][:-1].mean(axis=0) * MPP
    np.testing.assert_allclose(centre, [first["x_um"], first["y_um"]], atol=0.02)
    assert np.ptp(best.parts[0][0][:, 0]) * MPP == pytest.approx(TILE_UM)
    assert {"Score sensitivity", "Score rollout", "Share of evidence"} <= set(best.measurements)
    page = (out / "index.html").read_text("utf-8")
    assert page.count("data:image/jpeg") == 1 + len(told["evidence"]["top"]) and "http" not in page.split("</head>")[1]
    assert (out / "evidence.png").read_bytes()[:4] == b"\x89PNG"
    # Features are kept beside the reading, and serve a second question.
    assert list((out.parent / "slide-features").rglob("ph.h5"))


def test_a_second_question_reads_the_features_from_the_cache(
    answered: tuple[dict[str, Any], Path], reader: str, slide: Path, tmp_path: Path
) -> None:
    _, out = answered
    file = next((out.parent / "slide-features").rglob("ph.h5"))
    before = file.stat().st_mtime_ns
    done = eosin(reader, str(slide), QUESTION, "--cache", str(out.parent / "slide-features"), "--max-new-tokens", "60",
                 "--method", "rollout", "--answer-only")  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    assert "where the answer comes from, by rollout (not an explanation)" in done.output
    assert "of the evidence" in done.output
    assert file.stat().st_mtime_ns == before
    # The feature file alone: same patches, no pictures of them.
    done = eosin(reader, str(file), QUESTION, "--json", "--out", str(tmp_path / "h5"), "--max-new-tokens", "60")
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    assert told["slide"]["num_patches"] == answered[0]["slide"]["num_patches"]
    page = (tmp_path / "h5" / "index.html").read_text("utf-8")
    assert "the slide is not at hand" in page and page.count("data:image/jpeg") == 1


def test_mistakes_are_named(reader: str, tile_model: str, slide: Path, tmp_path: Path) -> None:
    toy_image(0, np.random.default_rng(0)).save(tmp_path / "tile.png")
    slide_files.write_slide(tmp_path / "levels.tiff", 512, MPP)
    error = mistake(tile_model, str(tmp_path / "levels.tiff"), QUESTION)
    assert "whole slide" in error.message and "--box" in str(error.next_step)
    assert "slides only" in mistake(reader, str(tmp_path / "tile.png"), QUESTION).message
    assert "slides only" in mistake(reader, str(slide), QUESTION, "--box", "0,0,300,300").message
    assert "no such file" in mistake(reader, str(tmp_path / "none.tiff"), QUESTION).message
    (tmp_path / "taken").mkdir()
    assert "already" in mistake(reader, str(slide), QUESTION, "--out", str(tmp_path / "taken")).message
    assert "--out" in mistake(tile_model, str(tmp_path / "tile.png"), QUESTION, "--out", str(tmp_path / "x")).message


def test_a_slide_of_glass_says_so(reader: str, tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "glass.tiff"
    import tifffile

    with tifffile.TiffWriter(file) as tiff:
        for side in (1024, 256):
            white = np.asarray(Image.new("RGB", (side, side), (245, 245, 245)))
            tiff.write(white, tile=(256, 256), photometric="rgb", resolution=(1e4 / MPP * side / 1024,) * 2,
                       resolutionunit="CENTIMETER", subfiletype=int(side < 1024))  # fmt: skip
    error = mistake(reader, str(file), QUESTION)
    assert "cannot be read" in error.message and "no tissue" in str(error.found)


def test_a_tile_model_still_answers_about_images_and_regions(tile_model: str, slide: Path, tmp_path: Path) -> None:
    toy_image(1, np.random.default_rng(0)).save(tmp_path / "tile.png")
    done = eosin(tile_model, str(tmp_path / "tile.png"), QUESTION, "--json", "--max-new-tokens", "3")
    assert done.exit_code == 0 and "slide" not in json.loads(done.stdout), (done.output, done.exception)
    done = eosin(tile_model, str(slide), QUESTION, "--box", "200,200,400,400", "--json", "--max-new-tokens", "3")
    assert done.exit_code == 0 and json.loads(done.stdout)["num_tokens"] == 3, (done.output, done.exception)
