"""Splits by patient, case, slide or article, never by question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Sample
from eosin.core.nouns.splits import Split
from eosin.curate.hashes import image_digest
from eosin.sources.grouping import (
    assign_groups,
    groups_in_two_splits,
    refuse_shared_groups,
    split_warnings,
)

STEP = "split"


@dataclass(frozen=True)
class SplitResult:
    """Samples with their splits.

    Attributes:
        counts: samples by split.
        warnings: classes missing from a split, groups that nearly make up a class, samples without a group.
    """

    samples: Filtered[Sample]
    counts: dict[str, int]
    warnings: tuple[str, ...]


def split(
    samples: Sequence[Sample],
    *,
    valid_fraction: float = 0.0,
    test_fraction: float = 0.0,
    seed: int = 0,
    by: str = "group",
    on_conflict: Literal["error", "drop"] = "error",
) -> SplitResult:
    """Give every sample without a split one, whole groups only; check those that have one.

    A sample whose group has a split already gets that one. A sample without patient, case, slide and article
    is grouped by the digest of its images, with a warning; without images it is dropped.

    Args:
        valid_fraction, test_fraction: share of the samples that have no split yet.
        by: must be "group"; anything else is refused.
        on_conflict: for a group that stands in two splits: "error", or "drop" its samples outside the most
            protected one (test before valid before train).

    Raises:
        EosinError: `by` is not "group"; a group in two splits with "error"; too few groups.
    """
    if by != "group":
        raise EosinError(
            f"A split by {by} is refused: questions about one patient would stand on both sides.",
            expected="group (the first known of patient, case, slide, article)",
            found=by,
        )  # fmt: skip
    if on_conflict == "error":
        refuse_shared_groups(samples, "mend the splits, or use on_conflict: drop")
    resolved = _drop_shared(samples)
    grouped = filtered(_with_key(s) for s in resolved.kept)
    done = _assign(grouped.kept, valid_fraction, test_fraction, seed)
    warnings = list(split_warnings(done))
    num_without = sum(s.origin.group is None for s in done)
    if num_without:
        warnings.append(f"{num_without} samples know no patient, case, slide or article; grouped by image.")
    result = Filtered(tuple(done), (*resolved.dropped, *grouped.dropped))
    return SplitResult(result, dict(Counter(s.split or "none" for s in done)), tuple(warnings))


def _with_key(sample: Sample) -> Kept[tuple[Sample, str]] | Dropped:
    """A sample with the name of its group."""
    if sample.origin.group is not None:
        return Kept((sample, f"{sample.origin.source}/{sample.origin.group}"))
    digest = sample.origin.digest or image_digest(sample)
    if digest is None:
        return Dropped(sample.id, "no group", "no patient, case, slide or article, and no image", STEP)
    return Kept((sample, f"image:{digest}"))


def _drop_shared(samples: Sequence[Sample]) -> Filtered[Sample]:
    """Keep a shared group in its most protected split: test before valid before train."""
    shared = groups_in_two_splits(samples)
    keep = {g: next(s for s in ("test", "valid", "train") if s in c) for g, c in shared.items()}

    def judge(sample: Sample) -> Kept[Sample] | Dropped:
        kept_split = keep.get(f"{sample.origin.source}/{sample.origin.group}")
        if kept_split is None or sample.split in (None, kept_split):
            return Kept(sample)
        detail = f"{sample.origin.group} is also in {kept_split}"
        return Dropped(sample.id, "group in two splits", detail, STEP)

    return filtered(judge(s) for s in samples)


def _assign(
    samples: Sequence[tuple[Sample, str]], valid_fraction: float, test_fraction: float, seed: int
) -> list[Sample]:
    known: dict[str, Split] = {key: s.split for s, key in samples if s.split is not None}
    todo = [(s, key) for s, key in samples if s.split is None and key not in known]
    if todo and (valid_fraction or test_fraction):
        known |= assign_groups(
            [key for _, key in todo],
            [s.label for s, _ in todo],
            valid_fraction=valid_fraction,
            test_fraction=test_fraction,
            seed=seed,
        )
    return [s if s.split is not None else s.model_copy(update={"split": known.get(key, "train")}) for s, key in samples]
