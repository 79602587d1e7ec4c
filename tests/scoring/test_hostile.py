"""Whatever the reply is: a typed outcome, never an exception, and time that grows with length only."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.core.nouns.sample import Entity
from eosin.scoring import RewardSet, ScoreItem, item_from_row, load_rewards, parse_answer, parse_answer_set, set_names
from eosin.scoring.judge.checklist import without_orders
from eosin.scoring.reading.quantities import parse_quantity, parse_yes_no
from eosin.scoring.reading.tolerant import read_tolerant

CHOICES = {"A": "necrosis", "B": "mucin", "C": "normal mucosal glands"}
PIECES = [
    "<think>", "</think>", "<answer>", "</answer>", "<observe>", "</observe>", "A", "B.", "necrosis", "no", "not",
    "without", ",", "\x00", "\u202e", "\u200b", "\ud800", "\\boxed{", "}", "((((", "*", "score 1.0", "8/10", "\n", " ",
    "腺", "é", "e\u0301",
]  # fmt: skip
ALL: list[RewardSet] = [
    load_rewards(name, grammar, max_tokens=64)
    for name in set_names()
    for grammar in ("think/answer", "observe/think/answer")
]


def make(reply: str, **more: Any) -> ScoreItem:
    return ScoreItem(
        id="1", reply=reply, question="What is seen?", choices=CHOICES, answer="B", num_tokens=10,
        entities=(Entity(name="gland"), Entity(name="atypia", polarity="absent")), **more,
    )  # fmt: skip


def check(reply: str, rewards: RewardSet) -> None:
    outcome = rewards.score(make(reply))
    low, high = rewards.minimum - 1e-9, rewards.maximum + 1e-9
    assert outcome.total is None or (math.isfinite(outcome.total) and low <= outcome.total <= high)
    assert set(outcome.terms) == set(rewards.names)
    assert {n for n, v in outcome.terms.items() if v is None} == set(outcome.unscored)
    assert all("failed" not in reason for reason in outcome.unscored.values()), outcome.unscored
    json.dumps(outcome.as_row("1"))


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@settings(max_examples=80, deadline=None)
def test_pieces_of_replies(reply: str) -> None:
    for rewards in ALL:
        check(reply, rewards)


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_in_the_answer(text: str) -> None:
    for read in (parse_answer, parse_answer_set, read_tolerant):
        assert isinstance(read(text, CHOICES), Parsed | Unparsed)
    assert isinstance(parse_yes_no(text), Parsed | Unparsed)
    assert isinstance(parse_quantity(text), Parsed | Unparsed)
    check(f"<think>x</think><answer>{text}</answer>", ALL[0])


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANY_JSON = st.recursive(
    PLAIN, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3), max_leaves=8
)


@given(ANY_JSON)
@settings(max_examples=80, deadline=None)
def test_any_json_as_a_row(value: Any) -> None:
    assert isinstance(item_from_row(value), Parsed | Unparsed)
    keys = (
        "id",
        "reply",
        "question",
        "choices",
        "answer",
        "reference",
        "entities",
        "image",
        "num_tokens",
        "truncated",
        "extra",
    )
    good = {"id": "1", "reply": "x"}
    for key in keys:
        made = item_from_row(good | {key: value})
        assert isinstance(made, Parsed | Unparsed)
        if isinstance(made, Parsed):
            load_rewards("eosin").score(made.value)


@given(st.permutations(["A", "B", "C"]), st.sampled_from([0, 1, 2]))
def test_the_option_order_does_not_matter_to_accuracy(order: list[str], pick: int) -> None:
    texts = [CHOICES[c] for c in order]
    choices = {chr(65 + i): t for i, t in enumerate(texts)}
    letter = chr(65 + pick)
    for answer in (letter, texts[pick], f"{letter}. {texts[pick]}"):
        assert parse_answer(answer, choices) == Parsed(letter)


@given(st.sampled_from(sorted(CHOICES)), st.sampled_from(sorted(CHOICES)))
def test_two_letters_are_never_an_answer(a: str, b: str) -> None:
    for joined in (f"{a}, {b}", f"{a} and {b}", f"{a} or {b}", f"{a}/{b}", f"({a}) ({b})", f"{a}. {b}."):
        assert isinstance(parse_answer(joined, CHOICES), Unparsed), joined


MIB = 1_000_000
LONG = {
    "one letter": "a" * MIB,
    "spaces": " " * MIB,
    "brackets": "(" * MIB,
    "braces": "\\boxed{" * (MIB // 7),
    "open tags": "<think>" * (MIB // 7),
    "half tags": "<" * MIB,
    "tags in turn": "<think></think><answer></answer>" * (MIB // 33),
    "no no no": "no " * (MIB // 3),
    "no x,": "no necrosis, " * (MIB // 13),
    "commas": "," * MIB,
    "points": ". " * (MIB // 2),
    "letters": "A, " * (MIB // 3),
    "options": "necrosis " * (MIB // 9),
    "lexicon names": "squamous cell " * (MIB // 14),
    "digits": "9" * MIB,
    "answer is": "answer is " * (MIB // 10),
    "ignore": "ignore " * (MIB // 7),
    "zero width": "\u200b" * MIB,
    "combining": "e" + "\u0301" * MIB,
    "quotes": "\"'" * (MIB // 2),
    "numbered": "1. \n" * (MIB // 4),
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("shape", ["{}", "<think>{}</think><answer>B</answer>", "<think>x</think><answer>{}</answer>"])
def test_a_million_characters(name: str, shape: str) -> None:
    reply = shape.replace("{}", LONG[name])
    check(reply, EVERY_TERM)
    assert isinstance(without_orders(reply)[0], str)


@pytest.mark.parametrize("name", ["no x,", "no no no", "lexicon names", "commas"])
def test_linking_a_quarter_of_a_million_characters(name: str) -> None:
    """Scoring does not look for names in so long a block; the linker itself copes all the same."""
    text = LONG[name][: LONG[name].rfind(",", 0, MIB // 4) + 1 or MIB // 4]  # no name is cut
    mentions = EVERY_TERM.resources.links.link(text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(mentions))
    assert len(mentions) == text.count("necrosis") + text.count("squamous cell")


EVERY_TERM = load_rewards(
    ["format", "accuracy", "entities", "process", "checklist", "semantic", "length", "repetition", "language"],
    max_tokens=64,
)


def test_ten_megabytes_are_not_read() -> None:
    outcome = EVERY_TERM.score(make("x" * 10_000_000))
    assert outcome.total is None
    assert set(outcome.unscored.values()) == {"reply too long to be a completion"}


def test_a_thousand_tags() -> None:
    outcome = EVERY_TERM.score(make("<think>a</think><answer>B</answer>" * 1000))
    assert (outcome.terms["format"], outcome.terms["accuracy"]) == (0.0, 0.0)
