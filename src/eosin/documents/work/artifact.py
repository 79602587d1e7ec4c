"""The samples artifact of documents: samples, what was set aside, a card, and the pages to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eosin.core.formats.artifact import DROPPED_FILE, SAMPLES_FILE, dropped_line
from eosin.core.formats.parquet import write_parquet
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample
from eosin.core.settings.documents import ChoosingSettings
from eosin.core.store.artifacts import Artifact, open_artifact, write_json, writing
from eosin.documents.view.page import write_pages
from eosin.documents.work.all import Read
from eosin.documents.work.samples import samples_of

CARD = "card.json"


class Counted:
    """Samples one at a time, counted on the way; what was set aside is held."""

    def __init__(self, read: Read, settings: ChoosingSettings) -> None:
        self._read, self._settings = read, settings
        self.dropped: list[Dropped] = list(read.dropped)
        self.licences: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.articles: set[str] = set()
        self.figures = self.pages = self.panels = self.references = self.samples = 0
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Sample]:
        for folder, record in self._read.records():
            self.dropped += [Dropped(**d) for d in record["dropped"]]
            self.figures += len(record["figures"])
            self.pages += len(record["about"]["pages"])
            self.seconds += float(record.get("seconds", 0.0))
            for outcome in samples_of(folder, record, self._settings):
                if isinstance(outcome, Dropped):
                    self.dropped.append(outcome)
                    continue
                self._count(outcome.value)
                yield outcome.value

    def _count(self, sample: Sample) -> None:
        self.samples += 1
        self.licences[sample.origin.licence] += 1
        self.articles.add(sample.origin.article or "")
        figure = sample.extra["figure"]
        self.kinds[(figure.get("kind") or {}).get("name") or "unknown"] += 1
        self.panels += len(figure["panels"])
        self.references += len(figure["references"])

    def card(self) -> dict[str, Any]:
        """The data set on one page."""
        return {
            "name": self._settings.name, "title": "Figures and captions of documents",
            "licence": " / ".join(sorted(self.licences))[:200] or "unknown", "split_unit": "article",
            "counts": {"none": {"none": self.samples}}, "num_groups": {"none": len(self.articles)},
        }  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Counts beyond the card."""
        return {
            "documents": self._read.num_found, "documents_read": len(self._read.folders), "pages": self.pages,
            "figures": self.figures, "samples": self.samples, "panels": self.panels, "references": self.references,
            "articles": len(self.articles), "licences": dict(self.licences.most_common()),
            "kinds": dict(self.kinds.most_common()), "dropped": len(self.dropped),
            "drop_reasons": dict(Counter(d.reason for d in self.dropped).most_common()),
            "seconds": round(self.seconds, 2),
        }  # fmt: skip


def write_artifact(
    read: Read, out: Path, settings: ChoosingSettings, asked: dict[str, Any], *, pages: bool = True
) -> Artifact:
    """Write the artifact: samples.parquet, dropped.jsonl, card.json, summary.json, pages/.

    Args:
        asked: what the user asked for, kept in the record, so that the same command finds its work done.
    """
    counted = Counted(read, settings)
    with writing(out, "samples", record={"documents": asked}) as writer:
        writer.counts["samples"] = write_parquet(iter(counted), writer.dir / SAMPLES_FILE)
        (writer.dir / DROPPED_FILE).write_text("".join(dropped_line(d) for d in counted.dropped), encoding="utf-8")
        write_json(writer.dir / CARD, counted.card())
        write_json(writer.dir / "summary.json", counted.summary())
        if pages:
            write_pages(read, writer.dir, counted.summary(), counted.dropped)
        writer.counts["dropped"] = len(counted.dropped)
        writer.facts["summary"] = counted.summary()
    return open_artifact(out, "samples")
