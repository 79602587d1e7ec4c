"""Ways in which a judge's server can misbehave, each with its right outcome, against real sockets.

In every row: the outcome is a value or a reason, never an exception; it comes in time; the key is in no outcome,
record, log or file; and no retry is made that could not help.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from tests.support.judge_stub import Handler, running_stub
from tests.support.misbehaviour import (
    KEY,
    Behaviour,
    answers,
    body,
    bomb,
    chunk,
    chunked,
    drips,
    envelope,
    floods,
    gzipped,
    hangs_after,
    http,
    raw_server,
    resets,
    says,
    sends,
    status,
    whole,
)

from eosin.scoring import ScoreItem, load_rewards
from eosin.scoring.judge.model import JudgeSettings, OpenAIJudge
from eosin.scoring.sets.compose import Outcome

OPEN = ScoreItem(id="1", reply="<think>x</think><answer>lipoma</answer>", question="Diagnosis?", answer="lipoma")
HEAD = http(b"", length=None)[:-2]
SLOW_S = 0.4
# What a slow machine may need beyond a limit.
GRACE_S = 20.0


@dataclass(frozen=True)
class Row:
    """One misbehaviour.

    Attributes:
        name: what the server does.
        behaviour: how it does it.
        want: the score, or a part of the reason why there is none.
        calls: requests that reach the server, with one retry allowed.
        timeout_s: limit of an attempt.
    """

    name: str
    behaviour: Behaviour
    want: float | str
    calls: int = 2
    timeout_s: float = 30.0


def slow(name: str, behaviour: Behaviour) -> Row:
    return Row(name, behaviour, "timed out", timeout_s=SLOW_S)


def verdict_of(**changes: Any) -> Behaviour:
    return says(lambda verdict: json.dumps(json.loads(verdict) | changes))


def deep(opening: str, closing: str, times: int = 100_000) -> str:
    return opening * times + closing * times


NOT_CHAT = "no chat completion"
BAD_VERDICT = "does not fit its schema"

STATUSES = [
    *(
        Row(f"status {n}", status(f"{n} No"), f"refused the request ({n})", calls=1)
        for n in (401, 402, 403, 404, 405, 410, 411, 413, 415, 418, 451, 505, 511)
    ),
    *(
        Row(f"status {n}, which json_schema may have caused", status(f"{n} No"), f"refused the request ({n})", calls=2)
        for n in (400, 422, 501)
    ),
    *(
        Row(f"status {n} for ever", status(f"{n} No"), f"answered {n}")
        for n in (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)
    ),
    Row("status 204, no body", sends(lambda _: b"HTTP/1.1 204 No Content\r\n\r\n"), NOT_CHAT),
    Row("status 201, whole answer", sends(lambda v: whole(v).replace(b"200 OK", b"201 Created")), 1.0, calls=1),
    Row(
        "status 101, other protocol",
        status("101 Switching Protocols", "Upgrade: x", "Connection: upgrade"),
        "no connection",
    ),
    Row("status 100, then the answer", sends(lambda v: b"HTTP/1.1 100 Continue\r\n\r\n" + whole(v)), 1.0, calls=1),
    Row(
        "status 103, then the answer",
        sends(lambda v: b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + whole(v)),
        1.0,
        calls=1,
    ),
    Row("status 999", status("999 What"), "refused the request (999)", calls=1),
    Row("status 099", status("099 What"), "no connection"),
    Row("status that is a word", status("OK"), "no connection"),
]

LENGTHS = [
    Row("length too short", sends(lambda v: http(whole(v).partition(b"\r\n\r\n")[2], length=20)), NOT_CHAT),
    Row(
        "length too long, then closed",
        sends(lambda v: http(whole(v).partition(b"\r\n\r\n")[2], length=9999)),
        "no connection",
    ),
    Row("length negative", sends(lambda v: http(b"{}", length=-2)), "no connection"),
    Row("length a word", sends(lambda v: http(b"{}", headers=("Content-Length: many",), length=None)), "no connection"),
    Row("two lengths", sends(lambda v: http(b"{}", headers=("Content-Length: 3",))), "no connection"),
    Row("length of 20 digits, then closed", sends(lambda v: http(b"{}", length=10**19)), "no connection"),
    Row(
        "no length, closed at the end",
        sends(lambda v: http(whole(v).partition(b"\r\n\r\n")[2], length=None)),
        1.0,
        calls=1,
    ),
    Row(
        "length and chunks",
        sends(lambda v: http(b"0\r\n\r\n", headers=("Transfer-Encoding: chunked",), length=5)),
        NOT_CHAT,
    ),
    Row(
        "chunks, whole",
        sends(lambda v: chunked(*(chunk(bytes([b])) for b in whole(v).partition(b"\r\n\r\n")[2]), chunk(b""))),
        1.0,
        calls=1,
    ),
    Row("chunks of garbage", sends(lambda v: chunked(b"zz\r\nnot a chunk\r\n")), "no connection"),
    Row("chunk cut off", sends(lambda v: chunked(b"ff\r\nshort")), "no connection"),
    Row("chunk size of 30 digits", sends(lambda v: chunked(b"f" * 30 + b"\r\n{}")), "no connection"),
    Row(
        "second answer behind the first",
        sends(lambda v: whole(v) + http(json.dumps(envelope('{"grade": 0.0, "evidence": ""}')))),
        1.0,
        calls=1,
    ),
]

PROTOCOL = [
    Row("HTTP/1.0", sends(lambda v: whole(v).replace(b"HTTP/1.1", b"HTTP/1.0")), 1.0, calls=1),
    Row("HTTP/0.9, no headers", sends(lambda v: json.dumps(envelope(v)).encode()), "no connection"),
    Row("HTTP/2 frames", sends(lambda v: b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 20), "no connection"),
    Row("another protocol's greeting", sends(lambda v: b"220 mail.example ESMTP\r\n"), "no connection"),
    Row("a header of 1 MB", sends(lambda v: http(b"{}", headers=("X-Long: " + "a" * 10**6,))), "no connection"),
    Row("a header with a null byte", sends(lambda v: http(b"{}", headers=("X-Null: a\0b",))), "no connection"),
    Row("a header that is no header", sends(lambda v: http(b"{}", headers=("no colon here",))), "no connection"),
    Row("closed after the request", sends(lambda v: b""), "no connection"),
    Row("closed in the status line", sends(lambda v: b"HTTP/1.1 20"), "no connection"),
    Row("closed in the headers", sends(lambda v: HEAD), "no connection"),
    Row("closed after the headers", sends(lambda v: HEAD + b"Content-Length: 90\r\n\r\n"), "no connection"),
    Row("closed in the body", sends(lambda v: whole(v)[:-40]), "no connection"),
    Row("reset in the headers", resets, "no connection"),
]

SLOWNESS = [
    slow("never answers", hangs_after(lambda v: b"")),
    slow("hangs in the status line", hangs_after(lambda v: b"HTTP/1.1 20")),
    slow("hangs in the headers", hangs_after(lambda v: HEAD)),
    slow("hangs after the headers", hangs_after(lambda v: HEAD + b"Content-Length: 90\r\n\r\n")),
    slow("hangs one byte before the end", hangs_after(lambda v: whole(v)[:-1])),
    slow("headers drip", drips(HEAD, b"X-Slow: 1\r\n")),
    slow("one header drips", drips(HEAD + b"X-Slow: ", b"a")),
    slow("status line drips", drips(b"HTTP/1.1 200 ", b"O")),
    slow("body drips", drips(HEAD + b"Content-Length: 100000\r\n\r\n", b" ")),
    slow("chunks drip", drips(chunked(), chunk(b" "))),
    slow("status 100 without end", drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n")),
    Row("an error body that never comes", hangs_after(lambda v: http(b"", "500 No", length=99)), "answered 500"),
    Row("headers without end", floods(HEAD, b"X-Many: 1\r\n" * 5000), "no connection"),
]

SIZES = [
    Row("a body of 400 MB", floods(HEAD + b"Content-Length: 400000000\r\n\r\n", b" " * 10**6), "too long"),
    Row("chunks of 400 MB", floods(chunked(), chunk(b" " * 10**6)), "too long"),
    Row(
        "an error body of 400 MB",
        floods(http(b"", "400 No", length=400_000_000), b" " * 10**6),
        "refused the request (400)",
    ),
    Row("a gzip bomb", sends(lambda v: http(bomb(64), headers=("Content-Encoding: gzip",))), "compressed"),
    Row("a good answer in gzip that was not asked for", sends(gzipped), "compressed"),
    Row(
        "a named encoding that is none",
        sends(lambda v: whole(v).replace(b"\r\n", b"\r\nContent-Encoding: br\r\n", 1)),
        "compressed",
    ),
    Row("an encoding named in an error", status("500 No", "Content-Encoding: gzip", data="x"), "answered 500"),
]

BODIES = [
    Row("empty body", body(b""), NOT_CHAT),
    Row("a web page", body("<html>bad gateway</html>", "Content-Type: text/html"), NOT_CHAT),
    Row(
        "wrong content type, right answer",
        sends(lambda v: whole(v).replace(b"application/json", b"text/plain")),
        1.0,
        calls=1,
    ),
    Row("byte order mark", sends(lambda v: http(b"\xef\xbb\xbf" + json.dumps(envelope(v)).encode())), 1.0, calls=1),
    Row("invalid UTF-8", sends(lambda v: http(json.dumps(envelope(v)).encode().replace(b"stub", b"st\xff"))), NOT_CHAT),
    Row("UTF-16", sends(lambda v: http(json.dumps(envelope(v)).encode("utf-16"))), NOT_CHAT),
    Row("JSON list", body("[]"), NOT_CHAT),
    Row("JSON number", body("17"), NOT_CHAT),
    Row("JSON string", body('"choices"'), NOT_CHAT),
    Row("JSON null", body("null"), NOT_CHAT),
    Row("JSON NaN", body("NaN"), NOT_CHAT),
    Row("1e999 in it", sends(lambda v: http(json.dumps(envelope(v)).replace("1000", "1e999"))), NOT_CHAT),
    Row(
        "a number of 5,000 digits", sends(lambda v: http(json.dumps(envelope(v)).replace("1000", "1" * 5000))), NOT_CHAT
    ),
    Row("two JSON values", sends(lambda v: http(json.dumps(envelope(v)) * 2)), NOT_CHAT),
    Row("a comma too many", sends(lambda v: http(json.dumps(envelope(v))[:-1] + ",}")), NOT_CHAT),
    Row("lists 100,000 deep", body(deep("[", "]")), NOT_CHAT),
    Row("objects 100,000 deep", body(deep('{"a":', "}").replace("}", "1}", 1)), NOT_CHAT),
    Row(
        "deep beside a good answer",
        sends(lambda v: http(json.dumps(envelope(v))[:-1] + ',"x":' + deep("[", "]") + "}")),
        NOT_CHAT,
    ),
    Row(
        "a stream that nobody asked for",
        sends(
            lambda v: http(
                f"data: {json.dumps(envelope(v))}\n\ndata: [DONE]\n\n", headers=("Content-Type: text/event-stream",)
            )
        ),
        NOT_CHAT,
    ),
    Row("choices twice", sends(lambda v: http('{"choices": [],' + json.dumps(envelope(v))[1:])), NOT_CHAT),
    Row("an error with status 200", body('{"error": {"message": "overloaded"}}'), NOT_CHAT),
]

COMPLETIONS = [
    Row("no choices", answers(choices="left out"), NOT_CHAT),
    Row("empty choices", answers(choices=[]), NOT_CHAT),
    Row("choices null", answers(choices=None), NOT_CHAT),
    Row("choices an object", answers(choices={"0": 1}), NOT_CHAT),
    Row("a choice that is a string", answers(choices=["yes"]), NOT_CHAT),
    Row("a choice without message", answers(choices=[{"text": "{}"}]), NOT_CHAT),
    Row("message null", answers(choices=[{"message": None}]), NOT_CHAT),
    Row("several choices", answers(choices=[{"message": {"content": "{}"}}] * 2), "several choices"),
    Row("content null", answers(message={"content": None}), "empty"),
    Row("content a number", answers(message={"content": 1.0}), "empty"),
    Row("content an object", answers(message={"content": {"grade": 1.0}}), "empty"),
    Row("content empty", answers(message={"content": ""}), BAD_VERDICT),
    Row(
        "content a list of text parts",
        sends(lambda v: http(json.dumps(envelope([{"type": "text", "text": v[:9]}, {"type": "text", "text": v[9:]}])))),
        1.0,
        calls=1,
    ),
    Row("content a list of images", answers(message={"content": [{"type": "image_url"}]}), "empty"),
    Row("a refusal", answers(message={"content": None, "refusal": "I cannot"}), "refused to answer", calls=1),
    Row("cut off by length", answers(choice={"finish_reason": "length"}), "cut off"),
    Row("withheld by a filter", answers(choice={"finish_reason": "content_filter"}), "withheld", calls=1),
    Row(
        "a tool call",
        answers(message={"content": None, "tool_calls": [{"id": "1"}]}, choice={"finish_reason": "tool_calls"}),
        "called a tool",
    ),
    Row("finish reason unknown", answers(choice={"finish_reason": "eos"}), 1.0, calls=1),
    Row("finish reason a list", answers(choice={"finish_reason": []}), 1.0, calls=1),
    Row("another model's name", answers(model="cheaper"), 1.0, calls=1),
    Row("a model that is a number", answers(model=7), 1.0, calls=1),
    Row("no usage", answers(usage="left out"), 1.0, calls=1),
    Row("usage negative", answers(usage={"prompt_tokens": -5, "completion_tokens": -5}), 1.0, calls=1),
    Row("usage strings", answers(usage={"prompt_tokens": "many", "completion_tokens": "1"}), 1.0, calls=1),
    Row("usage booleans", answers(usage={"prompt_tokens": True, "completion_tokens": True}), 1.0, calls=1),
    Row("usage a list", answers(usage=[1, 2]), 1.0, calls=1),
    Row("usage beyond belief", answers(usage={"prompt_tokens": 10**30, "completion_tokens": 1}), 1.0, calls=1),
]

VERDICTS = [
    Row("in a code fence", says(lambda v: f"```json\n{v}\n```"), 1.0, calls=1),
    Row("in a fence without a name", says(lambda v: f"\n```\n{v}```\n"), 1.0, calls=1),
    Row("a fence after words", says(lambda v: f"Here you are:\n```json\n{v}\n```"), BAD_VERDICT),
    Row("two fences", says(lambda v: f"```json\n{v}\n```\n```json\n{v}\n```"), BAD_VERDICT),
    Row("a fence of a megabyte of spaces", says(lambda v: "```\n" + " " * 900_000), BAD_VERDICT),
    Row("words around it", says(lambda v: f"The grade: {v}"), BAD_VERDICT),
    Row("half of it", says(lambda v: v[: len(v) // 2]), BAD_VERDICT),
    Row("twice", says(lambda v: v + v), BAD_VERDICT),
    Row("grade 8", verdict_of(grade=8), "grade outside 0..1"),
    Row("grade -0.5", verdict_of(grade=-0.5), "grade outside 0..1"),
    Row("grade NaN", says(lambda v: v.replace("1.0", "NaN")), BAD_VERDICT),
    Row("grade Infinity", says(lambda v: v.replace("1.0", "Infinity")), BAD_VERDICT),
    Row("grade 1e999", says(lambda v: v.replace("1.0", "1e999")), BAD_VERDICT),
    Row("grade a string", verdict_of(grade="1.0"), BAD_VERDICT),
    Row("grade 8/10", verdict_of(grade="8/10"), BAD_VERDICT),
    Row("grade true", verdict_of(grade=True), BAD_VERDICT),
    Row("grade null", verdict_of(grade=None), BAD_VERDICT),
    Row("grade a list", verdict_of(grade=[1.0]), BAD_VERDICT),
    Row("grade a whole number", verdict_of(grade=1), 1.0, calls=1),
    Row("grade twice", says(lambda v: '{"grade": 0.0, ' + v[1:]), BAD_VERDICT),
    Row("a key too many", verdict_of(reason="because"), BAD_VERDICT),
    Row("a key too few", says(lambda v: '{"grade": 1.0}'), BAD_VERDICT),
    Row("evidence of its own making", verdict_of(evidence="liposarcoma"), "evidence for the grade is not in the reply"),
    Row("evidence with half a character", says(lambda v: v.replace("lipoma", "\ud800")), "half a character"),
    Row("evidence with half a character, escaped", verdict_of(evidence="\ud800"), BAD_VERDICT),
    Row("deep", says(lambda v: deep("[", "]", 50_000)), BAD_VERDICT),
]

ECHOES = [
    Row(
        "the key in an error body",
        status("401 No", data=json.dumps({"error": {"message": f"wrong key {KEY}"}})),
        "(401)",
        calls=1,
    ),
    Row("the key in a reason phrase", status(f"500 {KEY}"), "answered 500"),
    Row("the key in a header", status("403 No", f"X-Request-Id: {KEY}", f"X-Echo: Bearer {KEY}"), "(403)", calls=1),
    Row("the key in a status line that is none", sends(lambda v: f"{KEY} {KEY}\r\n\r\n".encode()), "no connection"),
    Row(
        "the key in a header of a good answer",
        sends(lambda v: whole(v).replace(b"\r\n", f"\r\nX-Echo: {KEY}\r\n".encode(), 1)),
        1.0,
        calls=1,
    ),
    Row("the key in the evidence", says(lambda v: json.dumps({"grade": 0, "evidence": KEY})), "holds the key", calls=1),
    Row(
        "the key in the evidence, escaped",
        says(lambda v: '{"grade": 0, "evidence": "' + "".join(f"\\u{ord(c):04x}" for c in KEY) + '"}'),
        "holds the key",
        calls=1,
    ),
    Row("the key as the model's name", answers(model=KEY), "holds the key", calls=1),
    Row("the key in the refusal", answers(message={"content": None, "refusal": KEY}), "holds the key", calls=1),
    Row("the key where nobody looks", answers(system_fingerprint=KEY), "holds the key", calls=1),
]

ROWS = STATUSES + LENGTHS + PROTOCOL + SLOWNESS + SIZES + BODIES + COMPLETIONS + VERDICTS + ECHOES


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOSIN_JUDGE_API_KEY", KEY)


def judge_at(url: str, folder: Path, timeout_s: float = 30.0, **more: Any) -> OpenAIJudge:
    return OpenAIJudge(
        JudgeSettings(
            url, "stub", cache_dir=folder, **({"timeout_s": timeout_s, "retries": 1, "backoff_s": 0.01} | more)
        )
    )


def grade_by(judge: OpenAIJudge) -> Outcome:
    return load_rewards([{"name": "semantic", "floor": 0.0}], judge=judge).score(OPEN)


def check(outcome: Outcome, want: float | str) -> None:
    if isinstance(want, float):
        assert (outcome.total, outcome.unscored) == (want, {})
    else:
        assert outcome.total is None
        assert want in outcome.unscored["semantic"]


def assert_hidden(judge: OpenAIJudge, outcome: Outcome, folder: Path, logged: str) -> None:
    shown = [json.dumps(outcome.as_row("1")), json.dumps(judge.described()), repr(judge.__dict__), logged]
    shown += [p.read_text("utf-8") for p in folder.rglob("*") if p.is_file()]
    escaped = "".join(f"\\u{ord(c):04x}" for c in KEY)
    assert not [text for text in shown if KEY in text or escaped in text]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_a_server_that_misbehaves(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running_stub() as stub:
        stub.always = row.behaviour
        judge = judge_at(stub.url, tmp_path, row.timeout_s)
        started = time.monotonic()
        outcome = grade_by(judge)
        took_s = time.monotonic() - started
    check(outcome, row.want)
    assert len(stub.requests) == row.calls == judge.usage.calls
    assert took_s < 2 * row.timeout_s + GRACE_S
    assert_hidden(judge, outcome, tmp_path, caplog.text)


def test_there_are_enough_rows() -> None:
    names = [r.name for r in ROWS]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("code", [300, 301, 302, 303, 304, 305, 307, 308, 399])
def test_a_redirect_is_refused_and_nobody_else_sees_the_key(code: int, tmp_path: Path) -> None:
    with running_stub() as other, running_stub() as stub:
        stub.always = status(f"{code} Elsewhere", f"Location: {other.url}/chat/completions", data="")
        outcome = grade_by(judge_at(stub.url, tmp_path))
        assert f"redirects to another address ({code})" in outcome.unscored["semantic"]
        assert outcome.total is None
        assert len(stub.requests) == 1
        assert other.headers_seen == []


@pytest.mark.parametrize(
    "location", ["", "http://", "//", "http://[", "\x7f", "/v1/chat/completions", "file:///etc/passwd"]
)
def test_a_redirect_to_nowhere_is_refused_too(location: str, tmp_path: Path) -> None:
    with running_stub() as stub:
        stub.always = status("307 Elsewhere", f"Location: {location}", data="")
        assert "redirects to another address (307)" in grade_by(judge_at(stub.url, tmp_path)).unscored["semantic"]
        assert len(stub.requests) == 1


@pytest.mark.parametrize(
    "asked",
    ["0", "0.01", "-5", "1e999", "99999999999999", "nan", "soon", "", formatdate(0, usegmt=True),
     formatdate(4e9, usegmt=True), "Fri, 99 Nov 9999 99:99:99 GMT"],
)  # fmt: skip
def test_every_form_of_retry_after_ends_in_a_bounded_wait(asked: str, tmp_path: Path) -> None:
    with running_stub() as stub:
        stub.faults = [status("429 Wait", f"Retry-After: {asked}")]
        judge = judge_at(stub.url, tmp_path, max_wait_s=0.05)
        started = time.monotonic()
        assert grade_by(judge).total == 1.0
        assert time.monotonic() - started < GRACE_S
    assert (judge.usage.calls, judge.usage.retries) == (2, 1)


def closes(connection: Any) -> None:
    connection.recv(1)


def alerts(connection: Any) -> None:
    connection.recv(1)
    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


@pytest.mark.parametrize(
    ("name", "behave", "scheme", "want", "timeout_s"),
    [
        ("closed before the request is read", closes, "http", "no connection", 30.0),
        ("closed at once", lambda c: None, "http", "no connection", 30.0),
        ("no TLS at an https address", lambda c: c.sendall(http(b"{}")), "https", "no connection", 30.0),
        ("TLS refused by an alert", alerts, "https", "no connection", 30.0),
        ("closed in the TLS handshake", closes, "https", "no connection", 30.0),
        ("TLS handshake that never ends", lambda c: c.recv(9999) and time.sleep(1.5), "https", "timed out", SLOW_S),
        ("accepted by nobody", None, "http", "timed out", SLOW_S),
    ],
)  # fmt: skip
def test_no_connection_is_made(
    name: str, behave: Any, scheme: str, want: str, timeout_s: float, tmp_path: Path
) -> None:
    with raw_server(behave) as place:
        check(grade_by(judge_at(f"{scheme}://{place}/v1", tmp_path, timeout_s)), want)


def test_a_host_that_refuses_or_does_not_exist(tmp_path: Path) -> None:
    with raw_server(None) as gone:
        pass
    refused = judge_at(f"http://{gone}/v1", tmp_path)
    check(grade_by(refused), "no connection (ConnectionRefusedError)")
    assert refused.usage.calls == 2
    both = grade_by(judge_at(f"http://{gone.replace('127.0.0.1', 'localhost')}/v1", tmp_path))
    assert both.unscored["semantic"].startswith("judge: no connection (")
    assert "Group" not in both.unscored["semantic"]
    unknown = grade_by(judge_at("http://no-such-host.invalid/v1", tmp_path, 5.0))
    assert unknown.total is None
    assert "no connection" in unknown.unscored["semantic"] or "timed out" in unknown.unscored["semantic"]


def test_a_passing_misbehaviour_is_mended_by_the_retry(tmp_path: Path) -> None:
    passing = [r for r in ROWS if isinstance(r.want, str) and r.calls == 2 and "refused" not in r.want]
    for number, row in enumerate(r for r in passing if r.timeout_s > SLOW_S):
        with running_stub() as stub:
            stub.faults = [row.behaviour]
            assert grade_by(judge_at(stub.url, tmp_path / str(number))).total == 1.0, row.name


def test_what_another_model_answered_stands_in_the_record(tmp_path: Path) -> None:
    with running_stub() as stub:
        stub.always = answers(model="cheaper")
        judge = judge_at(stub.url, tmp_path)
        assert grade_by(judge).total == 1.0
    assert judge.described()["answered_by"] == {"cheaper": 1}


def test_names_of_models_do_not_fill_the_record(tmp_path: Path) -> None:
    with running_stub() as stub:
        judge = judge_at(stub.url, tmp_path)
        for n in range(30):
            stub.always = answers(model=f"model {n}" + "x" * 500)
            load_rewards("semantic", judge=judge).score(
                ScoreItem(id="1", reply="<think>x</think><answer>lipoma</answer>", question=f"{n}?", answer="lipoma")
            )
    names = judge.described()["answered_by"]
    assert sum(names.values()) == 30
    assert len(names) == 9 and max(map(len, names)) == 100


def test_a_late_second_answer_is_never_taken_for_the_next(tmp_path: Path) -> None:
    """A server that sends two answers to one request must not have the second read as the answer to the next."""
    with running_stub() as stub:

        def twice(handler: Handler, verdict: str) -> None:
            handler.close_connection = False
            handler.send_raw(whole(verdict) * 2)

        stub.always = twice
        judge = judge_at(stub.url, tmp_path)
        totals = []
        for reference in ("lipoma", "lymphoma", "lipoma", "sarcoma"):
            asked = ScoreItem(id="1", reply="<think>x</think><answer>lipoma</answer>", question="?", answer=reference)
            totals.append(load_rewards([{"name": "semantic", "floor": 0.0}], judge=judge).score(asked).total)
    assert totals == [1.0, 0.25, 1.0, 0.25]


def test_settings_show_no_secret(tmp_path: Path) -> None:
    settings = JudgeSettings("https://host/v1", "m", proxy="http://user:password1@proxy:80", cache_dir=tmp_path)
    judge = OpenAIJudge(settings)
    assert "password1" not in repr(settings)
    assert KEY not in repr(judge._client.__dict__) + str(asdict(settings)) + repr(vars(judge))
