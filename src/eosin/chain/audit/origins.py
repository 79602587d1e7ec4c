"""Where samples come from: identities, licences, sources, classes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from eosin.chain.audit.found import Found, hits_of
from eosin.core.nouns.outcome import Dropped
from eosin.core.nouns.sample import Sample

UNKNOWN = frozenset({"", "unknown", "none", "n/a", "unspecified", "other"})
MOSTLY = 0.8
LEAST = 20
IMBALANCE = 10
_NO_DERIVATIVES = re.compile(r"\bnd\b|no[- ]?deriv", re.I)
_NOT_COMMERCIAL = re.compile(r"\bnc\b|non[- ]?commercial|research[- ]only", re.I)
_READ = {
    "exact duplicate": ("the same row twice", "{n} of {of} rows stand twice, word for word."),
    "duplicate id": ("one id for two samples", "{n} of {of} rows have the id of another sample."),
    "tags of the reply are broken": ("broken tags", "{n} of {of} replies have tags that do not close or do not fit."),
    "image outside the data's folder": ("image paths lead out", "{n} of {of} rows name an image outside the folder."),
    "group in two splits": ("same patient or case in two splits", "{n} of {of} samples stand in two splits."),
}  # fmt: skip


def origin_faults(samples: Sequence[Sample], dropped: Sequence[Dropped]) -> tuple[list[Found], dict[str, Any]]:
    """Faults of origin, and tables of licences, sources and classes."""
    rows = len(samples) + len(dropped)
    found = [*_unread(dropped, rows), *_identities(samples), *_licences(samples), *_classes(samples)]
    return found, {"licences": _licence_table(samples), "classes": _class_table(samples), "units": _units(samples)}


def _unread(dropped: Sequence[Dropped], rows: int) -> Iterator[Found]:
    by_reason: dict[str, list[Dropped]] = defaultdict(list)
    for one in dropped:
        by_reason[one.reason].append(one)
    for reason, ones in by_reason.items():
        name, said = _READ.get(reason, (f"not readable: {reason}", "{n} of {of} rows could not be read."))
        yield from hits_of(name, said, [(d.id, d.detail[:100]) for d in ones], rows)


def _units(samples: Sequence[Sample]) -> dict[str, int]:
    return dict(Counter((s.origin.group or "none:").split(":")[0] for s in samples).most_common())


def _identities(samples: Sequence[Sample]) -> Iterator[Found]:
    yield from hits_of(
        "no patient, case, slide or article",
        "{n} of {of} samples do not say of which patient, case, slide, article or book they are: they cannot be split "
        "so that no patient stands on both sides.",
        [(s.id, "") for s in samples if s.origin.group is None], len(samples),
    )  # fmt: skip


def _licences(samples: Sequence[Sample]) -> Iterator[Found]:
    def having(test: Any) -> list[tuple[str, str]]:
        return [(s.id, s.origin.licence) for s in samples if test(s.origin.licence.strip())]

    yield from hits_of(
        "no licence", "{n} of {of} samples state no licence.", having(lambda x: x.casefold() in UNKNOWN), len(samples)
    )
    yield from hits_of(
        "licence forbids derivatives", "{n} of {of} samples have a licence without derivatives: a model trained on "
        "them may not be passed on.", having(_NO_DERIVATIVES.search), len(samples),
    )  # fmt: skip
    yield from hits_of(
        "licence forbids commercial use", "{n} of {of} samples may not be used commercially.",
        having(_NOT_COMMERCIAL.search), len(samples), level="note",
    )  # fmt: skip


def _licence_table(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    counts = Counter((s.origin.source, s.origin.licence) for s in samples)
    return [{"source": source, "licence": licence, "n": n} for (source, licence), n in counts.most_common(60)]


def _class_table(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Each class with its count by split and source, and the group that holds most of it."""
    by_label: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        if s.label:
            by_label[s.label].append(s)
    rows = []
    for label, own in sorted(by_label.items(), key=lambda kv: -len(kv[1]))[:60]:
        groups = Counter(s.origin.group for s in own if s.origin.group)
        most = groups.most_common(1)[0] if groups else (None, 0)
        rows.append({
            "label": label, "n": len(own), "splits": dict(Counter(s.split or "none" for s in own)),
            "sources": dict(Counter(s.origin.source for s in own)), "groups": len(groups),
            "largest_group": most[0], "largest_share": most[1] / len(own),
        })  # fmt: skip
    return rows


def _classes(samples: Sequence[Sample]) -> Iterator[Found]:
    rows = [r for r in _class_table(samples) if r["n"] >= LEAST]
    total = sum(r["n"] for r in rows) or 1
    for r in rows:
        if r["largest_group"] and r["largest_share"] > MOSTLY and len(rows) > 1:
            said = (f"{100 * r['largest_share']:.0f} % of the class {r['label']!r} come from {r['largest_group']}: a "
                    "model may learn that slide or patient in place of the class.")  # fmt: skip
            yield Found("a class comes from one group", "fault", said, round(r["largest_share"] * r["n"]), r["n"],
                        (r["label"],))  # fmt: skip
    sources = Counter(s.origin.source for s in samples if s.label)
    for r in rows:
        source, n = max(r["sources"].items(), key=lambda kv: kv[1])
        if len(sources) > 1 and n > 0.95 * r["n"] and sources[source] < MOSTLY * total:
            said = f"{n:,} of {r['n']:,} samples of the class {r['label']!r} come from the source {source!r} alone."
            yield Found("a class comes from one source", "fault", said, n, r["n"], (r["label"],))
    if len(rows) > 1 and rows[0]["n"] > IMBALANCE * rows[-1]["n"]:
        said = f"{rows[0]['label']!r} has {rows[0]['n']:,} samples, {rows[-1]['label']!r} {rows[-1]['n']:,}."
        yield Found("class imbalance", "note", said, rows[0]["n"], total)
    yield from _missing(samples, rows)


def _missing(samples: Sequence[Sample], rows: Sequence[dict[str, Any]]) -> Iterator[Found]:
    splits = sorted({s.split for s in samples if s.split})
    for split in splits if len(splits) > 1 else ():
        gone = [r["label"] for r in rows if not r["splits"].get(split)]
        if gone:
            said = f"The split {split} has no sample of {len(gone)} classes."
            yield Found("class missing in a split", "note", said, len(gone), len(rows), tuple(gone[:5]))
