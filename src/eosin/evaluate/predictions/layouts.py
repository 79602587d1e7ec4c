"""Files that lmms-eval, VLMEvalKit and inspect_ai write, as replies to questions.

- lmms-eval: `*_samples_TASK.jsonl` (`--log_samples`): doc_id (the question's place), input (the prompt), target,
  filtered_resps, and resps where they differ.
- VLMEvalKit: `MODEL_DATASET.xlsx` or `.tsv`: index, question, one column an option, answer, prediction.
- inspect_ai: a `.eval` archive (`samples/ID_epoch_N.json`) or a JSON log (`samples`).
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.extras import need
from eosin.core.formats.cells import cells_up_to, first_sheet
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered

MAX_MEMBER_BYTES = 2**26
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_REPLY = "no reply in this row"


@dataclass(frozen=True)
class Logged:
    """One reply of a log.

    Attributes:
        key: the question's own id there; place: its place in the set, where the log numbers them; neither is trusted
            without the text.
        prompt: the question, or the whole prompt.
        options: letter to text, where the log states them.
        reply: what the model wrote.
        target: the right answer as the harness knew it, where the log states one beside the place.
    """

    key: str | None
    place: int | None
    prompt: str
    reply: str
    options: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None


@dataclass(frozen=True)
class Log:
    """A file of replies: which harness wrote it, of which model, and its rows."""

    harness: str
    model: str
    rows: Filtered[Logged]


def read_log(path: Path) -> Log:
    """The replies of a file.

    Raises:
        EosinError: there is no such file, it is of no known layout, or holds no reply.
        MissingExtraError: a spreadsheet, without the package that reads them.
    """
    if not path.is_file():
        raise EosinError("There is no such file of predictions.", where=path)
    readers = {".jsonl": _lmms_eval, ".tsv": _tsv, ".xlsx": _xlsx, ".eval": _inspect_archive, ".json": _json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _unknown(path, f"the suffix {path.suffix!r}")
    log = reader(path)
    if not log.rows.kept:
        raise EosinError("This file holds no reply.", found=str(log.rows.reasons()) or "no rows", where=path)
    return log


def _unknown(path: Path, found: str) -> EosinError:
    return EosinError(
        "This is no file of predictions that can be read.",
        expected="*_samples_*.jsonl of lmms-eval, .xlsx or .tsv of VLMEvalKit, .eval or .json of inspect_ai",
        found=found,
        where=path,
    )


def _lmms_eval(path: Path) -> Log:
    outcomes: list[Kept[Logged] | Dropped] = []
    with path.open(encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            row = _object(line)
            if row is None:
                outcomes.append(Dropped(f"line {number}", "no JSON object", step="predictions"))
            elif "doc_id" not in row:
                raise _unknown(path, f"line {number} without doc_id")
            else:
                outcomes.append(_lmms_row(row, number))
    return Log("lmms-eval", path.parent.name or path.stem, filtered(outcomes))


def _lmms_row(row: Mapping[str, Any], number: int) -> Kept[Logged] | Dropped:
    reply = _first_text(row.get("filtered_resps")) or _first_text(row.get("resps"))
    name = f"line {number}"
    if reply is None:
        return Dropped(name, NO_REPLY, step="predictions")
    doc = _mapping(row.get("doc"))
    place = row["doc_id"] if isinstance(row["doc_id"], int) else None
    prompt = _first_text(row.get("input")) or str(doc.get("question") or "")
    key = next((str(doc[k]) for k in ("id", "question_id", "index", "idx") if doc.get(k) is not None), None)
    target = _first_text(row.get("target"))
    return Kept(Logged(key, place, prompt, reply, target=target))


def _first_text(value: Any) -> str | None:
    """The first text in lists of lists, as harnesses nest replies."""
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else None


def _tsv(path: Path) -> Log:
    try:  # the image column holds whole pictures
        with cells_up_to(2**30), path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            rows = [dict(r) for r in csv.DictReader(handle, delimiter="\t")]
    except csv.Error as exc:
        raise _unknown(path, f"a table that cannot be read ({exc})") from None
    return _vlmevalkit(path, rows)


def _xlsx(path: Path) -> Log:
    need("openpyxl", "exams")
    try:
        table = first_sheet(path)
    except Exception as exc:  # damaged archives fail in many ways
        raise _unknown(path, f"a spreadsheet that cannot be read ({type(exc).__name__})") from None
    header = [str(c) for c in table[0]] if table else []
    return _vlmevalkit(path, [dict(zip(header, r, strict=False)) for r in table[1:]])


def _vlmevalkit(path: Path, rows: list[dict[str, Any]]) -> Log:
    if not rows or "prediction" not in rows[0] or "index" not in rows[0]:
        found = ", ".join(str(k) for k in list(rows[0])[:12]) if rows else "an empty table"
        raise _unknown(path, f"columns {found}, without index and prediction")
    return Log("VLMEvalKit", path.stem, filtered(_table_row(r, i) for i, r in enumerate(rows)))


def _table_row(row: Mapping[str, Any], number: int) -> Kept[Logged] | Dropped:
    index = _cell(row.get("index"))
    reply = _cell(row.get("prediction"))
    if not reply:
        return Dropped(f"row {index or number}", NO_REPLY, step="predictions")
    options = {letter: text for letter in _LETTERS if (text := _cell(row.get(letter)))}
    return Kept(Logged(index or None, None, _cell(row.get("question")), reply, options))


def _cell(value: Any) -> str:
    """A cell as text. Whole numbers that a spreadsheet made floats are whole again; pandas' "nan" is nothing."""
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else str(value)
    text = "" if value is None else str(value)
    return "" if text == "nan" else text


def _json(path: Path) -> Log:
    """A JSON log of inspect_ai, or the single file in which earlier releases of lmms-eval wrote theirs."""
    found = _object(path.read_text("utf-8", errors="replace"))
    if found is None:
        raise _unknown(path, "no JSON object")
    if isinstance(found.get("samples"), list):
        return _inspect(path, found.get("eval"), found["samples"])
    if isinstance(found.get("logs"), list):
        rows = [r for r in found["logs"] if isinstance(r, dict) and "doc_id" in r]
        return Log("lmms-eval", path.parent.name or path.stem, filtered(_lmms_row(r, i) for i, r in enumerate(rows, 1)))
    raise _unknown(path, "neither samples nor logs in it")


def _inspect_archive(path: Path) -> Log:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            head = next((n for n in ("header.json", "_journal/start.json", "start.json") if n in names), None)
            about = _object(archive.read(head).decode("utf-8", "replace")) if head else None
            samples = [n for n in names if n.startswith("samples/") and n.endswith(".json")]
            return _inspect(path, (about or {}).get("eval"), (_member(archive, n) for n in samples))
    except NotImplementedError:
        raise EosinError(
            "This archive is packed in a way that is not read here.", where=path,
            next_step="inspect log convert --to json --output-dir DIR FILE, then give the .json",
        ) from None  # fmt: skip
    except (zipfile.BadZipFile, OSError, EOFError) as exc:
        raise _unknown(path, f"an archive that cannot be read ({type(exc).__name__})") from None


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """A sample of an archive, read into memory and written nowhere; one of absurd size is none."""
    if archive.getinfo(name).file_size > MAX_MEMBER_BYTES:
        return name
    return _object(archive.read(name).decode("utf-8", "replace")) or name


def _inspect(path: Path, about: Any, samples: Iterable[Any]) -> Log:
    model = about.get("model") if isinstance(about, Mapping) else None
    return Log("inspect_ai", str(model or path.stem), filtered(_inspect_rows(samples)))


def _inspect_rows(samples: Iterable[Any]) -> Iterator[Kept[Logged] | Dropped]:
    for number, sample in enumerate(samples, 1):
        if not isinstance(sample, Mapping):
            yield Dropped(str(sample)[:80] if isinstance(sample, str) else f"sample {number}", "no JSON object",
                          step="predictions")  # fmt: skip
            continue
        key = str(sample.get("id"))
        reply = _completion(_mapping(sample.get("output")))
        if sample.get("epoch", 1) != 1:
            yield Dropped(key, "a further epoch of a question", step="predictions")
        elif not reply:
            error = sample.get("error")
            yield Dropped(key, "the harness logged an error" if error else NO_REPLY, step="predictions")
        else:
            stated = sample.get("choices")
            choices = stated if isinstance(stated, list) else []
            options = dict(zip(_LETTERS, map(str, choices), strict=False))
            yield Kept(Logged(key, None, _asked(sample.get("input")), reply, options))


def _completion(output: Mapping[str, Any]) -> str:
    choices = output.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        message = choices[0].get("message")
        if isinstance(message, Mapping) and (text := _content(message.get("content"))):
            return text
    return str(output.get("completion") or "")


def _asked(value: Any) -> str:
    """The text of the last user message, or the input itself."""
    if isinstance(value, list):
        turns = [m for m in value if isinstance(m, Mapping) and m.get("role") == "user"]
        return _content(turns[-1].get("content")) if turns else ""
    return value if isinstance(value, str) else ""


def _content(value: Any) -> str:
    if isinstance(value, list):
        return "".join(str(p.get("text") or "") for p in value if isinstance(p, Mapping) and p.get("type") == "text")
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
