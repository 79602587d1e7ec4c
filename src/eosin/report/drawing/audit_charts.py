"""Charts of an audit."""

from __future__ import annotations

from collections.abc import Mapping

from eosin.report.drawing.figures import MUTED, SERIES, Chart, in_style


@in_style
def letters_chart(counts: Mapping[str, int]) -> str:
    """How often the right answer stands at each letter, with a line at equal shares."""
    names = sorted(counts)
    total = sum(counts.values())
    shares = [100 * counts[n] / total for n in names]
    told = ", ".join(f"{n} {s:.0f} %" for n, s in zip(names, shares, strict=True))
    chart = Chart("letters", f"Share of right answers by letter: {told}", (5.6, 1.9))
    chart.axes.bar(names, shares, color=SERIES[0], width=0.6)
    chart.axes.axhline(100 / len(names), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    chart.axes.set_ylabel("% of right answers")
    chart.axes.grid(axis="x", visible=False)
    return chart.svg()
