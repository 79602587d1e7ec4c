"""Samples as dialogues that other trainers read, and dialogues of others as samples.

A row of ours carries the whole sample under one more key, with a digest of the visible dialogue. Reading back
gives the equal sample; a row whose visible part was changed by another program is Dropped, because two
versions of one sample would stand in it. Without that key a row is foreign, and its dialogue is the sample.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.formats.options import OPTIONS_KEY, with_options
from eosin.core.formats.rows import BadRowError, Outcome, dump_without_bytes, make_sample, put_bytes_back, row_id
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.prompt import gold_reply, prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImagePart, Message, Sample, TextPart

OUR_KEY = "eosin"
DEFAULT_GRAMMAR = Grammar.of("think/answer")
_GRAMMARS = tuple(Grammar.of(n) for n in ("think/answer", "info/think/answer", "observe/think/answer"))
_TAGS = re.compile(r"</?(?:" + "|".join(sorted({t for g in _GRAMMARS for t in g.tags})) + ")>")
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.+)", re.DOTALL)
_UNITS = ("patient", "case", "slide", "article")

PLACE = "<image>"
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "system": "system",
}  # fmt: skip

Turn = tuple[str, tuple[str | None, ...]]  # role, parts; None stands for an image


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
    """The sample of a row of ours. `blobs[i]` is the encoded image number i of the sample, where known.

    Raises:
        BadRowError: the visible dialogue was changed by another program.
    """
    sealed = json.loads(sealed) if isinstance(sealed, str) else sealed
    if sealed["turns_sha256"] != _digest(turns):
        detail = f"remove the key {OUR_KEY!r} from the row to read its dialogue as it now stands"
        raise BadRowError("row changed by another program", detail)
    return make_sample(put_bytes_back(sealed["sample"], blobs), place)


def read_turns(messages: Any) -> list[Turn]:
    """Roles and parts of a dialogue: from/value or role/content; content as text with `<image>`, or as parts.

    Raises:
        BadRowError: no dialogue of this form.
    """
    if not isinstance(messages, list):
        raise BadRowError("no dialogue" if messages is None else "turn is not an object", repr(messages)[:80])
    turns: list[Turn] = []
    for turn in messages:
        if not isinstance(turn, (dict, Mapping)):  # the check for dict alone is quick
            raise BadRowError("turn is not an object", repr(turn)[:80])
        name = _first(turn, "from", "role")
        role = _ROLES.get(str(name).lower())
        if role is None:
            raise BadRowError("unknown role", f"{name!r:.80}; known: {', '.join(_ROLES)}")
        turns.append((role, _parts(_first(turn, "value", "content"))))
    return turns


def _first(turn: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        value = turn.get(key)
        if value is not None:
            return value
    return None


def _parts(value: Any) -> tuple[str | None, ...]:
    if isinstance(value, str):
        return _at_places(value)
    if not isinstance(value, list):
        raise BadRowError("turn without text", repr(value)[:80])
    made: list[str | None] = []
    for item in value:
        kind = item.get("type") if isinstance(item, Mapping) else None
        if kind == "image":
            made.append(None)
        elif kind == "text" and isinstance(item.get("text"), str):
            made.append(item["text"])
        else:
            raise BadRowError("unknown content part", repr(item)[:80])
    return tuple(made)


def _at_places(text: str) -> tuple[str | None, ...]:
    """A text cut at its image places."""
    if PLACE not in text:
        return (text,) if text else ()
    pieces = text.split(PLACE)
    parts: list[str | None] = [pieces[0]]
    for piece in pieces[1:]:
        parts += [None, piece]
    return tuple(p for p in parts if p != "")


def _trim(turns: Sequence[Turn]) -> list[Turn]:
    """Take away the line breaks that LLaVA puts beside an image place."""
    trimmed: list[Turn] = []
    for role, parts in turns:
        if None not in parts and "" not in parts:
            trimmed.append((role, parts))
            continue
        made = list(parts)
        for i, part in enumerate(parts):
            if part is None:
                continue
            if i > 0 and parts[i - 1] is None:
                part = part.removeprefix("\n")
            if i + 1 < len(parts) and parts[i + 1] is None:
                part = part.removesuffix("\n")
            made[i] = part
        trimmed.append((role, tuple(p for p in made if p != "")))
    return trimmed


def _with_places(turns: Sequence[Turn], num_images: int) -> list[Turn]:
    """Turns with their image places; lists of parts that hold a literal `<image>` in a text have it there."""
    if num_images and not any(None in parts for _, parts in turns):
        turns = [(role, tuple(x for p in parts if p is not None for x in _at_places(p))) for role, parts in turns]
    return _trim(turns)


def image_cells(row: Mapping[str, Any]) -> list[Any]:
    """What a row holds under `images` or `image`; where one of them is empty, the other counts.

    Raises:
        BadRowError: both are given and differ.
    """
    found: list[list[Any]] = []
    for key in ("images", "image"):
        value = row.get(key)
        values = value if isinstance(value, list) else [] if value is None or value == "" else [value]
        if values and values not in found:
            found.append(values)
    if len(found) > 1 and not all(v in found[0] for v in found[1]):
        raise BadRowError("image and images differ", f"{found[1]!r:.60} and {found[0]!r:.60}")
    return found[0] if found else []


def image_folders_hint(name: str) -> BadRowError:
    """The refusal of a path that leads out of the data's own folder."""
    return BadRowError("image outside the data's folder", f"{name[:200]}; name its folder in data.image_folders")


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
    prompt, reply = _cut_reply(_with_places(turns, len(images)))
    told = {} if reply is None else _read_reply(reply)
    asked = with_options(_messages(prompt, len(images)), told.get("answer"))
    how = asked.pop("how")
    known = {*known_keys, "id", "split", *_UNITS}
    fields: dict[str, Any] = {
        "id": row_id(row, place),
        "images": list(images),
        "origin": {"source": source, **{k: str(row[k]) for k in _UNITS if row.get(k) not in (None, "")}},
        "split": row.get("split"),
        "caption": row["caption"] if isinstance(row.get("caption"), str) and row["caption"].strip() else None,
        "extra": {k: v for k, v in row.items() if k not in known} | ({OPTIONS_KEY: how} if how else {}),
    }
    return make_sample(fields | told | asked, place)


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
    num_places = sum(parts.count(None) for _, parts in turns)
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
    """Answer, reasoning and findings of a reply. A thought without an answer block is followed by the answer.

    Raises:
        BadRowError: tags of a grammar that are not whole: such a text could not be written as a reply again.
    """
    for grammar in _GRAMMARS:
        parsed = grammar.parse(reply)
        if isinstance(parsed, Parsed):
            blocks = parsed.value
            return {
                "answer": blocks.answer,
                "reasoning": grammar.split_steps(blocks.think),
                "findings": blocks.findings or None,
            }
    thought = _THOUGHT.fullmatch(reply)
    think, answer = thought.groups() if thought else ("", reply)
    if _TAGS.search(think) or _TAGS.search(answer):
        raise BadRowError("tags of the reply are broken", reply[:120])
    return {"answer": answer.strip(), **({"reasoning": DEFAULT_GRAMMAR.split_steps(think.strip())} if thought else {})}
