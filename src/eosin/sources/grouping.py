"""Splits by group: a patient, case, slide or article stands in one split only, wholly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Sample
from eosin.core.nouns.splits import Split

_TRIALS = 64
ONE_GROUP_SHARE = 0.9


def assign_groups(
    groups: Sequence[str],
    labels: Sequence[str | None],
    *,
    valid_fraction: float,
    test_fraction: float,
    seed: int,
) -> dict[str, Split]:
    """Draw whole groups for test and valid; the rest is train.

    Of 64 seeded draws the one is taken that leaves the fewest classes missing from a split, then the one
    whose sizes are nearest to the wanted fractions.

    Args:
        groups, labels: group and class of every sample.

    Raises:
        EosinError: there are fewer groups than splits.
    """
    sizes, classes = Counter(groups), _classes(groups, labels)
    wanted = {"test": test_fraction, "valid": valid_fraction}
    num_splits = 1 + sum(f > 0 for f in wanted.values())
    if len(sizes) < num_splits:
        raise EosinError(
            f"There are too few groups for {num_splits} splits.",
            expected=f"at least {num_splits} patients, cases or slides",
            found=f"{len(sizes)}: {', '.join(sorted(sizes)[:5])}",
            next_step="add groups, or give fewer fractions",
        )
    rng = random.Random(f"split:{seed}")
    best: dict[str, Split] = {}
    best_cost = (10**9, float("inf"))
    for _ in range(_TRIALS):
        drawn = _draw(sorted(sizes), sizes, wanted, rng)
        cost = _cost(drawn, sizes, classes, wanted)
        if cost < best_cost:
            best, best_cost = drawn, cost
    return best


def _classes(groups: Sequence[str], labels: Sequence[str | None]) -> dict[str, set[str]]:
    classes: dict[str, set[str]] = {}
    for group, label in zip(groups, labels, strict=True):
        classes.setdefault(group, set()).update([label] if label is not None else [])
    return classes


def _draw(
    names: list[str], sizes: Mapping[str, int], wanted: Mapping[str, float], rng: random.Random
) -> dict[str, Split]:
    order = names[:]
    rng.shuffle(order)
    total = sum(sizes.values())
    drawn: dict[str, Split] = dict.fromkeys(order, "train")
    at = 0
    for split in ("test", "valid"):
        count = 0
        # The next group goes in while that brings the split nearer to its size; the first one always does.
        while wanted[split] > 0 and at < len(order) - 1:
            size = sizes[order[at]]
            if count and count + size / 2 > wanted[split] * total:
                break
            drawn[order[at]] = split  # type: ignore[assignment]
            count += size
            at += 1
            if count >= wanted[split] * total:
                break
    return drawn


def _cost(
    drawn: Mapping[str, Split],
    sizes: Mapping[str, int],
    classes: Mapping[str, set[str]],
    wanted: Mapping[str, float],
) -> tuple[int, float]:
    total = sum(sizes.values())
    all_classes = set().union(*classes.values())
    missing, deviation = 0, 0.0
    for split in ("train", *(s for s, f in wanted.items() if f > 0)):
        members = [g for g, s in drawn.items() if s == split]
        missing += len(all_classes - set().union(*(classes[g] for g in members)))
        missing += len(all_classes) + 1 if not members else 0
        if split != "train":
            deviation += abs(sum(sizes[g] for g in members) / total - wanted[split])
    return missing, deviation


def groups_in_two_splits(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Groups that stand in more than one split: {"slide:05": {"train": 3, "test": 9}}."""
    where: dict[str, Counter[str]] = {}
    for sample in samples:
        group = sample.origin.group
        if group is not None and sample.split is not None:
            where.setdefault(f"{sample.origin.source}/{group}", Counter())[sample.split] += 1
    return {g: dict(c) for g, c in sorted(where.items()) if len(c) > 1}


def refuse_shared_groups(samples: Sequence[Sample], next_step: str) -> None:
    """Raise an EosinError that names the groups standing in two splits, where there are any."""
    shared = groups_in_two_splits(samples)
    if shared:
        shown = "; ".join(
            f"{g} ({', '.join(f'{n} in {s}' for s, n in c.items())})" for g, c in list(shared.items())[:5]
        )
        more = f" and {len(shared) - 5} more" if len(shared) > 5 else ""
        raise EosinError(
            f"{len(shared)} group{'s stand' if len(shared) > 1 else ' stands'} in more than one split.",
            expected="a patient, case, slide or article in one split only",
            found=shown + more,
            next_step=next_step,
        )


def split_warnings(samples: Sequence[Sample]) -> tuple[str, ...]:
    """Sentences about classes missing from a split, and classes that come nearly all from one group."""
    by_split: dict[str, Counter[str]] = {}
    by_class: dict[str, Counter[str]] = {}
    for sample in samples:
        if sample.label is None:
            continue
        by_split.setdefault(sample.split or "none", Counter())[sample.label] += 1
        if sample.origin.group is not None:
            by_class.setdefault(sample.label, Counter())[sample.origin.group] += 1
    warnings = []
    every_label = sorted({label for counts in by_split.values() for label in counts})
    for split in sorted(by_split):
        missing = [label for label in every_label if label not in by_split[split]]
        if missing:
            warnings.append(f"The {split} split has no sample of: {', '.join(missing)}.")
    for label, groups in sorted(by_class.items()):
        group, count = groups.most_common(1)[0]
        total = groups.total()
        if len(groups) > 1 and count > ONE_GROUP_SHARE * total:
            warnings.append(f"{count} of {total} samples of {label!r} come from {group}.")
    return tuple(warnings)
