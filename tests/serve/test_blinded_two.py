"""A blinded study of two models: Model A and Model B wherever a reader looks, the names in what its keeper gets."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.serve.scripted import OPTIONS, ScriptedReader, scripted_engine, scripted_room, write_slides
from tests.serve.served import WordEngine, serving
from tests.serve.test_slide_questions import events, post

from eosin.core.nouns.reply import Grammar
from eosin.serve.blinding import LABELS, Labels
from eosin.serve.corrections.archive import files_of

NAMES = {"alder", "birch"}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[str, str, Any]]:
    """Address, key of the slide, and the room of `alder` and `birch`."""
    slides = write_slides(tmp_path / "slides", "a.tif")
    made = scripted_room(tmp_path / "c.sqlite", beside="birch")
    with serving(scripted_engine(), made, slides=slides, model_name="alder", blinded=True) as (url, app):
        yield url, next(iter(app.state.shelf.slides)), made


def got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as exc:
        return exc.code, exc.read().decode()


def names_in(text: str) -> set[str]:
    """Which models a text names."""
    return {n for n in NAMES if f'"{n}"' in text or f"{n} beside" in text or f"beside {n}" in text}


def ask(two: tuple[str, str, Any], asked: str) -> dict[str, tuple[str, str]]:
    """Id and all that was told, by label."""
    url, key, _ = two
    told = {}
    for label in LABELS:
        heard = events(f"{url}/slides/{key}/ask", {"question": "?", "options": OPTIONS, "model": label, "asked": asked})
        told[label] = heard[-1][1]["id"], json.dumps(heard)
    return told


def sign(two: tuple[str, str, Any], id: str, reader: str = "AB") -> dict[str, Any]:
    own = {"key": uuid.uuid4().hex, "reader": reader, "answer": OPTIONS[0], "is_signed": True}
    status, text = post(f"{two[0]}/readings/{id}/corrections", own)
    assert status == 200, text
    return dict(json.loads(text))


def test_the_order_is_drawn_for_each_question_and_stays(tmp_path: Path) -> None:
    labels = Labels(("alder", "birch"), b"k" * 32)
    drawn = [labels.by_label(uuid.UUID(int=i).hex, "a" * 16)["Model A"] for i in range(400)]
    assert drawn == [labels.by_label(uuid.UUID(int=i).hex, "a" * 16)["Model A"] for i in range(400)]
    assert 150 < drawn.count("alder") < 250
    other = Labels(("alder", "birch"), b"x" * 32)
    assert drawn != [other.by_label(uuid.UUID(int=i).hex, "a" * 16)["Model A"] for i in range(400)]
    made = scripted_room(tmp_path / "c.sqlite", beside="birch").store
    again = scripted_room(tmp_path / "c.sqlite", beside="birch").store
    assert made and again and made.secret() == again.secret() and len(made.secret()) == 32


def test_nothing_names_a_model_until_both_replies_are_signed(two: tuple[str, str, Any]) -> None:
    url, key, made = two
    told = ask(two, uuid.uuid4().hex)
    assert not any(names_in(text) for _, text in told.values())
    (a, b) = (told[label][0] for label in LABELS)
    everywhere = [
        "/server", "/health", "/v1/models", "/metrics", "/openapi.json", "/readings", "/corrections/export",
        f"/readings?slide={key}&reader=AB", "/corrections/agreement?first=AB&second=CD&model=alder",
        *(f"/readings/{i}{m}?reader=AB" for i in (a, b) for m in ("", "/corrections", "/geojson", "/labelstudio")),
    ]  # fmt: skip
    assert {path: found for path in everywhere if (found := names_in(got(url + path)[1]))} == {}
    assert [m["name"] for m in json.loads(got(f"{url}/server")[1])["models"]] == list(LABELS)

    first = sign(two, a)  # its reply is shown now, and still no name: it would tell the other's
    assert first["revealed"]["reply"] and first["revealed"]["label"] == "Model A" and not names_in(json.dumps(first))
    assert {path: found for path in everywhere if (found := names_in(got(url + path)[1]))} == {}
    last = sign(two, b)
    assert {last["model"]} == NAMES - {json.loads(got(f"{url}/readings/{a}?reader=AB")[1])["model"]}
    shown = json.loads(got(f"{url}/readings?slide={key}&reader=AB")[1])["readings"]
    assert {r["id"]: (r["label"], r["model"]) for r in shown} == {
        id: (label, made.store.reading(id)["model"]) for label, (id, _) in told.items()
    }
    assert not names_in(got(f"{url}/readings?slide={key}&reader=CD")[1])  # another reader has signed nothing
    assert not names_in(got(f"{url}/readings/{a}?reader=CD")[1])


def test_the_keeper_of_the_study_gets_names_and_labels(two: tuple[str, str, Any]) -> None:
    made = two[2]
    for number in range(6):
        for label, (id, _) in ask(two, uuid.UUID(int=number).hex).items():
            sign(two, id)
            kept = made.store.reading(id)
            assert kept["label"] == label and kept["model"] in NAMES
            assert kept["answer"] == {"alder": "adenocarcinoma", "birch": "normal mucosa"}[kept["model"]]
    files = files_of(made.store, Grammar.of("info/think/answer", numbered_steps=True))
    rows = [json.loads(line) for line in files["readings.jsonl"].splitlines()]
    assert {r["label"] for r in rows} == set(LABELS) and {r["model"] for r in rows} == NAMES
    assert {json.loads(line)["model"] for line in files["versions.jsonl"].splitlines()} == NAMES


def test_a_name_is_not_asked_and_the_chat_interface_is_closed(two: tuple[str, str, Any]) -> None:
    url, key, _ = two
    status, text = post(f"{url}/slides/{key}/ask", {"question": "?", "model": "birch"})
    assert status == 404 and "Model A, Model B" in text and not names_in(text)
    status, text = post(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": "?"}]})
    assert status == 403 and "blinded" in text
    assert got(f"{url}/v1/models")[0] == 403


def test_a_failure_and_a_lack_do_not_tell_which_model_it_is(tmp_path: Path) -> None:
    def fails(step: int) -> None:
        raise RuntimeError("birch ran out of words")

    class OneAtATime(ScriptedReader):
        sees_slides = False
        sees_regions = True

    slides = write_slides(tmp_path / "slides", "a.tif")
    made: Any = scripted_room(None, knowledge=False, beside="birch", beside_engine=WordEngine(lambda r: "x", fails))
    with serving(scripted_engine(), made, slides=slides, model_name="alder", blinded=True) as (url, app):
        key, asked = next(iter(app.state.shelf.slides)), uuid.uuid4().hex
        told = [events(f"{url}/slides/{key}/ask", {"question": "?", "model": m, "asked": asked}) for m in LABELS]
        assert sorted(t[-1][0] for t in told) == ["done", "error"]
        assert not names_in(json.dumps(told)) and "birch" not in json.dumps(told)
    made.beside.reader.__class__ = OneAtATime
    with serving(scripted_engine(), made, slides=slides, model_name="alder", blinded=True) as (url, app):
        key = next(iter(app.state.shelf.slides))
        said = [post(f"{url}/slides/{key}/ask", {"question": "?", "model": m, "asked": asked}) for m in LABELS]
        assert said[0] == said[1] and said[0][0] == 400
