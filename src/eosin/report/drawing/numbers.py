"""How figures are written on the page: one way each for shares, intervals, times and counts."""

from __future__ import annotations

import math
from typing import Any

UNKNOWN = "not recorded"
_GLUE = "\u00a0"  # a figure and its unit stay on one line


def num(value: Any) -> float | None:
    """A finite float, or None for everything else. Nothing becomes a number silently."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def pair(value: Any) -> tuple[float, float] | None:
    """Both ends of an interval, or None."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    lo, hi = num(value[0]), num(value[1])
    return None if lo is None or hi is None else (lo, hi)


def percent(value: Any, digits: int = 1) -> str:
    """A share 0..1 as "87.5 %"."""
    number = num(value)
    return UNKNOWN if number is None else f"{100 * number:.{digits}f}{_GLUE}%"


def interval(value: Any) -> str:
    """An interval of shares as "[83.1, 90.2]", in percent; empty where there is none."""
    ends = pair(value)
    return "" if ends is None else f"[{100 * ends[0]:.1f},{_GLUE}{100 * ends[1]:.1f}]"


def percent_with_interval(value: Any, ends: Any) -> str:
    """A share with its interval: "87.5 % [83.1, 90.2]"."""
    return f"{percent(value)} {interval(ends)}".strip()


def points(value: float) -> str:
    """A difference of shares in percentage points, signed: "+2.4"."""
    return f"{100 * value:+.1f}".replace("-", "\u2212")


def points_with_interval(value: float, ends: tuple[float, float] | None) -> str:
    """A difference with its interval, in points: "+2.4 [\u22120.3, +5.0]"."""
    return points(value) + ("" if ends is None else f" [{points(ends[0])},{_GLUE}{points(ends[1])}]")


def duration(seconds: Any) -> str:
    """Seconds as "45 s", "4 min 12 s" or "2 h 05 min"."""
    number = num(seconds)
    if number is None:
        return UNKNOWN
    if number < 10:
        return f"{number:.1f}{_GLUE}s"
    whole = round(number)
    if whole < 120:
        return f"{whole}{_GLUE}s"
    if whole < 7200:
        return f"{whole // 60}{_GLUE}min{_GLUE}{whole % 60:02d}{_GLUE}s"
    return f"{whole // 3600}{_GLUE}h{_GLUE}{whole % 3600 // 60:02d}{_GLUE}min"


def count(value: Any) -> str:
    """A whole number with thin groups: "12 345"."""
    number = num(value)
    return UNKNOWN if number is None else f"{round(number):,}".replace(",", "\u202f")


def figure(value: Any) -> str:
    """A reward, loss or other plain figure, in as few digits as it needs."""
    number = num(value)
    if number is None:
        return "none"
    return f"{number:.3g}" if 0 < abs(number) < 0.01 else f"{number:.3f}".rstrip("0").rstrip(".")


def plural(amount: int, noun: str) -> str:
    """ "1 case", "3 cases"."""
    return f"{count(amount)} {noun}" + ("" if amount == 1 else "s")
