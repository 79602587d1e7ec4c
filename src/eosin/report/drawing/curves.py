"""Curves of a stage over its steps: which panels there are, and how each is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eosin.report.drawing.figures import DASHES, SERIES, Chart, in_style, short
from eosin.report.drawing.numbers import figure, num

MAX_POINTS = 300
_SMOOTH_FROM = 40
_SHORT_LABEL = 12  # characters of a label of which three fit beside each other
_NOT_CURVES = {"stage", "step", "seconds", "time", "epoch", "valid_seconds", "valid_n", "train_seconds"}


@dataclass(frozen=True)
class Panel:
    """One small chart.

    Attributes:
        keys: the logged names, each a line.
        over: what stands on the horizontal axis: "step", or another logged name.
        labels: how the lines are called, by key.
        is_stacked: the lines are shares that add up, drawn as areas.
    """

    title: str
    unit: str
    keys: tuple[str, ...]
    is_share: bool = False
    is_small: bool = False
    over: str = "step"
    labels: tuple[tuple[str, str], ...] = ()
    is_stacked: bool = False


AXES = {
    "step": "optimiser step",
    "prompts_seen": "prompts seen, dropped groups included",
    "train_seconds": "seconds of training, without these questions",
}
_LOSS = Panel("Loss", "nats per token", ("loss", "eval_loss"))
_IS_CONTRASTIVE = Panel("Loss", "contrastive, nats a pair", ("loss",))
_IS_CLASSIFIER = Panel("Loss", "cross-entropy, nats", ("loss", "eval_loss"))
_ACCURACY = (
    Panel("Accuracy while training", "share right", ("accuracy", "eval_accuracy"), is_share=True),
    Panel(
        "Accuracy of the next token",
        "share right",
        ("token_accuracy", "eval_token_accuracy"),
        is_share=True,
        labels=(
            ("token_accuracy", "training"),
            ("eval_token_accuracy", "valid"),
            ("eval_mean_token_accuracy", "valid"),
        ),
    ),
)
_VALID = tuple(
    Panel("Held-out accuracy", "share right, greedy", ("valid_accuracy",), is_share=True, over=x)
    for x in ("prompts_seen", "train_seconds", "step")
)
_RETRIEVAL = (
    Panel(
        "Held-out retrieval",
        "share found, mean of both ways",
        ("valid_r1", "valid_r5", "valid_r10"),
        is_share=True,
        labels=(("valid_r1", "first"), ("valid_r5", "among 5"), ("valid_r10", "among 10")),
    ),
    Panel("Median rank on the valid split", "rank", ("valid_median_rank",), is_small=True),
    Panel("Temperature", "", ("temperature",), is_small=True),
)
_REWARD = Panel("Reward, mean", "reward", ("reward",))
_SPREAD = Panel(
    "Spread of reward",
    "standard deviation",
    ("group_std", "reward_std"),
    labels=(("group_std", "within groups"), ("reward_std", "whole batch")),
)
_OF_POLICY = (
    Panel("Groups without variance", "share of groups", ("frac_zero_std",), is_share=True),
    Panel(
        "Groups of a step",
        "groups",
        ("groups_kept", "groups_dropped"),
        labels=(("groups_kept", "with variance, in the batch"), ("groups_dropped", "replaced")),
    ),
    Panel("Entropy", "nats per token", ("entropy", "eval_entropy")),
    Panel("KL to the starting policy", "nats per token", ("kl",)),
    Panel(
        "Clipped ratios",
        "share of tokens",
        ("clip_low", "clip_high"),
        is_share=True,
        labels=(("clip_low", "at the lower bound"), ("clip_high", "at the upper bound")),
    ),
    Panel(
        "Gradients of single groups and of the step",
        "norm",
        ("gradient_norm_groups", "gradient_norm_mean"),
        labels=(("gradient_norm_groups", "single groups"), ("gradient_norm_mean", "their mean")),
    ),
    Panel("Noise in the gradient", "share of its squared norm", ("gradient_noise_share",), is_small=True),
    Panel("Simple noise scale", "prompts", ("noise_scale",), is_small=True),
    Panel(
        "Length of a completion",
        "tokens",
        ("completion_length", "completion_length_max"),
        labels=(("completion_length", "mean"), ("completion_length_max", "longest")),
    ),
    Panel(
        "Truncated and unparsed completions",
        "share of completions",
        ("truncated_rate", "unparsed_rate", "unscored_rate"),
        is_share=True,
        labels=(
            ("truncated_rate", "truncated"),
            ("unparsed_rate", "unparsed"),
            ("unscored_rate", "without a reward"),
        ),
    ),
    Panel(
        "Where the time of a step goes",
        "share of the step",
        ("share_generate", "share_rewards", "share_judge", "share_loss"),
        is_share=True,
        labels=(
            ("share_generate", "generation"),
            ("share_rewards", "rewards"),
            ("share_judge", "waiting for the judge"),
            ("share_loss", "loss and update"),
        ),
        is_stacked=True,
    ),
    Panel("Tokens generated a second", "tokens a second", ("tokens_per_second",)),
    Panel("Prompts seen", "prompts", ("prompts_seen",), is_small=True),
    Panel("Batches generated for a step", "batches", ("generation_batches",), is_small=True),
)
_LAST = Panel("Learning rate", "per step", ("learning_rate",), is_small=True)
_MAX_OTHERS = 4
_MAX_LINES = 6
# Logged, but no curve to read, or said by another one.
_NOISE = re.compile(
    r"/|runtime|per_second|flos|^num_tokens$|^eval_num_tokens$|^eval_mean|^train_|^step_time$|^valid_"
    r"|^completion_length|^clip_|^gradient_"
)


@dataclass(frozen=True)
class Drawn:
    """A panel as SVG, and whether it is drawn small."""

    svg: str
    is_small: bool


def wants_curves(recipe: Mapping[str, Any]) -> bool:
    """Whether a run's recipe has its curves drawn."""
    settings = recipe.get("report")
    return not (isinstance(settings, Mapping) and settings.get("curves") is False)


def stage_curves(
    rows: Sequence[Mapping[str, Any]], stage: str, kind: str, prefix: str, terms: Sequence[str] = ()
) -> list[Drawn]:
    """All panels of a stage for which there is at least one figure.

    Args:
        rows: lines of metrics.jsonl.
        prefix: start of the ids inside the SVGs, unique on the page.
        terms: names of the reward terms, where they are known.
    """
    logged = [with_train_seconds(row) for row in rows]
    by_axis = {x: _series(logged, x) for x in AXES}
    drawn = []
    has_valid_axis = False
    for i, panel in enumerate(_panels(by_axis["step"], kind, terms)):
        lines = {k: by_axis[panel.over][k] for k in panel.keys if k in by_axis[panel.over]}
        if panel.keys == ("valid_accuracy",) and panel.over == "step" and has_valid_axis:
            continue
        if not lines:
            continue
        has_valid_axis |= panel.keys == ("valid_accuracy",)
        drawn.append(Drawn(draw_panel(panel, lines, stage, f"{prefix}-{i}"), panel.is_small))
    return drawn


def with_train_seconds(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with the seconds of training alone, where held-out questions were asked."""
    seconds, asking = num(row.get("seconds")), num(row.get("valid_seconds"))
    return row if seconds is None or asking is None else {**row, "train_seconds": max(0.0, seconds - asking)}


def _series(rows: Sequence[Mapping[str, Any]], over: str = "step") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Figures by key, sorted by `over`. A place that was logged twice (a resumed run) counts once, the last time."""
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        place = num(row.get(over))
        if place is None:
            continue
        for key, value in row.items():
            number = num(value)
            if key not in _NOT_CURVES and key != over and number is not None:
                points.setdefault(key, {})[place] = number
    series = {}
    for key, values in points.items():
        places = sorted(values)
        series[key] = (np.array(places), np.array([values[p] for p in places]))
    return series


def _panels(series: Mapping[str, Any], kind: str, terms: Sequence[str]) -> list[Panel]:
    logged = tuple(k for k in series if k.startswith("reward/") and k.count("/") == 1)
    own = tuple(k for k in logged if k.removeprefix("reward/") in {*terms, "overlong"}) if terms else logged
    events = tuple(k for k in logged if k not in own)[:_MAX_LINES]
    sources = tuple(k for k in series if k.startswith("reward_of/"))[:_MAX_LINES]
    missing = tuple(k for k in series if re.fullmatch(r"reward/.+/unscored", k) and series[k][1].max() > 0)
    panels = [
        {"warmup": _IS_CLASSIFIER, "clip": _IS_CONTRASTIVE}.get(kind, _LOSS),
        *_VALID,
        *_RETRIEVAL,
        _REWARD,
        Panel("Reward, each term", "mean before weighting", own),
        Panel("Reward, each source", "mean", sources),
        _SPREAD,
        *_OF_POLICY,
        Panel("What the rewards saw", "share of completions", events, is_share=True),
        Panel("Completions without a score", "share of completions", missing[:_MAX_LINES], is_share=True),
        *_ACCURACY,
    ]
    known = {k for p in panels for k in p.keys} | set(_LAST.keys)
    others = [k for k in series if k not in known and not _NOISE.search(k)][:_MAX_OTHERS]
    panels += [Panel(short(k.replace("_", " ")), "", (k,), is_small=True) for k in others]
    return [*panels, _LAST]


def _label(panel: Panel, key: str) -> str:
    known = dict(panel.labels).get(key)
    return (
        short(known, 24)
        if known
        else short(key.removeprefix("reward/").removeprefix("reward_of/").replace("_", " "), 24)
    )


def _chart(panel: Panel, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], stage: str, name: str) -> Chart:
    told = "; ".join(
        f"{_label(panel, k)} from {figure(float(v[0]))} to {figure(float(v[-1]))}" for k, (_, v) in lines.items()
    )
    alt = f"{panel.title} of stage {stage} over {AXES[panel.over]}: {told}."
    rows = -(-len(lines) // _columns(panel, lines))
    chart = Chart(name, alt, (3.0, 1.7) if panel.is_small else (3.7, 2.4 + 0.17 * max(0, rows - 2)))
    chart.axes.set_title(panel.title)
    chart.axes.set_xlabel(AXES[panel.over])
    chart.axes.set_ylabel(panel.unit)
    chart.axes.margins(x=0.02)
    return chart


def draw_panel(panel: Panel, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], stage: str, name: str) -> str:
    """A panel as SVG: by key the places on the horizontal axis and the values there."""
    draw = _draw_stacked if panel.is_stacked and len(lines) > 1 else _draw_lines
    return draw(panel, lines, stage, name)


@in_style
def _draw_lines(panel: Panel, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], stage: str, name: str) -> str:
    chart = _chart(panel, lines, stage, name)
    for i, (key, (steps, values)) in enumerate(lines.items()):
        _line(chart, steps, values, _label(panel, key), i)
    chart.axes.ticklabel_format(style="sci", scilimits=(-3, 4), axis="y", useOffset=False)
    if panel.is_share:
        _as_share(chart, from_zero="accuracy" not in panel.title.casefold())
    if len(lines) > 1:
        chart.figure.legend(loc="outside lower center", ncols=_columns(panel, lines))
    return chart.svg()


def _columns(panel: Panel, lines: Mapping[str, Any]) -> int:
    """Columns of the legend: as many as fit beside each other."""
    is_short = max(len(_label(panel, k)) for k in lines) <= _SHORT_LABEL
    return 3 if len(lines) > 2 and is_short else 2


@in_style
def _draw_stacked(panel: Panel, lines: Mapping[str, tuple[np.ndarray, np.ndarray]], stage: str, name: str) -> str:
    """Shares as areas on top of each other, at the places that all lines have."""
    chart = _chart(panel, lines, stage, name)
    common = sorted(set.intersection(*(set(x.tolist()) for x, _ in lines.values())))
    heights = []
    for x, values in lines.values():
        at = dict(zip(x.tolist(), values.tolist(), strict=True))
        heights.append(np.array([at[p] for p in common]))
    thin = [_thinned(np.array(common), h) for h in heights]
    colours = [SERIES[3], SERIES[4], SERIES[0]]
    labels = [_label(panel, k) for k in lines]
    if len(common) == 1:
        thin = [(np.array([x[0] - 0.4, x[0] + 0.4]), np.repeat(h, 2)) for x, h in thin]
    chart.axes.stackplot(thin[0][0], *[h for _, h in thin], labels=labels, colors=colours, edgecolor="none")
    _as_share(chart)
    chart.axes.set_ylim(0, 1)
    chart.figure.legend(loc="outside lower center", ncols=3)
    return chart.svg()


def _as_share(chart: Chart, *, from_zero: bool = True) -> None:
    """Percent on the vertical axis; small rates stand above zero, so that a flat line is seen as one."""
    from matplotlib.ticker import PercentFormatter

    chart.axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    low, high = chart.axes.get_ylim()
    high = min(max(high, 0.01), 1.03)
    chart.axes.set_ylim(-0.03 * high if from_zero else max(low, -0.03), high)


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
