"""Messages with image paths: LLaMA-Factory's JSON, ms-swift's JSON lines (which TRL reads as `messages` too).

A row is {"messages": [{"role", "content"}], "images": [path, ...]}, with `<image>` in the content where a picture is
shown. Pictures held as bytes are written into `NAME_images/` beside the file, as for ShareGPT.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from eosin.core.formats.dialogue import OUR_KEY, read_turns, seal, shown_indices, turns_of
from eosin.core.formats.rows import whole_file
from eosin.core.formats.sharegpt import escaped, image_path, with_places
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Sample
from eosin.core.store.artifacts import write_json


def message_row(sample: Sample, path: Path, grammar: Grammar, instruction: bool) -> dict[str, Any]:
    """One row; `path` is the file that it will stand in."""
    prompt, reply = turns_of(sample, grammar, instruction=instruction)
    messages = [{"role": m.role, "content": with_places(m)} for m in prompt]
    if reply is not None:
        messages.append({"role": "assistant", "content": escaped(reply)})
    files = [image_path(ref, path) for ref in sample.images]
    row: dict[str, Any] = {"id": sample.id, "messages": messages, "images": [files[i] for i in shown_indices(prompt)]}
    row[OUR_KEY] = {**seal(sample, read_turns(messages)), "files": files}
    return row


def write_swift(samples: Iterable[Sample], path: Path, *, grammar: Grammar, instruction: bool) -> int:
    """Write JSON lines for ms-swift; returns how many."""
    count = 0
    with whole_file(path) as handle:
        for line in _lines(samples, path, grammar, instruction):
            handle.write(line + b"\n")
            count += 1
    return count


def write_llamafactory(samples: Iterable[Sample], path: Path, *, grammar: Grammar, instruction: bool) -> int:
    """Write a JSON list for LLaMA-Factory, and `dataset_info.json` beside it where none stands; returns how many."""
    count = 0
    with whole_file(path) as handle:
        handle.write(b"[")
        for line in _lines(samples, path, grammar, instruction):
            handle.write((b",\n" if count else b"\n") + line)
            count += 1
        handle.write(b"\n]\n")
    told = {
        "file_name": path.name, "formatting": "sharegpt", "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                 "system_tag": "system"},
    }  # fmt: skip
    if not (path.parent / "dataset_info.json").exists():
        write_json(path.parent / "dataset_info.json", {path.stem: told})
    return count


def _lines(samples: Iterable[Sample], path: Path, grammar: Grammar, instruction: bool) -> Iterator[bytes]:
    for sample in samples:
        yield json.dumps(message_row(sample, path, grammar, instruction), ensure_ascii=False).encode("utf-8")
