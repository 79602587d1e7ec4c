"""Charts of several models: accuracy with intervals, reliability, risk against coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eosin.report.drawing.figures import DASHES, MUTED, SERIES, Chart, accuracy_axis, accuracy_dot, in_style, short

MAX_LINES = 6


@in_style
def models_chart(rows: Sequence[Mapping[str, Any]], chance: float | None, name: str, alt: str) -> str:
    """Dot and whisker, a row a model: accuracy with its 95 % interval."""
    chart = Chart(name, alt, (7.2, 0.9 + 0.36 * len(rows)))
    axes = chart.axes
    for i, row in enumerate(rows):
        accuracy_dot(axes, i, row["accuracy"], row["ci95"], SERIES[0])
    accuracy_axis(axes, [r["model"] for r in rows], chance, "accuracy")
    return chart.svg()


@in_style
def reliability_chart(lines: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], name: str, alt: str) -> str:
    """Accuracy against confidence, a line a model; on the diagonal a model is calibrated."""
    chart = Chart(name, alt, (5.0, 4.2))
    axes = chart.axes
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (3, 3)), linewidth=1)
    for place, (model, bins) in enumerate(lines[:MAX_LINES]):
        colour = SERIES[place % len(SERIES)]
        x, y = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        for b in bins:
            if b.get("ci95"):
                axes.plot([b["confidence"]] * 2, b["ci95"], color=colour, alpha=0.4, linewidth=2)
        axes.plot(
            x, y, "o", linestyle=DASHES[place % len(DASHES)], color=colour, label=short(model, 26), markersize=4.5
        )
    _shares(chart, "confidence", "accuracy")
    chart.figure.legend(loc="outside lower center", ncols=2)
    return chart.svg()


@in_style
def risk_chart(lines: Sequence[tuple[str, Sequence[Sequence[float]]]], name: str, alt: str) -> str:
    """Share of wrong answers against the share of items that are answered, the most confident first."""
    chart = Chart(name, alt, (5.0, 4.2))
    for place, (model, curve) in enumerate(lines[:MAX_LINES]):
        chart.axes.plot(
            [c for c, _ in curve], [r for _, r in curve], color=SERIES[place % len(SERIES)],
            linestyle=DASHES[place % len(DASHES)], label=short(model, 26), marker="o" if len(curve) < 12 else None,
            markersize=4,
        )  # fmt: skip
    chart.axes.axvline(0.8, color=MUTED, linestyle=(0, (3, 3)), linewidth=1)
    _shares(chart, "coverage: share of items answered", "risk: share of them wrong")
    chart.axes.set_ylim(bottom=0, top=None)
    chart.figure.legend(loc="outside lower center", ncols=2)
    return chart.svg()


def _shares(chart: Chart, x: str, y: str) -> None:
    from matplotlib.ticker import PercentFormatter

    chart.axes.set_xlim(0, 1)
    chart.axes.set_ylim(0, 1)
    for axis in (chart.axes.xaxis, chart.axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    chart.axes.set_xlabel(x)
    chart.axes.set_ylabel(y)
