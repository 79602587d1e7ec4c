"""Probabilities of options behind a server: by its tokens, and by drawn replies where it gives none."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.chat_server import ChatServer, by_reply, serving

from eosin.clients.completion import read_tokens
from eosin.clients.settings import ServerSettings
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Origin, Sample, make_choices, user_prompt
from eosin.core.settings.exam import ExamSettings
from eosin.core.store import artifacts as store
from eosin.engines.base import Decoding, Generation, Request
from eosin.engines.server_engine import ServerEngine
from eosin.evaluate.exam.exam import run_exam
from eosin.evaluate.exam.token_probabilities import option_begun, token_probabilities

GRAMMAR = Grammar.of("think/answer")
SETTINGS = ExamSettings(probes=[], bootstrap=100, option_probabilities=True)


def question(number: int, options: tuple[str, ...] = ("tumour", "stroma", "mucosa")) -> Sample:
    return Sample(
        id=f"q{number}", images=(), messages=user_prompt(f"Which tissue is tile {number}?", 0),
        choices=make_choices(options), answer="AB"[number % 2], origin=Origin(source="made", case=f"c{number}"),
    )  # fmt: skip


def likely(*pairs: tuple[str, float]) -> list[tuple[str, float]]:
    return [(token, math.log(p)) for token, p in pairs]


def alone(*texts: str) -> list[tuple[str, list[tuple[str, float]]]]:
    return [(t, [(t, -0.1)]) for t in texts]


def test_the_place_of_the_answer_gives_the_shares() -> None:
    """0.5 + 0.1 for B in two spellings, 0.2 for A, 0.2 for no option: 0.25 and 0.75."""
    place = ("B", likely(("B", 0.5), (" B", 0.1), ("A", 0.2), ("The", 0.2)))
    reply = [*alone("<think>", "A", " or", " B", "</think>", "<answer>"), place, *alone(".", " stroma", "</answer>")]
    assert token_probabilities(reply, question(0), "B") == pytest.approx({"A": 0.25, "B": 0.75, "C": 0.0})
    whole = [("(", [("(", -0.1)]), ("B", likely(("B", 0.9), ("C", 0.1)))]
    assert token_probabilities(whole, question(0), "B") == pytest.approx({"A": 0, "B": 0.9, "C": 0.1})
    words = [*alone("Answer:"), (" str", likely((" str", 0.6), (" tum", 0.3), ("I", 0.1)))]
    assert token_probabilities(words, question(0), "B") == pytest.approx({"A": 1 / 3, "B": 2 / 3, "C": 0})


def test_what_is_not_clear_gives_none() -> None:
    assert token_probabilities(alone("<answer>", "It", " is", " B"), question(0), "B") is None
    assert token_probabilities(alone("A"), question(0), "B") is None  # the reader saw another answer
    assert token_probabilities(alone("B"), question(0), None) is None
    assert token_probabilities([], question(0), "B") is None
    shared = question(0, ("stroma, loose", "stroma, dense"))
    assert token_probabilities(alone("<answer>", "stroma", ", dense"), shared, "B") is None
    assert option_begun("a", {"A": "yes", "B": "no"}) is None  # an article, perhaps
    assert option_begun(" Yes", {"A": "yes", "B": "no"}) == "A" and option_begun("(B)", {"A": "y", "B": "n"}) == "B"


WRONG: list[Any] = [
    None, {}, {"content": None}, {"content": [{"token": "A"}]}, {"content": []},
    {"content": [{"token": "A", "logprob": 0.5, "top_logprobs": []}]},
    {"content": [{"token": "A", "logprob": float("nan"), "top_logprobs": []}]},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_tokens_that_cannot_be_true_are_none(wrong: Any) -> None:
    assert read_tokens(wrong) is None


def test_the_token_itself_is_among_the_likely_ones_once() -> None:
    top = [{"token": "B", "logprob": -0.7}, {"token": "A", "logprob": -0.8}]
    assert read_tokens({"content": [{"token": "B", "logprob": -0.7, "top_logprobs": top}]}) == [
        ("B", [("B", -0.7), ("A", -0.8)])
    ]
    rare = {"content": [{"token": "C", "logprob": -9.0, "top_logprobs": top}]}
    assert read_tokens(rare) == [("C", [("C", -9.0), ("B", -0.7), ("A", -0.8)])]


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(by_reply(lambda request: "<think>seen</think><answer>B</answer>")) as made:
        yield made


def tokens_of(text: str) -> list[dict[str, Any]]:
    """B is 0.8 probable, A 0.2; every other token is certain."""
    found = []
    for token in re.findall(r"<[^>]*>|\w+|.", text):
        others = [("B", 0.8), ("A", 0.2)] if token == "B" else [(token, 1.0)]
        top = [{"token": t, "logprob": math.log(p)} for t, p in others]
        found.append({"token": token, "logprob": top[0]["logprob"], "top_logprobs": top})
    return found


def exam(server: ChatServer, place: Path, **more: Any) -> dict[str, Any]:
    engine = ServerEngine(ServerSettings(server.url, "tiny", backoff_s=0.01, concurrency=4), place / "answers")
    settings = SETTINGS.model_copy(update=more)
    return run_exam(engine, [question(i) for i in range(10)], GRAMMAR, settings, place / "exam")


def test_a_server_that_gives_token_probabilities(server: ChatServer, tmp_path: Path) -> None:
    server.logprobs = tokens_of
    summary = exam(server, tmp_path)
    rows = store.read_jsonl(tmp_path / "exam" / "options.jsonl")
    assert len(rows) == len(server.bodies) == 10
    assert rows[0]["probabilities"] == pytest.approx({"A": 0.2, "B": 0.8, "C": 0.0})
    found = summary["calibration"]
    assert found["found_by"] == "token probabilities of the server" and found["num_left_out"] == 0
    assert found["mean_confidence"] == pytest.approx(0.8) and summary["accuracy"] == 0.5
    assert found["brier_over_options"] == pytest.approx(0.5 * (2 * 0.2**2) + 0.5 * (2 * 0.8**2))
    assert all(b["top_logprobs"] == 20 for b in server.bodies)
    again = exam(server, tmp_path / "again", option_probabilities=False)  # another question: without probabilities
    assert again["n"] == 10 and "calibration" not in again and "logprobs" not in server.bodies[-1]


def test_one_that_refuses_them_is_asked_without_and_draws_stand_instead(server: ChatServer, tmp_path: Path) -> None:
    """Of eight draws a question six say B, two A."""
    server.refuse = lambda body: 400 if "logprobs" in body else None
    drawn: dict[str, int] = {}

    def answer(request: Request, decoding: Decoding) -> Generation:
        name = str(request.messages)
        if decoding.temperature == 0:
            return Generation("asked", "<think>seen</think><answer>B</answer>", 3, False)
        drawn[name] = drawn.get(name, 0) + 1
        said = "A" if drawn[name] <= 2 else "B"
        return Generation("asked", f"<think>seen</think><answer>{said}</answer>", 3, False)

    server.answer = answer
    summary = exam(server, tmp_path)
    rows = store.read_jsonl(tmp_path / "exam" / "options.jsonl")
    assert [r["probabilities"] for r in rows] == [pytest.approx({"A": 0.25, "B": 0.75, "C": 0})] * 10
    assert summary["calibration"]["found_by"] == "shares of 8 sampled replies"
    refused = sum("logprobs" in b for b in server.bodies)
    assert 1 <= refused <= 8 and len(server.answered) == 90  # once it is known, it is not tried again
