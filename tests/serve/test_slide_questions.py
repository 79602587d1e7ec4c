"""Questions about slides over HTTP: what streams, what is stated where, what the graph says, what is refused."""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
from tests.serve.scripted import OPTIONS, REPLY, TILE_UM, scripted_engine, scripted_room, write_slides
from tests.serve.served import WordEngine, serving

from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.reply import Grammar
from eosin.serve.questions.asking import without_paths
from eosin.serve.questions.blocks import BlockStream
from eosin.serve.questions.places import places_of
from eosin.serve.questions.statements import statements_of

GRAMMAR = Grammar.of("info/think/answer", numbered_steps=True)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One slide of 1200 x 800 px at 0.5 µm: 600 x 400 µm."""
    return write_slides(tmp_path_factory.mktemp("slides"), "a.tif")


@pytest.fixture(scope="module")
def room(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Any]]:
    """Address, key of the slide, and what is served."""
    made = scripted_room(tmp_path_factory.mktemp("store") / "c.sqlite")
    with serving(scripted_engine(), made, slides=slides) as (url, app):
        yield url, next(iter(app.state.shelf.slides)), made


def post(url: str, body: Any) -> tuple[int, Any]:
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as exc:
        return exc.code, exc.read().decode()


def events(url: str, body: Any) -> list[tuple[str, Any]]:
    status, text = post(url, body)
    assert status == 200, text
    parts = [p.split("\n") for p in text.strip().split("\n\n")]
    return [(a.removeprefix("event: "), json.loads(b.removeprefix("data: "))) for a, b in parts]


def test_a_question_streams_findings_reasoning_answer_and_then_where(room: tuple[str, str, Any]) -> None:
    url, key, _ = room
    told = events(f"{url}/slides/{key}/ask", {"question": "What is the diagnosis?", "options": OPTIONS})
    names = list(dict.fromkeys(n for n, _ in told))
    assert names == ["start", "looking", "text", "reading", "evidence", "done"]
    blocks: dict[str, str] = {}
    for _, data in (t for t in told if t[0] == "text"):
        blocks[data["block"]] = blocks.get(data["block"], "") + data["text"]
    parsed = GRAMMAR.parse(REPLY).value.blocks  # type: ignore[union-attr]
    assert blocks == {"findings": parsed["info"], "reasoning": parsed["think"], "answer": "adenocarcinoma"}
    reading = dict(told)["reading"]
    assert (reading["answer"], reading["letter"], reading["unparsed_reason"]) == ("adenocarcinoma", "C", None)
    assert reading["confidence"]["value"] == 0.7 and not reading["confidence"]["abstains"]
    said = {s["text"]: s for s in reading["statements"]}
    assert said["Desmoplastic stroma favours adenocarcinoma."]["verdict"] == "supported"
    assert any("desmoplasia" in p for s in said["Desmoplastic stroma is present."]["paths"] for p in s["steps"])
    assert [d["statement"] for n, d in told if n == "evidence"] == [s["id"] for s in reading["statements"]]


def test_evidence_boxes_are_the_same_places_in_pixels_and_micrometres(room: tuple[str, str, Any]) -> None:
    url, key, _ = room
    told = events(f"{url}/slides/{key}/ask", {"question": "Which findings?"})
    boxes = [b for n, d in told if n == "evidence" for b in d["boxes"]]
    assert boxes
    for box in boxes:
        assert np.allclose(np.array(box["px"]) * 0.5, box["um"], atol=0.5)
        assert 0 < box["share"] <= 1
        assert box["um"][2] - box["um"][0] >= TILE_UM - 1e-6


def test_a_region_shows_only_its_patches_and_is_kept_as_a_reading(room: tuple[str, str, Any]) -> None:
    url, key, made = room
    body = {"question": "Which findings?", "box": [0, 0, 400, 400], "stream": False}
    status, text = post(f"{url}/slides/{key}/ask", body)
    reading = json.loads(text)
    assert (status, reading["num_patches"], reading["box"]) == (200, 9, [0, 0, 400, 400])  # 3 x 3 centres below 200 µm
    kept = made.store.reading(reading["id"])
    assert kept["reply"] == REPLY and all("evidence" in s for s in kept["statements"])


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"question": "?", "box": [0, 0, 1201, 10]}, 400, "1200 x 800"),
        ({"question": "?", "box": [10, 0, 5, 10]}, 422, "box"),
        ({"question": "?", "options": ["one"]}, 422, "2 to 26"),
        ({"question": "?", "options": ["a", "A "]}, 422, "different"),
        ({"question": ""}, 422, "question"),
        ({"question": "?", "path": "/etc/passwd"}, 422, "path"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_reason(
    room: tuple[str, str, Any], body: dict[str, Any], status: int, word: str
) -> None:
    url, key, _ = room
    found, text = post(f"{url}/slides/{key}/ask", body)
    assert found == status and word in text, text


def test_statements_are_held_against_the_graph(room: tuple[str, str, Any]) -> None:
    url = room[0]
    status, text = post(f"{url}/check", {"text": ["Desmoplastic stroma is present."], "answer": "adenocarcinoma"})
    report = json.loads(text)
    assert (status, report["steps"][0]["verdict"]) == (200, "supported")
    assert report["steps"][0]["statements"][0]["sources"]


def test_a_question_that_fails_says_why_and_can_be_asked_again(slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = scripted_room(None, knowledge=False), [0]
    plain = made.reader.look  # type: ignore[union-attr]

    def look(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            from eosin.core.errors import EosinError

            raise EosinError("This slide cannot be read.", found="no tissue")
        return plain(*args)

    monkeypatch.setattr(made.reader, "look", look)
    with serving(scripted_engine(), made, slides=slides) as (url, app):
        key = next(iter(app.state.shelf.slides))
        told = events(f"{url}/slides/{key}/ask", {"question": "?"})
        assert told[-1][0] == "error" and "no tissue" in told[-1][1]["message"] and told[-1][1]["again"]
        assert events(f"{url}/slides/{key}/ask", {"question": "?"})[-1][0] == "done"


def test_a_client_that_leaves_while_nothing_is_sent_is_noticed(slides: Path) -> None:
    go_on = threading.Event()
    engine = WordEngine(lambda request: REPLY, lambda step: step < 3 or go_on.wait(60))
    with serving(engine, scripted_room(None, knowledge=False), slides=slides) as (url, app):
        key = next(iter(app.state.shelf.slides))
        asked = urllib.request.Request(
            f"{url}/slides/{key}/ask", b'{"question": "?"}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as reply:
            heard = b""
            while b"event: text" not in heard:
                heard += reply.read1(4096)
        time.sleep(0.5)  # the model says nothing meanwhile
        go_on.set()
        until = time.monotonic() + 60
        while app.state.batcher.waiting and time.monotonic() < until:
            time.sleep(0.02)
        assert (app.state.batcher.counts.given_up, app.state.batcher.counts.answered) == (1, 0)


def test_a_client_that_leaves_frees_what_it_held(slides: Path) -> None:
    with serving(scripted_engine(0.02), scripted_room(None, knowledge=False), slides=slides) as (url, app):
        key = next(iter(app.state.shelf.slides))
        asked = urllib.request.Request(
            f"{url}/slides/{key}/ask", b'{"question": "?"}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as reply:
            assert reply.read(40)
        until = time.monotonic() + 20
        while app.state.batcher.waiting and time.monotonic() < until:
            time.sleep(0.02)
        assert app.state.batcher.waiting == 0
        assert app.state.batcher.counts.answered == 0


def test_a_client_that_leaves_while_evidence_is_sought_leaves_the_model_at_work(
    slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seeking, go_on = scripted_room(None, knowledge=False), threading.Event(), threading.Event()
    plain = made.reader.evidence  # type: ignore[union-attr]

    def evidence(*args: Any) -> Any:
        seeking.set()
        go_on.wait(30)
        return plain(*args)

    monkeypatch.setattr(made.reader, "evidence", evidence)
    with serving(scripted_engine(), made, slides=slides) as (url, app):
        key = next(iter(app.state.shelf.slides))
        asked = urllib.request.Request(
            f"{url}/slides/{key}/ask", b'{"question": "?"}', {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as reply:
            assert reply.read(40)
            assert seeking.wait(30)
        time.sleep(0.3)  # the server hears that nobody listens any more
        go_on.set()
        assert events(f"{url}/slides/{key}/ask", {"question": "?"})[-1][0] == "done"


def test_a_blinded_room_hides_the_reply_until_the_reader_has_signed(slides: Path, tmp_path: Path) -> None:
    made = scripted_room(tmp_path / "c.sqlite", knowledge=False)
    with serving(scripted_engine(), made, slides=slides, blinded=True) as (url, app):
        key = next(iter(app.state.shelf.slides))
        told = events(f"{url}/slides/{key}/ask", {"question": "?"})
        assert [n for n, _ in told if n not in ("start", "looking")] == ["hidden", "done"]
        assert "adenocarcinoma" not in json.dumps(told)
        id = told[-1][1]["id"]
        own = {"key": "k" * 12, "reader": "AB", "answer": "tubular adenoma", "is_signed": True}

        def seen(who: str) -> str:
            with urllib.request.urlopen(f"{url}/readings/{id}?reader={who}") as reply:
                return str(reply.read().decode())

        assert "adenocarcinoma" not in seen("AB")
        status, text = post(f"{url}/readings/{id}/corrections", own)
        assert status == 200 and json.loads(text)["revealed"]["answer"] == "adenocarcinoma"
        assert "adenocarcinoma" in seen("AB")
        assert "adenocarcinoma" not in seen("CD")
        with urllib.request.urlopen(f"{url}/readings/{id}/corrections?reader=CD") as reply:
            assert json.loads(reply.read())["versions"] == []


def test_pages_and_facts_need_no_token_but_slides_do(slides: Path) -> None:
    with serving(scripted_engine(), scripted_room(None, False), slides=slides, token="s" * 20) as (url, _):
        for path, status in (("/", 200), ("/page/app.js", 200), ("/server", 401), ("/slides", 401), ("/readings", 401)):
            try:
                with urllib.request.urlopen(url + path) as reply:
                    found, policy = reply.status, reply.headers["Content-Security-Policy"]
            except HTTPError as exc:
                found, policy = exc.code, exc.headers["Content-Security-Policy"]
            assert (path, found) == (path, status)
            assert "default-src 'none'" in policy and "unsafe" not in policy
        for name in ("../app.py", "..%2fapp.py", "%2e%2e/settings.py", "app.py", "__init__.py", "index.html%00"):
            with pytest.raises(HTTPError) as told:
                urllib.request.urlopen(f"{url}/page/{name}")
            assert told.value.code in (401, 404), name


def test_no_file_of_the_page_names_an_address_elsewhere() -> None:
    from eosin.serve.pages import HERE, KINDS

    files = [p for p in HERE.iterdir() if p.suffix in KINDS]
    assert {"index.html", "app.js", "style.css"} <= {p.name for p in files}
    for path in files:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text, path.name
        assert " style=" not in text or path.suffix != ".html", path.name


# ---- parts ---------------------------------------------------------------------------------------------------------


def test_blocks_grow_with_every_letter_and_no_tag_is_ever_seen() -> None:
    stream, blocks = BlockStream(GRAMMAR), {}
    for end in range(1, len(REPLY) + 1):
        for block, new in stream.feed(REPLY[:end], is_whole=end == len(REPLY)):
            assert "<" not in new and ">" not in new
            blocks[block] = blocks.get(block, "") + new
    parsed = GRAMMAR.parse(REPLY).value.blocks  # type: ignore[union-attr]
    assert blocks == {"findings": parsed["info"], "reasoning": parsed["think"], "answer": parsed["answer"]}


def test_a_reply_without_tags_is_shown_as_it_is() -> None:
    assert BlockStream(GRAMMAR).feed("p < 0.05, so it is new", is_whole=True) == [("other", "p < 0.05, so it is new")]


def test_statements_are_cut_at_sentences_and_keep_their_place() -> None:
    found = statements_of(REPLY, GRAMMAR)
    assert [s.text for s in found] == [
        "Desmoplastic stroma is present.", "Crypts are regular and evenly spaced.", "Mitoses are frequent.",
        "Desmoplastic stroma favours adenocarcinoma.", "Nuclei are enlarged and crowded.",
    ]  # fmt: skip
    assert [REPLY[s.start : s.end] for s in found] == [s.text for s in found]
    assert [s.block for s in found] == ["findings"] * 3 + ["reasoning"] * 2
    broken = "<info>Size 2.5 mm. Ki-67 is 3.2 %.</info> no end"
    assert [s.text for s in statements_of(broken, GRAMMAR)] == ["Size 2.5 mm.", "Ki-67 is 3.2 %."]
    assert [s.text for s in statements_of("Glands. Stroma", GRAMMAR)] == ["Glands.", "Stroma"]


def test_touching_patches_are_one_box_and_shares_are_of_all_evidence() -> None:
    centres = np.array([[50.0, 50.0], [150.0, 150.0], [650.0, 50.0], [950.0, 950.0]])
    bag = PatchBag("a", np.ones((4, 1), np.float32), centres, 100.0, 0.5)
    found = places_of(bag, np.array([2.0, 4.0, 3.0, -5.0]), 0.5)
    assert [(b["um"], b["px"], b["share"], b["patches"]) for b in found["boxes"]] == [
        ([0.0, 0.0, 200.0, 200.0], [0, 0, 400, 400], 0.6667, 2),
        ([600.0, 0.0, 700.0, 100.0], [1200, 0, 1400, 200], 0.3333, 1),
    ]
    assert [(p["number"], p["strength"]) for p in found["patches"]] == [(1, 1.0), (2, 0.75), (0, 0.5)]
    assert places_of(bag, np.array([-1.0, 0.0, -2.0, 0.0]), None)["boxes"] == []


def test_messages_name_no_folder_of_the_server() -> None:
    assert without_paths("no file /srv/slides/a b.svs here, 3/4 of it") == "no file a b.svs here, 3/4 of it"
    assert without_paths("see https://x.org/a") == "see https://x.org/a" and without_paths(None) is None


def test_a_slide_is_read_again_when_its_folder_is_gone(slides: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(slides, folder)
    with serving(scripted_engine(), scripted_room(None, False), slides=folder) as (url, app):
        key = next(iter(app.state.shelf.slides))
        (folder / "a.tif").unlink()
        status, text = post(f"{url}/slides/{key}/ask", {"question": "?"})
        assert status == 400 and str(folder) not in text
