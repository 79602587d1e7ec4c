"""Exams on disk, of any number of models: what was asked, what was right, and which of them asked the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.evaluate.statistics.groups import GROUPED_BY

KIND = "eval"
PREDICTIONS = "predictions.jsonl"
_KEPT = ("correct", "tolerant_correct", "truncated")
_NAMES = ("group", "label", "predicted_label", *GROUPED_BY)
_NOT_IN_A_LABEL = {"stages", "checkpoint", "checkpoints", "runs", "evals", "exam", "samples", ""}


@dataclass(frozen=True)
class Examined:
    """One exam of one model.

    Attributes:
        folder: where the exam stands.
        model, exam: short labels.
        summary: its summary.json. record: of its manifest.
        rows: one a question, without the texts: id, correct, tolerant_correct, parsed (bool), truncated, group, label,
            predicted_label, the columns of `groups.GROUPED_BY`, and `asked`, a number that stands for the question with
            its options and answer.
    """

    folder: Path
    model: str
    exam: str
    summary: dict[str, Any]
    record: dict[str, Any]
    rows: list[dict[str, Any]]


def exam_folders(path: Path) -> list[Path]:
    """The exams that stand at a path: itself, its `exam`, or those of the folders in it.

    Empty where there are none, and for the folder of a run, whose exams belong to its stages.
    """
    if (path / "recipe.yaml").exists():
        return []
    for places in ([path], [path / "exam"], sorted(path.glob("*/exam")), sorted(path.glob("*/*/exam"))):
        found = [p for p in places if _is_exam(p)]
        if found:
            return found
    return []


def _is_exam(path: Path) -> bool:
    try:
        return store.exists(path) and store.read_object(path / store.MANIFEST).get("kind") == KIND
    except (EosinError, OSError):
        return False


def load_exams(folders: Sequence[Path]) -> list[Examined]:
    """Every exam, with labels that differ where models differ.

    Raises:
        EosinError: an exam that cannot be read, or the same folder twice.
    """
    places = [f.resolve() for f in folders]
    if len(set(places)) < len(places):
        raise EosinError("Exams to compare are given once each.", found=", ".join(map(str, folders)))
    found = []
    for folder in places:
        manifest = store.read_object(folder / store.MANIFEST)
        record = dict(manifest.get("record") or {})
        summary = store.read_object(folder / "summary.json")
        if (leaks := folder.parent / "leaks.json").is_file():
            summary.setdefault("leaks", store.read_object(leaks))
        model, exam = _model_label(summary, record), _exam_label(summary, record)
        found.append(Examined(folder, model, exam, summary, record, list(_slim(folder / PREDICTIONS))))
    return _told_apart(found)


def _slim(path: Path) -> Iterator[dict[str, Any]]:
    """Rows without their texts: an exam of 100,000 questions fits into little memory."""
    for row in stream(path):
        slim: dict[str, Any] = {name: bool(row.get(name)) for name in _KEPT}
        slim.update((n, sys.intern(v)) for n in _NAMES if isinstance(v := row.get(n), str))
        slim["id"] = str(row.get("id"))
        slim.setdefault("group", slim["id"])
        slim["parsed"] = row.get("parsed") is not None
        asked = [row.get("question"), row.get("choices"), row.get("answer")]
        slim["asked"] = hash(json.dumps(asked, sort_keys=True))
        yield slim


def stream(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON lines file, one at a time.

    Raises:
        EosinError: there is no such file, or a line of it is no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(number)
                yield row
    except (OSError, ValueError) as exc:
        raise EosinError(
            "The replies of an exam cannot be read.", expected="a JSON object a line", found=str(exc)[:120], where=path
        ) from None


def _model_label(summary: dict[str, Any], record: dict[str, Any]) -> str:
    engine = str(summary.get("engine") or "")
    if engine.startswith("server:"):
        return engine.removeprefix("server:").rpartition("@")[0] or engine
    if engine.startswith("predictions:"):
        return engine.removeprefix("predictions:")
    path = str(record.get("checkpoint") or engine.partition(":")[2] or "model")
    parts = [p for p in path.replace("\\", "/").split("/") if p not in _NOT_IN_A_LABEL]
    return "/".join(parts[-2:]) or path


def _exam_label(summary: dict[str, Any], record: dict[str, Any]) -> str:
    stated = record.get("exam") or summary.get("exam")
    if isinstance(stated, str) and stated:
        return stated
    parts = [p for p in str(record.get("samples") or "").replace("\\", "/").split("/") if p not in _NOT_IN_A_LABEL]
    return Path(parts[-1]).stem if parts else "exam"


def _told_apart(exams: list[Examined]) -> list[Examined]:
    """Two exams of one label get the name of their folder too."""
    labels = [(e.model, e.exam) for e in exams]
    told = []
    for e in exams:
        own = e.folder.parent.name if e.folder.name == "exam" else e.folder.name
        label = f"{e.model} ({own})" if labels.count((e.model, e.exam)) > 1 else e.model
        told.append(Examined(e.folder, label, e.exam, e.summary, e.record, e.rows))
    return told


def shared(one: Examined, other: Examined) -> tuple[list[dict[str, Any]], list[dict[str, Any]], int]:
    """Rows of the questions that both were asked in the same words, and how many ids stand for different questions."""
    theirs = {r["id"]: r for r in other.rows}
    pairs = [(r, theirs[r["id"]]) for r in one.rows if r["id"] in theirs]
    same = [(a, b) for a, b in pairs if a["asked"] == b["asked"]]
    return [a for a, _ in same], [b for _, b in same], len(pairs) - len(same)
