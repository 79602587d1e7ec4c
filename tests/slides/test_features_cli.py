"""`eosin slides features | encoders | convert`, and a tower of Eosin's own training as the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from tests.support.slide_files import tissue_pixels, write_slide
from typer.testing import CliRunner

from eosin.cli.material import slide_features
from eosin.core.errors import EosinError
from eosin.slides.features.files import read_features

pytest.importorskip("h5py", reason="features need eosin[slides]")
pytest.importorskip("openslide", reason="features need eosin[slides]")

APP = typer.Typer()
slide_features.register(APP)


def eosin(*args: Any) -> Any:
    return CliRunner().invoke(APP, list(map(str, args)))


def test_features_from_the_command_line_and_again(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_slide(tmp_path / "in" / "good.tiff", 512)
    (tmp_path / "in" / "bad.svs").write_text("no slide")
    command = ("features", tmp_path / "in", "--out", tmp_path / "out", "--min-tissue", 0.1, "--readers", 0)
    first = eosin(*command)
    assert first.exit_code == 0, first.output
    assert "set aside: bad: not a slide" in first.output
    assert "2 slides = 1 with features + 1 set aside" in first.output
    folder = tmp_path / "out" / "20x_256px_0px_overlap"
    assert first.stdout.splitlines()[-1] == str(folder)
    assert read_features(folder / "features_colour_texture" / "good.h5").features.shape == (4, 112)
    again = eosin(*command)
    assert "1 with features, 1 of them before" in again.output and again.exit_code == 0


def test_mistakes_are_told_before_any_work(tmp_path: Path) -> None:
    write_slide(tmp_path / "s.tiff", 512)
    for extra, message in (
        (("--encoder", "uni", "--tile-mpp", "0.25"), "not trained for this scale"),
        (("--encoder", "unni"), "did you mean uni"),
        (("--engine", "rya"), "engine"),
        (("--overlap", "1.5"), "overlap"),
    ):
        done = eosin("features", tmp_path / "s.tiff", "--out", tmp_path / "out", *extra)
        assert isinstance(done.exception, EosinError) and message in str(done.exception)
    assert not (tmp_path / "out").exists()
    (tmp_path / "bad.svs").touch()
    nothing = eosin("features", tmp_path / "bad.svs", "--out", tmp_path / "out", "--readers", 0)
    assert nothing.exit_code == 1 and "slide file empty" in nothing.output


def test_encoders_are_listed_with_licence_and_gate() -> None:
    lines = eosin("encoders").stdout.splitlines()
    [row] = [line for line in lines if line.startswith("virchow2 ")]
    assert "2560" in row and "paige-ai/Virchow2" in row and "CC-BY-NC-ND-4.0" in row and "yes" in row


def test_a_csv_of_features_becomes_an_h5(tmp_path: Path) -> None:
    header = ",".join([*map(str, range(512)), "x", "y"])
    row = ",".join(["0.5"] * 512)
    (tmp_path / "s.csv").write_text(f"{header}\n{row},0,0\n{row},1024,0\n")
    (tmp_path / "t.csv").write_text("0,1\n1,2\n")
    done = eosin("convert", tmp_path / "s.csv", tmp_path / "t.csv", "--out", tmp_path / "o", "--encoder", "conch",
                 "--mpp", 0.25)  # fmt: skip
    assert done.exit_code == 0 and "2 files = 1 converted + 1 set aside" in done.output
    bag = read_features(tmp_path / "o" / "20x_512px_0px_overlap" / "features_conch_v1" / "s.h5")
    assert bag.geometry.side_level0 == 1024 and bag.encoder == "conch" and bag.centres_um is not None
    assert bag.centres_um.tolist() == [[128, 128], [384, 128]]


# ---- a tower of our own --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch", reason="towers need eosin[train]")
    from tests.train.conftest import new_model

    from eosin.models import checkpoint as checkpoints

    loaded = new_model()
    place = tmp_path_factory.mktemp("tower") / "checkpoint"
    checkpoints.save(loaded.model, loaded.processor, place)
    return place


def test_a_towers_features_are_the_mean_of_the_tokens_the_language_model_reads(checkpoint: Path) -> None:
    import torch
    from PIL import Image

    from eosin.chain.ask.tower import TowerEncoder, tower_record
    from eosin.models.load import load, vision_tower

    record = tower_record(checkpoint, tile_px=112)
    assert record.dim == 48 and record.input_px == 56 and record.name.startswith("tower-")
    tiles = np.stack([tissue_pixels(112, i) for i in range(3)])
    found = TowerEncoder(checkpoint, record, 1.0, "cpu").encode(tiles)
    loaded = load(checkpoint)
    images = loaded.processor.image_processor  # type: ignore[attr-defined]
    for tile, row in zip(tiles, found, strict=True):
        batch = images(images=[Image.fromarray(tile).resize((56, 56), Image.Resampling.BICUBIC)], return_tensors="pt")
        with torch.inference_mode():
            tower: Any = vision_tower(loaded.model)
            tokens = tower(batch["pixel_values"], grid_thw=batch["image_grid_thw"]).pooler_output
        assert np.allclose(row, torch.as_tensor(tokens).reshape(-1, 48).mean(0), atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=1e-4)


def test_a_checkpoint_folder_is_an_encoder(checkpoint: Path, tmp_path: Path) -> None:
    write_slide(tmp_path / "s.tiff", 512)
    done = eosin("features", tmp_path / "s.tiff", "--out", tmp_path / "out", "--encoder", checkpoint, "--tile-px", 112,
                 "--tile-mpp", 1.0, "--min-tissue", 0.1, "--readers", 0)  # fmt: skip
    assert done.exit_code == 0, done.output
    [file] = (tmp_path / "out").rglob("features_eosin_tower_*/s.h5")
    assert read_features(file).features.shape == (4, 48)
    (tmp_path / "empty").mkdir()
    wrong = eosin("features", tmp_path / "s.tiff", "--out", tmp_path / "o2", "--encoder", tmp_path / "empty")
    assert isinstance(wrong.exception, EosinError)
