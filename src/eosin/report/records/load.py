"""Read a run directory as far as it is there. What is missing or broken is noted in words, never guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import MANIFEST, read_json, read_jsonl
from eosin.core.store.yaml_text import parse_yaml
from eosin.report.records.splits import Split, read_splits

BASE = "base"
NO_EXAM = "No exam is on disk: nothing is known about accuracy yet."
_KIND_ORDER = ("warmup", "pretrain", "sft", "rl")


@dataclass
class StageRun:
    """One stage of training, as it stands on disk.

    Attributes:
        info: stage.json, or what summary.json says about the stage.
        state: "complete", "unfinished" (started, no whole checkpoint), "collapsed" (stopped for that), "failed" or
            "planned" (only in the recipe).
        checkpoint: path of the checkpoint relative to the run, or None.
    """

    name: str
    info: dict[str, Any]
    state: str
    checkpoint: str | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    by_class: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.info.get("kind") or self.name)


@dataclass
class ExamRun:
    """One exam after one stage ("base": before any training)."""

    stage: str
    name: str
    summary: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Run:
    """All that the report knows. `notes` says in words what could not be read."""

    root: Path
    name: str
    recipe: dict[str, Any]
    recipe_text: str
    provenance: list[dict[str, Any]]
    card: dict[str, Any]
    stages: list[StageRun]
    exams: list[ExamRun]
    baselines: dict[str, dict[str, Any]]
    record: dict[str, Any]
    splits: list[Split]
    state: str
    notes: list[str]

    @property
    def exam_names(self) -> list[str]:
        """Names of all exams, in the order in which they first appear."""
        return list(dict.fromkeys([e.name for e in self.exams] + list(self.baselines)))

    def of_exam(self, name: str) -> list[ExamRun]:
        """The same exam after each stage, in order of training."""
        return [e for e in self.exams if e.name == name]

    @property
    def result_exam(self) -> ExamRun | None:
        """What the first lines speak of: the first exam on held-out samples of the stage that the recipe names as its
        result (`report.result`), else of the last stage that was examined."""
        if not self.exams:
            return None
        report = self.recipe.get("report")
        named = report.get("result") if isinstance(report, Mapping) else None
        of_stage = [e for e in self.exams if e.stage == named]
        of_stage = of_stage or [e for e in self.exams if e.stage == self.exams[-1].stage]
        return next((e for e in of_stage if self.split_of(e.name) != "train"), of_stage[0])

    def split_of(self, exam: str) -> str:
        """The split that an exam uses, as the recipe says."""
        exams = self.recipe.get("exams")
        settings = exams.get(exam) if isinstance(exams, Mapping) else None
        return str(settings.get("split", "test")) if isinstance(settings, Mapping) else "test"

    def start_of(self, stage: str) -> str:
        """The stage whose checkpoint `stage` started from, as the recipe says; else the one before it."""
        stages = self.recipe.get("stages")
        settings = stages.get(stage) if isinstance(stages, Mapping) else None
        if isinstance(settings, Mapping) and settings.get("start"):
            return str(settings["start"])
        names = [BASE, *(s.name for s in self.stages)]
        return names[names.index(stage) - 1] if stage in names[1:] else BASE

    def exam_before(self, exam: ExamRun) -> ExamRun | None:
        """The same exam at the nearest examined checkpoint that this one was trained from."""
        stage = exam.stage
        for _ in range(len(self.stages) + 1):
            if stage == BASE:
                return None
            stage = self.start_of(stage)
            found = next((e for e in self.exams if (e.stage, e.name) == (stage, exam.name)), None)
            if found is not None:
                return found
        return None

    @property
    def is_phantom(self) -> bool:
        """Whether the data says that its images are made by procedure."""
        data = self.recipe.get("data")
        said = [self.card.get(k) for k in ("name", "source", "kind", "note")]
        if isinstance(data, Mapping):
            said += [data.get(k) for k in ("name", "source", "kind", "reader")]
        elif data is not None:
            said.append(data)
        return bool(self.card.get("phantom")) or any("phantom" in str(s).casefold() for s in said if s)


class _Reader:
    """Reads files of a run and notes what is missing or broken."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []

    def _broken(self, path: Path, exc: Exception) -> None:
        why = exc.message if isinstance(exc, EosinError) else str(exc)
        self.notes.append(f"{path.relative_to(self.root)} could not be read: {why}")

    def object(self, name: str, *, wanted: bool = True) -> dict[str, Any]:
        """A JSON object; {} where there is none."""
        path = self.root / name
        if not path.is_file():
            if wanted:
                self.notes.append(f"{name} is missing.")
            return {}
        try:
            value = read_json(path)
        except (EosinError, OSError) as exc:
            self._broken(path, exc)
            return {}
        if not isinstance(value, dict):
            self.notes.append(f"{name} could not be read: it is not a JSON object.")
            return {}
        return value

    def rows(self, name: str, *, wanted: bool = True) -> list[dict[str, Any]]:
        """Rows of a JSON lines file; [] where there is none."""
        path = self.root / name
        if not path.is_file():
            if wanted:
                self.notes.append(f"{name} is missing.")
            return []
        try:
            return [r for r in read_jsonl(path) if isinstance(r, dict)]
        except (EosinError, OSError, UnicodeDecodeError) as exc:
            self._broken(path, exc)
            return []

    def text(self, name: str) -> str:
        """Text of a file; "" where there is none."""
        path = self.root / name
        if not path.is_file():
            self.notes.append(f"{name} is missing.")
            return ""
        return path.read_text("utf-8", errors="replace")


def load(root: Path, summary: Mapping[str, Any] | None = None) -> Run:
    """Read a run directory.

    Args:
        summary: instead of what summary.json says.

    Raises:
        EosinError: there is no such folder, or it holds nothing of a run.
    """
    _check_is_run(root)
    reader = _Reader(root)
    summary = dict(summary) if summary is not None else reader.object("summary.json", wanted=False)
    recipe, text = _recipe(reader, summary)
    stages = _stages(reader, summary, recipe)
    exams = _exams(reader, summary, [s.name for s in stages])
    state = str(summary.get("state") or ("complete" if "state" not in summary and summary else "partial"))
    return Run(
        root=root,
        name=_name(recipe, summary, root),
        recipe=recipe,
        recipe_text=text,
        provenance=_provenance(reader),
        card=reader.object("samples/card.json"),
        stages=stages,
        exams=exams,
        baselines=_baselines(reader, summary),
        record=_record(reader, summary),
        splits=read_splits(root, reader.notes) if (root / "samples").is_dir() else [],
        state=state,
        notes=reader.notes,
    )


def _check_is_run(root: Path) -> None:
    marks = ("recipe.yaml", "summary.json", "samples", "stages", "evals")
    if any((root / m).exists() for m in marks):
        return
    raise EosinError(
        "This is not the folder of a run.",
        expected="a folder written by `eosin run`, with recipe.yaml, stages/ and evals/",
        found="a folder without them" if root.is_dir() else "no folder",
        where=root,
        next_step="eosin run RECIPE.yaml --out DIR, then eosin report DIR",
    )


def _recipe(reader: _Reader, summary: dict[str, Any]) -> tuple[dict[str, Any], str]:
    text = reader.text("recipe.yaml")
    try:
        value = parse_yaml(text, "recipe.yaml") if text else None
    except EosinError as exc:
        reader.notes.append(f"recipe.yaml could not be read: {exc.message} {exc.found or ''}".strip().splitlines()[0])
        value = None
    if not isinstance(value, dict):
        value = summary["recipe"] if isinstance(summary.get("recipe"), dict) else {}
    if not text and value:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return value, text


def _name(recipe: dict[str, Any], summary: dict[str, Any], root: Path) -> str:
    for name in (recipe.get("name"), summary.get("recipe"), summary.get("name")):
        if isinstance(name, str) and name:
            return name
    return root.resolve().name


def _provenance(reader: _Reader) -> list[dict[str, Any]]:
    path = reader.root / "provenance.json"
    if not path.is_file():
        reader.notes.append("provenance.json is missing.")
        return []
    try:
        value = read_json(path)
    except (EosinError, OSError) as exc:
        reader._broken(path, exc)
        return []
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _listed(value: Any) -> list[dict[str, Any]]:
    """Stage entries of a recipe or summary: a list of objects, or an object of objects by name."""
    if isinstance(value, Mapping):
        return [{"name": k, **(v if isinstance(v, Mapping) else {})} for k, v in value.items()]
    return [dict(v) for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _stages(reader: _Reader, summary: dict[str, Any], recipe: dict[str, Any]) -> list[StageRun]:
    summed = {str(s["name"]): s for s in _listed(summary.get("stages")) if s.get("name") not in (None, BASE)}
    planned = {str(s.get("name") or s.get("kind")): s for s in _listed(recipe.get("stages"))}
    folder = reader.root / "stages"
    on_disk = {p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "."} if folder.is_dir() else set()
    logged = _names_in_log(reader.root / "metrics.jsonl") if on_disk else []
    order = [*summed, *planned, *(n for n in logged if n in on_disk), *sorted(on_disk, key=_by_kind)]
    stages = [
        _stage(reader, name, summed.get(name, {}), planned.get(name, {}), name in on_disk)
        for name in dict.fromkeys(order)
    ]
    if not stages:
        reader.notes.append("No stage of training is on disk.")
    return stages


def _names_in_log(path: Path) -> list[str]:
    names: dict[str, None] = {}
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as handle:
            for line in handle:
                try:
                    names[str(json.loads(line)["stage"])] = None
                except (ValueError, KeyError, TypeError):
                    continue
    return list(names)


def _by_kind(name: str) -> tuple[int, str]:
    places = [i for i, kind in enumerate(_KIND_ORDER) if kind in name.casefold()]
    return (places[0] if places else len(_KIND_ORDER), name)


def _stage(reader: _Reader, name: str, summed: dict[str, Any], planned: dict[str, Any], on_disk: bool) -> StageRun:
    here = f"stages/{name}"
    if not on_disk and not summed:
        return StageRun(name, dict(planned), "planned")
    info = {**summed, **reader.object(f"{here}/stage.json", wanted=on_disk)}
    if planned.get("kind"):
        info.setdefault("kind", planned["kind"])
    whole = (reader.root / here / "checkpoint" / MANIFEST).is_file()
    if on_disk and (note := reader.object(f"{here}/collapse.json", wanted=False)):
        info["collapse"] = note
    if info.get("collapse") and not whole:
        state = "collapsed"
    elif info.get("error") or info.get("state") == "failed":
        state = "failed"
    else:
        state = "complete" if whole or (summed and not on_disk) else "unfinished"
    is_rl = "rl" in (str(info.get("kind")).casefold(), name.casefold())
    if state == "collapsed":
        info.setdefault("kind", "rl")
    return StageRun(
        name,
        info,
        state,
        checkpoint=f"{here}/checkpoint" if whole else None,
        metrics=reader.rows(f"{here}/metrics.jsonl", wanted=on_disk),
        rollouts=reader.rows(f"{here}/rollouts.jsonl", wanted=on_disk and is_rl),
        by_class=reader.rows(f"{here}/by_class.jsonl", wanted=False),  # runs of older versions have none
    )


def _exams(reader: _Reader, summary: dict[str, Any], stage_names: list[str]) -> list[ExamRun]:
    summed: dict[str, Mapping[str, Any]] = {}
    entries = _listed(summary.get("stages"))
    if isinstance(summary.get(BASE), Mapping):
        entries.insert(0, {"name": BASE, **summary[BASE]})
    for entry in entries:
        found = entry.get("exams")
        summed[str(entry.get("name"))] = found if isinstance(found, Mapping) else {}
    folder = reader.root / "evals"
    on_disk = [p.name for p in sorted(folder.iterdir()) if p.is_dir()] if folder.is_dir() else []
    exams: list[ExamRun] = []
    for stage in dict.fromkeys([BASE, *stage_names, *on_disk]):
        here = folder / stage
        names = [p.name for p in sorted(here.iterdir()) if p.is_dir()] if here.is_dir() else []
        for name in dict.fromkeys([*summed.get(stage, {}), *(n for n in names if not n.startswith("."))]):
            exams += _exam(reader, stage, name, summed.get(stage, {}).get(name), name in names)
    if not exams:
        reader.notes.append(NO_EXAM)
    return exams


def _exam(reader: _Reader, stage: str, name: str, summed: Any, on_disk: bool) -> list[ExamRun]:
    here = f"evals/{stage}/{name}"
    found = reader.object(f"{here}/summary.json") if on_disk else {}
    rows = reader.rows(f"{here}/predictions.jsonl") if on_disk else []
    found = found or (dict(summed) if isinstance(summed, Mapping) else {})
    return [ExamRun(stage, name, found, rows)] if found else []


def _baselines(reader: _Reader, summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = reader.object("baselines.json", wanted="baselines" not in summary) or summary.get("baselines")
    if not isinstance(found, Mapping):
        return {}
    return {str(k): dict(v) for k, v in found.items() if isinstance(v, Mapping)}


def _record(reader: _Reader, summary: dict[str, Any]) -> dict[str, Any]:
    if isinstance(summary.get("record"), dict):
        return dict(summary["record"])
    for pattern in ("samples/manifest.json", "base/manifest.json", "stages/*/checkpoint/manifest.json"):
        for path in sorted(reader.root.glob(pattern)):
            record = reader.object(str(path.relative_to(reader.root))).get("record")
            if isinstance(record, dict):
                return record
    reader.notes.append("No record of code, packages and hardware was found.")
    return {}
