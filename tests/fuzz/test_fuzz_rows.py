"""Files of strangers: whatever stands in them, a reader gives samples, Dropped rows, or an EosinError.

Structures are made of the keys that the readers know, with values of every kind in the wrong places; bytes are those of
valid files, changed. `EOSIN_FUZZ_SECONDS=60 pytest tests/fuzz/test_fuzz_rows.py` looks a minute at each reader.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eosin.core.errors import EosinError, ImageError
from eosin.core.formats import from_trl, iter_samples, read_samples, write_samples
from eosin.core.images import decode
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import ImageBytes, Sample, make_choices, user_prompt
from eosin.core.settings.data import TableData
from eosin.curate import validate
from eosin.sources.table import read_table
from tests.fuzz.budget import fuzz_settings

words = st.sampled_from(
    [
        "", "a", "human", "gpt", "user", "assistant", "system", "train", "VAL", "<image>", "<image>\nWhat?\nA. x\nB. y",
        "B", "<think>t</think> B", "</answer>", "../../etc/passwd", "/dev/zero", "images/a.png", "nul\0", "\ud800",
        "\u2028", "NaN", "file", "bytes", "slide", "bag", "text", "image", "A) fat B) gland", "\ufeff", "x" * 300,
    ]
)  # fmt: skip
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=8)
KEYS = [
    "id", "image", "images", "conversations", "messages", "from", "value", "role", "content", "type", "text", "split",
    "patient", "eosin", "sample", "files", "turns_sha256", "kind", "path", "data", "bytes", "prompt", "completion",
    "order", "hidden", "origin", "source", "choices", "letter", "answer", "extra", "index", "parts", "entities",
]  # fmt: skip
keys = st.sampled_from(KEYS) | st.text(max_size=3)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=12
)


def _png(side: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 60).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _sample(name: str, **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "id": name, "images": (ImageBytes(data=PNG),), "messages": user_prompt("What is it?"), "answer": "B",
        "choices": make_choices(["fat", "gland"]), "origin": {"source": "own", "case": "7"}, "split": "test",
    }  # fmt: skip
    return Sample.model_validate(fields | changes)


PNG = _png()
turn = st.fixed_dictionaries({}, optional=dict.fromkeys(("from", "value", "role", "content"), anything))
good_turns = st.just([{"from": "human", "value": "<image>\nWhat?\nA. fat\nB. gland"}, {"from": "gpt", "value": "B"}])
dialogue_row = st.fixed_dictionaries(
    {},
    optional={
        "id": anything, "image": anything, "images": anything, "split": anything, "patient": anything,
        "conversations": good_turns | st.lists(turn, max_size=3) | anything, "messages": st.lists(turn, max_size=3),
        "eosin": anything,
    },
)  # fmt: skip


def _changed(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Bytes with pieces overwritten, taken out or put in, at places from 0 to 1."""
    out = bytearray(data)
    for at, cut, piece in edits:
        start = int(at * len(out))
        out[start : start + cut] = piece
    return bytes(out)


edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=8)), min_size=1, max_size=4)


def _read(name: str, data: bytes, folder: Path) -> None:
    """Read, check and write again. Only an EosinError may come out, and what is read can be written."""
    path = folder / name
    path.write_bytes(data)
    with contextlib.suppress(EosinError):
        outcomes = list(iter_samples(path))
        assert all(isinstance(o, Kept | Dropped) for o in outcomes)
        found = read_samples(path)
        assert found.num_in == len(outcomes)
        kept = validate(found.kept).kept
        for dropped in found.dropped:
            json.dumps([dropped.id, dropped.detail], ensure_ascii=False).encode("utf-8")
        write_samples(kept, folder / "again.jsonl")
        assert read_samples(folder / "again.jsonl").kept == kept
        write_samples(kept, folder / "again.json")


def _in_a_folder(read: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "images").mkdir()
        (Path(folder) / "images" / "a.png").write_bytes(PNG)
        read(Path(folder))


def _own(suffix: str, format: str | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"own{suffix}"
        write_samples([_sample("a"), _sample("b", split=None)], path, format)  # type: ignore[arg-type]
        return path.read_bytes()


OWN_JSON, OWN_LINES = _own(".json"), _own(".jsonl")
OWN_PARQUET, OWN_TRL = _own(".parquet"), _own(".parquet", "trl")


@fuzz_settings(34)
@given(st.lists(dialogue_row | anything, max_size=4) | anything)
def test_sharegpt_structures(rows: Any) -> None:
    _in_a_folder(lambda folder: _read("s.json", json.dumps(rows).encode(), folder))


@fuzz_settings(120)
@given(edits)
def test_sharegpt_bytes(changes: list[tuple[float, int, bytes]]) -> None:
    _in_a_folder(lambda folder: _read("s.json", _changed(OWN_JSON, changes), folder))


@fuzz_settings(24)
@given(st.lists(dialogue_row | anything, max_size=4), edits | st.just([]))
def test_json_lines(rows: list[Any], changes: list[tuple[float, int, bytes]]) -> None:
    lines = OWN_LINES + b"\n".join(json.dumps(r).encode() for r in rows)
    _in_a_folder(lambda folder: _read("s.jsonl", _changed(lines, changes), folder))


@fuzz_settings(70)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": anything, "prompt": st.lists(turn, max_size=3) | anything, "messages": good_turns | anything,
            "completion": st.lists(turn, max_size=2) | anything, "image": anything, "split": anything,
            "images": st.just([{"bytes": PNG, "path": None}]) | anything, "eosin": anything | anything.map(repr),
        },
    )
)  # fmt: skip
def test_trl_structures(row: dict[str, Any]) -> None:
    outcome = from_trl(row, place="t:1")
    assert isinstance(outcome, Kept | Dropped)
    if isinstance(outcome, Kept):
        assert Sample.model_validate_json(outcome.value.model_dump_json()) == outcome.value


@fuzz_settings(80)
@given(st.sampled_from([OWN_PARQUET, OWN_TRL]), edits)
def test_parquet_bytes(data: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    _in_a_folder(lambda folder: _read("s.parquet", _changed(data, changes), folder))


COLUMNS: dict[str, pa.DataType] = {
    "text": pa.string(), "number": pa.int64(), "texts": pa.list_(pa.string()), "data": pa.binary(),
    "cells": pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    "turns": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
}  # fmt: skip
paths = words.map(lambda w: w.encode("utf-8", "replace").decode())
cell = st.fixed_dictionaries({"bytes": st.none() | st.just(PNG), "path": st.none() | paths})
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    "number": st.none() | st.integers(-(2**63), 2**63 - 1),
    "texts": st.none() | st.lists(st.sampled_from(["a", "../a.png", ""]), max_size=3),
    "data": st.none() | st.just(PNG) | st.binary(max_size=9),
    "cells": st.none() | st.lists(cell, max_size=2),
    "turns": st.none() | st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "x"]),
        "content": st.sampled_from(["<image>What?", "A. x\nB. y", "B"])}), max_size=3),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table whose columns bear the names that readers know, of any type."""
    names = ["id", "sample", "images", "image", "prompt", "completion", "messages", "eosin", "split", "answer"]
    chosen = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(list(COLUMNS)), min_size=1, max_size=5))
    rows = draw(st.integers(0, 4))
    columns = {n: draw(st.lists(VALUES[kind], min_size=rows, max_size=rows)) for n, kind in chosen.items()}
    return pa.table({n: pa.array(columns[n], COLUMNS[chosen[n]]) for n in chosen})


@fuzz_settings(35)
@given(tables())
def test_parquet_structures(table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    _in_a_folder(lambda folder: _read("s.parquet", buffer.getvalue(), folder))


CSV = b"file,label,slide,split\nimages/a.png,fat,1,train\nimages/a.png,gland,2,test\n../x.png,NaN,3,dev\n"
cells = st.sampled_from(
    ["images/a.png", "fat", "gland", "Fat ", "N/A", "train", "TEST", "../../etc", '"', '"a,b"', "\0"]
)
csv_text = st.lists(st.lists(cells | st.text(max_size=6), max_size=5).map(",".join), max_size=5).map("\n".join)


@fuzz_settings(50)
@given(csv_text.map(lambda t: t.encode("utf-8", "surrogatepass")), edits | st.just([]))
def test_csv(rows: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    def read(folder: Path) -> None:
        (folder / "manifest.csv").write_bytes(_changed(CSV + rows, changes))
        settings = TableData(root=str(folder), group_column="slide", split_column="split")
        with contextlib.suppress(EosinError):
            found = read_table(settings)
            write_samples(found.kept, folder / "again.parquet")
            assert read_samples(folder / "again.parquet").kept == found.kept

    _in_a_folder(read)


def _encoded(kind: str, mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((24, 16), 60).convert(mode).save(
        buffer, kind, **options, **({"exif": exif} if mode == "RGB" else {})
    )
    return buffer.getvalue()


PICTURES = [
    _encoded("PNG", "RGB"), _encoded("PNG", "P"), _encoded("PNG", "I;16"), _encoded("PNG", "RGBA"),
    _encoded("JPEG", "RGB"), _encoded("JPEG", "CMYK"), _encoded("TIFF", "RGB"), _encoded("TIFF", "I;16"),
    _encoded("TIFF", "RGB", compression="tiff_lzw"), _encoded("TIFF", "RGB", compression="jpeg"),
    _encoded("TIFF", "LAB"), _encoded("TIFF", "1", compression="group4"),
    _encoded("WEBP", "RGB"), _encoded("BMP", "RGB"), _encoded("GIF", "P"),
]  # fmt: skip


@fuzz_settings(400)
@given(st.sampled_from(PICTURES), edits)
def test_pictures(data: bytes, changes: list[tuple[float, int, bytes]]) -> None:
    with contextlib.suppress(ImageError):
        assert decode(_changed(data, changes)).mode == "RGB"


@fuzz_settings(700)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF\0\0\0\0WEBP"]),
    st.binary(),
)
def test_pictures_from_nothing(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(ImageError):
        assert decode(magic + rest).mode == "RGB"
