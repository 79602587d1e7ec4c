"""Vectors of samples with what is known of each, on disk; the nearest of a query, among all or some of them.

Without a filter the graph of usearch answers (HNSW, arXiv 1603.09320), which may miss a few of the nearest; with a
filter, with `exact`, or where usearch is not installed, all products of the rows in question are computed, by blocks.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_parquet
from eosin.core.formats.stream.scan import mark_of
from eosin.core.nouns.sample import Sample
from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import Artifact
from eosin.evaluate.clip.embed import F32, Embedded

KIND = "clip-index"
VECTORS, GRAPH, ROWS = "vectors.npy", "graph.usearch", "samples.parquet"
BLOCK = 65_536
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
FILTERS = ("source", "slide", "case", "patient", "organ", "licence", "stain", "label", "split")


@dataclass(frozen=True)
class Hit:
    """One answer: the sample, its cosine with the query, and its row in the index."""

    sample: Sample
    score: float
    row: int


def write_index(
    seen: Embedded, model: Mapping[str, Any], path: Path, *, parents: tuple[Artifact, ...] = ()
) -> Artifact:
    """Write an index as one artifact.

    Args:
        model: what the vectors are of: `identity_of` of the CLIP model.

    Raises:
        EosinError: nothing to index, or something stands at the place.
    """
    seen.require("index")
    with store.writing(path, KIND, parents=parents) as writer:
        np.save(writer.dir / VECTORS, seen.vectors)
        write_parquet(list(seen.samples), writer.dir / ROWS)
        if _has_usearch():
            from usearch.index import Index as Graph

            graph = Graph(ndim=seen.vectors.shape[1], metric="ip", dtype="f32")
            graph.add(np.arange(len(seen.vectors)), seen.vectors, threads=1)
            graph.save(str(writer.dir / GRAPH))
        writer.facts["model"] = dict(model)
        writer.counts |= {"n": len(seen.samples), "dropped": len(seen.dropped)}
        store.write_json(writer.dir / "dropped.json", [vars(d) for d in seen.dropped])
    return store.open_artifact(path, KIND)


def identity_of(source: str, dim: int) -> dict[str, Any]:
    """What tells one model from another: the digest of its checkpoint, else the marks of its files of weights, else its
    name, where it has no files here."""
    place = Path(source.partition("@")[2] or source)
    if not place.exists():
        return {"name": source, "digest": None, "dim": dim}
    if place.is_dir() and store.exists(place):
        return {"name": place.name, "digest": store.open_artifact(place).digest, "dim": dim}
    files = [place] if place.is_file() else sorted(p for p in place.iterdir() if p.suffix in _WEIGHTS and p.is_file())
    marks = " ".join(mark_of(file) for file in files)
    return {"name": source, "digest": hashlib.sha256(marks.encode()).hexdigest() if marks else None, "dim": dim}


def _is_same(held: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether an index is of the model that asks; by names only where the index has no digest."""
    if held.get("dim") != asked.get("dim"):
        return False
    key = "digest" if held.get("digest") else "name"
    return held.get(key) == asked.get(key)


class Index:
    """An index that was opened; vectors are mapped from disk.

    Args:
        model: identity of the model whose queries will be asked.

    Raises:
        EosinError: no index, or one of another model.
    """

    def __init__(self, path: Path, model: Mapping[str, Any]) -> None:
        artifact = store.open_artifact(path, KIND, verify=True)
        made_with = artifact.manifest.get("model") or {}
        if not _is_same(made_with, model):
            raise EosinError(
                "This index is of another model: its vectors and the query's have nothing in common.",
                expected=_shown(model), found=_shown(made_with), where=path,
                next_step="search with the model that the index was made with, or make an index with this one",
            )  # fmt: skip
        self.vectors: F32 = np.load(path / VECTORS, mmap_mode="r")
        self.samples: Sequence[Sample] = read_samples(path / ROWS).kept
        if len(self.samples) != len(self.vectors):
            raise EosinError("The rows and vectors of this index differ in number.", where=path,
                             found=f"{len(self.samples)} and {len(self.vectors)}")  # fmt: skip
        self._graph = _open_graph(path / GRAPH)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(
        self, query: F32, k: int = 10, *, where: Mapping[str, str] | None = None, exact: bool = False
    ) -> list[Hit]:
        """The k nearest of a query (D,), highest cosine first.

        Args:
            where: fields of the origin (`FILTERS`) and the value that they must have, whatever its case.

        Raises:
            EosinError: a field that is not known, or a filter that leaves nothing.
        """
        rows = self._rows(where or {})
        if rows is None and not exact and self._graph is not None:
            matches = self._graph.search(np.ascontiguousarray(query), min(k, len(self)))
            return [self._hit(int(key), 1 - float(d)) for key, d in zip(matches.keys, matches.distances, strict=True)]
        places = np.arange(len(self)) if rows is None else rows
        return [self._hit(int(i), s) for i, s in zip(*nearest(self.vectors, query, k, places), strict=True)]

    def _hit(self, row: int, score: float) -> Hit:
        return Hit(self.samples[row], float(score), row)

    def _rows(self, where: Mapping[str, str]) -> NDArray[np.int64] | None:
        if not where:
            return None
        strange = sorted(set(where) - set(FILTERS))
        if strange:
            raise EosinError("There is no such filter.", expected=", ".join(FILTERS), found=", ".join(strange))
        wanted = {field: value.casefold() for field, value in where.items()}
        rows = [i for i, s in enumerate(self.samples) if all(value_of(s, f) == v for f, v in wanted.items())]
        if not rows:
            field, value = next(iter(where.items()))
            known = sorted({value_of(s, field) for s in self.samples})[:12]
            raise EosinError("The filter leaves nothing.", found=f"{field} = {value}", expected=", ".join(known))
        return np.asarray(rows, dtype=np.int64)


def value_of(sample: Sample, field: str) -> str:
    """A field of a sample that can be filtered by, in small letters; "" where it is not known."""
    own = getattr(sample, field) if field in ("label", "split") else getattr(sample.origin, field)
    return str(own or "").casefold()


def nearest(vectors: F32, query: F32, k: int, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], F32]:
    """Rows and cosines of the k nearest among `rows`, by all products; of equal ones the lower row first."""
    scores = np.concatenate([vectors[rows[i : i + BLOCK]] @ query for i in range(0, len(rows), BLOCK)])
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def _open_graph(file: Path) -> Any:
    if not file.is_file() or not _has_usearch():
        return None
    from usearch.index import Index as Graph

    return Graph.restore(str(file), view=True)


def _has_usearch() -> bool:
    return importlib.util.find_spec("usearch") is not None


def _shown(model: Mapping[str, Any]) -> str:
    digest = str(model.get("digest") or "")[:12]
    return f"{model.get('name')}{f' ({digest})' if digest else ''}, {model.get('dim')} numbers"
