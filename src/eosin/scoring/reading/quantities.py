"""Open answers with one right value: yes or no, and numbers with units."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from eosin.core.nouns.outcome import Parsed, Unparsed
from eosin.scoring.reading.text import has_hidden, norm, plain

_YES = frozenset({"yes", "true", "correct", "present", "positive"})
_NO = frozenset({"no", "false", "incorrect", "absent", "negative"})

# unit as written -> (dimension, factor to the base unit of that dimension)
_UNITS: dict[str, tuple[str, float]] = {
    "": ("count", 1.0),
    "nm": ("length_um", 1e-3), "um": ("length_um", 1.0), "\u03bcm": ("length_um", 1.0), "micron": ("length_um", 1.0),
    "microns": ("length_um", 1.0), "micrometer": ("length_um", 1.0), "micrometers": ("length_um", 1.0),
    "mm": ("length_um", 1e3), "cm": ("length_um", 1e4), "m": ("length_um", 1e6),
    "um2": ("area_um2", 1.0), "\u03bcm2": ("area_um2", 1.0), "mm2": ("area_um2", 1e6), "cm2": ("area_um2", 1e8),
    "%": ("share", 0.01), "percent": ("share", 0.01),
    "/mm2": ("per_mm2", 1.0), "per mm2": ("per_mm2", 1.0),
    "/hpf": ("per_hpf", 1.0), "per hpf": ("per_hpf", 1.0), "/10 hpf": ("per_hpf", 0.1), "per 10 hpf": ("per_hpf", 0.1),
    "year": ("time_year", 1.0), "years": ("time_year", 1.0), "month": ("time_year", 1 / 12),
    "months": ("time_year", 1 / 12), "x": ("magnification", 1.0), "um/px": ("mpp", 1.0), "\u03bcm/px": ("mpp", 1.0),
    "cell": ("count", 1.0), "cells": ("count", 1.0), "mitosis": ("count", 1.0), "mitoses": ("count", 1.0),
}  # fmt: skip

_NUMBER = re.compile(r"(?P<number>[+-]?\d{1,15}(?:,\d{3})*(?:\.\d{1,15})?(?:e[+-]?\d{1,2})?)(?P<tail>.*)", re.DOTALL)


@dataclass(frozen=True)
class Quantity:
    """A number in the base unit of its dimension (lengths in um, areas in um2, shares in 0..1)."""

    value: float
    dimension: str


def parse_yes_no(text: str) -> Parsed[bool] | Unparsed:
    """A bare yes or no, also true/false, present/absent, positive/negative. "yes and no" is neither."""
    if has_hidden(text):
        return Unparsed("hidden characters")
    word = norm(text).removeprefix("answer:").strip()
    first = re.split(r"[,.;:]\s", word, maxsplit=1)[0]
    if word in _YES or (first in {"yes", "true"} and not _NO & set(word.split())):
        return Parsed(True)
    if word in _NO or (first in {"no", "false"} and not {"yes", "true"} & set(word.split())):
        return Parsed(False)
    return Unparsed("neither yes nor no")


def parse_quantity(text: str) -> Parsed[Quantity] | Unparsed:
    """One number with an optional unit. Fractions, ranges and a comma as decimal sign are refused, not guessed."""
    if has_hidden(text):
        return Unparsed("hidden characters")
    cleaned = plain(text).casefold().strip(" .;*$")
    cleaned = re.sub(r"^(?:answer|about|approximately)\s?:?\s", "", cleaned)
    match = _NUMBER.fullmatch(cleaned)
    if match is None:
        return Unparsed("no number")
    tail = " ".join(match["tail"].split())
    if re.match(r"[,]\d", tail):
        return Unparsed("comma could be a decimal sign")
    if re.match(r"(?:-|to )\s?\d", tail):
        return Unparsed("a range")
    if tail not in _UNITS:
        return Unparsed("a fraction" if re.match(r"/\s?\d", tail) else "unknown unit")
    dimension, factor = _UNITS[tail]
    value = float(match["number"].replace(",", "")) * factor
    return Parsed(Quantity(value, dimension)) if math.isfinite(value) else Unparsed("no number")


def same_quantity(a: Quantity, b: Quantity, *, rel_tol: float = 1e-9) -> bool:
    """Whether two quantities are of one dimension and equal within a relative tolerance."""
    return a.dimension == b.dimension and math.isclose(a.value, b.value, rel_tol=rel_tol, abs_tol=1e-12)
