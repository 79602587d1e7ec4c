"""Split: samples without a split get one, whole groups only. Groups that show the same picture are one group."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.nouns.splits import Split
from eosin.core.settings.curation.parting import SplitStep
from eosin.core.store.artifacts import read_object, write_json
from eosin.curate.copies.groups import Groups
from eosin.curate.copies.questions import places_of
from eosin.curate.decontaminate import image_keys
from eosin.curate.hashes import image_digest
from eosin.curate.steps.base import Inputs, Step
from eosin.sources.grouping import assign_groups

FEW = 2000
"""Up to so many groups the draw is the best of 64, by classes and sizes; beyond it one draw comes near enough."""
STATE = "splits.json"
_PROTECTED: tuple[Split, ...] = ("test", "valid", "train")


class SplitSamples(Step[SplitStep]):
    """Groups are measured, joined, and assigned; then each sample gets the split of its group."""

    _known: dict[str, Any] | None = None

    def measure(self, samples: Sequence[Sample]) -> pa.Table:
        """Group, pictures, label and split of each sample. group: null where a sample has no group and no image."""
        rows = [
            (group_key(s), image_numbers(s) if self.settings.join_images else [], s.label, s.split) for s in samples
        ]
        return pa.table(
            {
                "group": pa.array([r[0] for r in rows], pa.string()),
                "images": pa.array([r[1] for r in rows], pa.list_(pa.int64())),
                "label": pa.array([r[2] for r in rows], pa.string()),
                "split": pa.array([r[3] for r in rows], pa.string()),
            }
        )

    def decide(self, inputs: Inputs) -> None:
        """Assign whole groups.

        Raises:
            EosinError: a group in two splits (unless on_conflict is drop); too few groups.
        """
        groups: Groups[str] = Groups()
        names: list[str | None] = []
        labels: list[str | None] = []
        own: list[Split | None] = []
        pictures: dict[int, str] = {}
        for table in inputs.measured():
            part = table.to_pydict()
            names += part["group"]
            labels += part["label"]
            own += part["split"]
            for name, numbers in zip(part["group"], part["images"], strict=True):
                for number in numbers if name is not None else ():
                    groups.join(name, pictures.setdefault(number, name))
        roots = [None if n is None else groups.root(n) for n in names]
        given, conflicts = self._given(roots, own)
        todo = [i for i, r in enumerate(roots) if r is not None and r not in given]
        known = given | self._draw([str(roots[i]) for i in todo], [labels[i] for i in todo])
        splits = {n: known[r] for n, r in zip(names, roots, strict=True) if n is not None and r is not None}
        write_json(self.state / STATE, {"splits": splits, "conflicts": conflicts, "joined": groups.num_joined})

    def _given(self, roots: Sequence[str | None], own: Sequence[Split | None]) -> tuple[dict[str, Split], int]:
        """Splits that groups have: the most protected one where there are several, and how many have several."""
        seen: dict[str, set[str]] = {}
        for root, split in zip(roots, own, strict=True):
            if root is not None and split is not None:
                seen.setdefault(root, set()).add(split)
        several = sorted(r for r, s in seen.items() if len(s) > 1)
        if several and self.settings.on_conflict == "error":
            shown = "; ".join(f"{r} ({', '.join(sorted(seen[r]))})" for r in several[:5])
            raise EosinError(
                f"{len(several)} groups stand in more than one split.", found=shown, where="split",
                expected="a patient, case, slide, article or picture in one split only",
                next_step="mend the splits, or set on_conflict: drop",
            )  # fmt: skip
        return {r: next(p for p in _PROTECTED if p in s) for r, s in seen.items()}, len(several)

    def _draw(self, groups: Sequence[str], labels: Sequence[str | None]) -> dict[str, Split]:
        wanted = self.settings
        if not groups or not (wanted.valid or wanted.test):
            return dict.fromkeys(groups, "train")
        names = dict.fromkeys(groups)
        if len(names) <= FEW:
            return assign_groups(
                groups, labels, valid_fraction=wanted.valid, test_fraction=wanted.test, seed=self.context.seed
            )
        return _one_draw(Counter(groups), {"test": wanted.test, "valid": wanted.valid}, self.context.seed)

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[Kept[Sample] | Dropped]:
        """Kept with its split."""
        if self._known is None:
            self._known = read_object(self.state / STATE)["splits"]
        return (self._place(s, self._known) for s in samples)

    def _place(self, sample: Sample, splits: dict[str, Any]) -> Kept[Sample] | Dropped:
        key = group_key(sample)
        if key is None:
            return Dropped(sample.id, "no group", "no patient, case, slide or article, and no image", "split")
        split = splits[key]
        if sample.split is not None and sample.split != split:
            return Dropped(sample.id, "group in two splits", f"{key} is also in {split}", "split")
        return Kept(sample if sample.split is not None else sample.model_copy(update={"split": split}))

    def facts(self) -> dict[str, Any]:
        """How many groups were joined by a picture, and how many stood in two splits."""
        told = read_object(self.state / STATE)
        return {
            "groups": len(told["splits"]),
            "joined_by_a_picture": told["joined"],
            "in_two_splits": told["conflicts"],
        }


def group_key(sample: Sample) -> str | None:
    """The unit that may never stand in two splits, with its source unless it is known beyond it (PMC, DOI, TCGA);
    the pictures where nothing else is known."""
    if sample.origin.group is not None:
        return places_of(sample)[-1]
    digest = sample.origin.digest or image_digest(sample)
    return None if digest is None else f"image:{digest}"


def image_numbers(sample: Sample) -> list[int]:
    """A signed 64-bit number for each picture, equal for equal pictures."""
    return [int(np.uint64(int(key[:16], 16)).astype(np.int64)) for key in image_keys(sample)]


def _one_draw(sizes: Counter[str], wanted: dict[str, float], seed: int) -> dict[str, Split]:
    """Groups in an order drawn with the seed, into test and valid until these have their share."""
    order = sorted(sizes, key=lambda g: hashlib.blake2b(f"{seed}:{g}".encode("utf-8", "surrogatepass")).digest())
    total, drawn, at = sizes.total(), dict.fromkeys(order, "train"), 0
    for split in ("test", "valid"):
        count = 0
        while at < len(order) - 1 and count + sizes[order[at]] / 2 <= wanted[split] * total and wanted[split]:
            drawn[order[at]] = split
            count += sizes[order[at]]
            at += 1
    return drawn  # type: ignore[return-value]
