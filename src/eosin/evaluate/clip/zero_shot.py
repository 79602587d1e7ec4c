"""Zero-shot classification: the class whose words lie nearest to a picture, with nothing learned from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eosin.core.errors import EosinError
from eosin.evaluate.clip.embed import F32, Embedded
from eosin.evaluate.clip.prompts import ClassPrompts
from eosin.evaluate.statistics.intervals import cluster_interval
from eosin.evaluate.statistics.metrics import accuracy, balanced_accuracy, confusion

if TYPE_CHECKING:
    from eosin.models.clip.clip import Clip


@dataclass(frozen=True)
class ZeroShot:
    """Figures of a zero-shot exam, and what was said of every sample.

    Attributes:
        summary: what summary.json holds. rows: one a sample: id, group, label, predicted, score, correct.
    """

    summary: dict[str, Any]
    rows: tuple[dict[str, Any], ...]


def zero_shot(clip: Clip, seen: Embedded, prompts: ClassPrompts, seed: int = 0) -> ZeroShot:
    """Examine labelled samples.

    Raises:
        EosinError: no sample, fewer than two classes, or a label without prompts.
    """
    names = list(prompts.words)
    strange = sorted({s.label or "(no label)" for s in seen.samples} - set(names))
    if len(names) < 2 or strange:
        raise EosinError(
            "Zero-shot needs prompts for every class, and two classes at least.",
            expected=", ".join(names) or "classes", found=", ".join(strange[:8]) or f"{len(names)} classes",
        )  # fmt: skip
    vectors, num_cut = prompts.vectors(clip)
    scores = seen.require("classify").vectors @ vectors.T
    said = [names[k] for k in scores.argmax(axis=1)]
    gold = [str(s.label) for s in seen.samples]
    groups = [s.origin.group or f"image:{s.id}" for s in seen.samples]
    rows = tuple(
        {"id": s.id, "group": g, "label": y, "predicted": p, "score": float(v.max()), "correct": y == p}
        for s, g, y, p, v in zip(seen.samples, groups, gold, said, scores, strict=True)
    )
    summary = figures(gold, said, groups, names, seed)
    cut = {"cut_prompts": num_cut, "num_prompts": len(prompts.templates) * sum(map(len, prompts.words.values()))}
    return ZeroShot({**summary, **cut}, rows)


def figures(
    gold: Sequence[str], said: Sequence[str], groups: Sequence[str], names: Sequence[str], seed: int
) -> dict[str, Any]:
    """Accuracy, balanced accuracy and macro F1 with intervals by case, and a row a class."""
    right = [g == s for g, s in zip(gold, said, strict=True)]
    plain = cluster_interval(right, groups, seed=seed)
    balanced = cluster_interval(right, groups, gold, metric="balanced_accuracy", seed=seed)
    table = confusion(gold, said, names)
    classes = [_class_row(np.asarray(table), k, name) for k, name in enumerate(names)]
    seen = [c for c in classes if c["n"]]
    return {
        "n": len(gold), "num_clusters": len(set(groups)), "accuracy": accuracy(right), "ci95": plain.pair,
        "balanced_accuracy": balanced_accuracy(gold, right), "balanced_ci95": balanced.pair,
        "macro_f1": float(np.mean([c["f1"] for c in seen])), "interval_warning": balanced.warning or balanced.reason,
        "chance": 1 / len(names), "classes": classes, "confusion": table,
    }  # fmt: skip


def _class_row(table: Any, k: int, name: str) -> dict[str, Any]:
    hits, n, said = int(table[k, k]), int(table[k].sum()), int(table[:, k].sum())
    return {
        "name": name, "n": n, "recall": hits / n if n else None, "precision": hits / said if said else None,
        "f1": 2 * hits / (n + said) if n + said else 0.0,
    }  # fmt: skip


def pooled(scores: F32, k: int) -> F32:
    """Slide scores (K,) from those of its tiles (N, K): for each class the mean of its `k` highest tiles.

    Top-k pooling of MI-Zero (arXiv 2306.07831, section 3.3): a lesion that fills few tiles decides.

    Raises:
        EosinError: a slide without tiles, or k below 1.
    """
    if not len(scores) or k < 1:
        raise EosinError("Nothing can be pooled.", expected="tiles, and k of 1 or more", found=f"{len(scores)}, k {k}")
    best = -np.sort(-scores, axis=0)[: min(k, len(scores))]
    return np.asarray(best.mean(axis=0), dtype=np.float32)


def slide_zero_shot(clip: Clip, seen: Embedded, prompts: ClassPrompts, top_k: Sequence[int] = (1, 5, 10, 50, 100),
                    seed: int = 0) -> dict[str, Any]:  # fmt: skip
    """Zero-shot of whole slides by top-k pooling of their tiles, for several k.

    A slide's class is that of its tiles; slides whose tiles have several classes are left out and counted.
    """
    names = list(prompts.words)
    scores = seen.require("classify").vectors @ prompts.vectors(clip)[0].T
    slides: dict[str, list[int]] = {}
    for place, sample in enumerate(seen.samples):
        slides.setdefault(sample.origin.slide or sample.origin.group or sample.id, []).append(place)
    labels = {name: {seen.samples[i].label for i in places} for name, places in slides.items()}
    whole = [name for name in slides if len(labels[name]) == 1 and None not in labels[name]]
    if not whole:
        raise EosinError("No slide has one class.", expected="tiles whose label is that of their slide",
                         found=f"{len(slides)} slides with several classes or none")  # fmt: skip
    gold = [str(next(iter(labels[name]))) for name in whole]
    found = {}
    for k in top_k:
        said = [names[int(pooled(scores[slides[name]], k).argmax())] for name in whole]
        groups = [seen.samples[slides[name][0]].origin.group or name for name in whole]
        found[f"top_{k}"] = figures(gold, said, groups, names, seed)
    return {"num_slides": len(whole), "left_out": len(slides) - len(whole), "by_k": found}
