"""Fewer rows than patches: k-means of the features, seeded, before the model sees the slide."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import xxhash

from eosin.core.nouns.bags import I64, PatchBag
from eosin.models.slide_encoder.rows import PatchPositions, SlideSpec, canonical_order


@dataclass(frozen=True)
class Pooled:
    """The bag that the model is shown, and which of its rows each patch went into, (N,)."""

    bag: PatchBag
    row_of: I64


_KEPT: OrderedDict[str, Pooled] = OrderedDict()
_MOST_KEPT = 64


def pool(bag: PatchBag, spec: SlideSpec) -> Pooled:
    """The bag itself, or its clusters: means of features and of places. The same patches give the same clusters,
    in whatever order they come."""
    target = spec.num_tokens if spec.pooling == "kmeans" else spec.max_patches
    if len(bag) <= target:
        return Pooled(bag, np.arange(len(bag)))
    digest = xxhash.xxh3_128(np.ascontiguousarray(bag.features).data)
    digest.update(np.ascontiguousarray(bag.centres_um).data)
    key = f"{digest.hexdigest()} {target} {spec.seed} {bag.name} {bag.tile_um} {bag.mpp}"
    if key not in _KEPT:
        _KEPT[key] = _cluster(bag, target, spec.seed)
        while len(_KEPT) > _MOST_KEPT:
            _KEPT.popitem(last=False)
    _KEPT.move_to_end(key)
    return _KEPT[key]


def _cluster(bag: PatchBag, num: int, seed: int) -> Pooled:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    places = PatchPositions(bag.centres_um, bag.tile_um, bag.mpp)
    order = canonical_order(places, bag.features.astype(np.float64).sum(1))
    points = bag.features[order].astype(np.float64)
    kind = KMeans if len(bag) * num <= 2_000_000 else MiniBatchKMeans
    labels = kind(num, n_init=1, random_state=seed).fit_predict((points - points.mean(0)) / (points.std() or 1.0))
    used, rows = np.unique(labels, return_inverse=True)
    sizes = np.bincount(rows)[:, None]
    features = np.stack([np.bincount(rows, column) for column in points.T], 1) / sizes
    centres = np.stack([np.bincount(rows, column) for column in bag.centres_um[order].T], 1) / sizes
    row_of = np.empty(len(bag), np.int64)
    row_of[order] = rows
    shown = PatchBag(bag.name, features.astype(np.float32), centres, bag.tile_um, bag.mpp, bag.encoder)
    assert len(used) == len(shown)
    return Pooled(shown, row_of)
