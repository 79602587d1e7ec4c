"""What is known about a data set: licence, citation, counts, and the unit it may be split by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.core.nouns.sample import Sample
from eosin.core.nouns.units import Mpp


class Card(BaseModel):
    """A data set on one page.

    Attributes:
        name: short name; `Origin.source` of its samples.
        licence: SPDX identifier or the licence's own words.
        split_unit: what may never stand in two splits (patient, case, slide, article, file).
        counts: number of samples by split and label: {"train": {"normal mucosa": 12}}.
        num_groups: number of different split units by split.
        mpp: microns per pixel of the images as stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    title: str = ""
    licence: str = "unknown"
    citation: str = ""
    homepage: str = ""
    split_unit: str | None = None
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)
    num_groups: dict[str, int] = Field(default_factory=dict)
    modality: str | None = None
    organ: str | None = None
    stain: str | None = None
    mpp: Mpp | None = None

    def counted(self, samples: Sequence[Sample]) -> Card:
        """The same card with the counts of these samples."""
        counts: dict[str, Counter[str]] = {}
        groups: dict[str, set[str]] = {}
        for sample in samples:
            split = sample.split or "none"
            counts.setdefault(split, Counter())[sample.label or "none"] += 1
            if sample.origin.group is not None:
                groups.setdefault(split, set()).add(sample.origin.group)
        return self.model_copy(
            update={
                "counts": {split: dict(sorted(c.items())) for split, c in sorted(counts.items())},
                "num_groups": {split: len(g) for split, g in sorted(groups.items())},
            }
        )


class Collection(BaseModel):
    """What a source gives: its card, its samples, what was set aside, and what the user should know.

    Attributes:
        warnings: sentences, for the log and the report.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    card: Card
    samples: Filtered[Sample]
    warnings: tuple[str, ...] = ()

    @property
    def kept(self) -> tuple[Sample, ...]:
        return self.samples.kept

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        return self.samples.dropped
