"""Two models side by side: one question to both, two readings that belong together, corrections that name the model."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.scripted import OPTIONS, OTHER_REPLY, REPLY, scripted_engine, scripted_room, write_slides
from tests.serve.served import WordEngine, serving
from tests.serve.test_slide_questions import events, post

from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.serve.app import create_app
from eosin.serve.corrections.agreement import agreement
from eosin.serve.corrections.archive import files_of
from eosin.serve.seats import Guest
from eosin.serve.settings import ServeSettings


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[str, str, Any]]:
    """Address, key of the slide, and the room of `first` and `second`."""
    slides = write_slides(tmp_path / "slides", "a.tif")
    made = scripted_room(tmp_path / "c.sqlite", beside="second")
    with serving(scripted_engine(), made, slides=slides, model_name="first") as (url, app):
        yield url, next(iter(app.state.shelf.slides)), made


def ask(two: tuple[str, str, Any], model: str, asked: str, **more: Any) -> dict[str, Any]:
    url, key, _ = two
    body = {"question": "What is it?", "options": OPTIONS, "model": model, "asked": asked, "stream": False, **more}
    status, text = post(f"{url}/slides/{key}/ask", body)
    assert status == 200, text
    return dict(json.loads(text))


def test_each_model_gives_its_own_reading_evidence_standing_and_confidence(two: tuple[str, str, Any]) -> None:
    asked = uuid.uuid4().hex
    first, second = (ask(two, name, asked) for name in ("first", "second"))
    assert (first["reply"], second["reply"]) == (REPLY, OTHER_REPLY)
    assert (first["model"], second["model"], first["asked"], second["asked"]) == ("first", "second", asked, asked)
    assert (first["answer"], second["answer"]) == ("adenocarcinoma", "normal mucosa")
    assert (first["confidence"]["value"], second["confidence"]) == (0.7, None)  # only the first was calibrated
    assert {s["verdict"] for s in first["statements"]} != {s["verdict"] for s in second["statements"]}
    places = [[s["evidence"]["boxes"] for s in r["statements"]] for r in (first, second)]
    assert all(places[0]) and all(places[1]) and places[0] != places[1]
    status, text = post(f"{two[0]}/slides/{two[1]}/ask", {"question": "?", "model": "third"})
    assert status == 404 and "first, second" in text


def test_two_questions_are_answered_at_the_same_time(tmp_path: Path) -> None:
    """Each engine says its last word only after the other has begun."""
    slides = write_slides(tmp_path / "slides", "a.tif")
    begun = {"first": threading.Event(), "second": threading.Event()}

    def engine(own: str, other: str) -> WordEngine:
        def step(number: int) -> None:
            begun[own].set()
            assert begun[other].wait(60)

        return WordEngine(lambda request: REPLY, step)

    made = scripted_room(None, knowledge=False, beside="second", beside_engine=engine("second", "first"))
    with serving(engine("first", "second"), made, slides=slides, model_name="first") as (url, app):
        key, told = next(iter(app.state.shelf.slides)), {}

        def put(name: str) -> None:
            told[name] = events(f"{url}/slides/{key}/ask", {"question": "?", "model": name})

        threads = [threading.Thread(target=put, args=(name,)) for name in begun]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert {n: e[-1][0] for n, e in told.items()} == {"first": "done", "second": "done"}


def test_a_correction_says_whose_reply_it_corrects(two: tuple[str, str, Any]) -> None:
    url, _, made = two
    asked = uuid.uuid4().hex
    for name in ("first", "second"):
        reading = ask(two, name, asked, evidence=False)
        for reader in ("AB", "CD"):
            own = {"key": uuid.uuid4().hex, "reader": reader, "answer": "tubular adenoma", "is_signed": True}
            status, text = post(f"{url}/readings/{reading['id']}/corrections", own)
            assert status == 200 and json.loads(text)["model"] == name
    files = files_of(made.store, Grammar.of("info/think/answer", numbered_steps=True))
    told = [json.loads(line)["model"] for line in files["versions.jsonl"].splitlines()]
    assert sorted(told) == ["first", "first", "second", "second"]
    assert sorted(t["data"]["model"] for t in json.loads(files["labelstudio.json"])) == ["first", "second"]
    pairs = [json.loads(line) for line in files["pairs.jsonl"].splitlines()]
    assert {p["model"]: p["rejected"][0]["content"] for p in pairs} == {"first": REPLY, "second": OTHER_REPLY}
    assert agreement(made.store, "AB", "CD")["num_readings"] == 2
    assert agreement(made.store, "AB", "CD", "second")["num_readings"] == 1


def test_both_are_models_of_the_chat_interface_and_have_different_names(two: tuple[str, str, Any]) -> None:
    import openai

    ask_openai = openai.OpenAI(base_url=f"{two[0]}/v1", api_key="none", max_retries=0)
    assert [m.id for m in ask_openai.models.list()] == ["first", "second"]
    said = ask_openai.chat.completions.create(model="second", messages=[{"role": "user", "content": "?"}])
    assert (said.choices[0].message.content, said.model) == (OTHER_REPLY, "second")
    room = scripted_room(None, knowledge=False, beside="same")
    assert isinstance(room.beside, Guest)
    with pytest.raises(EosinError, match="one name"):
        create_app(scripted_engine(), ServeSettings(model_name="same"), room)
