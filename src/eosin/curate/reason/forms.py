"""What a teacher answers in: one strict form a kind of task, and how it becomes a sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from eosin.core.nouns.sample import ImagePart, Message, Part, Sample, TextPart, make_choices, user_prompt

Text = Annotated[str, Field(min_length=1, max_length=6000)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    ref: str
    steps: list[Text] = Field(min_length=1, max_length=40)


class MultipleChoice(_Form):
    """A question with options; `answer` is the letter of the right one."""

    question: Text
    options: list[Text] = Field(min_length=2, max_length=8)
    answer: str = Field(pattern=r"^[A-H]$")


class Description(_Form):
    answer: Text


class Reasoning(_Form):
    question: Text
    answer: Text


class Turn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    question: Text
    answer: Text


class Dialogue(_Form):
    turns: list[Turn] = Field(min_length=2, max_length=4)


class Solved(BaseModel):
    """The second call: the letter that the steps lead to, or "none"."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ref: str
    answer: str = Field(pattern=r"^([A-H]|none)$")


class Follows(BaseModel):
    """The second call where there are no options: whether the steps lead to the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ref: str
    follows: bool


FORMS: dict[str, type[_Form]] = {
    "multiple_choice": MultipleChoice, "description": Description, "reasoning": Reasoning, "dialogue": Dialogue,
}  # fmt: skip
_DESCRIBE = "Describe this picture in detail."


def same_reference(ref: str) -> Callable[[Any], str | None]:
    """Says what is wrong with an answer that belongs to another question."""
    return lambda form: None if form.ref == ref else "the answer is to another question"


def fields_of(form: Any, sample: Sample) -> dict[str, Any] | str:
    """Messages, choices, answer and reasoning of a new sample; a text says why there are none."""
    steps = tuple(" ".join(s.split()) for s in form.steps)
    n = len(sample.images)
    if isinstance(form, Description):
        return {"messages": user_prompt(_DESCRIBE, n), "choices": (), "answer": form.answer.strip(), "reasoning": steps}
    if isinstance(form, Dialogue):
        last = form.turns[-1]
        return {"messages": _turns(form.turns, n), "choices": (), "answer": last.answer.strip(), "reasoning": steps}
    if isinstance(form, MultipleChoice):
        return _choice_fields(form, sample, steps)
    asked = user_prompt(form.question.strip(), n)
    return {"messages": asked, "choices": (), "answer": form.answer.strip(), "reasoning": steps}


def _choice_fields(form: MultipleChoice, sample: Sample, steps: tuple[str, ...]) -> dict[str, Any] | str:
    if sample.choices and sample.answer is not None:
        if form.answer != sample.answer:
            return "the answer is not the known one"
        return {"messages": sample.messages, "choices": sample.choices, "answer": sample.answer, "reasoning": steps}
    options = [o.strip() for o in form.options]
    if len({o.casefold() for o in options}) < len(options):
        return "two options are the same"
    if ord(form.answer) - ord("A") >= len(options):
        return "the answer is none of the options"
    asked = user_prompt(form.question.strip(), len(sample.images))
    return {"messages": asked, "choices": make_choices(options), "answer": form.answer, "reasoning": steps}


def _turns(turns: Sequence[Turn], num_images: int) -> tuple[Message, ...]:
    """Earlier turns and the last question; the pictures stand before the first one."""
    made: list[Message] = []
    for k, turn in enumerate(turns):
        parts: list[Part] = [ImagePart(index=i) for i in range(num_images)] if k == 0 else []
        made.append(Message(role="user", parts=(*parts, TextPart(text=turn.question.strip()))))
        if k < len(turns) - 1:
            made.append(Message(role="assistant", parts=(TextPart(text=turn.answer.strip()),)))
    return tuple(made)
