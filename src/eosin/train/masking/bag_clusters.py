"""Clusters of a slide's patches, and which of them is taken out. numpy and scikit-learn; no model.

PathReasoner-R1 (arXiv 2601.21617), pseudo-bag masking. N patches, clusters c = 1..K of |c| patches, delta[c] the loss
of entity reward without cluster c:

    eligible:  |c| >= max(1, floor(0.02 N))
    p[c] = 0.7 softmax(delta / tau)[c] + 0.3 / (number of eligible clusters),   over the eligible clusters
    one cluster is drawn from p and its patches are taken out; if nothing would remain, the bag is kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eosin.core.nouns.bags import PatchBag
from eosin.core.store.artifacts import write_bytes_atomic
from eosin.core.store.names import file_name

I64 = NDArray[np.int64]


def clusters_of(bag: PatchBag, num_clusters: int, seed: int, mode: Literal["entity", "random"] = "entity") -> I64:
    """The cluster of every patch of a bag, 0..K-1: (N,).

    Args:
        num_clusters: K; a bag of fewer different patches gets fewer clusters.
        mode: "entity" is k-means on the features; "random" deals the patches into clusters of the same sizes.
    """
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    num = min(num_clusters, len(np.unique(bag.features, axis=0)))
    with threadpool_limits(1):
        found = MiniBatchKMeans(num, random_state=seed, n_init=3, batch_size=1024).fit_predict(bag.features)
    labels = np.asarray(found, dtype=np.int64)
    return np.random.default_rng([seed, 1]).permutation(labels) if mode == "random" else labels


def eligible(labels_N: I64, min_share: float) -> list[int]:
    """Clusters that may be taken out: large enough, and not the whole bag."""
    num = len(labels_N)
    least = max(1, int(np.floor(min_share * num)))
    names, sizes = np.unique(labels_N, return_counts=True)
    return [int(c) for c, n in zip(names, sizes, strict=True) if least <= n < num]


def probabilities(deltas: Mapping[int, float], tau: float, uniform: float) -> dict[int, float]:
    """p over the eligible clusters: (1 - uniform) softmax(delta / tau) + uniform / number of them. Sums to 1.

    Args:
        deltas: loss of entity reward of each eligible cluster.
    """
    if not deltas:
        return {}
    scaled = np.array(list(deltas.values()), dtype=np.float64) / tau
    soft = np.exp(scaled - scaled.max())
    mixed = (1 - uniform) * soft / soft.sum() + uniform / len(deltas)
    return {c: float(p) for c, p in zip(deltas, mixed, strict=True)}


def draw(chances: Mapping[int, float], seed: int, name: str) -> int | None:
    """One cluster drawn from its chances; None where there is none. It depends on seed and name alone."""
    if not chances:
        return None
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    rng = np.random.default_rng(list(digest[:16]))
    values = np.array(list(chances.values()))
    return int(rng.choice(list(chances), p=values / values.sum()))


def write_clusters(folder: Path, name: str, labels_N: I64) -> Path:
    """The file that a `SlideBag.clusters` names: int64 (N,), one row a row of the feature file."""
    buffer = io.BytesIO()
    np.save(buffer, labels_N, allow_pickle=False)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    path = folder / f"{file_name(name)}-{digest}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(path, buffer.getvalue())
    return path


def digest_of(bag: PatchBag) -> str:
    """Digest of what a model is shown of a bag."""
    total = hashlib.sha256(np.ascontiguousarray(bag.features).tobytes())
    total.update(np.ascontiguousarray(bag.centres_um).tobytes())
    return total.hexdigest()[:16]
