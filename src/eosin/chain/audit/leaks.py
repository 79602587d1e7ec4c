"""What stands in two splits, or in this data set and in another one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eosin.chain.audit.found import Found, Level, hits_of
from eosin.chain.audit.images import Near, Picture
from eosin.core.nouns.sample import Sample
from eosin.curate.leaks import PATIENT, TEXT, find_leaks

SPLITS = ("train", "valid", "test")
_SAID = {
    PATIENT: "{n} of {of} samples are of a patient, case, slide or article that also stands in ",
    TEXT: "{n} of {of} samples share a run of 13 words, or their whole text, with ",
}


@dataclass(frozen=True)
class Part:
    """Samples and their pictures, under a name.

    Attributes:
        numbers: of the samples in the row of all that is compared, by which near pairs name them.
    """

    name: str
    samples: Sequence[Sample]
    pictures: Sequence[Picture]
    numbers: Sequence[int]


def split_leaks(samples: Sequence[Sample], pictures: Sequence[Picture], pairs: Sequence[Near]) -> Iterator[Found]:
    """Leaks between the splits of one data set: the later split is the one that must not be known."""
    parts: dict[str, Part] = {}
    for split in SPLITS:
        at = [i for i, s in enumerate(samples) if (s.split or "train") == split]
        if at:
            parts[split] = Part(split, [samples[i] for i in at], [pictures[i] for i in at], at)
    names = list(parts)
    for k, exam in enumerate(names):
        for earlier in names[:k]:
            yield from _leaks(parts[exam], parts[earlier], "in two splits", f"{earlier} ({exam} against {earlier}).",
                              pairs)  # fmt: skip


def against(this: Part, other: Part, pairs: Sequence[Near]) -> Iterator[Found]:
    """Leaks between this data set and another one."""
    yield from _leaks(this, other, f"as in {other.name}", f"{other.name}.", pairs)


def _leaks(exam: Part, training: Part, where: str, ending: str, pairs: Sequence[Near]) -> Iterator[Found]:
    n = len(exam.samples)
    hits: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for leak in find_leaks(_bare(exam.samples), _bare(training.samples), hash_of=lambda s: None):
        hits[leak.reason].append((leak.id, f"as {leak.training}"))
    yield from hits_of(f"same patient or case {where}", _SAID[PATIENT] + ending, hits[PATIENT], n)
    exact = _exact(exam, training)
    said = "{n} of {of} samples show an image that also stands in " + ending
    yield from hits_of(f"same image {where}", said, exact, n)
    known = {id for id, _ in exact}
    left = [(id, seen) for id, seen in _nearly(exam, training, pairs).items() if id not in known]
    said = "{n} of {of} samples show a copy (cropped, turned, encoded again, stained otherwise) of an image in "
    yield from hits_of(f"nearly the same image {where}", said + ending, left, n)
    written = _written_for_one((*exam.samples, *training.samples))
    own = [(id, seen) for id, seen in hits[TEXT] if id in written]
    yield from hits_of(f"same text {where}", _SAID[TEXT] + ending, own, n)
    said = "{n} of {of} captions stand word for word in " + ending
    level: Level = "note" if _are_templates(training.samples) else "fault"
    yield from hits_of(f"same caption {where}", said, _captions(exam, training), n, level=level)


def _nearly(exam: Part, training: Part, pairs: Sequence[Near]) -> dict[str, str]:
    """Samples of the exam with a near picture in training, and which one."""
    asked = {number: s.id for number, s in zip(exam.numbers, exam.samples, strict=True)}
    trained = {number: s.id for number, s in zip(training.numbers, training.samples, strict=True)}
    found: dict[str, str] = {}
    for pair in pairs:
        for a, b in ((pair.first, pair.second), (pair.second, pair.first)):
            if a in asked and b in trained:
                found.setdefault(asked[a], f"as {trained[b]}, likeness {pair.likeness:.2f}")
    return found


def _written_for_one(samples: Sequence[Sample]) -> set[str]:
    """Ids of questions whose options were written for them: a set of classes, asked in a few wordings, is no text."""
    sets = {s.id: frozenset(c.text for c in s.choices) for s in samples}
    counts = Counter(options for options in sets.values() if options)
    return {id for id, options in sets.items() if counts[options] <= _TEMPLATE}


def _are_templates(samples: Sequence[Sample]) -> bool:
    """Whether captions repeat among themselves, more than one of fifty: a program drew them from wordings."""
    counts = Counter(_folded(s.caption) for s in samples if s.caption)
    return sum(n for n in counts.values() if n > 1) > 0.02 * sum(counts.values())


def _bare(samples: Sequence[Sample]) -> list[Sample]:
    return [s.model_copy(update={"images": ()}) for s in samples]


def _exact(exam: Part, training: Part) -> list[tuple[str, str]]:
    known: dict[str, str] = {}
    for s, p in zip(training.samples, training.pictures, strict=True):
        for key in p.keys:
            known.setdefault(key, s.id)
    return [
        (s.id, f"as {hit}") for s, p in zip(exam.samples, exam.pictures, strict=True)
        if (hit := next((known[k] for k in p.keys if k in known), None)) is not None
    ]  # fmt: skip


MIN_WORDS = 8
_TEMPLATE = 3


def _captions(exam: Part, training: Part) -> list[tuple[str, str]]:
    """Captions of at least eight words that stand on both sides. One that stands often is a template, and no leak."""
    known: dict[str, list[str]] = defaultdict(list)
    for s in training.samples:
        if s.caption and len(s.caption.split()) >= MIN_WORDS:
            known[_folded(s.caption)].append(s.id)
    own: dict[str, list[str]] = defaultdict(list)
    for s in exam.samples:
        if s.caption:
            own[_folded(s.caption)].append(s.id)
    return [
        (id, f"as {known[text][0]}") for text, ids in own.items() for id in ids
        if text in known and len(known[text]) <= _TEMPLATE >= len(ids)
    ]  # fmt: skip


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")
