"""Samples as the rows of other trainers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eosin.chain.export.prepared import Prepared
from eosin.core.nouns.prompt import caption_messages, gold_answer, gold_reply, prompt_messages
from eosin.core.nouns.sample import Message, Sample, TextPart
from eosin.core.store import artifacts as store

PLACE = "<image>"
_VERL = pa.schema([
    ("data_source", pa.string()),
    ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ("images", pa.list_(pa.struct([("bytes", pa.binary())]))),
    ("ability", pa.string()),
    ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
    ("extra_info", pa.struct([("id", pa.string()), ("index", pa.int64()), ("split", pa.string())])),
])  # fmt: skip


def text_of(message: Message) -> str:
    """A message as one text, with a mark where a picture stands; a mark that somebody wrote is made harmless."""
    return "".join(p.text.replace(PLACE, "&lt;image>") if isinstance(p, TextPart) else PLACE for p in message.parts)


def asked(ready: Prepared, sample: Sample) -> list[dict[str, str]]:
    """The question as messages of one text each."""
    messages = prompt_messages(sample, ready.recipe.reply_grammar, instruction=ready.recipe.prompt.instruction)
    return [{"role": m.role, "content": text_of(m)} for m in messages]


def verl_file(ready: Prepared, samples: Sequence[Sample], split: str, path: Path) -> int:
    """Rows of verl's RLHFDataset as parquet: prompt, pictures as bytes, gold answer, and the id for the rewards."""
    rows = 0
    with pq.ParquetWriter(path, _VERL) as writer:
        for start in range(0, len(samples), 256):
            part = [
                {
                    "data_source": s.origin.source, "prompt": asked(ready, s), "ability": "pathology",
                    "images": [{"bytes": ready.picture(s, i)} for i in range(len(s.images))],
                    "reward_model": {"style": "rule", "ground_truth": s.answer or ""},
                    "extra_info": {"id": s.id, "index": start + n, "split": split},
                }
                for n, s in enumerate(samples[start : start + 256])
            ]  # fmt: skip
            writer.write_table(pa.Table.from_pylist(part, schema=_VERL))
            rows += len(part)
    return rows


def picture_files(ready: Prepared, sample: Sample, number: int, folder: Path) -> list[str]:
    """The pictures of a sample as files; the names are ours, whatever the sample is called."""
    names = []
    for i in range(len(sample.images)):
        target = folder / "images" / f"{number:07}-{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        store.write_bytes_atomic(target, ready.picture(sample, i))
        names.append(str(target.relative_to(folder)))
    return names


def swift_rows(ready: Prepared, samples: Sequence[Sample], folder: Path, first: int) -> Iterator[dict[str, Any]]:
    """Rows of ms-swift: messages and pictures, with the columns `solution` and `sample_id` for the rewards."""
    for number, sample in enumerate(samples, first):
        pictures = picture_files(ready, sample, number, folder)
        yield {
            "messages": asked(ready, sample), "images": pictures, "solution": gold_answer(sample),
            "sample_id": sample.id,
        }  # fmt: skip


def pair_rows(
    ready: Prepared, samples: Sequence[Sample], folder: Path, first: int, *, captions: bool
) -> Iterator[dict[str, Any]]:
    """Rows of SFT: messages that end with the gold reply, or with the caption, and pictures."""
    for number, sample in enumerate(samples, first):
        if captions:
            messages = [{"role": m.role, "content": text_of(m)} for m in caption_messages(sample)]
            reply = sample.caption or ""
        else:
            messages = asked(ready, sample)
            reply = gold_reply(sample, ready.recipe.reply_grammar, ready.recipe.prompt.answer)
        shown = picture_files(ready, sample, number, folder)
        yield {"messages": [*messages, {"role": "assistant", "content": reply.replace(PLACE, "&lt;image>")}],
               "images": shown}  # fmt: skip
