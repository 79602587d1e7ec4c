"""TRL conversational rows: `prompt`, `completion`, `images`.

`prompt` and `completion` are lists of {"role", "content"}, content is a list of {"type": "image"} and
{"type": "text", "text"}. As plain dicts, as parquet that `datasets` opens, or as a `datasets.Dataset`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from PIL import Image

from eosin.core.errors import EosinError, ImageError, MissingExtraError, disk_errors
from eosin.core.formats.dialogue import (
    DEFAULT_GRAMMAR,
    OUR_KEY,
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
from eosin.core.formats.parquet import (
    IMAGES_TYPE,
    hugging_face_metadata,
    image_cell,
    iter_rows,
    write_rows,
)
from eosin.core.formats.rows import BadRowError, Outcome, file_errors, read_row
from eosin.core.images import decode, encode_png, read_bytes
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageFile, Message, Sample, TextPart
from eosin.core.nouns.splits import Split, read_split
from eosin.core.store.names import inside_any

if TYPE_CHECKING:
    from datasets import Dataset

_KNOWN = ("prompt", "completion", "messages", "conversations", "image", "images", "caption", OUR_KEY)
_CONTENT = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))
_DIALOGUE = pa.list_(pa.struct([("role", pa.string()), ("content", _CONTENT)]))
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", _DIALOGUE),
        ("completion", _DIALOGUE),
        ("images", IMAGES_TYPE),
        (OUR_KEY, pa.string()),
    ]
)


def to_trl(sample: Sample, *, grammar: Grammar = DEFAULT_GRAMMAR, instruction: bool = True) -> dict[str, Any]:
    """One row. `images` holds {"bytes", "path"} in the order shown; None for a slide region.

    `completion` is empty where no answer is known. The key `eosin` is the sample itself, as JSON text.
    """
    prompt, reply = turns_of(sample, grammar, instruction=instruction)
    prompt_rows = [_message(m) for m in prompt]
    completion = [] if reply is None else [{"role": "assistant", "content": [_text(reply)]}]
    shown = shown_indices(prompt)
    sealed = {**seal(sample, read_turns(prompt_rows + completion)), "order": shown, **hidden_images(sample, shown)}
    return {
        "id": sample.id,
        "prompt": prompt_rows,
        "completion": completion,
        "images": [image_cell(sample.images[i]) for i in shown],
        OUR_KEY: json.dumps(sealed, ensure_ascii=False),
    }


def hidden_images(sample: Sample, shown: Sequence[int]) -> dict[str, Any]:
    """The images that no message shows, which have no place in a row: under `hidden`, where there are any."""
    hidden = [i for i in range(len(sample.images)) if i not in shown]
    held = {
        str(i): _base64(cell["bytes"])
        for i in hidden
        if (cell := image_cell(sample.images[i])) and cell["bytes"] is not None
    }
    return {"hidden": held} if hidden else {}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _text(text: str | None, kind: str = "text") -> dict[str, str | None]:
    return {"type": kind, "text": text}


def _message(message: Message) -> dict[str, Any]:
    content = [_text(p.text) if isinstance(p, TextPart) else _text(None, "image") for p in message.parts]
    return {"role": message.role, "content": content}


def write_trl(
    samples: Iterable[Sample], path: Path, *, grammar: Grammar = DEFAULT_GRAMMAR, instruction: bool = True
) -> int:
    """Write rows as parquet; `datasets.load_dataset("parquet", ...)` opens it. Returns how many."""
    features = json.loads(hugging_face_metadata(("id", OUR_KEY))[b"huggingface"])
    part = {"type": {"dtype": "string", "_type": "Value"}, "text": {"dtype": "string", "_type": "Value"}}
    message = {
        "role": {"dtype": "string", "_type": "Value"},
        "content": {"feature": part, "_type": "List"},
    }
    columns = features["info"]["features"]
    columns["prompt"] = columns["completion"] = {"feature": message, "_type": "List"}
    features["info"]["features"] = {name: columns[name] for name in _SCHEMA.names}
    schema = _SCHEMA.with_metadata({b"huggingface": json.dumps(features).encode()})
    return write_rows((to_trl(s, grammar=grammar, instruction=instruction) for s in samples), path, schema)


def iter_trl_parquet(
    path: Path, *, source: str | None = None, image_folders: Sequence[str | os.PathLike[str]] = ()
) -> Iterator[Outcome]:
    """Read TRL rows from parquet, a batch at a time.

    Args:
        source: data set name for foreign rows; by default the file's name.
        image_folders: further folders, beside the file's own, from which images may be taken.
    """
    take = partial(taken, folder=path.parent, others=tuple(image_folders))
    for place, row in iter_rows(path):
        yield row if isinstance(row, Dropped) else from_trl(row, place=place, source=source or path.stem, take=take)


def taken(name: str, folder: Path, others: Sequence[str | os.PathLike[str]]) -> str:
    """The path of an image of a row; it refuses one that leads out of the data's folders."""
    found = inside_any(folder, name, others)
    if found is None:
        raise image_folders_hint(name)
    return str(found)


def from_trl(row: Mapping[str, Any], *, place: str, source: str = "trl", take: Callable[[str], str] = str) -> Outcome:
    """The sample of one row, of ours or of another program (prompt and completion, messages, or conversations).

    Args:
        take: the path of an image for what the row says; it may refuse. By default the path as it stands.
    """
    return read_row(lambda: _from_trl(row, place, source, take), row, place)


def _from_trl(row: Mapping[str, Any], place: str, source: str, take: Callable[[str], str]) -> Outcome:
    dialogue = next((row[k] for k in ("prompt", "messages", "conversations") if row.get(k)), None)
    turns = read_turns([*_as_messages(dialogue, "user"), *_as_messages(row.get("completion"), "assistant")])
    if not any(role == "assistant" for role, _ in turns[-1:]) and not row.get(OUR_KEY):
        turns += [("assistant", (truth,))] if (truth := _ground_truth(row)) else []
    if row.get(OUR_KEY):
        return _read_ours(row[OUR_KEY], turns, row.get("images") or [], place)
    images = [_reference(cell, take) for cell in image_cells(row)]
    return foreign_sample(row, turns, images, place=place, source=source, known_keys=_KNOWN)


def _ground_truth(row: Mapping[str, Any]) -> str | None:
    """The answer of a row of verl, which has no completion."""
    told = row.get("reward_model")
    truth = told.get("ground_truth") if isinstance(told, Mapping) else None
    return truth if isinstance(truth, str) and truth.strip() else None


def _read_ours(text: Any, turns: Sequence[Turn], cells: Sequence[Any], place: str) -> Outcome:
    sealed = json.loads(text)
    refs = list(sealed["sample"]["images"])
    blobs: list[bytes | None] = [None] * len(refs)
    for index, data in sealed.get("hidden", {}).items():
        blobs[int(index)] = base64.b64decode(data)
    for index, cell in zip(sealed["order"], cells, strict=True):
        data = cell.get("bytes") if isinstance(cell, Mapping) else None
        if refs[index]["kind"] == "bytes":
            blobs[index] = data
        elif refs[index]["kind"] == "file" and data and not os.path.exists(refs[index]["path"]):
            refs[index], blobs[index] = {"kind": "bytes"}, data  # the data set travelled without the file
    return unseal({**sealed, "sample": {**sealed["sample"], "images": refs}}, turns, blobs, place)


def _as_messages(value: Any, role: str) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list):
        return value
    raise BadRowError("turn is not an object", repr(value)[:80])


def _reference(cell: Any, take: Callable[[str], str]) -> dict[str, Any]:
    if isinstance(cell, Image.Image):
        return {"kind": "bytes", "data": encode_png(cell)}
    if isinstance(cell, bytes):
        return {"kind": "bytes", "data": cell}
    if isinstance(cell, Mapping):
        if cell.get("bytes"):
            return {"kind": "bytes", "data": cell["bytes"]}
        cell = cell.get("path") or cell
    if isinstance(cell, str) and cell:
        return {"kind": "file", "path": take(cell)}
    raise BadRowError("image without bytes or path", repr(cell)[:80])


def decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `to_trl` with its images as Pillow images, as a trainer without `datasets` takes them.

    Raises:
        ImageError: an image cannot be decoded, or is a slide region.
    """
    images = []
    for cell in row["images"]:
        if cell is None:
            raise ImageError("slide regions need a slide reader")
        images.append(decode(cell["bytes"] if cell["bytes"] else read_bytes(ImageFile(path=cell["path"]))))
    return {**row, "images": images}


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "train") from None
    return datasets


def to_dataset(samples: Iterable[Sample], *, grammar: Grammar = DEFAULT_GRAMMAR, instruction: bool = True) -> Dataset:
    """A `datasets.Dataset` of TRL rows whose images decode on access. Needs the package `datasets`."""
    datasets = _datasets()
    text = datasets.Value("string")
    dialogue = datasets.List({"role": text, "content": datasets.List({"type": text, "text": text})})
    features = datasets.Features(
        {"id": text, "prompt": dialogue, "completion": dialogue, "images": datasets.List(datasets.Image()),
         OUR_KEY: text}
    )  # fmt: skip
    rows = [to_trl(s, grammar=grammar, instruction=instruction) for s in samples]
    return datasets.Dataset.from_list(rows, features=features)


def from_dataset(dataset: Dataset, *, source: str = "datasets", take: Callable[[str], str] = str) -> Iterator[Outcome]:
    """Samples of a `datasets.Dataset` with TRL columns; encoded image bytes are taken as they stand.

    Args:
        take: as for `from_trl`.
    """
    datasets = _datasets()
    for name, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(name, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            dataset = dataset.cast_column(name, datasets.List(datasets.Image(decode=False)))

    def read(index: int, place: str) -> Outcome:
        return from_trl(dataset[index], place=place, source=source, take=take)

    for i in range(len(dataset)):
        place = f"{source}:{i + 1}"
        yield read_row(partial(read, i, place), None, place)


def write_dataset(
    samples: Iterable[Sample], path: Path, *, grammar: Grammar = DEFAULT_GRAMMAR, instruction: bool = True
) -> int:
    """Write a folder with `Dataset.save_to_disk`; image files are embedded. Returns how many rows.

    Raises:
        EosinError: an image file is missing (the folder would not be whole without it).
    """
    listed = list(samples)
    for sample in listed:
        for ref in sample.images:
            if ref.kind == "file" and not os.path.exists(ref.path):
                raise EosinError("An image file is missing.", found=ref.path, where=sample.id)
    with disk_errors(path):
        to_dataset(listed, grammar=grammar, instruction=instruction).save_to_disk(str(path))
    return len(listed)


def iter_dataset_folder(
    path: Path, *, source: str | None = None, image_folders: Sequence[str | os.PathLike[str]] = ()
) -> Iterator[Outcome]:
    """Read a folder written by `save_to_disk`: a Dataset, or a DatasetDict whose keys name the splits.

    Raises:
        EosinError: the folder cannot be opened; a key that is no name of a split.
    """
    take = partial(taken, folder=path, others=tuple(image_folders))
    datasets = _datasets()
    with file_errors(path, "folder of datasets"):
        loaded = datasets.load_from_disk(str(path))
    if not isinstance(loaded, dict):
        yield from from_dataset(loaded, source=source or path.name, take=take)
        return
    for name, part in loaded.items():
        split = _split_of(name, path)
        for outcome in from_dataset(part, source=source or f"{path.name}/{name}", take=take):
            # The key says where a row stands now; what a row says of itself may be older.
            yield outcome if isinstance(outcome, Dropped) else Kept(outcome.value.model_copy(update={"split": split}))


def _split_of(name: str, path: Path) -> Split | None:
    try:
        return read_split(name)
    except ValueError as exc:
        raise EosinError(
            "A part of these datasets has a name that is no split.",
            expected="train, valid (val, validation, dev), test",
            found=str(exc), where=path, next_step="rename the part, or save it as a folder of its own",
        ) from None  # fmt: skip
