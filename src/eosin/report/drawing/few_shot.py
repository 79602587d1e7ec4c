"""The curve of a few-shot exam: balanced accuracy over the number of training samples, with a band over subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eosin.report.drawing.figures import DASHES, SERIES, Chart, in_style, short

Point = tuple[float, float, float, float]


@in_style
def few_shot_chart(curves: Mapping[str, Sequence[Point]], name: str) -> str:
    """One line a kind of features; the band runs from the lowest to the highest subset.

    Args:
        curves: (samples, mean, lowest, highest) by kind. name: prefix of ids, unique on the page.
    """
    from matplotlib.ticker import PercentFormatter, ScalarFormatter

    ends = "; ".join(f"{k} {100 * v[-1][1]:.1f} % with {v[-1][0]:.0f} samples" for k, v in curves.items())
    chart = Chart(name, f"Few-shot balanced accuracy: {ends}", (7.2, 3.0))
    axes = chart.axes
    for i, (kind, points) in enumerate(curves.items()):
        x, mean, low, high = zip(*points, strict=True)
        colour = SERIES[i % len(SERIES)]
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, mean, color=colour, linestyle=DASHES[i % len(DASHES)], marker="o", markersize=4, label=short(kind))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.set_xticks([p[0] for p in next(iter(curves.values()))])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("training samples, all classes together")
    axes.set_ylabel("balanced accuracy, held out")
    axes.legend(loc="best")
    return chart.svg()
