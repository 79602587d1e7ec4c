"""A reply that comes piece by piece from a real HTTP server: told of as it grows, whole or with the reason why not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.judge_stub import JudgeStub, running_stub
from tests.support.misbehaviour import KEY, http, says, sends, status

from eosin.clients import ChatClient, ChatRequest, Completion, Message, ServerSettings
from eosin.clients.loop import waited
from eosin.core.nouns.outcome import Parsed, Unparsed

REQUEST = ChatRequest((Message("user", ("What is it?",)),))


@pytest.fixture
def stub() -> Iterator[JudgeStub]:
    with running_stub() as server:
        yield server


def chunk(text: str = "", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} | more.pop("delta", {}), "finish_reason": None} | more
    return {"model": "stub", "choices": [choice]}


def stream(*events: dict[str, Any] | str, newline: str = "\n") -> bytes:
    lines = [f"data: {e if isinstance(e, str) else json.dumps(e)}{newline}{newline}" for e in events]
    return http(": a comment\n\n" + "".join(lines), headers=("X-Stream: yes",))


def asked(stub: JudgeStub, answer: bytes | None = None, **more: Any) -> tuple[Any, list[str]]:
    """What came of a question, and the texts that were told of."""
    if answer is not None:
        stub.always = sends(lambda _: answer)
    told: list[str] = []
    settings = ServerSettings(stub.url, "stub", **({"backoff_s": 0.01, "retries": 1} | more))
    client = ChatClient(settings)
    return waited(client.in_loop(REQUEST, lambda completion: completion, told.append)), told


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
END = chunk(finish_reason="stop")


def test_a_reply_grows_and_its_counts_are_read(stub: JudgeStub) -> None:
    for newline in ("\n", "\r\n"):
        found, told = asked(stub, stream(chunk("Désm"), chunk("oplasia "), END, USAGE, "[DONE]", newline=newline))
        assert found == Parsed(Completion("Désmoplasia ", "stub", "stop", False, 7, 2))
        assert told[-1] == "Désmoplasia " and all("Désmoplasia ".startswith(t) for t in told)
    body = stub.requests[0]
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_thinking_comes_first_and_token_probabilities_are_kept(stub: JudgeStub) -> None:
    likely = {"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "B", "logprob": -2.0}]}
    answer = stream(chunk(delta={"reasoning_content": "pink"}), chunk("A", logprobs={"content": [likely]}), END)
    found, told = asked(stub, answer)
    assert found.value.thinking == "pink" and found.value.tokens == [("A", [("A", -0.1), ("B", -2.0)])]
    assert told[-1] == "<think>pink</think>A"


def test_a_server_that_does_not_stream_or_count_is_asked_all_the_same(stub: JudgeStub) -> None:
    stub.always = says(lambda _: "whole")
    found, told = asked(stub)
    assert found.value.text == "whole" and told == []
    stub.always = None
    stub.faults = [status("400 Bad Request"), sends(lambda _: stream(chunk("yes"), END))]
    stub.requests.clear()
    found, _ = asked(stub)
    assert found.value.text == "yes" and [("stream_options" in b) for b in stub.requests] == [True, False]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (stream(chunk("Half of "), chunk("it")), "the reply broke off, in the middle of the reply"),
        (
            stream(chunk("Half"), {"error": {"message": "out of memory at /srv/x"}}),
            "a failure of its own, in the middle",
        ),
        (stream(chunk("Half"), "{not json"), "no stream of a chat completion, in the middle"),
        (stream({"error": {"message": "busy"}}), "a failure of its own (after 2 attempts)"),
        (http("", "503 Service Unavailable"), "the server answered 503 (after 2 attempts)"),
        (http("<html>", headers=("Content-Encoding: gzip",)), "compressed"),
    ],
)
def test_what_goes_wrong_is_named_and_a_reply_that_was_begun_is_not_begun_again(
    stub: JudgeStub, answer: bytes, reason: str
) -> None:
    found, told = asked(stub, answer)
    assert isinstance(found, Unparsed) and reason in found.reason and "/srv" not in found.reason
    assert len(stub.requests) == (1 if told else 2)


def test_a_key_that_comes_back_is_never_told_of(stub: JudgeStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "EOSIN_API_KEY", KEY)
    pieces = [chunk(KEY[i : i + 3]) for i in range(0, len(KEY), 3)]
    found, told = asked(stub, stream(chunk("You sent "), *pieces, END))
    assert isinstance(found, Unparsed) and "the answer holds the key" in found.reason
    assert told == ["You sent "]
    # what only looks like its beginning is told of with the next word
    found, told = asked(stub, stream(chunk(f"a {KEY[:5]}"), chunk(" b"), END))
    assert told == ["a ", f"a {KEY[:5]} b"] and found.value.text == f"a {KEY[:5]} b"
