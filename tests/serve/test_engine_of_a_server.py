"""A room whose model is behind another server: a second eosin server, and a stub that misbehaves."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.serve.scripted import OPTIONS, REPLY, scripted_room, write_slides
from tests.serve.served import WordEngine, running, serving
from tests.serve.test_slide_questions import events, post
from tests.support.judge_stub import running_stub
from tests.support.misbehaviour import KEY, http, sends

from eosin.chain.room.open_room import Place, RoomOptions, opened_room
from eosin.chain.room.remote import ServerReader
from eosin.clients.settings import ServerSettings
from eosin.core.errors import EosinError
from eosin.core.nouns.reply import Grammar
from eosin.engines.base import Request
from eosin.engines.server_engine import ServerEngine
from eosin.serve.app import Room
from eosin.serve.settings import ServeSettings


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return write_slides(tmp_path / "slides", "a.tif")


def room_of(url: str, folder: Path, work: Path, **more: Any) -> Any:
    """A room whose model answers at an address: as `eosin serve --engine URL` makes it."""
    server = ServerSettings(f"{url}/v1", "far", timeout_s=20, retries=1, backoff_s=0.01)
    options = RoomOptions(work=work, server=server, grammar="info/think/answer", **more)
    return opened_room(Place(""), ServeSettings(slides=folder, model_name="far"), options)


def asked_of(url: str, app: Any, body: dict[str, Any]) -> list[tuple[str, Any]]:
    return events(f"{url}/slides/{next(iter(app.state.shelf.slides))}/ask", body)


def test_another_eosin_server_answers_streamed_and_its_evidence_is_the_region(slides: Path, tmp_path: Path) -> None:
    said: list[Request] = []

    def reply(request: Request) -> str:
        said.append(request)
        return REPLY

    far = WordEngine(reply, lambda step: time.sleep(0.002))
    with (
        serving(far, model_name="far") as (far_url, _),
        room_of(far_url, slides, tmp_path / "work") as app,
        running(app) as url,
    ):
        told = asked_of(url, app, {"question": "What is it?", "options": OPTIONS, "box": [0, 0, 300, 200]})
        names = [n for n, _ in told]
        assert names[:2] == ["start", "text"] and names[-1] == "done" and names.count("text") > 3
        reading = dict(told)["reading"]
        assert (reading["reply"], reading["letter"], reading["model"]) == (REPLY, "C", "far")
        assert any(s["verdict"] == "supported" for s in reading["statements"])
        places = [d for n, d in told if n == "evidence"]
        assert {p["method"] for p in places} == {"region"} and places[0]["boxes"][0]["px"] == [0, 0, 300, 200]
        assert said[0].images[0].size == (300, 200)
        assert "<info>" in said[0].messages[-1].text  # the form of the reply is asked for
        # the whole slide is one picture, of at most 1024 px
        told = asked_of(url, app, {"question": "What is it?"})
        assert told[-1][0] == "done" and said[1].images[0].size == (1024, 683)


@pytest.mark.parametrize("mpp", [None, 0.25])
def test_a_slide_without_a_scale_has_no_micrometres_but_those_that_were_told(mpp: float | None, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((300, 400, 3), np.uint8), tile=(256, 256), photometric="rgb")
    with running_stub() as stub:
        said = 'data: {"choices": [{"finish_reason": "stop", "delta": {"content": "<think>Ok.</think><answer>x"}}]}\n\n'
        stub.always = sends(lambda _: http(said))
        server = ServerSettings(stub.url, "far", timeout_s=20, retries=0)
        room = Room(ServerReader(server, Grammar.of("think/answer"), True, mpp))
        with serving(ServerEngine(server), room, slides=tmp_path, model_name="far", slide_mpp=mpp) as (url, app):
            key = next(iter(app.state.shelf.slides))
            assert json.loads(urllib.request.urlopen(f"{url}/slides/{key}").read())["mpp"] == mpp
            told = events(f"{url}/slides/{key}/ask", {"question": "?", "box": [0, 0, 200, 100]})
    assert told[-1][0] == "done", told
    [box] = dict(told)["evidence"]["boxes"]
    assert box["px"] == [0, 0, 200, 100] and box["um"] == (None if mpp is None else [0.0, 0.0, 50.0, 25.0])


def test_a_reply_that_breaks_off_and_an_outage_are_named_and_asked_again(slides: Path, tmp_path: Path) -> None:
    half = http('data: {"choices": [{"delta": {"content": "<info>Gla"}}]}\n\n')
    body = {"question": "?", "box": [0, 0, 100, 100]}
    with running_stub() as stub:
        server = ServerSettings(stub.url, "far", timeout_s=20, retries=0)
        reader = ServerReader(server, Grammar.of("info/think/answer"), True)
        room = Room(reader, None, scripted_room(None).knowledge)
        with serving(ServerEngine(server), room, slides=slides, model_name="far") as (url, app):
            key = next(iter(app.state.shelf.slides))
            stub.always = sends(lambda _: half)
            told = events(f"{url}/slides/{key}/ask", body)
            assert ("text", {"block": "findings", "text": "Gla"}) in told
            assert told[-1][0] == "error" and "broke off" in told[-1][1]["message"] and told[-1][1]["again"]
            health = json.loads(urllib.request.urlopen(f"{url}/health").read())
            assert health["status"] != "ok" and "broke off" in health["outages"]["far"]
            stub.always = sends(lambda _: http("", "503 No"))
            status, text = post(f"{url}/slides/{key}/ask", {**body, "stream": False})
            assert status == 500 and "503" in text
            answered = 'data: {"choices": [{"delta": {"content": "<answer>x</answer>"}, "finish_reason": "stop"}]}\n\n'
            stub.always = sends(lambda _: http(answered))
            assert events(f"{url}/slides/{key}/ask", body)[-1][0] == "done"
            assert json.loads(urllib.request.urlopen(f"{url}/health").read())["status"] == "ok"
    with serving(ServerEngine(server), room, slides=slides, model_name="far") as (url, _):
        told = events(f"{url}/slides/{key}/ask", body)
        assert told[-1][0] == "error" and "no connection" in told[-1][1]["message"]


def test_a_client_that_leaves_hangs_up_on_the_far_server(slides: Path, tmp_path: Path) -> None:
    go_on = threading.Event()
    far = WordEngine(lambda request: "word " * 40, lambda step: step < 4 or go_on.wait(60))
    with (
        serving(far, model_name="far") as (far_url, far_app), room_of(far_url, slides, tmp_path / "work") as app,
        running(app) as url,
    ):  # fmt: skip
        key = next(iter(app.state.shelf.slides))
        body = json.dumps({"question": "?", "box": [0, 0, 90, 90]}).encode()
        asked = urllib.request.Request(f"{url}/slides/{key}/ask", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as reply:
            heard = b""
            while b"event: text" not in heard:
                heard += reply.read1(4096)
        until = time.monotonic() + 60
        while app.state.batcher.waiting and time.monotonic() < until:
            time.sleep(0.02)
        assert (app.state.batcher.waiting, app.state.batcher.counts.given_up) == (0, 1)
        time.sleep(0.3)  # the far server hears of it
        go_on.set()
        while far_app.state.batcher.waiting and time.monotonic() < until:
            time.sleep(0.02)
        assert (far_app.state.batcher.counts.answered, far_app.state.batcher.counts.given_up) == (0, 1)


def test_the_key_is_sent_and_written_nowhere(
    slides: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setitem(os.environ, "EOSIN_API_KEY", KEY)
    far = WordEngine(lambda request: REPLY)
    with (
        serving(far, model_name="far", token=KEY) as (far_url, _), room_of(far_url, slides, tmp_path / "work") as app,
        running(app) as url,
    ):  # fmt: skip
        told = asked_of(url, app, {"question": "What is it?", "box": [0, 0, 100, 100]})
        assert told[-1][0] == "done"  # the key opened the door
        assert KEY not in json.dumps(told) and KEY not in caplog.text and KEY not in repr(vars(app.state))
    files = [p for p in (tmp_path / "work").rglob("*") if p.is_file()]
    assert files and not any(KEY.encode() in p.read_bytes() for p in files)


def test_a_server_that_cannot_be_asked_is_named_before_anything_is_served(slides: Path, tmp_path: Path) -> None:
    with running_stub() as stub:
        gone = stub.url.removesuffix("/v1")  # of a port where nobody listens any more
    with pytest.raises(EosinError, match="does not answer"), room_of(gone, slides, tmp_path / "work"):
        pass
    for name, token, word in (("other", None, "no such model"), ("far", "t" * 20, "wants a key")):
        with (
            serving(WordEngine(lambda r: REPLY), model_name=name, token=token) as (url, _),
            pytest.raises(EosinError, match=word), room_of(url, slides, tmp_path / "work"),
        ):  # fmt: skip
            pass
