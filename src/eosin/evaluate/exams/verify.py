"""A look at a real copy of an exam: counts, digests, pictures that cannot be opened, splits that share pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import ImageBytes, ImageFile, ImageRef, Sample
from eosin.evaluate.exams.exam import ALL, Asked, Exam
from eosin.evaluate.exams.reading.place import check_pictures

Counts = dict[tuple[str, str], int]


@dataclass
class Verified:
    """What was found.

    Attributes:
        counts: usable and unusable questions by subset and split.
        told: what the card tells of the same.
        reasons: why questions were set aside, with their number, and the first of each.
        unreadable: pictures that are there and cannot be opened.
        problems: sentences; none means that all that is known agrees.
        unread: splits that are not in the folder.
    """

    exam: str
    counts: Counts = field(default_factory=dict)
    told: Counts = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    firsts: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.problems


def verify(exam: Exam, root: Path | None, *, decode: bool = False, splits: Sequence[str] = ()) -> Verified:
    """Read every split of a copy and compare it with the card.

    Args:
        decode: open every picture too.
        splits: look at these only.

    Raises:
        EosinError: no folder; no split of the exam is in it.
    """
    found = Verified(exam.name)
    pictures: dict[str, set[str]] = {}
    errors: list[EosinError] = []
    for split in splits or exam.splits:
        try:
            read = exam.samples(Asked(root, ALL, split))
        except EosinError as exc:
            errors.append(exc)
            found.unread.append(split)
            continue
        _count(found, exam, split, read.kept, read.dropped)
        for sample in read.kept:
            for ref in sample.images:
                pictures.setdefault(_key(ref), set()).add(split)
        if decode:
            _open_all(found, read.kept, split)
    if len(errors) == len(splits or exam.splits):
        raise errors[0]
    _compare(found, exam)
    _digests(found, exam, root)
    _shared(found, pictures)
    return found


def _count(found: Verified, exam: Exam, split: str, kept: Sequence[Sample], dropped: Sequence[Dropped]) -> None:
    rows = Counter(str(s.extra.get("subset") or "") for s in kept)
    for subset, number in rows.items():
        found.counts[subset, split] = number
    for one in dropped:
        found.reasons[one.reason] = found.reasons.get(one.reason, 0) + 1
        found.firsts.setdefault(one.reason, f"{one.id} {one.detail}".strip()[:160])
    found.counts["all", split] = len(kept)
    for subset, by_split in exam.card.counts.items():
        if split in by_split:
            found.told[subset or "all", split] = by_split[split]


def _compare(found: Verified, exam: Exam) -> None:
    for (subset, split), told in found.told.items():
        number = found.counts.get((subset, split), 0)
        if number != told:
            found.problems.append(f"{subset}, {split}: {number:,} usable questions; the card tells {told:,}.")
    for reason, number in found.reasons.items():
        found.problems.append(f"{number:,} set aside: {reason}; the first: {found.firsts[reason]}.")


def _digests(found: Verified, exam: Exam, root: Path | None) -> None:
    for name, digest in exam.card.digests.items():
        path = Path(root or ".") / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            found.problems.append(f"{name} is another version than the one whose digest is known ({digest[:12]}...).")


def _open_all(found: Verified, samples: Sequence[Sample], split: str) -> None:
    seen: set[str] = set()
    for sample in samples:
        for ref in sample.images:
            key = _key(ref)
            if key in seen:
                continue
            seen.add(key)
            reason = check_pictures([ref])
            if reason:
                found.unreadable += 1
                if found.unreadable <= 5:
                    found.problems.append(f"{sample.id} ({split}): {reason}.")
    if found.unreadable > 5:
        found.problems.append(f"{found.unreadable:,} pictures cannot be opened.")


def _shared(found: Verified, pictures: dict[str, set[str]]) -> None:
    """Pictures that stand in two splits that should not share any. test-all holds test and test-tiny by definition."""
    pairs: Counter[tuple[str, str]] = Counter()
    for splits in pictures.values():
        own = sorted(splits - {"test-all"})
        pairs.update((a, b) for i, a in enumerate(own) for b in own[i + 1 :])
    for (a, b), number in pairs.items():
        found.problems.append(f"{number:,} pictures stand in both {a} and {b}.")


def _key(ref: ImageRef) -> str:
    if isinstance(ref, ImageBytes):
        return hashlib.sha256(ref.data).hexdigest()
    return ref.path if isinstance(ref, ImageFile) else ref.model_dump_json()
