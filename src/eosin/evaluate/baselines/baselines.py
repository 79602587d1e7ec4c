"""What an exam can be passed with, without a language model: the most frequent class, and colour or mean features.

Colour histogram: shares of pixels in 16 equal bins of each of R, G, B, H, S, V (96 figures an image;
Pillow's 8-bit HSV), square roots taken (Hellinger map), averaged over an item's images, standardised with
the train split's mean and deviation, and given to multinomial logistic regression with L2 penalty, C =
1.0, fixed, not tuned. Images over 512 px a side are reduced first. No position, no texture: a model that
does not beat it may be reading the stain. Slides that are shown as patch features have no pixels; for them stands
`mean_features`, see `eosin.evaluate.baselines.bags`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eosin.core.draw import subset
from eosin.core.errors import ImageError
from eosin.core.images import RegionReader, load_image
from eosin.core.nouns.classes import Classes, normalised
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.core.settings.exam import ExamSettings
from eosin.evaluate.baselines.bags import MeanFeatures, fit_mean_features
from eosin.evaluate.exam.items import check_samples, group_of, image_key
from eosin.evaluate.exam.scores import score_parts

NUM_BINS = 16
MAX_SIDE_PX = 512
INVERSE_PENALTY = 1.0


def colour_histogram(image: Image.Image) -> NDArray[np.float64]:
    """Square roots of the pixel shares in 16 bins of R, G, B, H, S, V: shape (96,)."""
    rgb = image.convert("RGB")
    if max(rgb.size) > MAX_SIDE_PX:
        rgb.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.BOX)
    counts = np.asarray(rgb.histogram() + rgb.convert("HSV").histogram(), dtype=float)
    shares = counts.reshape(6 * NUM_BINS, 256 // NUM_BINS).sum(axis=1) / (rgb.width * rgb.height)
    return np.asarray(np.sqrt(shares))


def run_baselines(
    train: Sequence[Sample],
    test: Sequence[Sample],
    settings: ExamSettings,
    *,
    read_region: RegionReader | None = None,
) -> dict[str, Any]:
    """The baselines on the items that the exam with these settings asks.

    Args:
        train: samples to fit on; those without an answer are left out.
        test: the exam's samples, as given to `run_exam`.

    Returns:
        {"majority": figures, "colour_histogram": figures}, where slides are shown as patch features also
        "mean_features"; figures as in an exam's summary with "num_train" and "num_set_aside" (items whose images
        cannot be used), or {"n": 0, "reason": why there are none}.
    """
    check_samples(test)
    asked = subset(test, settings.max_samples, settings.seed)
    fitted = [s for s in train if s.answer is not None and s.answer.strip()]
    slides = any(_shows_bag(s) for s in asked)
    if not fitted:
        names = ("majority", "mean_features", "colour_histogram") if slides else ("majority", "colour_histogram")
        return {name: {"n": 0, "reason": "no training samples with an answer"} for name in names}
    classes = Classes.of(asked)
    if slides:
        return _slide_baselines(fitted, asked, classes, settings, read_region)
    features = _Features(read_region)
    kept = [s for s in asked if not s.images or features.of(s) is not None]
    return {
        "majority": _majority(fitted, kept, classes, settings, len(asked)),
        "colour_histogram": _colour(fitted, kept, classes, settings, features, len(asked)),
    }


def _shows_bag(sample: Sample) -> bool:
    return any(isinstance(ref, SlideBag) for ref in sample.images)


def _slide_baselines(
    train: Sequence[Sample],
    asked: Sequence[Sample],
    classes: Classes,
    settings: ExamSettings,
    read_region: RegionReader | None,
) -> dict[str, Any]:
    """Majority and mean features of an exam with slides that are shown as patch features."""
    features = MeanFeatures(read_region)
    kept = [s for s in asked if not s.images or features.of(s) is not None]
    return {
        "majority": _majority(train, kept, classes, settings, len(asked)),
        "mean_features": _mean_features(train, kept, classes, settings, features, len(asked)),
        "colour_histogram": {"n": 0, "reason": "slides that are shown as patch features have no pixels"},
    }


def _mean_features(
    train: Sequence[Sample],
    test: Sequence[Sample],
    classes: Classes,
    settings: ExamSettings,
    features: MeanFeatures,
    num_asked: int,
) -> dict[str, Any]:
    known = {normalised(name) for name in classes.names.values()}
    fitting = [s for s in train if normalised(classes.gold(s)) in known]  # other kinds of questions are left out
    rows = [(x, s) for s in fitting if (x := features.of(s)) is not None]
    shown = [(x, s) for s in test if (x := features.of(s)) is not None]
    if len({len(x) for x, _ in (*rows, *shown)}) > 1:
        return {"n": 0, "reason": "the features of these slides have different dimensions"}
    y = [normalised(classes.gold(s)) for _, s in rows]
    if len(set(y)) < 2 or not shown:
        return {"n": 0, "reason": "needs slides, and two classes in the training samples"}
    X = np.stack([x for x, _ in rows])
    orders, chosen = fit_mean_features(X, y, [group_of(s) for _, s in rows], np.stack([x for x, _ in shown]))
    pictured = [s for _, s in shown]
    said = [_first_offered(order, s, classes) for order, s in zip(orders, pictured, strict=True)]
    return {**_figures(said, pictured, classes, settings, len(X), num_asked), "c": chosen}


class _Features:
    """Histograms of samples; an image asked about many times is read once."""

    def __init__(self, read_region: RegionReader | None) -> None:
        self._read_region = read_region
        self._seen: dict[str, NDArray[np.float64] | None] = {}

    def of(self, sample: Sample) -> NDArray[np.float64] | None:
        """Mean histogram of the sample's images (96,); None without images or with an unusable one."""
        parts: list[NDArray[np.float64]] = []
        for ref in sample.images:
            key = image_key(ref)
            if key not in self._seen:
                try:
                    self._seen[key] = colour_histogram(load_image(ref, self._read_region))
                except ImageError:
                    self._seen[key] = None
            histogram = self._seen[key]
            if histogram is None:
                return None
            parts.append(histogram)
        return np.mean(parts, axis=0) if parts else None


def _majority(
    train: Sequence[Sample], test: Sequence[Sample], classes: Classes, settings: ExamSettings, num_asked: int
) -> dict[str, Any]:
    """The class most frequent in train; among an item's options where it has options."""
    counts = Counter(normalised(classes.gold(s)) for s in train)
    names = sorted(counts, key=lambda name: (-counts[name], name))
    said = [_first_offered(names, s, classes) for s in test]
    return _figures(said, test, classes, settings, len(train), num_asked)


def _colour(
    train: Sequence[Sample],
    test: Sequence[Sample],
    classes: Classes,
    settings: ExamSettings,
    features: _Features,
    num_asked: int,
) -> dict[str, Any]:
    pairs = [(features.of(s), normalised(classes.gold(s))) for s in train]
    X = [x for x, _ in pairs if x is not None]
    y = [name for x, name in pairs if x is not None]
    pictured = [s for s in test if s.images]
    if len(set(y)) < 2 or not pictured:
        return {"n": 0, "reason": "needs images, and two classes in the training samples"}
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=1000))
    model.fit(np.stack(X), y)
    seen = np.stack([x for x in map(features.of, pictured) if x is not None])
    ranked = np.argsort(-model.predict_proba(seen), axis=1)
    names = [str(name) for name in model.classes_]
    orders = [[names[k] for k in order] for order in ranked]
    said = [_first_offered(order, s, classes) for order, s in zip(orders, pictured, strict=True)]
    return _figures(said, pictured, classes, settings, len(X), num_asked)


def _first_offered(names: Sequence[str], sample: Sample, classes: Classes) -> str | None:
    """The first class that the sample offers; an open question offers every class."""
    if not sample.choices:
        return names[0]
    offered = {normalised(classes.name(c.text)) for c in sample.choices}
    return next((name for name in names if name in offered), None)


def _figures(
    said: Sequence[str | None],
    test: Sequence[Sample],
    classes: Classes,
    settings: ExamSettings,
    num_train: int,
    num_asked: int,
) -> dict[str, Any]:
    if not test:
        return {"n": 0, "reason": "no exam item has a usable image"}
    gold = [classes.gold(s) for s in test]
    right = [s == normalised(g) for s, g in zip(said, gold, strict=True)]
    figures = score_parts(right, [group_of(s) for s in test], gold, settings, has_classes=bool(classes.labels))
    return {**figures, "num_train": num_train, "num_set_aside": num_asked - len(test)}
