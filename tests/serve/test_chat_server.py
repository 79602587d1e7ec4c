"""Any OpenAI client is answered: whole, streamed, together, and refused with a reason."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import openai
import pytest
from tests.serve.served import WordEngine, serving
from tests.support.toys import toy_samples

from eosin.core.errors import EosinError
from eosin.core.images import encode_png, load_image
from eosin.core.nouns.prompt import prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.engines.base import Decoding, Request
from eosin.serve.settings import ServeSettings, check_doors


def client(url: str, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def said(request: Request) -> str:
    return f"{request.messages[-1].text} with {len(request.images)} pictures"


def picture() -> dict[str, Any]:
    image = load_image(toy_samples(1, "test")[0].images[0])
    data = base64.b64encode(encode_png(image)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def shown(address: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}]}


def reply_of(ask: Any, text: str, **more: Any) -> Any:
    return ask.chat.completions.create(model="", messages=[{"role": "user", "content": text}], **more)


def post(url: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = urllib.request.Request(
        f"{url}/v1/chat/completions", data, {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(asked) as reply:
            return reply.status, json.load(reply)
    except HTTPError as exc:
        return exc.code, json.load(exc)


def test_a_client_of_openai_is_answered_whole_and_streamed() -> None:
    with serving(WordEngine(said), model_name="tiny") as (url, _):
        ask = client(url)
        assert [m.id for m in ask.models.list()] == ["tiny"]
        content = [{"type": "text", "text": "Which tissue"}, picture(), picture()]
        whole = ask.chat.completions.create(model="tiny", messages=[{"role": "user", "content": content}])
        assert whole.choices[0].message.content == "Which tissue with 2 pictures"
        assert whole.choices[0].finish_reason == "stop"
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (7, 5, 12)
        stream = ask.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "one two three"}], stream=True, max_tokens=2
        )
        pieces = [(c.choices[0].delta.content, c.choices[0].finish_reason) for c in stream]
        assert "".join(text or "" for text, _ in pieces) == "one two"
        assert pieces[-1][1] == "length"


def test_counts_are_numbers_or_none_at_all() -> None:
    """inspect_ai and others add them up: null would end them in a TypeError."""
    engine = WordEngine(said)
    engine.prompt_size = None
    with serving(engine) as (url, _):
        assert reply_of(client(url), "one").usage is None


def test_a_stream_arrives_while_it_is_drawn() -> None:
    """The second word is drawn only after the client has read the first."""
    read = threading.Event()
    engine = WordEngine(lambda r: "first second", before_step=lambda step: step == 1 or read.wait(30))
    with serving(engine) as (url, _):
        stream = client(url).chat.completions.create(model="", messages=[{"role": "user", "content": "?"}], stream=True)
        pieces = []
        for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")
            if "first" in pieces[-1]:
                assert not read.is_set()
                read.set()
    assert "".join(pieces) == "first second"


def test_questions_that_wait_together_are_answered_together_each_with_its_own_reply() -> None:
    gate = threading.Event()
    engine = WordEngine(said, before_step=lambda step: gate.wait(30))
    with serving(engine, batch_wait_s=0) as (url, app), ThreadPoolExecutor(12) as pool:
        ask = client(url)
        asked = [pool.submit(reply_of, ask, f"number {i}") for i in range(12)]
        until = time.monotonic() + 30
        while app.state.batcher.waiting < 12 and time.monotonic() < until:
            time.sleep(0.02)
        gate.set()
        replies = [f.result().choices[0].message.content for f in asked]
    assert replies == [f"number {i} with 0 pictures" for i in range(12)]
    assert sum(len(b) for b in engine.batches) == 12
    assert len(engine.batches[-1]) > 1


def test_other_ways_of_drawing_are_not_mixed() -> None:
    engine = WordEngine(lambda r: "a b c d")
    with serving(engine, batch_wait_s=0.3) as (url, _), ThreadPoolExecutor(6) as pool:
        ask = client(url)
        lengths = [1, 3, 1, 3, 1, 3]
        made = list(pool.map(lambda n: reply_of(ask, "?", max_tokens=n).usage.completion_tokens, lengths))
    assert made == lengths


def test_a_client_that_leaves_frees_the_model() -> None:
    engine = WordEngine(lambda r: " ".join(["word"] * 3000), before_step=lambda step: time.sleep(0.01))
    with serving(engine, max_new_tokens=3000) as (url, app):
        stream = client(url).chat.completions.create(
            model="", messages=[{"role": "user", "content": "?"}], stream=True, max_tokens=3000
        )
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
        until = time.monotonic() + 60
        while app.state.batcher.waiting and time.monotonic() < until:
            time.sleep(0.05)
        assert app.state.batcher.waiting == 0
        assert engine.said < 3000
        assert app.state.batcher.counts.given_up == 1


def test_one_question_that_fails_spoils_no_other() -> None:
    def reply(request: Request) -> str:
        if "bad" in request.messages[-1].text:
            raise ValueError("out of order")
        return "fine"

    with serving(WordEngine(reply), batch_wait_s=0.3) as (url, app), ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda text: post(url, {"messages": [{"role": "user", "content": text}]}),
                              ["good 1", "bad", "good 2", "good 3"]))  # fmt: skip
        assert [c for c, _ in codes] == [200, 500, 200, 200]
        assert "out of order" in codes[1][1]["error"]["message"]
        assert (app.state.batcher.counts.answered, app.state.batcher.counts.failed) == (3, 1)
        assert app.state.batcher.waiting == 0


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({"messages": []}, 422, "messages"),
        (b"{", 422, "JSON"),
        ({"messages": [{"role": "doctor", "content": "?"}]}, 422, "role"),
        ({"messages": [{"role": "user", "content": "?"}], "n": 2}, 422, "n"),
        ({"messages": [{"role": "user", "content": "?"}], "model": "other"}, 404, "not served"),
        ({"messages": [{"role": "user", "content": "?"}], "temperature": -1}, 422, "temperature"),
        (shown("http://x/y.png"), 400, "nothing is fetched"),
        (shown("data:image/png;base64,%%"), 400, "no base64"),
        (shown("data:image/png;base64,aGVsbG8="), 400, "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said(body: Any, code: int, told: str) -> None:
    with serving(WordEngine(said)) as (url, app):
        status, reply = post(url, body)
        assert status == code
        assert told in reply["error"]["message"]
        assert app.state.batcher.counts.asked == 0


def test_limits_and_doors() -> None:
    secret = "a-token-of-enough-letters"
    with serving(WordEngine(said), token=secret, max_body_bytes=2000, max_images=1) as (url, _):
        good = {"messages": [{"role": "user", "content": "?"}]}
        assert post(url, good)[0] == 401
        assert post(url, good, {"Authorization": "Bearer wrong"})[0] == 401
        assert post(url, good, {"Authorization": f"Bearer {secret}"})[0] == 200
        assert client(url, secret).models.list().data
        long = {"messages": [{"role": "user", "content": "x" * 3000}]}
        assert post(url, long, {"Authorization": f"Bearer {secret}"})[0] == 413
        with urllib.request.urlopen(f"{url}/health") as reply:  # open, so that a balancer can look
            assert json.load(reply)["note"].startswith("Research use only")
            assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    with serving(WordEngine(said), max_images=1) as (url, _):
        two = {"messages": [{"role": "user", "content": [picture(), picture()]}]}
        assert "may show 1 pictures" in post(url, two)[1]["error"]["message"]


def test_a_full_row_is_refused_and_asked_again() -> None:
    gate = threading.Event()
    engine = WordEngine(lambda r: gate.wait(20) and "done" or "done")
    with serving(engine, max_waiting=2, batch_size=1) as (url, app), ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(post, url, {"messages": [{"role": "user", "content": "?"}]}) for _ in range(5)]
        until = time.monotonic() + 20
        while app.state.batcher.counts.refused < 3 and time.monotonic() < until:
            time.sleep(0.02)
        gate.set()
        assert sorted(f.result()[0] for f in asked) == [200, 200, 429, 429, 429]
        with urllib.request.urlopen(f"{url}/metrics") as reply:
            lines = dict(line.split(" ") for line in reply.read().decode().splitlines() if not line.startswith("#"))
        assert lines["eosin_questions_refused_total"] == "3"
        assert lines["eosin_questions_answered_total"] == "2"
        assert lines["eosin_questions_waiting"] == "0"


def test_a_strangers_name_that_leads_to_this_machine_opens_nothing() -> None:
    """DNS rebinding: a page of evil.example whose name now means 127.0.0.1 is of one origin with this server."""

    def status(url: str, host: str, headers: dict[str, str] | None = None) -> int:
        return open_or_status(urllib.request.Request(f"{url}/v1/models", headers={"Host": host, **(headers or {})}))

    with serving(WordEngine(said)) as (url, _):
        port = url.rpartition(":")[2]
        for own in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}", "127.8.8.8"):
            assert status(url, own) == 200, own
        for other in (
            f"evil.example:{port}",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "[",
            "a b",
            "10.0.0.1",
        ):
            assert status(url, other) == 400, other
    with serving(WordEngine(said), token="long enough to be one") as (url, _):  # a page of others does not know it
        assert status(url, "room.example", {"Authorization": "Bearer long enough to be one"}) == 200
        assert status(url, "room.example") == 401


def open_or_status(asked: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(asked) as reply:
            return int(reply.status)
    except HTTPError as exc:
        return exc.code


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org", "::"])
def test_no_door_to_others_without_a_token(host: str) -> None:
    with pytest.raises(EosinError, match="needs a token"):
        check_doors(ServeSettings(host=host))
    check_doors(ServeSettings(host=host, token="long enough to be one"))
    for own in ("127.0.0.1", "localhost", "::1"):
        check_doors(ServeSettings(host=own))


def test_a_real_model_says_over_http_what_it_says_here(tmp_path: Path) -> None:
    """Greedy replies of the tiny model, whole and streamed, are those of the engine."""
    from tests.train.conftest import new_model

    from eosin.engines.transformers_engine import TransformersEngine

    engine, grammar = TransformersEngine(new_model()), Grammar.of("think/answer")
    samples = toy_samples(3, "test")
    images = [load_image(s.images[0]) for s in samples]
    messages = [prompt_messages(s, grammar) for s in samples]
    decoding = Decoding(max_new_tokens=12, batch_size=1)
    expected = [next(engine.generate([Request("x", m, (i,))], decoding)) for m, i in zip(messages, images, strict=True)]
    with serving(engine, batch_size=1) as (url, _):
        for message, image, want in zip(messages, images, expected, strict=True):
            data = base64.b64encode(encode_png(image)).decode()
            content = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
                       {"type": "text", "text": message[-1].text}]  # fmt: skip
            turns = [*({"role": m.role, "content": m.text} for m in message[:-1]), {"role": "user", "content": content}]
            whole = client(url).chat.completions.create(model="", messages=turns, max_tokens=12)
            assert whole.choices[0].message.content == want.text
            assert whole.usage.completion_tokens == want.num_tokens
            stream = client(url).chat.completions.create(model="", messages=turns, max_tokens=12, stream=True)
            assert "".join(c.choices[0].delta.content or "" for c in stream) == want.text
