"""Retrieval: captions by picture and pictures by caption, R@1/5/10/20 and the median rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from eosin.core.nouns.outcome import Dropped, Filtered
from eosin.evaluate.clip.embed import Embedded
from eosin.models.clip.ranks import AT, chance_at, ranks_both_ways, recalls_at

if TYPE_CHECKING:
    from eosin.models.clip.clip import Clip


def retrieval(clip: Clip, seen: Embedded) -> dict[str, Any]:
    """Figures of both ways over the samples with a caption; equal captions count as right.

    Samples without a caption, and pictures that failed before, are counted with their reasons.

    Raises:
        EosinError: no pair.
    """
    has = np.asarray([bool(s.caption and s.caption.strip()) for s in seen.samples], dtype=bool)
    captions = [str(s.caption) for s, ok in zip(seen.samples, has, strict=True) if ok]
    none = [Dropped(s.id, "no caption", step="retrieval") for s, ok in zip(seen.samples, has, strict=True) if not ok]
    cut = clip.tokens(captions).num_cut if captions else 0
    keys = [" ".join(c.casefold().split()) for c in captions]
    found = ranks_both_ways(seen.vectors[has], clip.embed_texts(captions), keys)
    return {
        "n": len(captions), "different_captions": len(set(keys)), "cut_captions": cut,
        "dropped": Filtered((), (*seen.dropped, *none)).reasons(),
        "image_to_text": recalls_at(found.captions), "text_to_image": recalls_at(found.pictures),
        "chance": {f"r@{k}": chance_at(keys, k) for k in AT},
    }  # fmt: skip
