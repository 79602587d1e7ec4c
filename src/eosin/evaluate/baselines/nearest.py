"""Nearest neighbours: what memory alone gives.

Features (`Features.image`) are standardised with the train split's mean and deviation; distance is Euclidean. The image
neighbour answers as the nearest training sample of the same kind of question did. The caption neighbour takes the
caption of the nearest training image, and the option whose words stand in it.
"""

from __future__ import annotations

import numpy as np

from eosin.core.nouns.classes import normalised
from eosin.evaluate.baselines.features import Features
from eosin.evaluate.baselines.problem import F64, Floats, NotPossibleError, Order, Problem, Rows, Said, answer_by_kind
from eosin.evaluate.baselines.text import best_option

MAX_CAPTIONS = 5
_CHUNK = 256


def nearest_image(problem: Problem, features: Features) -> Said:
    """The answer of the nearest training sample whose answer the item offers."""
    return answer_by_kind(problem, features.image, _by_distance)


def _by_distance(train: Rows, valid: Rows, seen: list[Floats]) -> tuple[list[Order], dict[str, int]]:
    order = _neighbours(np.stack(train.X), np.stack(seen))
    return [list(dict.fromkeys(train.y[k] for k in row)) for row in order], {}


def nearest_caption(problem: Problem, features: Features) -> Said:
    """The option that the captions of the nearest training images name, the nearest first; at most five are read."""
    told = [(x, s.caption) for s in problem.train if s.caption and (x := features.image(s)) is not None]
    asked = [(x, s) for s in problem.usable if s.choices and (x := features.image(s)) is not None]
    if not told or not asked:
        raise NotPossibleError("needs training images with captions, and questions with options")
    if len({len(x) for x, _ in (*told, *asked)}) > 1:
        raise NotPossibleError("the features of these slides have different dimensions")
    order = _neighbours(np.stack([x for x, _ in told]), np.stack([x for x, _ in asked]))
    said: dict[str, str | None] = {}
    for (_, sample), row in zip(asked, order, strict=True):
        options = (best_option(told[k][1] or "", sample) for k in row[:MAX_CAPTIONS])
        found = next((o for o in options if o is not None), None)
        said[sample.id] = None if found is None else normalised(problem.classes.name(found))
    return Said(said, len(told))


def _neighbours(X: F64, seen: F64) -> np.ndarray:
    """(M, N) places of the training rows by distance from each of `seen`, the nearest first."""
    mean, scale = X.mean(axis=0), X.std(axis=0)
    scale[scale < 1e-9] = 1.0
    A, B = (X - mean) / scale, (seen - mean) / scale
    parts = []
    for i in range(0, len(B), _CHUNK):
        part = B[i : i + _CHUNK]
        distance = (part**2).sum(1)[:, None] - 2 * part @ A.T + (A**2).sum(1)[None]
        parts.append(np.argsort(distance, axis=1, kind="stable"))
    return np.concatenate(parts)
