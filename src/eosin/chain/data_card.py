"""The data card of a run: card.json beside its samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.splits import SPLITS
from eosin.curate import Cleaned, StepCount
from eosin.sources import Card


def card_of(
    card: Card,
    cleaned: Cleaned,
    dropped: Sequence[Dropped],
    before: Sequence[StepCount] = (),
    warnings: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The data card of a run: what is in each split, what was set aside and why, and what the user should know."""
    counted = card.counted(cleaned.samples)
    units = Counter((s.origin.group or "image:").split(":")[0] for s in cleaned.samples)
    by_split = {split: sum(labels.values()) for split, labels in counted.counts.items()}
    return {
        **counted.model_dump(mode="json", exclude={"counts", "num_groups"}),
        "counts": {**{s: by_split.get(s, 0) for s in SPLITS}, "dropped": len(dropped)},
        "labels": sorted({s.label for s in cleaned.samples if s.label}),
        "label_counts": counted.counts,
        "groups": counted.num_groups,
        "split_unit": "+".join(sorted(units)),
        "drop_reasons": reasons_of(dropped),
        "steps": [s.as_json() for s in (*before, *cleaned.steps)],
        "near_duplicates": len(cleaned.near),
        "warnings": list(cleaned.warnings if warnings is None else warnings),
    }


def reasons_of(dropped: Sequence[Dropped]) -> dict[str, int]:
    """Count of every reason, most frequent first."""
    return dict(Counter(d.reason for d in dropped).most_common())
