from __future__ import annotations

import pytest

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.scoring.reading.answers import gold_letters, parse_answer, parse_answer_set

FOUR = {"A": "tubular adenoma", "B": "villous adenoma", "C": "hyperplastic polyp", "D": "B-cell lymphoma"}


@pytest.mark.parametrize(
    "text",
    [
        "B", "b", "(b)", "B.", "B)", "[B]", " B ", "Answer: B", "The answer is B.", "answer is (B)", "Option B",
        "B. villous adenoma", "B villous adenoma", "(B) villous adenoma", "B: Villous Adenoma.", "villous adenoma",
        "villous adenoma (B)", "VILLOUS  ADENOMA.", "\\boxed{B}", "$\\boxed{\\text{B}}$", "**B**", "\uff22",
        "\uff22\uff0e villous adenoma", "B - villous adenoma", "B, villous adenoma", "B (villous adenoma)",
        "B\nvillous adenoma", "The correct answer is option B", "Final answer: **B. villous adenoma**",
    ],
)  # fmt: skip
def test_strict_reads_b(text: str) -> None:
    assert parse_answer(text, FOUR) == Parsed("B")
    assert parse_answer(text, FOUR, strict=False) == Parsed("B")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty answer"),
        (" . ", "empty answer"),
        ("E", "letter not among the options"),
        ("A, B", "more than one option"),
        ("A and B", "more than one option"),
        ("B or C", "more than one option"),
        ("ABCD", "more than one option"),
        ("A B C D", "more than one option"),
        ("A. tubular adenoma B. villous adenoma", "more than one option"),
        ("tubular adenoma, villous adenoma", "more than one option"),
        ("B. tubular adenoma", "letter and text disagree"),
        ("B. probably", "letter and text disagree"),
        ("adenoma", "not one of the options"),
        ("I do not know", "not one of the options"),
        ("B\u200b", "hidden characters"),
        ("\x00B", "hidden characters"),
        ("\u202eB", "hidden characters"),
        ("\u0412", "not one of the options"),  # Cyrillic letter that looks like B
        ("B" * 5000, "answer too long"),
    ],
)
def test_strict_refuses(text: str, reason: str) -> None:
    assert parse_answer(text, FOUR) == Unparsed(reason)


def test_an_option_text_that_begins_with_a_letter_is_its_own_option() -> None:
    assert parse_answer("B-cell lymphoma", FOUR) == Parsed("D")
    assert parse_answer("T-cell lymphoma", FOUR) == Unparsed("not one of the options")


def test_signs_in_option_texts_are_kept_apart() -> None:
    choices = {"A": "CD20+", "B": "CD20-"}
    assert parse_answer("CD20-", choices) == Parsed("B")
    assert parse_answer("CD20+", choices) == Parsed("A")
    assert parse_answer("CD20", choices) == Unparsed("not one of the options")


def test_blood_groups_are_ambiguous_unless_letter_and_text_agree() -> None:
    choices = {"A": "B", "B": "A", "C": "AB", "D": "O"}
    assert isinstance(parse_answer("A", choices), Unparsed)
    assert parse_answer("A. B", choices) == Parsed("A")
    assert parse_answer("AB", choices) == Parsed("C")
    assert parse_answer("O", choices) == Parsed("D")


def test_any_number_of_options() -> None:
    many = {chr(65 + i): f"option number {i}" for i in range(26)}
    assert parse_answer("Z", many) == Parsed("Z")
    assert parse_answer("option number 25", many) == Parsed("Z")
    assert parse_answer("Q. option number 16", many) == Parsed("Q")
    assert parse_answer("A", {}) == Unparsed("no options")


def test_yes_no_options() -> None:
    assert parse_answer("No", {"A": "Yes", "B": "No"}) == Parsed("B")
    assert parse_answer("yes and no", {"A": "Yes", "B": "No"}) == Unparsed("more than one option")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("I think the answer is B because of the villi", "B"),
        ("After all, villous adenoma fits best", "B"),
        ("B\u200b", "B"),
        ("It shows long villi, so (B).", "B"),
        ("option C, I believe", "C"),
    ],
)
def test_tolerant_reads_more_than_strict(text: str, letter: str) -> None:
    assert isinstance(parse_answer(text, FOUR), Unparsed)
    assert parse_answer(text, FOUR, strict=False) == Parsed(letter)


@pytest.mark.parametrize(
    "text", ["A, B", "A. tubular adenoma B. villous adenoma", "either", "", "The answer is B or C, answer: C"]
)
def test_tolerant_does_not_guess(text: str) -> None:
    assert isinstance(parse_answer(text, FOUR, strict=False), Unparsed)


@pytest.mark.parametrize(
    ("text", "letters"),
    [("A, C", "AC"), ("A and C", "AC"), ("AC", "AC"), ("(A), (C)", "AC"), ("C", "C"), ("tubular adenoma; C", "AC"),
     ("A. tubular adenoma C. hyperplastic polyp", "AC")],
)  # fmt: skip
def test_answer_sets(text: str, letters: str) -> None:
    assert parse_answer_set(text, FOUR) == Parsed(frozenset(letters))


@pytest.mark.parametrize("text", ["A, A", "A, E", "A, nonsense", "", "A, \u200bC"])
def test_answer_sets_refused(text: str) -> None:
    assert isinstance(parse_answer_set(text, FOUR), Unparsed)


def test_gold_letters() -> None:
    assert gold_letters("B", FOUR) == {"B"}
    assert gold_letters("A, C", FOUR) == {"A", "C"}
    assert gold_letters("AC", FOUR) == {"A", "C"}
    assert gold_letters("villous adenoma", FOUR) == {"B"}
    assert gold_letters("F", FOUR) is None
