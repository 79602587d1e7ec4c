"""What kind of picture a figure is: colour and texture measured, weighed by a small classifier.

A multinomial logistic regression on standardised measures: p(k | x) = softmax(W x + b). Its weights are in
`weights.json`, fitted by `benchmarks/figure_kinds.py` on pictures made by code.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

F64 = NDArray[np.float64]
_SIDE = 128
WEIGHTS = Path(__file__).with_name("weights.json")


class Tells(Protocol):
    """Whatever says how likely each kind is, such as a CLIP with one prompt a kind."""

    def __call__(self, images: Sequence[Image.Image]) -> Sequence[dict[str, float]]:
        """Score of every kind for every image, each summing to 1."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of figure and how sure the classifier is, 0..1."""

    name: str
    score: float

    def as_json(self) -> dict[str, object]:
        return {"name": self.name, "score": round(self.score, 4)}


def measures(image: Image.Image) -> F64:
    """(D,) colour and texture of a picture: shares of hues, greys and densities; steps between neighbours."""
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    rgb = np.asarray(small, np.float64) / 255
    return np.concatenate([_colours(small, rgb), _densities(rgb), _texture(rgb.mean(2)), _lines(rgb.mean(2))])


def _colours(small: Image.Image, rgb: F64) -> F64:
    hsv = np.asarray(small.convert("HSV"), np.float64) / 255
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    coloured = saturation > 0.12
    hues = np.histogram(hue[coloured], bins=16, range=(0, 1))[0] / hue.size
    greys = np.histogram(value, bins=8, range=(0, 1))[0] / hue.size
    steps = np.histogram(saturation, bins=6, range=(0, 1))[0] / hue.size
    extremes = [
        (rgb.min(2) > 0.94).mean(),
        (rgb.max(2) < 0.08).mean(),
        coloured.mean(),
        (rgb.max(2) - rgb.min(2)).mean(),
    ]
    quantised = (rgb * 7).astype(int) @ np.array([64, 8, 1])
    extremes.append(len(np.unique(quantised)) / 512)
    return np.concatenate([hues, greys, steps, extremes, rgb.mean((0, 1)), rgb.std((0, 1))])


def _densities(rgb: F64) -> F64:
    """Ratios of optical densities: dyes differ in them whatever their strength."""
    density = -np.log(rgb.clip(0.02, 1))
    total = density.sum(2)
    tissue = total > 0.25
    if tissue.sum() < 30:
        return np.zeros(7)
    shares = density[tissue] / total[tissue][:, None]
    return np.concatenate([shares.mean(0), shares.std(0), [tissue.mean()]])


def _texture(grey: F64) -> F64:
    found = []
    for step in (1, 2, 4, 8, 16):
        across = np.abs(grey[:, step:] - grey[:, :-step])
        down = np.abs(grey[step:] - grey[:-step])
        found += [across.mean(), down.mean(), (across > 0.2).mean()]
    return np.array(found)


def _lines(grey: F64) -> F64:
    """How much of the picture is flat, and how much stands in full rows and columns, as axes and rules do."""
    flat = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1] < 0.008
    dark = grey < 0.6
    rows, columns = dark.mean(1), dark.mean(0)
    return np.array(
        [flat.mean(), rows.max(), columns.max(), rows.std(), columns.std(), (rows > 0.6).mean(), (columns > 0.6).mean()]
    )


@functools.cache
def _weights() -> tuple[list[str], F64, F64, F64, F64]:
    told = json.loads(WEIGHTS.read_text("utf-8"))
    return told["kinds"], np.array(told["W"]), np.array(told["b"]), np.array(told["mean"]), np.array(told["scale"])


def kinds_of(images: Sequence[Image.Image], tells: Tells | None = None) -> list[Kind]:
    """Kind and score of every picture.

    Args:
        tells: another judge, such as a CLIP; by default Eosin's own small classifier.
    """
    if tells is not None:
        return [Kind(*max(scores.items(), key=lambda pair: pair[1])) for scores in tells(images)]
    names, W, b, mean, scale = _weights()
    found = []
    for image in images:
        logits = W @ ((measures(image) - mean) / scale).clip(-5, 5) + b
        share = np.exp(logits - logits.max())
        share /= share.sum()
        found.append(Kind(names[int(share.argmax())], float(share.max())))
    return found
