"""Dedupe: one of several copies stays. Copies are exact, nearly the same picture, or nearly the same text."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.sifting import DedupeStep
from eosin.core.store.artifacts import read_object, write_json
from eosin.curate.copies.choose import Edge, choose
from eosin.curate.copies.texts import U64, Bands, band_keys, bucket_pairs, jaccard, runs
from eosin.curate.dedupe import question_matter
from eosin.curate.hashes import image_digest
from eosin.curate.steps.base import Inputs, Step
from eosin.curate.steps.verdicts import Verdict, judged, write_verdicts

_RANKS = {"test": 0, "valid": 1, "train": 2}
EXACT, CONFLICT = "same image and question", "same image, different answers"
SAME_TEXT, NEAR_TEXT, NEAR_IMAGE = "exact duplicate", "nearly the same text", "nearly the same picture"
FACTS = "facts.json"


class DedupeSamples(Step[DedupeStep]):
    """What is measured of a sample are numbers; texts and pictures are not held."""

    def measure(self, samples: Sequence[Sample]) -> pa.Table:
        """Numbers that are equal where pictures, question and answer are; bands and runs of the text."""
        rows = [_numbers(s) for s in samples]
        columns: dict[str, Any] = {
            "id": pa.array([s.id for s in samples], pa.string()),
            "rank": pa.array([_RANKS.get(s.split or "train", 2) for s in samples], pa.uint8()),
            **{name: pa.array([r[name] for r in rows], pa.uint64()) for name in ("image", "matter", "answer", "said")},
            "closed": pa.array([bool(s.choices) for s in samples], pa.bool_()),
        }
        if self.settings.near_text is not None:
            columns |= self._measure_texts([text_of(s) for s in samples])
        if self.settings.near_image:
            from eosin.curate.copies.pictures import measure_pictures

            columns |= measure_pictures(samples, crops=self.settings.crops)
        return pa.table(columns)

    def _measure_texts(self, texts: Sequence[str]) -> dict[str, Any]:
        assert self.settings.near_text is not None
        values, offsets = runs(texts, self.settings.shingle_words)
        keys = band_keys(values, offsets, Bands.for_threshold(self.settings.near_text))
        sets = [np.unique((values[a:b] >> np.uint64(32)).astype(np.uint32)) for a, b in pairwise(offsets)]
        sizes = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int32)
        flat = np.concatenate(sets) if sets else np.zeros(0, np.uint32)
        return {
            "bands": pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), keys.shape[1]),
            "runs": pa.ListArray.from_arrays(pa.array(sizes), pa.array(flat.astype(np.uint32))),
        }

    def decide(self, inputs: Inputs) -> None:
        """Find the copies, choose which stay, and write the verdicts."""
        held = _Held(inputs)
        verdicts = _contradicting(held) if self.settings.exact else {}
        num_conflicts = len(verdicts)
        edges = list(_exact(held, verdicts)) if self.settings.exact else []
        near: set[tuple[int, int]] = set()
        if self.settings.near_image:
            from eosin.curate.copies.pictures import near_pictures

            found = near_pictures(inputs, crops=self.settings.crops)
            near = {(i, j) for i, j, _ in found}
            edges += [Edge(i, j, like, NEAR_IMAGE, 1) for i, j, like in found if held.asks_the_same(i, j)]
        if self.settings.near_text is not None:
            edges += _near_texts(held, self.settings, near)
        gone = choose((e for e in edges if e.first not in verdicts and e.second not in verdicts), held.rank.tolist())
        for number, (stays, edge) in gone.items():
            verdicts[number] = (edge.reason, f"as {held.id(stays)}" + _alike(edge))
        write_verdicts(self.state, held.sizes, verdicts)
        differing = sum(not held.asks_the_same(i, j) for i, j in near)
        facts = {"contradicting": num_conflicts, "near_pictures_that_are_asked_otherwise": differing}
        write_json(self.state / FACTS, facts)

    def run(self, shard: int, samples: Sequence[Sample]) -> Iterable[Kept[Sample] | Dropped]:
        """Kept or dropped as was decided."""
        return judged(self.state, shard, samples, "dedupe")

    def facts(self) -> dict[str, Any]:
        """Contradicting samples, and near pictures that are kept because another thing is asked of them."""
        return read_object(self.state / FACTS)


def text_of(sample: Sample) -> str:
    """What a sample says: its caption, or question, options in alphabetical order, answer, findings and reasoning."""
    if sample.caption:
        return sample.caption
    options = sorted(c.text for c in sample.choices)
    told = (sample.question, *options, sample.answer_text, sample.findings, *sample.reasoning)
    return " ".join(t for t in told if t)


def _number(*parts: object) -> int:
    text = "\0".join(map(repr, parts))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") | 1


def _numbers(sample: Sample) -> dict[str, int]:
    """0 stands for no picture, or one that cannot be read."""
    digest = image_digest(sample)
    matter = question_matter(sample)
    return {
        "image": 0 if digest is None else _number(digest),
        "matter": _number(sorted(matter, key=repr) if isinstance(matter, frozenset) else matter),
        "answer": _number(sample.answer_text),
        "said": _number(sample.caption, sample.findings, sample.reasoning),
    }


def _alike(edge: Edge) -> str:
    return "" if edge.reason in (EXACT, SAME_TEXT) else f", {edge.likeness:.2f} alike"


class _Held:
    """Numbers of all samples: some dozens of bytes a sample, and the runs of their texts."""

    def __init__(self, inputs: Inputs) -> None:
        names = ("id", "rank", "image", "matter", "answer", "said", "closed", "bands", "runs")
        tables = [t.select([n for n in names if n in t.column_names]) for t in inputs.measured()]
        self.sizes = [t.num_rows for t in tables]
        self._all = pa.concat_tables(tables)
        self.rank: NDArray[np.uint8] = self._column("rank")
        self.image, self.matter = self._column("image"), self._column("matter")
        self.answer, self.said = self._column("answer"), self._column("said")
        self.closed = self._column("closed")

    def __len__(self) -> int:
        return int(self._all.num_rows)

    def _column(self, name: str) -> NDArray[Any]:
        found: NDArray[Any] = self._all[name].to_numpy()
        return found

    def id(self, number: int) -> str:
        return str(self._all["id"][number].as_py())

    def asks_the_same(self, i: int, j: int) -> bool:
        return bool(self.matter[i] == self.matter[j] and self.answer[i] == self.answer[j])

    def bands(self) -> U64:
        flat = [c.values.to_numpy(zero_copy_only=False) for c in self._all["bands"].chunks]
        return np.concatenate(flat).reshape(len(self), -1).astype(np.uint64)

    def runs(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        chunks = self._all["runs"].chunks
        sizes = np.concatenate([np.diff(c.offsets.to_numpy()) for c in chunks])
        return np.concatenate([c.values.to_numpy() for c in chunks]), np.concatenate([[0], np.cumsum(sizes)])


def _contradicting(held: _Held) -> dict[int, Verdict]:
    """All samples that ask the same of the same pictures and answer differently."""
    candidates = np.flatnonzero((held.image != 0) & held.closed)
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i in candidates:
        members[(int(held.image[i]), int(held.matter[i]))].append(int(i))
    clashing = [m for m in members.values() if len({int(held.answer[i]) for i in m}) > 1]
    return {i: (CONFLICT, f"{len(m)} samples ask this") for m in clashing for i in m}


def _exact(held: _Held, aside: dict[int, Verdict]) -> Iterator[Edge]:
    """Later samples with the first one that says the same."""
    order = np.lexsort((np.arange(len(held)), held.rank, held.said, held.answer, held.matter, held.image))
    columns = np.stack([held.image, held.matter, held.answer, held.said])[:, order]
    same = (columns[:, 1:] == columns[:, :-1]).all(0)
    first = int(order[0]) if len(order) else 0
    for number, is_same in zip(order[1:], same, strict=True):
        if not is_same:
            first = int(number)
        elif int(number) not in aside:
            yield Edge(first, int(number), 1.0, EXACT if held.image[number] else SAME_TEXT)


def _near_texts(held: _Held, settings: DedupeStep, near: set[tuple[int, int]]) -> Iterator[Edge]:
    """Pairs whose runs overlap, where the pictures are the same too or do not count."""
    assert settings.near_text is not None
    values, offsets = held.runs()
    for i, j in bucket_pairs(held.bands()):
        pair = (int(i), int(j))
        if not settings.text_alone and held.image[i] != held.image[j] and pair not in near:
            continue
        like = jaccard(values[offsets[i] : offsets[i + 1]], values[offsets[j] : offsets[j + 1]])
        if like >= settings.near_text:
            yield Edge(*pair, like, NEAR_TEXT, 2)
