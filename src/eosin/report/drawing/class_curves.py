"""Curves of an RL stage by class, from by_class.jsonl: reward, form, what is answered, and what pushes it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eosin.report.drawing.curves import Panel, draw_panel
from eosin.report.drawing.numbers import num

MAX_CLASSES = 6
MAX_STRETCHES = 20
# Where a group of replies stands, as `train.rl.diagnostics` names them.
KINDS = ("right, form kept", "right, form broken", "wrong, form kept", "wrong, form broken")
Row = Mapping[str, Any]
Points = dict[str, tuple[np.ndarray, np.ndarray]]


def class_curves(rows: Sequence[Row], stage: str, prefix: str) -> list[str]:
    """All panels by class for which there is at least one figure, as SVG.

    Steps are drawn in at most MAX_STRETCHES stretches; a point is the mean over all replies of its stretch. Of more
    than MAX_CLASSES classes those with most replies are shown.

    Args:
        rows: lines of by_class.jsonl. prefix: start of the ids inside the SVGs, unique on the page.
    """
    rows = [r for r in rows if num(r.get("step")) is not None and isinstance(r.get("class"), str)]
    names = shown_classes(rows)
    drawn = []
    for i, (panel, points) in enumerate(_panels(rows, names)):
        lines = {k: v for k, v in points.items() if len(v[0])}
        if lines:
            labels = tuple((k, k) for k in lines)
            whole = Panel(panel.title, panel.unit, tuple(lines), is_share=panel.is_share, labels=labels)
            drawn.append(draw_panel(whole, lines, stage, f"{prefix}-{i}"))
    return drawn


def shown_classes(rows: Sequence[Row]) -> list[str]:
    """The classes that are drawn: those with most replies."""
    sizes: Counter[str] = Counter()
    for row in rows:
        sizes[str(row["class"])] += round(num(row.get("num_replies")) or 0)
    return [name for name, _ in sizes.most_common(MAX_CLASSES)]


def _panels(rows: Sequence[Row], names: Sequence[str]) -> Iterator[tuple[Panel, Points]]:
    for title, unit, key, is_share in (
        ("Reward by class of the prompt", "mean reward", "reward", False),
        ("Right answers by class, sampled", "share of replies", "right_rate", True),
        ("Form kept by class", "share of replies", "parse_rate", True),
    ):
        yield Panel(title, unit, (), is_share=is_share), _by_class(rows, names, key)
    yield (
        Panel("What is answered", "share of all replies", (), is_share=True),
        {n: _pooled(rows, lambda r, n=n: _answered(r, n)) for n in names},  # type: ignore[misc]
    )
    yield (
        Panel("What pushes an answer", "advantages, a reply", ()),
        {n: _pooled(rows, lambda r, n=n: _pushed(r, n)) for n in names},  # type: ignore[misc]
    )
    yield (
        Panel("Advantage by kind of reply", "mean advantage", ()),
        {k: _pooled(rows, lambda r, k=k: _of_kind(r, k)) for k in KINDS},  # type: ignore[misc]
    )
    terms = list(dict.fromkeys(t for r in rows for t in _mapping(r.get("term_spread"))))[:MAX_CLASSES]
    yield (
        Panel("Which term ranks the replies", "SD within groups", ()),
        {t: _pooled(rows, lambda r, t=t: _weighted(_mapping(r.get("term_spread")).get(t), r)) for t in terms},  # type: ignore[misc]
    )
    yield Panel("Entropy by class", "nats per token", ()), _by_class(rows, names, "entropy")
    yield Panel("KL to the start by class", "nats per token", ()), _by_class(rows, names, "kl")


def _by_class(rows: Sequence[Row], names: Sequence[str], key: str) -> Points:
    return {n: _pooled([r for r in rows if r["class"] == n], lambda r: _weighted(r.get(key), r)) for n in names}


def _weighted(value: Any, row: Row) -> tuple[float, float] | None:
    """(sum, number) of a mean over the replies of a row; None where there is no mean."""
    mean, size = num(value), num(row.get("num_replies"))
    return None if mean is None or size is None else (mean * size, size)


def _answered(row: Row, name: str) -> tuple[float, float] | None:
    size = num(row.get("num_replies"))
    n = num(_mapping(_mapping(row.get("answers")).get(name)).get("n")) or 0.0
    return None if size is None or not _mapping(row.get("answers")) else (n, size)


def _pushed(row: Row, name: str) -> tuple[float, float] | None:
    size = num(row.get("num_in_loss"))
    total = num(_mapping(_mapping(row.get("answers")).get(name)).get("advantage_sum")) or 0.0
    return None if not size else (total, size)


def _of_kind(row: Row, kind: str) -> tuple[float, float] | None:
    found = _mapping(_mapping(row.get("kinds")).get(kind))
    total, size = num(found.get("advantage_sum")), num(found.get("num_in_loss"))
    return None if total is None or not size else (total, size)


def _pooled(rows: Sequence[Row], figure: Callable[[Row], tuple[float, float] | None]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and means: sums over the rows of each stretch of steps, divided by their numbers."""
    by_step: dict[float, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        found, step = figure(row), num(row.get("step"))
        if found is not None and step is not None:
            by_step[step][0] += found[0]
            by_step[step][1] += found[1]
    steps = np.array(sorted(by_step))
    if not len(steps):
        return steps, steps
    table = np.array([by_step[s] for s in steps])
    stretches = np.array_split(np.arange(len(steps)), min(MAX_STRETCHES, len(steps)))
    sums = np.array([table[s].sum(axis=0) for s in stretches])
    kept = sums[:, 1] > 0
    return np.array([steps[s].mean() for s in stretches])[kept], sums[kept, 0] / sums[kept, 1]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
