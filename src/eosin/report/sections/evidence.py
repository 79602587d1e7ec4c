"""Evidence of exams on the page and in the terminal: deletion, pointing, and maps of some slides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.images import decode
from eosin.report.drawing.numbers import count, num, pair, percent, plural
from eosin.report.drawing.pictures import Picture, data_uri
from eosin.report.records.load import ExamRun, Run
from eosin.report.words import stage_title

MAP_PX = 760
MAX_MAPS = 4
METHODS = {
    "sensitivity": "sensitivity of the patch features",
    "features": "gradient × centred patch features",
    "centred": "gradient × centred slide tokens",
    "gradient": "gradient × input on the slide tokens",
    "rollout": "attention rollout",
    "random": "random patches",
}
_TOPS = {"lesion": "as many as lie in the lesion", "top_1": "first 1 %", "top_5": "first 5 %", "top_10": "first 10 %"}


def evidence_sections(run: Run) -> list[dict[str, Any]]:
    """For each exam that measured evidence, the figures of the last stage that did, and its maps."""
    found = []
    for name in run.exam_names:
        with_it = [e for e in run.of_exam(name) if isinstance(e.summary.get("evidence"), Mapping)]
        if with_it:
            found.append(_section(run, with_it[-1], with_it))
    return found


def _section(run: Run, exam: ExamRun, runs: list[ExamRun]) -> dict[str, Any]:
    told = exam.summary["evidence"]
    folder = run.root / "evals" / exam.stage / exam.name / "evidence"
    return {
        "name": exam.name,
        "stage": stage_title(exam.stage),
        "sentence": _sentence(told),
        "deletion": _deletion_rows(told),
        "fractions": [percent(f, 0) for f in _list(_map(told.get("deletion")).get("fractions"))],
        "reread": _reread_lines(told),
        "pointing": [row for e in runs for row in _pointing_rows(e)],
        "notes": [f"{METHODS.get(k, k)}: {v}" for k, v in _map(told.get("notes")).items()],
        "left_out": _left_out(told),
        "maps": _maps(folder, told),
    }


def _sentence(told: Mapping[str, Any]) -> str:
    n = num(told.get("n"))
    if not n:
        return f"No evidence was measured: {told.get('reason') or 'no item could be used'}."
    of = "the model's own reply" if told.get("of") == "reply" else "the answer given the reasoning"
    of += "" if told.get("answer") == "own" else ", with the gold answer in its place"
    draws = plural(round(num(told.get("num_random")) or 0), "random draw")
    return f"Evidence for {of} on {plural(round(n), 'item')}; {draws} a fraction as control."


def _deletion_rows(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    deletion = _map(told.get("deletion"))
    rows = []
    for name in [k for k in METHODS if k in deletion]:
        scales = {s: _map(_map(deletion[name]).get(s)) for s in ("logprob", "probability")}
        rows.append(
            {
                "name": METHODS[name],
                "falls": [ratio(f) for f in _list(scales["logprob"].get("falls"))],
                "area": ratio(scales["logprob"].get("area")),
                "gap": ratio(scales["logprob"].get("area_minus_random"), signed=True),
                "probability_gap": ratio(scales["probability"].get("area_minus_random"), signed=True, digits=3),
                "n": count(_map(deletion[name]).get("n")),
            }
        )
    return rows


def _reread_lines(told: Mapping[str, Any]) -> list[str]:
    """What became of the answer when the model replied again without some patches."""
    found = _map(told.get("reread"))
    lines = []
    for place, fraction in enumerate(_list(found.get("fractions"))):
        best, chance, gap = (_at(found.get(k), place) for k in ("changed_best", "changed_random", "difference"))
        lines.append(
            f"Without the best-scored {percent(fraction, 0)} of the patches the model comes to another answer in "
            f"{percent(best.get('value'), 0)} of {count(found.get('n'))} items, without as many random ones in "
            f"{percent(chance.get('value'), 0)}; difference {ratio(gap, signed=True)}."
        )
    return lines


def _at(values: Any, place: int) -> Mapping[str, Any]:
    listed = _list(values)
    return _map(listed[place]) if place < len(listed) else {}


def _pointing_rows(exam: ExamRun) -> list[dict[str, Any]]:
    pointing = _map(_map(exam.summary["evidence"]).get("pointing"))
    rows = []
    for name in [k for k in METHODS if k in pointing]:
        own = _map(pointing[name])
        rows.append(
            {
                "stage": stage_title(exam.stage),
                "name": _scores(name),
                "expected": percent(own.get("expected")),
                "hits": percent(_map(own.get("lesion")).get("hits")),
                "ratios": [ratio(_map(own.get(t)).get("ratio")) for t in _TOPS],
                "n": count(own.get("n")),
            }
        )
    return rows


def ratio(value: Any, *, signed: bool = False, digits: int = 2) -> str:
    """A figure of an exam with its interval: "2.31 [1.80, 2.75]"."""
    found = _map(value)
    number, ends = num(found.get("value")), pair(found.get("ci95"))
    if number is None:
        return ""
    form = f"{{:{'+' if signed else ''}.{digits}f}}"
    tail = "" if ends is None else f" [{form.format(ends[0])},\u00a0{form.format(ends[1])}]"
    return (form.format(number) + tail).replace("-", "\u2212")


def _left_out(told: Mapping[str, Any]) -> list[str]:
    lines = [f"{plural(round(num(v) or 0), 'item')} not measured: {k}." for k, v in _map(told.get("skipped")).items()]
    points = _map(told.get("not_pointed"))
    lines += [f"{plural(round(num(v) or 0), 'item')} without pointing test: {k}." for k, v in points.items()]
    without = num(told.get("num_without_slide"))
    return lines + ([f"{plural(round(without), 'item')} of the exam show no slide."] if without else [])


def _maps(folder: Path, told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first maps of an exam; names that lead out of its folder are left out."""
    found = []
    for row in map(_map, _list(told.get("maps"))[:MAX_MAPS]):
        path = folder / str(row.get("picture") or "")
        try:
            if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
                continue
            image = decode(path.read_bytes(), path.name)
        except (EosinError, OSError, ValueError):
            continue
        found.append({"id": str(row.get("id")), "picture": Picture(data_uri(image, MAP_PX), size=image.size)})
    return found


def evidence_lines(told: Mapping[str, Any]) -> list[str]:
    """The figures in lines for the terminal."""
    if not told:
        return []
    lines = [_sentence(told)]
    for row in _deletion_rows(told):
        gap = f", minus random {row['gap']}" if row["gap"] else ""
        lines.append(f"deletion {row['name']:<40} fall of log p {row['area']}{gap}")
    lines += _reread_lines(told)
    for name, own in _map(told.get("pointing")).items():
        if isinstance(own, Mapping):
            hits = percent(_map(own.get("lesion")).get("hits"))
            against = f"hits {hits} against {percent(own.get('expected'))} expected"
            lines.append(f"pointing {_scores(name):<40} {against}, ratio {_lesion_ratio(own)}")
    return [*lines, *_left_out(told)]


def _scores(name: str) -> str:
    return "random scores" if name == "random" else METHODS.get(name, name)


def _lesion_ratio(own: Mapping[str, Any]) -> str:
    return ratio(_map(own.get("lesion")).get("ratio")) or "none"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
