"""What an exam asks: checked samples, their cluster, and the classes that their answers form."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from eosin.core.errors import EosinError
from eosin.core.images import digest_of
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, Sample

T = TypeVar("T")


def normalised(text: str) -> str:
    """Text for an exact match: case folded, runs of white space made one space."""
    return " ".join(text.split()).casefold()


def check_samples(samples: Sequence[Sample]) -> None:
    """Refuse an exam that is empty, holds an id twice, or holds items without an answer."""
    if not samples:
        raise EosinError(
            "An exam without items has no result.",
            expected="at least one sample in the split that is examined",
            found="none",
            next_step="choose another split, or look at dropped.jsonl beside the samples",
        )
    twice = [i for i, count in Counter(s.id for s in samples).items() if count > 1]
    if twice:
        raise EosinError(
            f"{len(twice)} ids stand more than once in this exam.",
            expected="every id once",
            found=", ".join(twice[:5]),
            next_step="make the ids of the samples unique",
        )
    without = [s.id for s in samples if s.answer is None or not s.answer.strip()]
    if without:
        raise EosinError(
            f"{len(without)} of {len(samples)} samples have no answer and cannot be scored.",
            expected="an answer in every sample",
            found=", ".join(without[:5]),
            next_step="leave these samples out, or give them an answer",
        )


def image_key(ref: ImageRef) -> str:
    """A short name of an image: equal references have equal names."""
    if isinstance(ref, ImageBytes):
        return hashlib.sha256(ref.data).hexdigest()[:16]
    if isinstance(ref, ImageFile):
        return (ref.sha256 or hashlib.sha256(ref.path.encode()).hexdigest())[:16]
    return hashlib.sha256(ref.model_dump_json().encode()).hexdigest()[:16]


def group_of(sample: Sample) -> str:
    """The sample's cluster, with its kind: patient, case, slide or article; else its image; else itself."""
    if sample.origin.group is not None:
        return sample.origin.group
    if sample.origin.digest is not None:
        return f"image:{sample.origin.digest[:16]}"
    if sample.images:
        if len(sample.images) == 1:
            return f"image:{image_key(sample.images[0])}"
        return f"image:{digest_of([image_key(r).encode() for r in sample.images])[:16]}"
    return f"item:{sample.id}"


def cluster_kind(groups: Sequence[str]) -> str:
    """Kind of the clusters: "case", or "case+image" where they differ."""
    return "+".join(sorted({g.split(":", 1)[0] for g in groups}))


def choose_balanced(items: Sequence[T], class_of: Callable[[T], str], size: int | None, seed: int) -> list[T]:
    """A seeded subset that takes from every class in turn, in the given order."""
    if size is None or size >= len(items):
        return list(items)
    rng = np.random.default_rng(seed)
    queues: dict[str, list[int]] = defaultdict(list)
    for i in rng.permutation(len(items)):
        queues[class_of(items[i])].append(int(i))
    kept: list[int] = []
    while len(kept) < size:
        for name in sorted(queues):
            if queues[name] and len(kept) < size:
                kept.append(queues[name].pop())
    return [items[i] for i in sorted(kept)]


@dataclass(frozen=True)
class Classes:
    """The classes that an exam's answers form.

    Attributes:
        names: class name of every normalised answer text. Where each answer text goes with one `label` and
            each label with one text, the name is the label; else it is the text.
        labels: names in order. Empty where the answers form no classes: options written for each item.
    """

    names: dict[str, str]
    labels: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Classes:
        """Find the classes.

        Answers form classes if all items share one set of options, or every answer text goes with one
        label, or an answer stands on average for at least five items.
        """
        texts = _first_spelling(samples)
        by_label = _labels_of(samples)
        shared = len({frozenset(normalised(c.text) for c in s.choices) for s in samples}) == 1
        closed_set = shared and bool(samples[0].choices)
        if not (closed_set or by_label or 5 * len({_gold_text(s) for s in samples}) <= len(samples)):
            return cls(texts, ())
        names = {text: by_label.get(text, spelling) for text, spelling in texts.items()}
        if len(set(names.values())) < len(names):
            names = texts
        return cls(names, tuple(sorted(set(names.values()))))

    def name(self, text: str) -> str:
        """Class name of an answer text."""
        return self.names.get(normalised(text), text)

    def gold(self, sample: Sample) -> str:
        """Class name of a sample's right answer."""
        return self.name(sample.answer_text or "")


def _gold_text(sample: Sample) -> str:
    return normalised(sample.answer_text or "")


def _first_spelling(samples: Sequence[Sample]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for sample in samples:
        for text in (sample.answer_text or "", *(c.text for c in sample.choices)):
            texts.setdefault(normalised(text), text)
    return texts


def _labels_of(samples: Sequence[Sample]) -> dict[str, str]:
    """label of every answer text, if texts and labels go together one to one; else empty."""
    pairs = {(_gold_text(s), s.label) for s in samples}
    texts, labels = {t for t, _ in pairs}, {x for _, x in pairs}
    if None in labels or not len(pairs) == len(texts) == len(labels):
        return {}
    return {text: label for text, label in pairs if label is not None}
