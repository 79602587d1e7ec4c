"""Which questions of an exam stand in training samples: by patient, by image, nearly by image, by text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eosin.core.nouns.sample import Sample
from eosin.curate.decontaminate import image_keys
from eosin.curate.hashes import HashOf, first_image_hash, near_pairs

WORDS = 13
"""Length of the word sequences that are compared, as in GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C)."""
TEMPLATE = 3
"""A sequence in more questions of the exam, or of training, than this (or than 1 %) is wording, not a leak."""
PATIENT, IMAGE, NEAR, TEXT = "same patient or case", "same image", "nearly the same image", "same text"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Leak:
    """A question of the exam that training has seen.

    Attributes:
        id: of the question.
        reason: PATIENT, IMAGE, NEAR or TEXT; a question may have several.
        training: a training sample that holds it.
    """

    id: str
    reason: str
    training: str


def find_leaks(
    exam: Sequence[Sample],
    training: Sequence[Sample],
    *,
    max_distance: int = 2,
    words: int = WORDS,
    hash_of: HashOf = first_image_hash,
) -> list[Leak]:
    """Every way in which a question of the exam stands in training, at most one of each kind a question.

    - patient: both name the same split unit (`Origin.group`: patient, case, slide or article).
    - image: one encoded image is the same, byte for byte.
    - near: the 64-bit difference hashes of the first images differ in at most `max_distance` bits.
    - text: question, options and answer share a sequence of `words` words, or are the same where they are shorter.
      Sequences that many questions of the exam or of training share are their wording, and do not count.
    """
    found = [*_by_group(exam, training), *_by_image(exam, training)]
    exact = {leak.id for leak in found if leak.reason == IMAGE}
    found += _near([s for s in exam if s.id not in exact], training, max_distance, hash_of)
    found += _by_text(exam, training, words)
    order = {s.id: i for i, s in enumerate(exam)}
    return sorted(found, key=lambda leak: order[leak.id])


def _by_group(exam: Sequence[Sample], training: Sequence[Sample]) -> Iterator[Leak]:
    known = {(s.origin.source, s.origin.group): s.id for s in training if s.origin.group is not None}
    for s in exam:
        group = s.origin.group
        if group is not None and (hit := known.get((s.origin.source, group))) is not None:
            yield Leak(s.id, PATIENT, hit)


def _by_image(exam: Sequence[Sample], training: Sequence[Sample]) -> Iterator[Leak]:
    asked = {s.id: image_keys(s) for s in exam}
    wanted = {k for keys in asked.values() for k in keys}
    known: dict[str, str] = {}
    for t in training:
        for key in image_keys(t):
            if key in wanted:
                known.setdefault(key, t.id)
    for id, keys in asked.items():
        hit = next((known[k] for k in keys if k in known), None)
        if hit is not None:
            yield Leak(id, IMAGE, hit)


def _near(exam: Sequence[Sample], training: Sequence[Sample], max_distance: int, hash_of: HashOf) -> Iterator[Leak]:
    left = [(s, h) for s in exam if (h := hash_of(s)) is not None]
    right = [(t, h) for t in training if (h := hash_of(t)) is not None]
    seen: set[str] = set()
    for i, j, _ in near_pairs([h for _, h in left], [h for _, h in right], max_distance):
        id = left[i][0].id
        if id not in seen:
            seen.add(id)
            yield Leak(id, NEAR, right[j][0].id)


def _by_text(exam: Sequence[Sample], training: Sequence[Sample], words: int) -> Iterator[Leak]:
    sequences = {s.id: _sequences(s, words) for s in exam}
    counts = Counter(q for own in sequences.values() for q in own)
    limit = max(TEMPLATE, len(exam) // 100)
    holders: dict[str, list[str]] = defaultdict(list)
    for id, own in sequences.items():
        for q in own:
            if counts[q] <= limit:
                holders[q].append(id)
    hits: dict[str, list[str]] = defaultdict(list)
    for t in training:
        for q in _sequences(t, words) & holders.keys():
            hits[q].append(t.id)
    limit = max(TEMPLATE, len(training) // 100)
    seen: dict[str, str] = {}
    for q, trained in hits.items():
        if len(trained) <= limit:
            for id in holders[q]:
                seen.setdefault(id, trained[0])
    yield from (Leak(id, TEXT, training_id) for id, training_id in seen.items())


def _sequences(sample: Sample, words: int) -> set[str]:
    """Word sequences of a sample; its whole text where it is shorter. Options count in alphabetical order."""
    options = sorted(c.text for c in sample.choices)
    text = " ".join([sample.question, *options, sample.answer_text or ""])
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if not found:
        return set()
    return {" ".join(found[i : i + words]) for i in range(max(1, len(found) - words + 1))}
