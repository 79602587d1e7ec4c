"""The classes that the answers of samples form: of an exam, of training prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eosin.core.nouns.sample import Sample


def normalised(text: str) -> str:
    """Text for an exact match: case folded, runs of white space made one space."""
    return " ".join(text.split()).casefold()


@dataclass(frozen=True)
class Classes:
    """The classes that the answers of samples form.

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


TOLD_BEFORE = 0.2


def is_lost(before: float, after: float) -> bool:
    """Whether a class is lost: it was told in at least a fifth of its cases, and is told in none now.

    Args:
        before, after: recall of the class, 0..1.
    """
    return before >= TOLD_BEFORE and after == 0.0
