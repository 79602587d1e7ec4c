"""A table of reply shapes with readings set by hand, strict and tolerant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.reply import Grammar
from eosin.scoring.reading.answers import parse_answer

TABLE: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("reply_shapes.yaml").read_text("utf-8"))
GRAMMARS = {
    "reply": Grammar.of("think/answer"), "bare": Grammar.of("answer", bare="whole"),
    "line": Grammar.of("answer", bare="last line"),
}  # fmt: skip
SHAPES = [(g["kind"], g["options"], g["form"], *shape) for g in TABLE["groups"] for shape in g["shapes"]]


def read(text: str, options: str, form: str, *, strict: bool) -> str | None:
    """The letter that a reply names, or None."""
    choices = {chr(65 + i): t for i, t in enumerate(TABLE["options"][options])}
    if form != "answer":
        grammar = GRAMMARS[form]
        blocks = grammar.parse(text) if strict else grammar.parse_tolerant(text)
        if not isinstance(blocks, Parsed):
            return None
        text = blocks.value.answer
    found = parse_answer(text, choices, strict=strict)
    return found.value if isinstance(found, Parsed) else None


def test_the_table_is_large_and_says_nothing_twice() -> None:
    assert len(SHAPES) >= 300
    keys = [s[1:4] for s in SHAPES]
    assert len(set(keys)) == len(keys)
    kinds = {g["kind"] for g in TABLE["groups"]}
    assert len(kinds) >= 20


@pytest.mark.parametrize("group", TABLE["groups"], ids=lambda g: g["kind"].replace(" ", "-"))
def test_every_shape_is_read_as_its_hand_set_reading(group: dict[str, Any]) -> None:
    wrong = []
    for text, strict, tolerant in group["shapes"]:
        found = tuple(read(text, group["options"], group["form"], strict=s) for s in (True, False))
        if found != (strict, tolerant):
            wrong.append(f"{text!r}: read {found}, hand-set {(strict, tolerant)}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_what_the_strict_reader_takes_the_tolerant_one_takes_too() -> None:
    for _, options, form, text, *_ in SHAPES:
        strict = read(text, options, form, strict=True)
        assert strict is None or read(text, options, form, strict=False) == strict, text
