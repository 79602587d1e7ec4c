"""ShareGPT and LLaVA JSON: a list of rows with `conversations`, `<image>` places and image paths.

Turns are human/gpt or user/assistant, under `conversations` or `messages`, with `value` or `content`. Paths
are relative to the JSON file. Images held as bytes are written into `NAME_images/` beside `NAME.json`.
A literal "<image>" in a text is written as "&lt;image>", so that other programs count the places right.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors
from eosin.core.formats.dialogue import (
    DEFAULT_GRAMMAR,
    OUR_KEY,
    BadRowError,
    Turn,
    foreign_sample,
    seal,
    shown_indices,
    turns_of,
    unseal,
)
from eosin.core.formats.rows import STEP, Outcome, whole_file
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImageRef, Message, Sample, TextPart
from eosin.core.store.artifacts import write_bytes_atomic

PLACE = "<image>"
_ESCAPED = "&lt;image>"
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "system": "system",
}  # fmt: skip
_NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
_KNOWN = ("conversations", "messages", "image", "images", OUR_KEY)


def write_sharegpt(
    samples: Iterable[Sample],
    path: Path,
    *,
    grammar: Grammar = DEFAULT_GRAMMAR,
    instruction: bool = True,
) -> int:
    """Write samples with their gold replies in the given grammar; returns how many."""
    count = 0
    with whole_file(path) as handle:
        handle.write(b"[")
        for sample in samples:
            row = _row(sample, path, grammar, instruction)
            handle.write((b",\n" if count else b"\n") + json.dumps(row, ensure_ascii=False).encode("utf-8"))
            count += 1
        handle.write(b"\n]\n")
    return count


def _row(sample: Sample, path: Path, grammar: Grammar, instruction: bool) -> dict[str, Any]:
    prompt, reply = turns_of(sample, grammar, instruction=instruction)
    conversations = [{"from": _NAMES[m.role], "value": _value(m)} for m in prompt]
    if reply is not None:
        conversations.append({"from": "gpt", "value": reply.replace(PLACE, _ESCAPED)})
    files = [_image_path(ref, path) for ref in sample.images]
    shown = [files[i] for i in shown_indices(prompt)]
    row: dict[str, Any] = {"id": sample.id}
    if len(shown) == 1:
        row["image"] = shown[0]
    elif shown:
        row["images"] = shown
    row["conversations"] = conversations
    row[OUR_KEY] = {**seal(sample, _turns(conversations)), "files": files}
    return row


def _value(message: Message) -> str:
    return "".join(p.text.replace(PLACE, _ESCAPED) if isinstance(p, TextPart) else PLACE for p in message.parts)


def _image_path(ref: ImageRef, path: Path) -> str:
    base = path.parent.resolve()
    if isinstance(ref, ImageBytes):
        name = hashlib.sha256(ref.data).hexdigest()[:32] + _suffix(ref.data)
        target = path.parent / f"{path.stem}_images" / name
        if not target.exists():
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(target, ref.data)
        return f"{path.stem}_images/{name}"
    full = os.path.abspath(ref.path)
    return os.path.relpath(full, base) if full.startswith(str(base) + os.sep) else full


def _suffix(data: bytes) -> str:
    for magic, suffix in (
        (b"\x89PNG", ".png"),
        (b"\xff\xd8", ".jpg"),
        (b"II*\0", ".tif"),
        (b"MM\0*", ".tif"),
    ):
        if data.startswith(magic):
            return suffix
    return ".webp" if data[8:12] == b"WEBP" else ".bin"


def iter_sharegpt(path: Path, *, source: str | None = None) -> Iterator[Outcome]:
    """Read rows of ours and of others. A bad row is Dropped with its reason.

    Args:
        source: data set name for foreign rows; by default the file's name.
    """
    for i, row in enumerate(_load(path)):
        place = f"{path.name}:{i + 1}"
        if not isinstance(row, Mapping):
            yield Dropped(place, "row is not an object", repr(row)[:80], STEP)
            continue
        try:
            yield _read_row(row, path, place, source or path.stem)
        except BadRowError as exc:
            yield Dropped(str(row.get("id") or place), exc.reason, exc.detail, STEP)


def _load(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise EosinError("This JSON file is not UTF-8.", found=str(exc), where=path) from None
    except (ValueError, RecursionError) as exc:
        raise EosinError("This file is not valid JSON.", found=str(exc), where=path) from None
    if not isinstance(rows, list):
        raise EosinError(
            "A ShareGPT or LLaVA file is a list of rows.", expected='[{"conversations": [...]}, ...]',
            found=f"a JSON {type(rows).__name__}", where=path,
        )  # fmt: skip
    return rows


def _read_row(row: Mapping[str, Any], path: Path, place: str, source: str) -> Outcome:
    conversations = row.get("conversations") or row.get("messages")
    if not isinstance(conversations, list) or not conversations:
        raise BadRowError("no dialogue", f"keys: {', '.join(map(str, row))}"[:200])
    turns = _turns(conversations)
    ours = row.get(OUR_KEY)
    if isinstance(ours, Mapping):
        return _read_ours(ours, turns, path, place)
    images = [{"kind": "file", "path": str(path.parent / p)} for p in _paths(row)]
    return foreign_sample(row, _trim(turns), images, place=place, source=source, known_keys=_KNOWN)


def _read_ours(ours: Mapping[str, Any], turns: Sequence[Turn], path: Path, place: str) -> Outcome:
    sample, files = ours.get("sample"), ours.get("files")
    if not isinstance(sample, dict) or not isinstance(files, list):
        raise BadRowError("row damaged", f"the key {OUR_KEY!r} is not whole")
    blobs: list[bytes | None] = []
    refs = []
    for ref, file in zip(sample.get("images", []), files, strict=False):
        found = path.parent / str(file)
        if ref.get("kind") == "bytes":
            try:
                blobs.append(found.read_bytes())
            except OSError:
                raise BadRowError("image file missing", str(found)) from None
        else:
            blobs.append(None)
            if not os.path.exists(ref.get("path", "")) and found.exists():
                ref = {**ref, "path": str(found)}  # the folder was moved as a whole
        refs.append(ref)
    return unseal({**ours, "sample": {**sample, "images": refs}}, turns, blobs, place)


def _paths(row: Mapping[str, Any]) -> list[str]:
    value = row.get("images", row.get("image"))
    if value is None or value == "":
        return []
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str) and v for v in values):
        raise BadRowError("image is not a path", repr(value)[:120])
    return values


def _turns(conversations: Sequence[Any]) -> list[Turn]:
    turns: list[Turn] = []
    for turn in conversations:
        if not isinstance(turn, Mapping):
            raise BadRowError("turn is not an object", repr(turn)[:80])
        name = turn.get("from", turn.get("role"))
        role = _ROLES.get(str(name).lower())
        if role is None:
            raise BadRowError("unknown role", f"{name!r}; known: {', '.join(_ROLES)}")
        turns.append((role, _parts(turn.get("value", turn.get("content")))))
    return turns


def _parts(value: Any) -> tuple[str | None, ...]:
    if isinstance(value, str):
        pieces = value.split(PLACE)
        parts: list[str | None] = [pieces[0]]
        for piece in pieces[1:]:
            parts += [None, piece]
        return tuple(p for p in parts if p != "")
    if isinstance(value, list):
        made: list[str | None] = []
        for item in value:
            if not isinstance(item, Mapping) or item.get("type") not in ("text", "image"):
                raise BadRowError("unknown content part", repr(item)[:80])
            made.append(None if item["type"] == "image" else str(item.get("text") or ""))
        return tuple(made)
    raise BadRowError("turn without text", repr(value)[:80])


def _trim(turns: Sequence[Turn]) -> list[Turn]:
    """Take away the line breaks that LLaVA puts beside an image place."""
    trimmed: list[Turn] = []
    for role, parts in turns:
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
