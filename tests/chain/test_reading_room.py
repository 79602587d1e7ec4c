"""The reading room with a real model: a slide asked, corrected, and learned from by a second run."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.support.reading_room import OPTIONS, QUESTION, REPLY, TILE_UM, write_reader, write_slides
from tests.support.toys import toy_samples

from eosin.chain.parts import weighed
from eosin.chain.recipe.data import prepare
from eosin.chain.recipe.layout import Layout
from eosin.chain.room.calibration import Calibration, read_calibration
from eosin.chain.room.corrected import read_corrections, told
from eosin.chain.room.open_room import Place, RoomOptions, opened_room, place_of
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_samples
from eosin.core.nouns.prompt import REJECTED
from eosin.core.nouns.sample import ImageFile, Origin
from eosin.core.settings.curation.corrections import CorrectionsSettings
from eosin.core.settings.recipe import load_recipe
from eosin.core.store import artifacts as store
from eosin.serve.corrections.body import CorrectedStatement, Correction
from eosin.serve.corrections.store import CorrectionStore
from eosin.serve.settings import ServeSettings


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a slide, and a checkpoint that knows one reading of it by heart."""
    root = tmp_path_factory.mktemp("room")
    (root / "slides").mkdir()
    slides = write_slides(root / "slides", 1)
    return root / "slides", write_reader(slides, root / "reader", root / "features")


def events(text: str) -> list[tuple[str, Any]]:
    parts = [p.split("\n") for p in text.strip().split("\n\n")]
    return [(a.removeprefix("event: "), json.loads(b.removeprefix("data: "))) for a, b in parts]


def test_a_slide_is_asked_and_its_correction_is_a_source_of_the_next_run(
    served: tuple[Path, Path], tmp_path: Path
) -> None:
    slides, reader = served
    settings = ServeSettings(slides=slides, model_name="reader", max_new_tokens=240)
    options = RoomOptions(work=tmp_path / "room")
    with (
        opened_room(Place(str(reader)), settings, options) as app,
        TestClient(app, base_url="http://127.0.0.1") as client,
    ):
        key = client.get("/slides").json()["slides"][0]["key"]
        asked = {"question": QUESTION, "options": OPTIONS}
        found = events(client.post(f"/slides/{key}/ask", json=asked).text)
        reading = dict(found)["reading"]
        assert reading["reply"] == REPLY and reading["letter"] == "B"
        places = [d for n, d in found if n == "evidence"]
        assert len(places) == len(reading["statements"]) == 4
        wide = client.get(f"/slides/{key}").json()["size_px"][0]
        for box in (b for d in places for b in d["boxes"]):
            assert 0 <= box["px"][0] < box["px"][2] <= wide + TILE_UM and box["share"] > 0
        read_before = app.state.kept.misses
        assert client.post(f"/slides/{key}/ask", json={**asked, "evidence": False, "stream": False}).status_code == 200
        assert app.state.kept.misses == read_before and app.state.kept.hits >= 1  # the slide was read once

        body = {"key": uuid.uuid4().hex, "reader": "AB", "answer": OPTIONS[0], "is_signed": True, "statements": [
            {"id": s["id"], "block": s["block"], "text": s["text"], "state": "struck" if s["id"] == "s1" else "kept"}
            for s in reading["statements"]
        ]}  # fmt: skip
        assert client.post(f"/readings/{reading['id']}/corrections", json=body).status_code == 200

    kept = tmp_path / "room" / "corrections.sqlite"
    recipe = _recipe(tmp_path, kept)
    splits = prepare(recipe, Layout(tmp_path / "run"))
    [learned] = [s for s in splits["train"] if s.origin.source == "corrections"]
    assert (learned.answer_text, learned.findings) == (OPTIONS[0], "Mitoses are frequent.")
    assert learned.extra[REJECTED] == REPLY and learned.extra["weight"] == 2.5
    card = store.read_object(tmp_path / "run" / "samples" / "card.json")
    assert card["corrections"].startswith("1 corrected readings (AB 1), 1 of them")
    assert "2.5 times" in card["corrections"]


def _recipe(folder: Path, corrections: Path) -> Any:
    write_samples([*toy_samples(9, "train"), *toy_samples(3, "test")], folder / "samples.jsonl")
    path = folder / "recipe.yaml"
    path.write_text(
        f"data: {{source: samples, path: {folder / 'samples.jsonl'}}}\n"
        f"corrections: {{path: {corrections}, weight: 2.5}}\nstages: {{sft: {{steps: 1}}, dpo: {{steps: 1}}}}\n"
    )
    return load_recipe(path).recipe


# ---- corrections as a source ---------------------------------------------------------------------------------------


def signed(path: Path, slides: list[Path], case: str | None = None) -> CorrectionStore:
    """A store with one signed correction of each slide, all of one case or of none."""
    made = CorrectionStore(path)
    for slide in slides:
        id = uuid.uuid4().hex
        made.add_reading(
            {"id": id, "slide": "a" * 16, "slide_name": slide.stem, "question": "?", "options": [], "created": 1.0,
             "reply": "x", "answer": "x", "statements": [], "case": case}, ImageFile(path=str(slide)).model_dump_json(),
        )  # fmt: skip
        said = [CorrectedStatement(id="s1", block="findings", text="Glands.", state="added")]
        made.add(id, Correction(key=id, reader="AB", answer="y", is_signed=True, statements=said))
    return made


def test_a_slide_that_is_examined_is_never_learned_from(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in ("one", "two", "gone")]
    signed(tmp_path / "c.sqlite", files)
    for path in files[:2]:
        path.write_bytes(b"")
    [base] = toy_samples(1, "test")
    examined = base.model_copy(update={"origin": Origin(source="toy", slide="two")})
    found = read_corrections(CorrectionsSettings(path=str(tmp_path / "c.sqlite")), [examined])
    assert [s.origin.slide for s in found.samples] == ["one"]
    assert found.facts["reasons"] == {"a slide of the valid or test split": 1, "the slide or its features are gone": 1}
    assert "set aside" in told(found.facts)
    files[0].unlink()
    with pytest.raises(EosinError, match="No correction can be learned from"):
        read_corrections(CorrectionsSettings(path=str(tmp_path / "c.sqlite")), [examined])
    with pytest.raises(EosinError, match="no store"):
        read_corrections(CorrectionsSettings(path=str(tmp_path / "none.sqlite")), [])


def test_a_correction_is_shown_as_often_as_its_weight_says() -> None:
    own = Origin(source="corrections")
    base = toy_samples(400, "train")
    samples = [s.model_copy(update={"origin": own, "extra": {"weight": 2.5}}) for s in base]
    shown = weighed(samples, 0)
    times = np.array([sum(s.id == t.id for t in shown) for s in samples[:60]])
    assert set(times.tolist()) == {2, 3}
    assert abs(len(shown) / 400 - 2.5) < 0.1  # binomial of 400: standard deviation 0.025
    assert weighed(samples, 0) == shown
    stranger = [s.model_copy(update={"extra": {"weight": 9}}) for s in base]
    assert weighed(stranger, 0) == stranger  # only corrections have a weight


# ---- calibration ---------------------------------------------------------------------------------------------------


def test_confidence_is_the_share_that_was_right_and_it_abstains_where_too_many_were_wrong(tmp_path: Path) -> None:
    """Of 40 answers at 0.6 half were right, of 40 at 0.9 all but two: 0.5 and 0.95."""
    rows = [(0.6, k % 2 == 0) for k in range(40)] + [(0.9, k >= 2) for k in range(40)]
    lines = [{"probabilities": {"A": p, "B": 1 - p}, "chosen": "A", "correct": c} for p, c in rows]
    (tmp_path / "options.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    found = read_calibration(tmp_path, 0.1)
    assert found.of(0.9)["value"] == pytest.approx(0.95) and not found.of(0.9)["abstains"]
    assert found.of(0.6)["value"] == pytest.approx(0.5) and found.of(0.6)["abstains"]
    assert (found.threshold, found.coverage) == (pytest.approx(0.95), 0.5)
    assert Calibration([p for p, _ in rows], [c for _, c in rows], 0.01, "x").of(0.9)["abstains"]
    with pytest.raises(EosinError, match="Too few"):
        Calibration([0.5] * 5, [True] * 5, 0.1, "x")
    with pytest.raises(EosinError, match="no probabilities"):
        read_calibration(tmp_path / "nothing", 0.1)


# ---- a run's folder ------------------------------------------------------------------------------------------------


def test_a_run_is_served_by_its_last_stage_with_its_questions(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "slides").mkdir()
    (run / "stages").mkdir()
    (run / "recipe.yaml").write_text("stages: {sft: {steps: 1}, rl: {steps: 1}}\n")
    write_samples(toy_samples(6, "test"), run / "samples" / "test.parquet")
    assert len(read_samples(run / "samples" / "test.parquet").kept) == 6
    with pytest.raises(EosinError, match="no finished stage"):
        place_of(str(run))
    with store.writing(run / "stages" / "sft" / "checkpoint", "checkpoint"):
        pass
    place = place_of(str(run))
    assert place.checkpoint.endswith("sft/checkpoint") and place.slides == run / "slides"
    assert place.work == run / "room" and place.data["run"] == "run"
    assert [q["question"] for q in place.questions] == ["Which colour is this field?"]
    assert len(place.questions[0]["options"]) == 3
    assert place_of("some/hub-name").checkpoint == "some/hub-name"


@pytest.mark.parametrize("origin", [Origin(source="toy", case="P1"), Origin(source="toy", patient="P1", slide="other")])
def test_another_slide_of_an_examined_case_is_not_learned_from(origin: Origin, tmp_path: Path) -> None:
    """A run splits by patient or case: a correction of the same case would be a leak."""
    (tmp_path / "one.png").write_bytes(b"")
    signed(tmp_path / "c.sqlite", [tmp_path / "one.png"], "P1")
    settings, [base] = CorrectionsSettings(path=str(tmp_path / "c.sqlite")), toy_samples(1, "test")
    with pytest.raises(EosinError, match="a case of the valid or test split"):
        read_corrections(settings, [base.model_copy(update={"origin": origin})])
    trained = base.model_copy(update={"origin": origin, "split": "train"})
    assert len(read_corrections(settings, [trained]).samples) == 1


def test_the_checkpoint_of_a_run_says_its_data_and_licence_too(tmp_path: Path) -> None:
    place = tmp_path / "stages" / "rl" / "checkpoint"
    place.mkdir(parents=True)
    assert place_of(str(place)).data == {} and place_of("").data == {}
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "card.json").write_text('{"name": "phantom", "licence": "CC0-1.0", "n": 3}')
    assert place_of(str(place)).data == {"data": {"name": "phantom", "licence": "CC0-1.0"}}
