"""Samples as dialogues that other trainers read, and dialogues of others as samples.

A row of ours carries the whole sample under one more key, with a digest of the visible dialogue. Reading back
gives the equal sample; a row whose visible part was changed by another program is Dropped, because two
versions of one sample would stand in it. Without that key a row is foreign, and its dialogue is the sample.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats.rows import STEP, Outcome, dump_without_bytes, make_sample, put_bytes_back
from eosin.core.nouns.outcome import Dropped, Parsed
from eosin.core.nouns.prompt import gold_reply, prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImagePart, Message, Sample, TextPart

OUR_KEY = "eosin"
DEFAULT_GRAMMAR = Grammar.of("think/answer")
_GRAMMARS = tuple(Grammar.of(n) for n in ("think/answer", "info/think/answer", "observe/think/answer"))
_UNITS = ("patient", "case", "slide", "article")

Turn = tuple[str, tuple[str | None, ...]]  # role, parts; None stands for an image


class BadRowError(Exception):
    """A foreign row that cannot become a sample. Arguments: reason, detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def turns_of(sample: Sample, grammar: Grammar, *, instruction: bool = True) -> tuple[list[Message], str | None]:
    """The prompt with options as it is put to a model, and the gold reply (None where no answer is known).

    Raises:
        EosinError: a text of the sample holds a tag of the grammar.
    """
    prompt = list(prompt_messages(sample, grammar, instruction=instruction))
    if sample.answer is None:
        return prompt, None
    try:
        return prompt, gold_reply(sample, grammar)
    except EosinError as exc:
        raise EosinError(
            f"Sample {sample.id} cannot be written as a dialogue: {exc.message}", found=exc.found,
            where=sample.id,
            next_step="take the tag out of the sample's text, or choose another grammar",
        ) from None  # fmt: skip


def shown_indices(messages: Sequence[Message]) -> list[int]:
    """Numbers of the images in the order in which the dialogue shows them."""
    return [p.index for m in messages for p in m.parts if isinstance(p, ImagePart)]


def seal(sample: Sample, turns: Sequence[Turn]) -> dict[str, Any]:
    """What our key holds: the sample without its image bytes, and the digest of the visible turns."""
    return {"sample": dump_without_bytes(sample), "turns_sha256": _digest(turns)}


def _digest(turns: Sequence[Turn]) -> str:
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode("utf-8")).hexdigest()


def unseal(sealed: Any, turns: Sequence[Turn], blobs: Sequence[bytes | None], place: str) -> Outcome:
    """The sample of a row of ours. `blobs[i]` is the encoded image number i of the sample, where known."""
    try:
        sealed = json.loads(sealed) if isinstance(sealed, str) else sealed
        name = str(sealed["sample"].get("id") or place)
        if sealed["turns_sha256"] != _digest(turns):
            detail = f"remove the key {OUR_KEY!r} from the row to read its dialogue as it now stands"
            return Dropped(name, "row changed by another program", detail, STEP)
        fields = put_bytes_back(sealed["sample"], blobs)
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        return Dropped(place, "row damaged", f"{type(exc).__name__}: {exc}"[:200], STEP)
    return make_sample(fields, place)


def foreign_sample(
    row: Mapping[str, Any],
    turns: Sequence[Turn],
    images: Sequence[Mapping[str, Any]],
    *,
    place: str,
    source: str,
    known_keys: Sequence[str],
) -> Outcome:
    """A sample of another program's dialogue.

    Args:
        images: image references as JSON values, in the order in which the turns show them.
        source: name of the data set, for `Origin.source`.
        known_keys: keys of the row that are not kept in `Sample.extra`.
    """
    prompt, reply = _cut_reply(turns)
    fields: dict[str, Any] = {
        "id": str(row.get("id") or place),
        "images": list(images),
        "messages": _messages(prompt, len(images)),
        "origin": {"source": source, **{k: str(row[k]) for k in _UNITS if row.get(k) not in (None, "")}},
        "extra": {k: v for k, v in row.items() if k not in (*known_keys, "id", "split", *_UNITS)},
    }
    if row.get("split") in ("train", "valid", "test"):
        fields["split"] = row["split"]
    if reply is not None:
        fields |= _read_reply(reply)
    return make_sample(fields, place)


def _cut_reply(turns: Sequence[Turn]) -> tuple[Sequence[Turn], str | None]:
    if not turns:
        raise BadRowError("no dialogue")
    role, parts = turns[-1]
    if role != "assistant":
        return turns, None
    if len(turns) == 1:
        raise BadRowError("no question")
    return turns[:-1], "".join(p for p in parts if p is not None)


def _messages(turns: Sequence[Turn], num_images: int) -> list[Message]:
    num_places = sum(p is None for _, parts in turns for p in parts)
    if num_places == 0 and num_images:
        first = next((i for i, (role, _) in enumerate(turns) if role == "user"), None)
        if first is None:
            raise BadRowError("no question")
        role, parts = turns[first]
        turns = [*turns[:first], (role, (None,) * num_images + parts), *turns[first + 1 :]]
    elif num_places != num_images:
        raise BadRowError("image places and images differ", f"{num_places} places, {num_images} images")
    messages, index = [], 0
    for role, parts in turns:
        made: list[ImagePart | TextPart] = []
        for part in parts:
            if part is None:
                made.append(ImagePart(index=index))
                index += 1
            elif part:
                made.append(TextPart(text=part))
        messages.append(Message.model_validate({"role": role, "parts": made}))
    return messages


def _read_reply(reply: str) -> dict[str, Any]:
    for grammar in _GRAMMARS:
        parsed = grammar.parse(reply)
        if isinstance(parsed, Parsed):
            blocks = parsed.value
            return {
                "answer": blocks.answer,
                "reasoning": grammar.split_steps(blocks.think),
                "findings": blocks.findings or None,
            }
    return {"answer": reply.strip()}
