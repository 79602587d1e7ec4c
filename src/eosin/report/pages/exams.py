"""Several models on several exams as one page, one markdown table and one JSON file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from eosin.core.errors import EosinError, disk_errors
from eosin.core.formats import iter_samples
from eosin.core.images import load_image
from eosin.core.nouns.sample import ImageBytes, ImageFile, Sample
from eosin.core.store.artifacts import write_json, write_text_atomic
from eosin.report.drawing.exam_charts import models_chart, reliability_chart, risk_chart
from eosin.report.drawing.numbers import count, percent, percent_with_interval
from eosin.report.drawing.pictures import Picture, data_uri
from eosin.report.pages.frame import clean, stylesheet, tag_classes, templates
from eosin.report.records.exams import PREDICTIONS, Examined, load_exams, stream
from eosin.report.sections import exams as parts
from eosin.report.sections.replies import KNOWN_TAGS, pieces

NOTE = "Research use only, not for diagnosis."
FAILURES = 6
MAX_SEARCHED = 20_000
_REPLY_CHARS = 700


def compare_exams(folders: Sequence[Path], out: Path) -> Path:
    """Compare exams; write index.html, table.md and table.json into `out`.

    Args:
        folders: of exams (kind "eval"), of any models; those of one name and the same questions are compared in pairs.

    Returns:
        The path of the page.

    Raises:
        EosinError: an exam that cannot be read, or the disk refuses.
    """
    exams = load_exams(folders)
    names = list(dict.fromkeys(e.exam for e in exams))
    by_name = {n: [e for e in exams if e.exam == n] for n in names}
    paired = parts.paired_rows(exams)
    scores = {n: [parts.score_row(e) for e in own] for n, own in by_name.items()}
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / "table.json", {"exams": scores, "paired": [parts.as_json(p) for p in paired], "note": NOTE})
    write_text_atomic(out / "table.md", clean(_markdown(scores, paired)))
    page = templates().get_template("exams.html.j2").render(
        css=stylesheet(),
        tag_class=tag_classes(KNOWN_TAGS),
        matrix=_matrix(scores),
        notes=_notes(exams, paired),
        models=[_model_row(e) for e in exams],
        exams=[_section(n, by_name[n], scores[n], paired, i) for i, n in enumerate(names)],
        num_pairs=len(paired),
    )  # fmt: skip
    write_text_atomic(out / "index.html", clean(page))
    return out / "index.html"


def _matrix(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Models down, exams across."""
    models = list(dict.fromkeys(r["model"] for rows in scores.values() for r in rows))
    cells = {
        (n, r["model"]): percent_with_interval(r["accuracy"], r["ci95"]) for n, rows in scores.items() for r in rows
    }
    return {"exams": list(scores), "rows": [(m, *(cells.get((n, m), "") for n in scores)) for m in models]}


def _section(
    name: str, own: Sequence[Examined], scores: Sequence[Mapping[str, Any]], paired: Sequence[parts.Paired], place: int
) -> dict[str, Any]:
    header, rows = parts.score_table(scores)
    chances = {r["chance"] for r in scores}
    told = "; ".join(f"{r['model']} {percent_with_interval(r['accuracy'], r['ci95'])}" for r in scores)
    chance = next(iter(chances)) if len(chances) == 1 else None
    apart = [r["smallest_difference"] for r in scores if r["smallest_difference"] is not None]
    return {
        "name": name,
        "header": header,
        "rows": rows,
        "chart": Markup(models_chart(scores, chance, f"exam{place}", f"Accuracy in the exam {name}: {told}.")),
        "power": percent(max(apart)) if apart else "",
        "paired_header": parts.PAIRED,
        "paired": [(p.is_clear, parts.paired_cells(p)) for p in paired if p.exam == name],
        "groups": parts.group_tables(own),
        "probes": parts.probe_table(own),
        "draws_header": parts.DRAWS,
        "draws": parts.draw_rows(own),
        "calibration_header": parts.CALIBRATION,
        "calibration": parts.calibration_rows(own),
        "calibration_charts": _calibration_charts(own, name, place),
        "failures": _failures(own),
    }


def _calibration_charts(own: Sequence[Examined], name: str, place: int) -> list[Markup]:
    found = [(e.model, told) for e in own for _, told in parts.calibrations(e)[:1]]
    if not found:
        return []
    bins = [(model, told["reliability"]) for model, told in found]
    curves = [(model, told["risk_coverage"]) for model, told in found]
    return [
        Markup(reliability_chart(bins, f"reliability{place}", f"Accuracy against confidence in the exam {name}.")),
        Markup(risk_chart(curves, f"risk{place}", f"Risk against coverage in the exam {name}.")),
    ]


def _failures(own: Sequence[Examined]) -> list[dict[str, Any]]:
    """Questions that most models answered wrongly, a new case before a known one, with every model's reply."""
    wrong: Counter[str] = Counter(r["id"] for e in own for r in e.rows if not r["correct"])
    group = {r["id"]: r["group"] for e in own for r in e.rows}
    chosen: list[str] = []
    seen: set[str] = set()
    ordered = sorted(wrong, key=lambda i: (-wrong[i], i))
    for again in (False, True):
        for id in ordered:
            if len(chosen) < FAILURES and id not in chosen and (again or group[id] not in seen):
                chosen.append(id)
                seen.add(group[id])
    replies = {e.model: _texts(e.folder / PREDICTIONS, set(chosen)) for e in own}
    pictures = _pictures(own, set(chosen))
    return [_failure(id, wrong[id], own, replies, pictures) for id in chosen]


def _texts(path: Path, wanted: set[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if wanted:
        for row in stream(path):
            if str(row.get("id")) in wanted:
                found[str(row["id"])] = row
                if len(found) == len(wanted):
                    break
    return found


def _failure(
    id: str, num_wrong: int, own: Sequence[Examined], replies: Mapping[str, Mapping[str, Mapping[str, Any]]],
    pictures: Mapping[str, Picture],
) -> dict[str, Any]:  # fmt: skip
    rows = {e.model: replies[e.model][id] for e in own if id in replies[e.model]}
    first = next(iter(rows.values()))
    choices = first.get("choices") or {}
    gold = str(first.get("answer"))
    return {
        "id": id,
        "picture": pictures.get(id, Picture(None, "the samples of this exam are not at hand")),
        "question": str(first.get("question") or ""),
        "options": [f"{letter}. {text}" for letter, text in choices.items()],
        "gold": f"{gold}. {choices[gold]}" if gold in choices else gold,
        "told": f"{num_wrong} of {len(rows)} wrong",
        "replies": [_reply(model, row, choices) for model, row in rows.items()],
    }


def _reply(model: str, row: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    parsed = row.get("parsed")
    said = f"unparsed: {row.get('unparsed_reason')}" if parsed is None else str(parsed)
    if isinstance(parsed, str) and parsed in choices:
        said = f"{parsed}. {choices[parsed]}"
    text = str(row.get("reply") or "")
    return {
        "model": model, "said": said, "is_right": bool(row.get("correct")),
        "pieces": pieces(text if len(text) <= _REPLY_CHARS else text[:_REPLY_CHARS] + " \u2026"),
    }  # fmt: skip


def _pictures(own: Sequence[Examined], wanted: set[str]) -> dict[str, Picture]:
    """First images of the wanted questions, from the samples that the exam's record names, where they still stand."""
    place = next((p for e in own if (p := Path(str(e.record.get("samples") or ""))).exists() and p.name), None)
    if place is None or not wanted:
        return {}
    found: dict[str, Picture] = {}
    try:
        for sample in _first(iter_samples(place), MAX_SEARCHED):
            if sample.id in wanted:
                found[sample.id] = _picture(sample)
                if len(found) == len(wanted):
                    break
    except EosinError:
        return found
    return found


def _first(outcomes: Iterable[Any], most: int) -> Iterable[Sample]:
    for number, outcome in enumerate(outcomes):
        if number >= most:
            return
        value = getattr(outcome, "value", outcome)
        if isinstance(value, Sample):
            yield value


def _picture(sample: Sample) -> Picture:
    if not sample.images or not isinstance(sample.images[0], ImageFile | ImageBytes):
        return Picture(None, "a slide" if sample.images else "this sample has no image")
    try:
        image = load_image(sample.images[0])
    except EosinError as exc:
        return Picture(None, exc.message)
    return Picture(data_uri(image), size=image.size)


def _model_row(e: Examined) -> dict[str, str]:
    decoding = e.summary.get("decoding") or {}
    return {
        "model": e.model,
        "exam": e.exam,
        "engine": str(e.summary.get("engine") or "not recorded"),
        "grammar": str(e.summary.get("grammar") or ""),
        "tokens": count(decoding.get("max_new_tokens")) if decoding else "",
        "input": "; ".join(f"{k} {v}" for k, v in (e.summary.get("input_policy") or {}).items()),
        "date": str(e.record.get("created") or "not recorded")[:10],
    }


def _notes(exams: Sequence[Examined], paired: Sequence[parts.Paired]) -> list[str]:
    """What a reader has to know before reading the tables."""
    notes = [
        f"{p.exam}: {p.num_other_questions} ids stand for other questions with {p.one} than with {p.other}; these are "
        "not compared."
        for p in paired if p.num_other_questions
    ]  # fmt: skip
    for name in dict.fromkeys(e.exam for e in exams):
        sizes = {e.model: len(e.rows) for e in exams if e.exam == name}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{m} {n}" for m, n in sizes.items())
            notes.append(f"{name}: the models were not scored on equally many questions ({told}). Pairs share theirs.")
        forms = {str(e.summary.get("grammar")) for e in exams if e.exam == name}
        if len(forms) > 1:
            notes.append(f"{name}: the models were asked in different forms of reply ({', '.join(sorted(forms))}).")
    for e in exams:
        if (e.summary.get("scored") or {}).get("same_judge"):
            notes.append(f"{e.exam}: {e.model} is graded by the judge that also gave its rewards (--allow-same-judge).")
        leaks = e.summary.get("leaks")
        if isinstance(leaks, Mapping) and leaks.get("num_leaked"):
            notes.append(f"{e.exam}: {leaks['num_leaked']} questions leak from the training samples of {e.model}.")
    return notes


def _markdown(scores: Mapping[str, Sequence[Mapping[str, Any]]], paired: Sequence[parts.Paired]) -> str:
    lines: list[str] = []
    for name, rows in scores.items():
        lines += [f"Exam \u201c{name}\u201d", "", *_table(*parts.score_table(rows)), ""]
        own = [parts.paired_cells(p) for p in paired if p.exam == name]
        lines += [*_table(parts.PAIRED, own), ""] if own else []
    lines.append(
        "Accuracy: strict reading, 95 % interval by a bootstrap over clusters. p, corrected: Holm, over all "
        f"{len(paired)} comparisons of this page. {NOTE}"
    )
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(str(c).split()).replace("|", "\\|") for c in cells) + " |"

    return [line(header), line(["---"] * len(header)), *map(line, rows)]
