"""Files of older releases open: each file of old/ holds what the writers of one release made, byte for byte.

A release adds its own file and changes none. Binary files stand there packed (zlib, base64).
"""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from eosin.core.formats import kind_of, read_dropped, read_samples
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Entity, ImageBytes, ImagePart, Message, Origin, Sample, TextPart, make_choices
from eosin.core.store.artifacts import open_artifact

OLD = sorted((Path(__file__).parent / "old").glob("*.json"))
CLOSED = Sample(
    id="closed",
    messages=(Message(role="user", parts=(ImagePart(index=0), TextPart(text="Which tissue is this?"))),),
    images=(ImageBytes(data=b"of the file"),),
    choices=make_choices(["colon", "liver"]), answer="A", findings="Glands in rows.", label="colon", split="train",
    reasoning=("Glands are seen.", "They lie in a mucosa."),
    entities=(Entity(name="gland"), Entity(name="necrosis", polarity="absent")),
    origin=Origin(source="old set", licence="CC-BY-4.0", patient="p1", mpp=0.5), extra={"grade": 2},
)  # fmt: skip
OPEN = Sample(
    id="open", messages=(Message(role="user", parts=(TextPart(text="What is seen at the margin?"),)),),
    answer="tumour cells", origin=Origin(source="old set", patient="p2"), split="test",
)  # fmt: skip
KINDS = {"samples.jsonl": "jsonl", "samples.json": "sharegpt", "trl.parquet": "trl", "artifact": "artifact"}


@pytest.fixture(params=OLD, ids=[p.stem for p in OLD])
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the files of one release, as they were."""
    for name, held in json.loads(request.param.read_text("utf-8"))["files"].items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        data = zlib.decompress(base64.b64decode(held["zlib"])) if "zlib" in held else held["text"].encode()
        file.write_bytes(data)
    return tmp_path


def test_there_are_old_files() -> None:
    assert OLD


@pytest.mark.parametrize("name", KINDS)
def test_samples_are_what_they_were(release: Path, name: str) -> None:
    assert kind_of(release / name) == KINDS[name]
    result = read_samples(release / name)
    assert result.dropped == ()
    closed, open_question = result.kept
    image = closed.images[0]
    assert isinstance(image, ImageBytes) and image.data.startswith(b"\x89PNG")
    assert closed == CLOSED.model_copy(update={"images": closed.images})
    assert open_question == OPEN


def test_an_artifact_is_whole_and_says_what_was_dropped(release: Path) -> None:
    artifact = open_artifact(release / "artifact", "samples", verify=True)
    assert artifact.manifest["counts"] == {"samples": 2, "dropped": 1}
    assert artifact.manifest["card"]["licence"] == "CC-BY-4.0"
    assert read_dropped(release / "artifact") == (Dropped("bad", "empty choice", "choice B", "read"),)


def test_features_are_what_they_were(release: Path) -> None:
    pytest.importorskip("h5py")
    from eosin.slides.features.h5_read import read_h5

    bag = read_h5(release / "20x_256px_0px_overlap" / "features_old" / "slide.h5")
    assert np.array_equal(bag.features, np.arange(6, dtype=np.float32).reshape(3, 2))
    assert bag.coords is not None and bag.coords.tolist() == [[0, 0], [512, 0], [0, 512]]
    assert (bag.geometry.tile_px, bag.geometry.side_level0, bag.geometry.mpp, bag.geometry.level0_mpp) == (
        256, 512, 0.5, 0.25,
    )  # fmt: skip
    assert bag.encoder == "old-encoder" and bag.failed == (((512, 512), "white"),)
