"""The summary of a run as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eosin.report.drawing.numbers import num, pair

if TYPE_CHECKING:
    from rich.table import Table

_PROBES = {
    "blank": "blank",
    "swapped": "swapped",
    "question_only": "question only",
    "options_shuffled": "shuffled",
}
_BASELINES = {
    "majority": "majority", "text_only": "text only", "colour_histogram": "colours only",
    "colour_forest": "colours, forest", "colour_texture": "colour and texture",
    "mean_features": "mean of patch features", "feature_extremes": "extremes of patch features",
    "attention_mil": "attention MIL", "nearest_image": "nearest image", "nearest_caption": "nearest caption",
}  # fmt: skip


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Stage by accuracy with its interval, probes and baselines, all in percent.

    Args:
        summary: the object of a run's summary.json; parts that are missing give empty cells.
    """
    from rich import box
    from rich.table import Table

    rows, baselines = list(_exam_rows(summary)), list(_baseline_rows(summary))
    probes = [p for p in _PROBES if any(p in _mapping(e.get("probes")) for _, _, e in rows)]
    has_exams = len({name for _, name, *_ in (*rows, *baselines) if name}) > 1
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        title="Accuracy in percent [95 % interval]",
        caption="Research use only, not for diagnosis.",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("stage", "exam") if has_exams else ("stage",):
        table.add_column(name, no_wrap=True)
    for name in ("accuracy", "balanced", *(_PROBES[p] for p in probes), "unparsed", "n"):
        table.add_column(name, justify="right", no_wrap=name != "question only")

    def add(name: str, exam_name: str, exam: Mapping[str, Any], style: str) -> None:
        found = _mapping(exam.get("probes"))
        cells = [name, exam_name] if has_exams else [name]
        cells += [_accuracy(exam), _share(exam.get("balanced_accuracy"))]
        cells += [_share(_of_probe(found.get(p))) for p in probes]
        table.add_row(*_plain(*cells, _share(exam.get("unparsed_rate")), _whole(exam.get("n"))), style=style)

    for row in rows:
        add(*row, "")
    table.add_section()
    for row in baselines:
        add(*row, "dim")
    return table


def _plain(*cells: str) -> Iterator[Any]:
    """Cells as plain text: names from a recipe are never read as terminal markup."""
    from rich.text import Text

    return (Text(c) for c in cells)


def _exam_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    stages = summary.get("stages")
    entries = [s for s in stages if isinstance(s, Mapping)] if isinstance(stages, list) else []
    base = summary.get("base")
    if isinstance(base, Mapping):
        entries.insert(0, {**base, "name": "base"})
    for stage in entries:
        name = str(stage.get("name", "?"))
        exams = {k: v for k, v in _mapping(stage.get("exams")).items() if isinstance(v, Mapping)}
        for i, (exam_name, exam) in enumerate(exams.items()):
            yield name if i == 0 else "", str(exam_name), exam
        if not exams:
            yield name, "", {}


def _baseline_rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for exam, found in _mapping(summary.get("baselines")).items():
        for name, baseline in _mapping(found).items():
            if isinstance(baseline, Mapping):
                yield _BASELINES.get(str(name), str(name)), str(exam), baseline


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _of_probe(value: Any) -> Any:
    return value.get("accuracy") if isinstance(value, Mapping) else value


def _share(value: Any) -> str:
    number = num(value)
    return "" if number is None else f"{100 * number:.1f}"


def _accuracy(exam: Mapping[str, Any]) -> str:
    ends = pair(exam.get("ci95"))
    tail = "" if ends is None else f" [{_share(ends[0])}, {_share(ends[1])}]"
    return _share(exam.get("accuracy")) + tail


def _whole(value: Any) -> str:
    number = num(value)
    return "" if number is None else f"{round(number)}"
