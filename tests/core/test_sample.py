"""What a Sample refuses, and what it says about itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eosin.core.nouns.prompt import (
    caption_messages,
    gold_answer,
    gold_reply,
    option_lines,
    prompt_messages,
    without_images,
)
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import (
    Choice,
    ImageBytes,
    ImagePart,
    Message,
    Origin,
    Sample,
    TextPart,
    make_choices,
    user_prompt,
)


def _sample(**changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "id": "s",
        "images": (ImageBytes(data=b"x"),),
        "messages": user_prompt("What is it?"),
        "choices": make_choices(["fat", "tumour"]),
        "answer": "B",
        "reasoning": ("Crowded glands.", "This fits tumour."),
        "findings": "Crowded glands.",
        "origin": Origin(source="t"),
    }
    return Sample(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": ""}, "at least 1 character"),
        ({"messages": ()}, "at least 1 item"),
        ({"messages": (Message(role="assistant", parts=()),)}, "user's question"),
        ({"images": ()}, "the sample has 0 images"),
        ({"answer": "C"}, "not among the choices"),
        ({"answer": "tumour"}, "not among the choices"),
        ({"choices": (Choice(letter="B", text="x"),)}, "lettered"),
        ({"choices": make_choices(["Fat", " fat"])}, "same text"),
        ({"split": "holdout"}, "unknown split"),
        ({"colour": "pink"}, "not permitted"),
        ({"extra": {"a": (1, 2)}}, "extra.a"),
        ({"extra": {"a": [1, {"b": float("nan")}]}}, r"extra.a\[1\].b"),
        ({"extra": {"a": object()}}, "not a JSON value"),
    ],
)
def test_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        _sample(**changes)


def test_a_sample_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        _sample().answer = "A"  # type: ignore[misc]


def test_answers_in_words() -> None:
    assert _sample().answer_text == "tumour"
    assert gold_answer(_sample()) == "B. tumour"
    assert gold_answer(_sample(), "text_and_letter") == "tumour (B)"
    opened = _sample(choices=(), answer="a cyst")
    assert (opened.answer_text, gold_answer(opened)) == ("a cyst", "a cyst")
    assert (_sample(answer=None).answer_text, gold_answer(_sample(answer=None))) == (None, "")


@pytest.mark.parametrize(
    ("known", "group"),
    [
        ({"slide": "1", "article": "a"}, "slide:1"),
        ({"case": "c", "slide": "1"}, "case:c"),
        ({"patient": "p", "case": "c"}, "patient:p"),
        ({"article": "a"}, "article:a"),
        ({}, None),
        ({"patient": "", "slide": "2"}, "slide:2"),
    ],
)
def test_the_group_is_the_widest_known_unit(known: dict[str, str], group: str | None) -> None:
    assert Origin(source="t", **known).group == group


def test_json_round_trip_of_bytes() -> None:
    sample = _sample(images=(ImageBytes(data=bytes(range(256))),))
    assert Sample.model_validate_json(sample.model_dump_json()) == sample


def test_question_is_the_last_user_text() -> None:
    first = Message(role="user", parts=(TextPart(text="one"),))
    last = Message(role="user", parts=(TextPart(text="two "), ImagePart(index=0), TextPart(text="three")))
    assert _sample(messages=(first, Message(role="assistant", parts=()), last)).question == "two three"


def test_the_prompt_states_options_and_form_once_and_keeps_images() -> None:
    grammar = Grammar.of("think/answer")
    (message,) = prompt_messages(_sample(), grammar)
    assert [p.type for p in message.parts] == ["image", "text"]
    assert message.text == (
        "What is it?\nA. fat\nB. tumour\nReply in this form: <think>...</think><answer>...</answer>"
    )
    (plain,) = prompt_messages(_sample(), grammar, instruction=False)
    assert plain.text == "What is it?\n" + option_lines(_sample())
    assert without_images((message,))[0].parts == (TextPart(text=message.text),)
    assert "tumour" not in prompt_messages(_sample(choices=(), answer="tumour"), grammar)[0].text


def test_gold_reply_parses_in_its_own_grammar() -> None:
    for name in ("think/answer", "info/think/answer", "observe/think/answer", "answer"):
        grammar = Grammar.of(name)
        parsed = grammar.parse(gold_reply(_sample(), grammar))
        assert parsed.value.answer == "B. tumour"  # type: ignore[union-attr]
        if "/think" in name:
            assert parsed.value.findings == "Crowded glands."  # type: ignore[union-attr]


def test_captions_show_every_image() -> None:
    two = _sample(images=(ImageBytes(data=b"x"), ImageBytes(data=b"y")))
    (message,) = caption_messages(two)
    assert [p.type for p in message.parts] == ["image", "image", "text"]
