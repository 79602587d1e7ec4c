"""The comparison of several runs as one page, one markdown table and one JSON file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from eosin.core.errors import EosinError, disk_errors
from eosin.core.store.artifacts import write_json, write_text_atomic
from eosin.evaluate.statistics.seeds import SeedChange
from eosin.report.drawing.curves import AXES
from eosin.report.drawing.figures import DASHES, MUTED, SERIES, Chart, in_style, short
from eosin.report.drawing.numbers import (
    count,
    duration,
    figure,
    percent,
    percent_with_interval,
    points,
    points_with_interval,
)
from eosin.report.pages.exams import compare_exams
from eosin.report.pages.frame import clean, stylesheet, templates
from eosin.report.records.compare import Comparison, Row, SeedStats, as_json, compare_runs
from eosin.report.records.exams import exam_folders
from eosin.report.records.over_seeds import SeedFigure
from eosin.report.sections.changed import NAMES

NOTE = "Research use only, not for diagnosis."
OVER_SEEDS = (
    "stage", "what", "from", "runs", "after, mean over seeds", "change, points", "by bootstrap", "worst seed",
    "classes lost", "read as",
)  # fmt: skip
OTHERS = ("stage", "figure", "after, mean over seeds", "change, points", "by bootstrap", "worst seed", "read as")
HEADER = (
    "stage", "what", "from", "runs", "accuracy before", "accuracy after", "over cases", "change, points",
    "sampled replies", "steps", "prompts", "time in training",
)  # fmt: skip


def compare(run_dirs: Sequence[Path], out: Path) -> Path:
    """Compare runs, or exams of any models; write index.html, table.md and table.json into `out`.

    Args:
        run_dirs: folders of runs; or folders that `eosin evaluate` wrote (`exam_folders`), for models x exams.

    Returns:
        The path of the page.

    Raises:
        EosinError: a folder is no run, no run has an exam, runs and exams are mixed, or the disk refuses.
    """
    exams = {d: exam_folders(d) for d in run_dirs}
    if any(exams.values()):
        others = [str(d) for d, found in exams.items() if not found]
        if others:
            raise EosinError("Runs and exams are compared apart.", expected="folders that `eosin evaluate` wrote",
                             found=", ".join(others))  # fmt: skip
        return compare_exams(list(dict.fromkeys(e for found in exams.values() for e in found)), out)
    found = compare_runs(run_dirs)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / "table.json", as_json(found))
    write_text_atomic(out / "table.md", clean(as_markdown(found)))
    page = out / "index.html"
    write_text_atomic(page, clean(render(found)))
    return page


def with_spread(value: SeedStats | None) -> str:
    """Shares over seeds: "87.5 % ± 1.2" with the standard deviation in points, or the share alone for one run."""
    if value is None:
        return ""
    return percent(value.mean) + ("" if value.sd is None else f" \u00b1\u00a0{100 * value.sd:.1f}")


def row_cells(row: Row) -> tuple[str, ...]:
    """The cells of a row under HEADER, as text."""
    changes = row.changes
    told = "" if changes is None else points(changes.mean)
    if row.change is not None:
        told += f" [{points(row.change.lo)},\u00a0{points(row.change.hi)}]"
    pooled = "" if row.pooled is None else f"[{100 * row.pooled.lo:.1f},\u00a0{100 * row.pooled.hi:.1f}]"
    return (
        row.key, row.title, row.start, count(len(row.entries)), with_spread(row.before), with_spread(row.accuracy),
        pooled, told, with_spread(row.sampled), _count(row.steps), _count(row.prompts),
        "" if row.seconds is None else duration(row.seconds.mean),
    )  # fmt: skip


def seed_cells(found: SeedFigure) -> tuple[str, str, str, str]:
    """Level over seeds, change with the interval to read, the hierarchical bootstrap's interval, worst seed."""
    level = percent_with_interval(found.level.mean, _within(found.level.interval))
    if found.change is None or found.worst is None:
        return level, "", "", ""
    bootstrap = found.change.bootstrap
    return (
        level,
        points_with_interval(found.change.mean, found.change.interval),
        "" if bootstrap is None else f"[{points(bootstrap[0])},\u00a0{points(bootstrap[1])}]",
        f"{points(found.worst[1])} ({found.worst[0]})",
    )


def _within(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    """An interval of a share, which lies in 0..1 whatever Student's t says."""
    return None if ends is None else (max(0.0, ends[0]), min(1.0, ends[1]))


def over_seeds_cells(row: Row) -> tuple[str, ...] | None:
    """The cells of a row under OVER_SEEDS; None where no predictions are on disk."""
    if row.headline is None:
        return None
    lost = "; ".join(f"{label} ({', '.join(runs)})" for label, runs in row.lost.items())
    lost = lost or ("none" if row.headline.change is not None and row.headline.name == "balanced_accuracy" else "")
    runs = count(len(row.headline.level.by_seed))
    return (row.key, row.title, row.start, runs, *seed_cells(row.headline), lost, row.headline.read_as)


def other_cells(row: Row) -> list[tuple[str, ...]]:
    """The rows of a stage under OTHERS: every figure but the headline."""
    found = [f for f in row.figures.values() if f is not row.headline]
    return [(row.key, NAMES[f.name], *seed_cells(f), f.read_as) for f in found]


def headline_of(rows: Sequence[Row]) -> str:
    """What the first table is of."""
    return next((NAMES[r.headline.name] for r in rows if r.headline is not None), NAMES["accuracy"])


def table_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of a table, without the columns that no row fills."""
    cells = [row_cells(r) for r in rows]
    used = [i for i in range(len(HEADER)) if any(c[i] for c in cells)]
    return [HEADER[i] for i in used], [[c[i] for i in used] for c in cells]


def _count(value: SeedStats | None) -> str:
    if value is None:
        return ""
    return count(value.mean) + ("" if not value.sd else f" \u00b1\u00a0{count(value.sd)}")


def as_markdown(found: Comparison) -> str:
    """Tables for a document; every figure is said once, with what its spread is."""
    lines = []
    for exam, rows in found.tables.items():
        heading = f"Exam \u201c{exam}\u201d"
        over = [c for c in map(over_seeds_cells, rows) if c is not None]
        lines += _table(f"{heading}: {headline_of(rows)} over seeds", OVER_SEEDS, over)
        lines += _table(f"{heading}: other figures over seeds", OTHERS, [c for r in rows for c in other_cells(r)])
        lines += _table(f"{heading}: accuracy, and what it took", *table_cells(rows))
    lines.append(
        "Over seeds: mean over runs with its 95 % interval over seeds and cases, from components of variance "
        "(Student's t). By bootstrap: the hierarchical bootstrap's, which is too narrow where seeds differ much, and "
        "too wide where single replies do. Change: from the checkpoint in the column \u201cfrom\u201d, paired. Fewer "
        "than five seeds show no gain. "
        "Accuracy: mean over runs \u00b1 standard deviation over runs, in points. Over cases: 95 % interval of that "
        "mean by a bootstrap over cases, the runs as they are. Change: from the checkpoint in the column "
        f"\u201cfrom\u201d, on the same questions, with such an interval. {NOTE}"
    )
    lines += ["", *(f"- {n}" for n in found.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _table(heading: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    if not cells:
        return []
    return [heading, "", _line(header), _line(["---"] * len(header)), *map(_line, cells), ""]


def _line(cells: Sequence[str]) -> str:
    plain = (" ".join(str(c).split()).replace("|", "\\|") for c in cells)
    return "| " + " | ".join(plain) + " |"


def render(found: Comparison) -> str:
    """The page as HTML."""
    names = list(dict.fromkeys(r.name for r in found.runs))
    return (
        templates()
        .get_template("compare.html.j2")
        .render(
            css=stylesheet(),
            title=" and ".join(names),
            runs=_run_rows(found),
            is_phantom=any(r.is_phantom for r in found.runs),
            notes=found.notes,
            exams=[_exam(found, e, i) for i, e in enumerate(found.tables)],
            curves=_curve_charts(found),
        )
    )


def _run_rows(found: Comparison) -> list[dict[str, str]]:
    return [
        {
            "folder": r.root.name,
            "recipe": r.name,
            "seed": str(r.recipe.get("seed", "not recorded")),
            "state": r.state,
            "date": str(r.record.get("created") or "not recorded")[:10],
            "commit": str((r.record.get("code") or {}).get("commit") or "not recorded")[:12]
            if isinstance(r.record.get("code"), Mapping)
            else "not recorded",
        }
        for r in found.runs
    ]


def _exam(found: Comparison, exam: str, place: int) -> dict[str, Any]:
    rows = found.tables[exam]
    header, cells = table_cells(rows)
    over = [c for c in map(over_seeds_cells, rows) if c is not None]
    order = {r.key: i for i, r in enumerate(r for r in rows if r.start)}
    costs = [c for c in ("prompts", "seconds") if any(getattr(r, c) is not None for r in rows)]
    return {
        "name": exam,
        "headline": headline_of(rows),
        "over_header": OVER_SEEDS,
        "over": over,
        "others_header": OTHERS,
        "others": [c for r in rows for c in other_cells(r)],
        "changes": Markup(_change_chart(rows, f"change{place}", exam)),
        "header": header,
        "rows": cells,
        "each": [e for r in rows for e in _each(found, r)],
        "chart": Markup(_level_chart(rows, f"accuracy{place}", exam)),
        "costs": [Markup(_cost_chart(rows, order, c, f"cost{place}-{c}", exam)) for c in costs],
        "keys": [r.key for r in rows if any(r.key == a for a, _ in found.differences[exam])],
        "differences": {
            f"{a}\n{b}": {
                "text": points_with_interval(c.mean, c.interval),
                "is_clear": c.is_clear,
            }
            for (a, b), c in found.differences[exam].items()
        },
    }


def _each(found: Comparison, row: Row) -> list[tuple[str, ...]]:
    """One line a run of a stage: accuracy before and after with their own intervals."""
    lines: list[tuple[str, ...]] = []
    for e in row.entries:
        before = "" if e.before is None else _with_interval(e.before.summary)
        change = "" if e.change is None else points_with_interval(e.change.difference, (e.change.lo, e.change.hi))
        run = found.runs[e.run]
        state = "" if e.info is None or e.info.state == "complete" else e.info.state
        seed = str(run.recipe.get("seed", ""))
        lines.append((row.key, seed, run.root.name, before, _with_interval(e.exam.summary), change, state))
    return lines


def _with_interval(summary: Mapping[str, Any]) -> str:
    return percent_with_interval(summary.get("accuracy"), summary.get("ci95"))


@in_style
def _level_chart(rows: Sequence[Row], name: str, exam: str) -> str:
    """A row a stage, of the headline's figure: every run a dot, their mean a stroke with its interval."""
    shown = [(r.key, r.headline.level) for r in rows if r.headline is not None]
    title = headline_of(rows).capitalize()
    told = "; ".join(f"{key} {percent_with_interval(found.mean, _within(found.interval))}" for key, found in shown)
    chart = Chart(name, f"{title} in the exam {exam} over runs: {told}.", (7.2, 0.9 + 0.4 * len(shown)))
    _dots(chart, shown, lambda found: percent_with_interval(found.mean, None))
    chart.axes.set_xlim(0, 1)
    chart.axes.set_xlabel(f"{headline_of(rows)} on held-out questions")
    return chart.svg()


@in_style
def _change_chart(rows: Sequence[Row], name: str, exam: str) -> str:
    """The same of the change from the start; "" where no stage has any."""
    shown = [(r.key, c) for r in rows if r.headline is not None and (c := r.headline.change) is not None]
    if not shown:
        return ""
    title = headline_of(rows)
    told = "; ".join(f"{key} {points_with_interval(found.mean, found.interval)} points" for key, found in shown)
    chart = Chart(name, f"Change of {title} in the exam {exam} over runs: {told}.", (7.2, 0.9 + 0.4 * len(shown)))
    _dots(chart, shown, lambda found: points(found.mean))
    chart.axes.axvline(0, color=MUTED, linewidth=1)
    chart.axes.margins(x=0.08)
    chart.axes.set_xlabel(f"change of {title} from the stage's start")
    return chart.svg()


def _dots(chart: Chart, shown: Sequence[tuple[str, SeedChange]], tell: Callable[[SeedChange], str]) -> None:
    from matplotlib.ticker import PercentFormatter

    axes = chart.axes
    for i, (_, found) in enumerate(shown):
        if found.interval is not None:
            axes.plot(found.interval, [i, i], color=SERIES[0], linewidth=4, alpha=0.35)
        axes.plot(
            found.by_seed, [i] * len(found.by_seed), "o", color=SERIES[1], markersize=5, alpha=0.75, clip_on=False
        )
        axes.plot([found.mean], [i], "|", color=SERIES[0], markersize=17, markeredgewidth=2.6, clip_on=False)
        axes.annotate(tell(found), (1.02, i), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axes.set_yticks(range(len(shown)), [short(key) for key, _ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=False, axis="y")


_COSTS = {"prompts": "prompts seen in the stage", "seconds": "seconds of training in the stage"}


@in_style
def _cost_chart(rows: Sequence[Row], order: Mapping[str, int], cost: str, name: str, exam: str) -> str:
    """Accuracy after a stage against what the stage took: a point a run."""
    from matplotlib.ticker import PercentFormatter

    chart = Chart(name, f"Accuracy in the exam {exam} against {_COSTS[cost]}.", (5.4, 3.6))
    for row in rows:
        spent = getattr(row, cost)
        if row.key not in order or spent is None or len(spent.values) != len(row.accuracy.values):
            continue
        i = order[row.key]
        marker = "osD^vP*X"[i % 8]
        chart.axes.plot(
            spent.values,
            row.accuracy.values,
            marker,
            color=SERIES[i % len(SERIES)],
            label=short(row.key, 22),
            markersize=7,
        )
    chart.axes.set_xlabel(_COSTS[cost])
    chart.axes.set_ylabel("accuracy after it")
    chart.axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    chart.axes.margins(0.08)
    chart.figure.legend(loc="outside lower center", ncols=3)
    return chart.svg()


def _curve_charts(found: Comparison) -> list[Markup]:
    """Held-out accuracy while training, against prompts, time and steps; stages that logged it only."""
    charts = []
    for i, axis in enumerate(("prompts_seen", "train_seconds", "step")):
        if any(axis in p for runs in found.curves.values() for points in runs for p in points):
            charts.append(Markup(_curve_chart(found.curves, axis, f"valid{i}")))
    return charts


@in_style
def _curve_chart(curves: Mapping[str, list[list[dict[str, float]]]], axis: str, name: str) -> str:
    from matplotlib.ticker import PercentFormatter

    ends = [f"{k} from {_mean_at(r, 0)} to {_mean_at(r, -1)}" for k, r in curves.items()]
    chart = Chart(name, f"Held-out accuracy over {AXES[axis]}: {'; '.join(ends)}.", (5.4, 3.6))
    for i, (key, runs) in enumerate(curves.items()):
        colour, dash = SERIES[i % len(SERIES)], DASHES[i % len(DASHES)]
        lines = [_line_of(points, axis) for points in runs]
        lines = [(x, y) for x, y in lines if len(x)]
        for x, y in lines if len(lines) > 1 else ():
            chart.axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.3)
        x, y = mean_line(lines)
        chart.axes.plot(x, y, color=colour, linestyle=dash, label=short(key, 22), marker="." if len(x) < 12 else None)
    chart.axes.set_xlabel(AXES[axis])
    chart.axes.set_ylabel("held-out accuracy, greedy")
    chart.axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    chart.figure.legend(loc="outside lower center", ncols=3)
    return chart.svg()


def _mean_at(runs: Sequence[Sequence[Mapping[str, float]]], place: int) -> str:
    return figure(float(np.mean([r[place]["valid_accuracy"] for r in runs])))


def _line_of(points: Sequence[Mapping[str, float]], axis: str) -> tuple[np.ndarray, np.ndarray]:
    own = [p for p in points if axis in p]
    return np.array([p[axis] for p in own]), np.array([p["valid_accuracy"] for p in own])


def mean_line(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of several curves, as far as all of them go, each taken as straight between its points."""
    if not lines:
        return np.array([]), np.array([])
    low, high = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    places = np.unique(np.concatenate([x for x, _ in lines]))
    places = places[(places >= low) & (places <= high)]
    return places, np.mean([np.interp(places, x, y) for x, y in lines], axis=0)
