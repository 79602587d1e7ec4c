"""Curves of a stage over its steps: which panels there are, and how each is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eosin.report.figures import DASHES, SERIES, Chart, in_style, short
from eosin.report.numbers import figure, num

MAX_POINTS = 300
_SMOOTH_FROM = 40
_NOT_CURVES = {"stage", "step", "seconds", "time", "epoch"}


@dataclass(frozen=True)
class Panel:
    """One small chart: `keys` are the logged names, each a line."""

    title: str
    unit: str
    keys: tuple[str, ...]
    is_share: bool = False
    is_small: bool = False


_FIXED = (
    Panel("Loss", "nats per token", ("loss", "eval_loss")),
    Panel("Reward, mean", "reward", ("reward",)),
    Panel("Spread of reward", "standard deviation in a group", ("reward_std",)),
    Panel("Groups without variance", "share of groups", ("frac_zero_std",), is_share=True),
    Panel("Length of a completion", "tokens", ("completion_length",)),
    Panel("Truncated completions", "share of completions", ("truncated_rate",), is_share=True),
    Panel("KL to the starting policy", "nats per token", ("kl",)),
    Panel("Entropy of the policy", "nats per token", ("entropy",)),
    Panel("Accuracy while training", "share right", ("accuracy", "eval_accuracy"), is_share=True),
)
_LAST = Panel("Learning rate", "per step", ("learning_rate",), is_small=True)
_MAX_OTHERS = 4
_NOISE = re.compile(r"/|runtime|per_second|flos|^num_tokens$|^train_|^step_time$")  # logged, but no curve to read
_IS_CLASSIFIER = Panel("Loss", "cross-entropy, nats", ("loss", "eval_loss"))


@dataclass(frozen=True)
class Drawn:
    """A panel as SVG, and whether it is drawn small."""

    svg: str
    is_small: bool


def stage_curves(rows: Sequence[Mapping[str, Any]], stage: str, kind: str, prefix: str) -> list[Drawn]:
    """All panels of a stage for which there is at least one figure.

    Args:
        rows: lines of metrics.jsonl.
        prefix: start of the ids inside the SVGs, unique on the page.
    """
    series = _series(rows)
    drawn = []
    for i, panel in enumerate(_panels(series, kind)):
        lines = {k: series[k] for k in panel.keys if k in series}
        if lines:
            drawn.append(Drawn(_draw(panel, lines, stage, f"{prefix}-{i}"), panel.is_small))
    return drawn


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Figures by key, sorted by step. A step that was logged twice (a resumed run) counts once, the last time."""
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        step = num(row.get("step"))
        if step is None:
            continue
        for key, value in row.items():
            number = num(value)
            if key not in _NOT_CURVES and number is not None:
                points.setdefault(key, {})[step] = number
    series = {}
    for key, values in points.items():
        steps = sorted(values)
        series[key] = (np.array(steps), np.array([values[s] for s in steps]))
    return series


def _panels(series: Mapping[str, Any], kind: str) -> list[Panel]:
    terms = tuple(k for k in series if k.startswith("reward/") and k.count("/") == 1)
    fixed = list(_FIXED)
    if kind == "warmup":
        fixed[0] = _IS_CLASSIFIER
    panels = [*fixed[:2], Panel("Reward, each term", "mean before weighting", terms), *fixed[2:]]
    known = {k for p in panels for k in p.keys} | set(_LAST.keys)
    others = [k for k in series if k not in known and not _NOISE.search(k)][:_MAX_OTHERS]
    panels += [Panel(short(k.replace("_", " ")), "", (k,), is_small=True) for k in others]
    return [*panels, _LAST]


@in_style
def _draw(panel: Panel, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], stage: str, name: str) -> str:
    told = "; ".join(f"{short(k)} from {figure(float(v[0]))} to {figure(float(v[-1]))}" for k, (_, v) in lines.items())
    alt = f"{panel.title} of stage {stage} over steps: {told}."
    chart = Chart(name, alt, (3.0, 1.7) if panel.is_small else (3.7, 2.4))
    for i, (key, (steps, values)) in enumerate(lines.items()):
        _line(chart, steps, values, short(key.removeprefix("reward/").replace("_", " "), 22), i)
    chart.axes.set_title(panel.title)
    chart.axes.set_xlabel("optimiser step")
    chart.axes.set_ylabel(panel.unit)
    chart.axes.margins(x=0.02)
    chart.axes.ticklabel_format(style="sci", scilimits=(-3, 4), axis="y", useOffset=False)
    if panel.is_share:
        _as_share(chart)
    if len(lines) > 1:
        chart.figure.legend(loc="outside lower center", ncols=3)
    return chart.svg()


def _as_share(chart: Chart) -> None:
    from matplotlib.ticker import PercentFormatter

    chart.axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    low, high = chart.axes.get_ylim()
    chart.axes.set_ylim(max(low, -0.03), min(max(high, 0.05), 1.03))


def _line(chart: Chart, steps: np.ndarray, values: np.ndarray, label: str, place: int) -> None:
    colour, dash = SERIES[place % len(SERIES)], DASHES[place % len(DASHES)]
    thin_steps, thin = _thinned(steps, values)
    if len(values) < 3:
        chart.axes.plot(thin_steps, thin, "o", color=colour, label=label, markersize=5)
        return
    if len(thin) < _SMOOTH_FROM:
        chart.axes.plot(thin_steps, thin, color=colour, linestyle=dash, label=label)
        return
    chart.axes.plot(thin_steps, thin, color=colour, linewidth=0.9, alpha=0.3)
    chart.axes.plot(thin_steps, _smooth(thin), color=colour, linestyle=dash, label=label)


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most MAX_POINTS points: means over equal stretches."""
    if len(steps) <= MAX_POINTS:
        return steps, values
    stretches = np.array_split(np.arange(len(steps)), MAX_POINTS)
    return np.array([steps[s].mean() for s in stretches]), np.array([values[s].mean() for s in stretches])


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred running mean over a fifteenth of the curve, narrower at both ends."""
    half = max(1, len(values) // 30)
    total = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reach = np.minimum(half, np.minimum(places, len(values) - 1 - places))
    return (total[places + reach + 1] - total[places - reach]) / (2 * reach + 1)
