"""Every line of cases.yaml, the hand-computed table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from eosin.core.nouns.outcome import Parsed, Scored, Unparsed, Unscored
from eosin.core.nouns.reply import Grammar
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.words import words_of
from eosin.scoring import ScoreItem, load_rewards, parse_answer, parse_answer_set
from eosin.scoring.reading.quantities import parse_quantity, parse_yes_no, same_quantity
from eosin.scoring.reading.text import foreign_share
from eosin.scoring.sets.compose import RewardSet, Weighted
from eosin.scoring.terms.base import ScoreContext, Term
from eosin.scoring.terms.entities import dice_hard, dice_hardened, dice_published
from eosin.scoring.terms.process import checklist_score
from eosin.scoring.terms.semantic import token_f1
from eosin.scoring.terms.shape import repetition_share, soft_overlong

CASES: dict[str, list[Any]] = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text("utf-8"))


def cases(area: str) -> Any:
    return pytest.mark.parametrize("case", CASES[area], ids=[f"{area}{i}" for i in range(len(CASES[area]))])


def test_the_table_is_large_enough() -> None:
    assert sum(len(v) for v in CASES.values()) >= 150


def choices(texts: list[str]) -> dict[str, str]:
    return {chr(65 + i): t for i, t in enumerate(texts)}


def same(outcome: Parsed[Any] | Unparsed, expected: str) -> bool:
    if expected.startswith("!"):
        return isinstance(outcome, Unparsed) and outcome.reason == expected[1:]
    return isinstance(outcome, Parsed) and outcome.value == expected


@cases("answer")
def test_answer(case: Any) -> None:
    text, options, expected = case
    assert same(parse_answer(text, choices(options)), expected)


@cases("tolerant")
def test_tolerant(case: Any) -> None:
    text, options, expected = case
    assert same(parse_answer(text, choices(options), strict=False), expected)


@cases("answer_set")
def test_answer_set(case: Any) -> None:
    text, options, expected = case
    found = parse_answer_set(text, choices(options))
    assert same(Parsed(", ".join(sorted(found.value))) if isinstance(found, Parsed) else found, expected)


@cases("yes_no")
def test_yes_no(case: Any) -> None:
    found = parse_yes_no(case[0])
    assert same(Parsed("yes" if found.value else "no") if isinstance(found, Parsed) else found, case[1])


@cases("quantity")
def test_quantity(case: Any) -> None:
    a, b = parse_quantity(case[0]), parse_quantity(case[1])
    if case[2].startswith("!"):
        assert a == Unparsed(case[2][1:])
    else:
        assert isinstance(a, Parsed) and isinstance(b, Parsed)
        assert same_quantity(a.value, b.value) == (case[2] == "same")


@cases("accuracy")
def test_open_accuracy(case: Any) -> None:
    gold, answer, expected = case
    item = ScoreItem(id="1", reply=f"<think>x</think><answer>{answer}</answer>", answer=gold)
    assert load_rewards("accuracy").score(item).total == expected


@cases("format")
def test_format(case: Any) -> None:
    name, reply, expected, reason = case
    grammar = Grammar.of(name.removeprefix("numbered "), numbered_steps=name.startswith("numbered"))
    outcome = load_rewards("format", grammar).score(ScoreItem(id="1", reply=reply))
    assert outcome.total == expected
    assert outcome.events.get("format", {}).get("reason", "") == reason


@cases("findings")
def test_findings(case: Any) -> None:
    linker = Linker.builtin()
    found = [("" if m.present else "no ") + m.label + "?" * m.possible for m in linker.link(case[0])]
    assert found == case[1]


def close(a: float | None, b: float | None) -> bool:
    return a is None and b is None if a is None or b is None else math.isclose(a, b, abs_tol=1e-9)


@cases("dice_hard")
def test_dice_hard(case: Any) -> None:
    assert close(dice_hard(case[0], case[1]), case[2])


@cases("dice_published")
def test_dice_published(case: Any) -> None:
    found, gold, sim, beta, expected = case
    assert close(dice_published(found, gold, lambda a, b: 1.0 if a == b else sim, beta=beta), expected)


def signed(names: list[str]) -> list[tuple[str, str]]:
    return [(n.removeprefix("no "), "absent" if n.startswith("no ") else "present") for n in names]


@cases("dice_hardened")
def test_dice_hardened(case: Any) -> None:
    found, gold, sim, beta, expected = case
    value = dice_hardened(signed(found), signed(gold), lambda a, b: 1.0 if a == b else sim, beta=beta, floor=0.8)
    assert close(value, expected)


@cases("checklist")
def test_checklist(case: Any) -> None:
    assert close(checklist_score(case[0], case[1]), case[2])


@cases("overlong")
def test_overlong(case: Any) -> None:
    assert close(soft_overlong(*case[:3]), case[3])


@cases("repetition")
def test_repetition(case: Any) -> None:
    assert close(repetition_share(words_of(case[0]), case[1]), case[2])


@cases("foreign")
def test_foreign(case: Any) -> None:
    assert close(foreign_share(case[0]), case[1])


@cases("token_f1")
def test_token_f1(case: Any) -> None:
    assert close(token_f1(case[0], case[1], Linker.builtin()), case[2])


class Fixed(Term):
    value: float | None

    def score(self, context: ScoreContext) -> Scored | Unscored:
        return Unscored("not there") if self.value is None else Scored(self.value)


@cases("total")
def test_total(case: Any) -> None:
    weights, gate, values, expected = case
    parts = tuple(
        Weighted(n, Fixed(value=None if values[n] == "x" else values[n]), float(w)) for n, w in weights.items()
    )
    rewards = RewardSet("test", parts, Grammar.of("think/answer"), gate=gate)
    assert close(rewards.score(ScoreItem(id="1", reply="")).total, expected)
