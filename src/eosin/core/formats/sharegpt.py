"""ShareGPT and LLaVA JSON: a list of rows with `conversations`, `<image>` places and image paths.

Turns are human/gpt or user/assistant, under `conversations` or `messages`, with `value` or `content`. Paths
are relative to the JSON file and lie in its folder. Images held as bytes are written into `NAME_images/` beside
`NAME.json`.
A literal "<image>" in a text is written as "&lt;image>", so that other programs count the places right.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError, disk_errors
from eosin.core.formats.dialogue import (
    DEFAULT_GRAMMAR,
    OUR_KEY,
    PLACE,
    Turn,
    foreign_sample,
    image_cells,
    image_folders_hint,
    read_turns,
    seal,
    shown_indices,
    turns_of,
    unseal,
)
from eosin.core.formats.rows import BadRowError, Outcome, read_row, whole_file
from eosin.core.images import read_bytes
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, Message, Sample, TextPart
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.core.store.names import inside_any

_ESCAPED = "&lt;image>"
_NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
_KNOWN = ("conversations", "messages", "image", "images", "caption", OUR_KEY)


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
    conversations = [{"from": _NAMES[m.role], "value": with_places(m)} for m in prompt]
    if reply is not None:
        conversations.append({"from": "gpt", "value": escaped(reply)})
    files = [image_path(ref, path) for ref in sample.images]
    shown = [files[i] for i in shown_indices(prompt)]
    row: dict[str, Any] = {"id": sample.id}
    if len(shown) == 1:
        row["image"] = shown[0]
    elif shown:
        row["images"] = shown
    row["conversations"] = conversations
    row[OUR_KEY] = {**seal(sample, read_turns(conversations)), "files": files}
    return row


def escaped(text: str) -> str:
    """A text in which a literal "<image>" counts as no place."""
    return text.replace(PLACE, _ESCAPED)


def with_places(message: Message) -> str:
    """The text of a message, with `<image>` where a picture is shown."""
    return "".join(escaped(p.text) if isinstance(p, TextPart) else PLACE for p in message.parts)


def image_path(ref: ImageRef, path: Path) -> str:
    """What a row of the file `path` says for a picture. One held as bytes is written beside the file first."""
    base = path.parent.resolve()
    if isinstance(ref, ImageBytes):
        name = hashlib.sha256(ref.data).hexdigest()[:32] + image_suffix(ref.data)
        target = path.parent / f"{path.stem}_images" / name
        if not target.exists():
            with disk_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(target, ref.data)
        return f"{path.stem}_images/{name}"
    full = os.path.abspath(ref.path)
    return os.path.relpath(full, base) if full.startswith(str(base) + os.sep) else full


def image_suffix(data: bytes) -> str:
    """The usual end of a file's name for an encoded picture."""
    for magic, suffix in (
        (b"\x89PNG", ".png"),
        (b"\xff\xd8", ".jpg"),
        (b"II*\0", ".tif"),
        (b"MM\0*", ".tif"),
    ):
        if data.startswith(magic):
            return suffix
    return ".webp" if data[8:12] == b"WEBP" else ".bin"


def iter_sharegpt(
    path: Path, *, source: str | None = None, image_folders: Sequence[str | os.PathLike[str]] = ()
) -> Iterator[Outcome]:
    """Read rows of ours and of others. A bad row is Dropped with its reason.

    Args:
        source: data set name for foreign rows; by default the file's name.
        image_folders: further folders, beside the file's own, from which images may be taken.
    """
    for i, row in enumerate(_load(path)):
        place = f"{path.name}:{i + 1}"
        read = partial(sharegpt_row, row, path.parent, place, source or path.stem, image_folders)
        yield read_row(read, row, place)


def _load(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise EosinError("This JSON file is not UTF-8.", found=str(exc), where=path) from None
    except (ValueError, RecursionError) as exc:
        raise EosinError("This file is not valid JSON.", found=str(exc), where=path) from None
    except OSError as exc:
        raise EosinError("This file cannot be read.", found=str(exc), where=path) from None
    if not isinstance(rows, list):
        raise EosinError(
            "A ShareGPT or LLaVA file is a list of rows.", expected='[{"conversations": [...]}, ...]',
            found=f"a JSON {type(rows).__name__}", where=path,
        )  # fmt: skip
    return rows


def is_dialogue(row: Any) -> bool:
    """Whether a JSON value is a row of a dialogue rather than a sample of ours."""
    if not isinstance(row, Mapping):
        return False
    return "conversations" in row or ("messages" in row and not {"origin", "schema_version"} & set(row))


def sharegpt_row(
    row: Any, folder: Path, place: str, source: str, image_folders: Sequence[str | os.PathLike[str]] = ()
) -> Outcome:
    """The sample of one row. `folder` is where its relative paths start.

    Raises:
        BadRowError: it cannot become a sample. Other errors may come out of damaged rows; call it within `read_row`.
    """
    if not isinstance(row, Mapping):
        raise BadRowError("row is not an object", repr(row)[:80])
    conversations = row.get("conversations") or row.get("messages")
    if not isinstance(conversations, list) or not conversations:
        raise BadRowError("no dialogue", f"keys: {', '.join(map(str, row))}"[:200])
    turns = read_turns(conversations)
    ours = row.get(OUR_KEY)
    if isinstance(ours, Mapping):
        return _read_ours(ours, turns, folder, place, image_folders)
    images = [{"kind": "file", "path": str(_taken(p, folder, image_folders))} for p in image_cells(row)]
    return foreign_sample(row, turns, images, place=place, source=source, known_keys=_KNOWN)


def _taken(name: Any, folder: Path, image_folders: Sequence[str | os.PathLike[str]]) -> Path:
    if not isinstance(name, str) or not name:
        raise BadRowError("image is not a path", repr(name)[:120])
    found = inside_any(folder, name, image_folders)
    if found is None:
        raise image_folders_hint(name)
    return found


def _read_ours(
    ours: Mapping[str, Any],
    turns: Sequence[Turn],
    folder: Path,
    place: str,
    image_folders: Sequence[str | os.PathLike[str]],
) -> Outcome:
    sample, files = ours.get("sample"), ours.get("files")
    if not isinstance(sample, dict) or not isinstance(files, list):
        raise BadRowError("row damaged", f"the key {OUR_KEY!r} is not whole")
    blobs: list[bytes | None] = []
    refs = []
    for ref, file in zip(sample.get("images", []), files, strict=False):
        if ref.get("kind") == "bytes":
            blobs.append(read_bytes(ImageFile(path=str(_taken(file, folder, image_folders)))))
        else:
            blobs.append(None)
            moved = inside_any(folder, file, image_folders)
            if moved is not None and not os.path.exists(ref.get("path", "")) and moved.exists():
                ref = {**ref, "path": str(moved)}  # the folder was moved as a whole
        refs.append(ref)
    return unseal({**ours, "sample": {**sample, "images": refs}}, turns, blobs, place)
