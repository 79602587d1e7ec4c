"""How a sample is asked and how its gold reply is written. Training, RL, exams and serving all use this."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from eosin.core.nouns.reply import Grammar, OptionStyle
from eosin.core.nouns.sample import ImagePart, Message, Part, Sample, TextPart

CAPTION_PROMPT = "Describe this image."
REJECTED = "rejected"
"""Key of `Sample.extra` under which the reply stands that an expert put right: beside the gold reply, a pair."""
AnswerForm = Literal["letter_and_text", "text_and_letter", "text", "letter"]


class PromptSettings(BaseModel):
    """How questions are put and how gold answers are written.

    Attributes:
        instruction: state the form of the reply in every prompt.
        answer: what the gold answer block of a closed question holds: "B. tubular adenoma", "tubular adenoma (B)",
            "tubular adenoma" or "B". Options are shuffled for every sample, so that a letter must be looked up in the
            prompt: a small model trained from nothing does not learn that in a short run, and is taught the text.
            With the text first, the letter is looked up once the text is written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instruction: bool = True
    answer: AnswerForm = "letter_and_text"


_FORMS = {"A.": "{0}. {1}", "A)": "{0}) {1}", "(A)": "({0}) {1}", "words": "- {1}"}
_PLAIN_PAIR = {"yes", "no"}


def option_lines(sample: Sample, style: OptionStyle = "A.") -> str:
    """The options, one a line: "A. normal mucosa". In words, yes and no need no lines at all."""
    if style == "words" and {c.text.strip().casefold() for c in sample.choices} == _PLAIN_PAIR:
        return ""
    return "\n".join(_FORMS[style].format(c.letter, c.text) for c in sample.choices)


def prompt_messages(sample: Sample, grammar: Grammar, *, instruction: bool = True) -> tuple[Message, ...]:
    """The dialogue as it is put to a model: question, options, and what form the reply takes.

    Args:
        grammar: the reply grammar that the instruction states.
        instruction: whether to state it (a small model trained on one form does not need it).
    """
    *earlier, last = sample.messages
    tail = ""
    if lines := option_lines(sample, grammar.options):
        tail += "\n" + lines
    if instruction:
        tail += "\n" + grammar.instruction()
    parts = (*last.parts, TextPart(text=tail)) if tail else last.parts
    return (*earlier, Message(role="user", parts=_merge_text(parts)))


def asked_otherwise(
    sample: Sample, questions: Sequence[str] | None, earlier_turns: Sequence[tuple[str, str]], seed: int
) -> Sample:
    """The same item in other words, and after other turns of a dialogue. Its images come first.

    Args:
        questions: wordings, one of which (seeded by the sample's id) takes the place of the text of its last message.
        earlier_turns: questions and replies that stand before it.
    """
    *earlier, last = sample.messages
    images = [p for m in sample.messages for p in m.parts if isinstance(p, ImagePart)]
    texts: list[Part] = [p for p in last.parts if isinstance(p, TextPart)]
    if questions:
        drawn = hashlib.sha256(f"{seed}:{sample.id}".encode()).digest()
        texts = [TextPart(text=questions[int.from_bytes(drawn[:8], "big") % len(questions)])]
    messages = (*(_text_alone(m) for m in earlier), Message(role="user", parts=tuple(texts)))
    for asked, replied in reversed(earlier_turns):
        before = Message(role="user", parts=(TextPart(text=asked),))
        messages = (before, Message(role="assistant", parts=(TextPart(text=replied),)), *messages)
    place = next(i for i, m in enumerate(messages) if m.role == "user")
    shown = messages[place].model_copy(update={"parts": (*images, *messages[place].parts)})
    return sample.model_copy(update={"messages": (*messages[:place], shown, *messages[place + 1 :])})


def _text_alone(message: Message) -> Message:
    return message.model_copy(update={"parts": tuple(p for p in message.parts if isinstance(p, TextPart))})


def without_images(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same dialogue with its images taken out, for the question-only probe."""
    return tuple(
        Message(role=m.role, parts=tuple(p for p in m.parts if not isinstance(p, ImagePart))) for m in messages
    )


def gold_answer(sample: Sample, form: AnswerForm = "letter_and_text") -> str:
    """The right answer as a reply states it: "B. tubular adenoma", or the open answer."""
    if sample.answer is None:
        return ""
    if not sample.choices or form == "letter":
        return sample.answer
    forms = {"letter_and_text": "{0}. {1}", "text_and_letter": "{1} ({0})", "text": "{1}"}
    return forms[form].format(sample.answer, sample.answer_text)


def gold_reply(sample: Sample, grammar: Grammar, form: AnswerForm = "letter_and_text") -> str:
    """The gold reply of a sample in the given grammar. Blocks without gold text stay empty."""
    blocks = dict.fromkeys(grammar.tags, "")
    if "think" in blocks:
        blocks["think"] = grammar.join_steps(sample.reasoning)
    if grammar.findings_tag is not None:
        blocks[grammar.findings_tag] = sample.findings or ""
    blocks["answer"] = gold_answer(sample, form)
    return grammar.render(blocks)


def caption_messages(sample: Sample) -> tuple[Message, ...]:
    """The prompt of continued pretraining: every image, then a fixed request."""
    parts: list[Part] = [ImagePart(index=i) for i in range(len(sample.images))]
    parts.append(TextPart(text=CAPTION_PROMPT))
    return (Message(role="user", parts=tuple(parts)),)


def _merge_text(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, TextPart) and merged and isinstance(merged[-1], TextPart):
            merged[-1] = TextPart(text=merged[-1].text + part.text)
        else:
            merged.append(part)
    return tuple(merged)
