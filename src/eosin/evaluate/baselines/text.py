"""Baselines that see no image: the most frequent class, and a classifier of question and options.

Text-only probe, closed questions: logistic regression says of every (question, option) pair whether the option is
right, from the option's words and text, its place, its length beside the others, the words it shares with the question,
and pairs of a word of the question with the option; the option with the highest score is the answer. Where options are
shuffled and the question tells nothing, it is the majority class at best. Open questions: logistic regression over
classes from the words of the question. C = 1, not tuned.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from eosin.core.nouns.classes import normalised
from eosin.core.nouns.sample import Sample
from eosin.evaluate.baselines.problem import NotPossibleError, Problem, Said

NUM_HASHES = 2**16
MAX_QUESTION_WORDS = 40
_WORD = re.compile(r"\w+")


def majority(problem: Problem) -> Said:
    """The class most frequent in train; among an item's options where it has options."""
    counts = Counter(problem.name(s) for s in problem.train)
    order = sorted(counts, key=lambda name: (-counts[name], name))
    return Said({s.id: problem.first_offered(order, s) for s in problem.usable}, len(problem.train))


def text_only(problem: Problem) -> Said:
    """What question and options give away."""
    said: dict[str, str | None] = {}
    num_train = 0
    for part in (_closed, _open):
        found = part(problem)
        if found is not None:
            said |= found.names
            num_train += found.num_train
    if not said:
        raise NotPossibleError("needs training samples with options, or of two classes")
    return Said(said, num_train)


def _closed(problem: Problem) -> Said | None:
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import LogisticRegression

    train = [s for s in problem.train if len(s.choices) > 1]
    asked = [s for s in problem.usable if len(s.choices) > 1]
    if not train or not asked:
        return None
    hasher = FeatureHasher(NUM_HASHES)
    X = hasher.transform(pair for s in train for pair in option_features(s))
    y = [c.letter == s.answer for s in train for c in s.choices]
    fitted = LogisticRegression(C=1.0, max_iter=300).fit(X, y)
    said: dict[str, str | None] = {}
    for sample in asked:
        scores = fitted.decision_function(hasher.transform(option_features(sample)))
        said[sample.id] = normalised(problem.classes.name(sample.choices[int(np.argmax(scores))].text))
    return Said(said, len(train))


def option_features(sample: Sample) -> list[dict[str, float]]:
    """For each option what text alone tells of it, by name."""
    question = list(dict.fromkeys(_words(sample.question)))[:MAX_QUESTION_WORDS]
    lengths = [len(c.text) for c in sample.choices]
    found: list[dict[str, float]] = []
    for place, choice in enumerate(sample.choices):
        text, words = normalised(choice.text), set(_words(choice.text))
        pair = {f"option={text}": 1.0, f"place={place}": 1.0, f"from_last={len(lengths) - place}": 1.0}
        pair |= {f"word={w}": 1.0 for w in words}
        pair |= {f"asked={w}|{text}": 0.5 for w in question}
        pair["longest"] = float(len(choice.text) == max(lengths) > min(lengths))
        pair["shortest"] = float(len(choice.text) == min(lengths) < max(lengths))
        pair["shared"] = len(words & set(question)) / max(1, len(words))
        found.append(pair)
    return found


def _open(problem: Problem) -> Said | None:
    known = problem.known
    train = [s for s in problem.train if not s.choices and problem.name(s) in known]
    asked = [s for s in problem.usable if not s.choices]
    if not asked or len({problem.name(s) for s in train}) < 2:
        return None
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    words = HashingVectorizer(n_features=NUM_HASHES, ngram_range=(1, 2), token_pattern=r"\w+")
    fitted = LogisticRegression(C=1.0, max_iter=300).fit(
        words.transform([s.question for s in train]), [problem.name(s) for s in train]
    )
    names = fitted.predict(words.transform([s.question for s in asked]))
    return Said({s.id: str(name) for s, name in zip(asked, names, strict=True)}, len(train))


def _words(text: str) -> Sequence[str]:
    return _WORD.findall(text.casefold())


def best_option(caption: str, sample: Sample) -> str | None:
    """The option whose words stand in a caption: the largest share of them, then the longest; None: no word of any."""
    said = set(_words(caption))
    scored = []
    for choice in sample.choices:
        words = set(_words(choice.text))
        share = len(words & said) / len(words) if words else 0.0
        scored.append((share, len(words), choice.text))
    best = max(scored, default=(0.0, 0, ""))
    return best[2] if best[0] > 0 else None
