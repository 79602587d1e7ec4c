"""Charts as inline SVG: one restrained style, real text, colours that follow the page's light or dark scheme."""

from __future__ import annotations

import functools
import io
import re
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
_MAX_DRAWN = 512

# Drawn colour -> CSS variable of the page. The drawn values are marks, replaced in the SVG text.
_VARIABLES = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--rule",
    "#040404": "--panel",
    "#0101f1": "--c1",
    "#0101f2": "--c2",
    "#0101f3": "--c3",
    "#0101f4": "--c4",
    "#0101f5": "--c5",
    "#0101f6": "--c6",
}
INK, MUTED, RULE, PANEL, *SERIES = _VARIABLES
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), "-", (0, (5, 2)))

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "eosin",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def short(text: object, limit: int = 30) -> str:
    """One line of plain text for a label."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "\u2026"


def in_style(draw: Callable[P, str]) -> Callable[P, str]:
    """Run a drawing function under the house style; the style of the caller's process is left as it was.

    What is drawn again from the same values in one process is remembered: a page that is built again draws only what
    has changed.
    """
    drawn: dict[Hashable, str] = {}

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> str:
        from matplotlib import rc_context

        try:
            key = _frozen((args, kwargs))
        except TypeError:
            key = None
        if key is not None and key in drawn:
            return drawn[key]
        with rc_context(_STYLE):
            found = draw(*args, **kwargs)
        if key is not None:
            if len(drawn) >= _MAX_DRAWN:
                drawn.clear()
            drawn[key] = found
        return found

    return styled


def _frozen(value: object) -> Hashable:
    """A key that is equal where all that is in the value is.

    Raises:
        TypeError: something in it may change without telling.
    """
    if value is None or isinstance(value, str | int | float | np.generic):
        return type(value), repr(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, Mapping):
        return tuple((_frozen(k), _frozen(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if is_dataclass(value) and not isinstance(value, type):
        return type(value), tuple(_frozen(getattr(value, f.name)) for f in fields(value))
    raise TypeError(type(value).__name__)


class Chart:
    """A figure of one panel that becomes inline SVG. To be used inside a function marked `in_style`.

    Args:
        name: prefix of all ids inside, unique on the page.
        alt: what the chart shows, in words.
        size: width and height in inches.
    """

    def __init__(self, name: str, alt: str, size: tuple[float, float]) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self.name, self.alt = name, alt
        self.figure: Figure = Figure(figsize=size, layout="constrained")
        self.canvas = FigureCanvasSVG(self.figure)
        self.figure.patch.set_alpha(0)
        self.axes: Axes = self.figure.add_subplot()
        self.axes.patch.set_alpha(0)
        self.axes.tick_params(length=0)

    def svg(self) -> str:
        """The chart as an <svg> element that scales with the page."""
        buffer = io.StringIO()
        self.figure.set_dpi(72)  # that of SVG
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            # savefig would draw everything once before, for layouts that this canvas does not need
            self.canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
        return _inline(buffer.getvalue(), self.name, self.alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """Fit an SVG file into a page: unique ids, page colours, page font, a name for screen readers."""
    from markupsafe import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", svg)
    svg = svg.replace("'DejaVu Sans'", "inherit")
    for drawn, variable in _VARIABLES.items():
        svg = svg.replace(f": {drawn}", f": var({variable})")
    head_end = svg.index(">")
    head = re.sub(r'\s(width|height|version|xmlns:xlink|xmlns)="[^"]*"', "", svg[:head_end])
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg).group(1))  # type: ignore[union-attr]
    head += (
        f' role="img" aria-label="{escape(alt)}" style="max-width:{width * 4 / 3:.0f}px"'
        ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    return head + svg[head_end:].strip()


@in_style
def accuracy_chart(rows: Sequence[Mapping[str, Any]], chance: float | None, name: str, alt: str) -> str:
    """Dot and whisker, a row a checkpoint or baseline.

    Args:
        rows: label, accuracy, ci95 (pair or None), balanced (or None), is_baseline; top row first.
    """
    chart = Chart(name, alt, (7.2, 0.9 + 0.36 * len(rows)))
    axes = chart.axes
    for i, row in enumerate(rows):
        colour = SERIES[2] if row["is_baseline"] else SERIES[0]
        accuracy_dot(axes, i, row["accuracy"], row["ci95"], colour)
        if row["balanced"] is not None:
            axes.plot(
                [row["balanced"]], [i], "D", markersize=8.5, zorder=4, fillstyle="none", color=SERIES[1], clip_on=False
            )
    accuracy_axis(axes, [r["label"] for r in rows], chance, "accuracy on held-out questions")
    return chart.svg()


def accuracy_dot(axes: Any, row: int, accuracy: float | None, ci95: Sequence[float] | None, colour: str) -> None:
    """Accuracy as a dot with its number at the edge, and its interval as a whisker; what is None is not drawn."""
    if ci95 is not None:
        axes.plot(ci95, [row, row], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
    if accuracy is not None:
        axes.plot([accuracy], [row], "o", markersize=7, color=colour, clip_on=False)
        axes.annotate(
            f"{100 * accuracy:.1f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", color=INK,
            annotation_clip=False,
        )  # fmt: skip


def accuracy_axis(axes: Any, names: Sequence[object], chance: float | None, label: str) -> None:
    """Rows from the top with their names, accuracy from 0 to 100 %, and a line where a guess would be."""
    from matplotlib.ticker import PercentFormatter

    if chance is not None:
        axes.axvline(chance, color=MUTED, linestyle=(0, (3, 3)), linewidth=1)
        axes.annotate(
            f"chance {100 * chance:.1f} %", (chance, 1.0), xycoords=("data", "axes fraction"), xytext=(3, 3),
            textcoords="offset points", color=MUTED, fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [short(n) for n in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(label)


@in_style
def split_chart(rows: Sequence[tuple[str, Mapping[str, float]]], parts: Sequence[str], name: str, alt: str) -> str:
    """Stacked bars: the share of each part in the step time of each stage."""
    from matplotlib.ticker import PercentFormatter

    chart = Chart(name, alt, (7.2, 1.1 + 0.42 * len(rows)))
    axes = chart.axes
    colours = {"data": SERIES[1], "compute": SERIES[0], "generate": SERIES[3], "rewards": SERIES[4], "judge": SERIES[5]}
    for i, (_, times) in enumerate(rows):
        total = sum(times.values())
        left = 0.0
        for part in parts:
            share = times.get(part, 0.0) / total
            axes.barh(i, share, left=left, height=0.62, color=colours.get(part, SERIES[2]), edgecolor=PANEL)
            left += share
    for part in parts:
        axes.barh([0], [0], color=colours.get(part, SERIES[2]), label=short(part))
    axes.set_yticks(range(len(rows)), [short(name) for name, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the time of a step")
    chart.figure.legend(loc="outside upper left", ncols=4)
    return chart.svg()
