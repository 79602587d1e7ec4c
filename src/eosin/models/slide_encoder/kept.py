"""The slide tower's output, kept for the last slides: many questions about one slide read it once."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor
from transformers import PreTrainedModel

from eosin.models.load import slide_tower


class KeptSlides:
    """Stands in for the tower's forward. Keys are the content of the patches, so that nothing old is ever found.

    Where gradients are wanted the tower itself runs: evidence goes through it.

    Attributes:
        hits, misses: slides that were kept already, and that were read.
    """

    def __init__(self, forward: Any, limit: int) -> None:
        self._forward, self._limit = forward, limit
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self.hits = self.misses = 0

    def __call__(self, slides: Sequence[Any]) -> list[Any]:
        """Tokens of each slide, as `SlideTower.forward` gives them."""
        if torch.is_grad_enabled():
            return list(self._forward(slides))
        keys = [_key(own) for own in slides]
        new = {k: own for k, own in zip(keys, slides, strict=True) if k not in self._kept}
        self.misses += len(new)
        self.hits += len(keys) - len(new)
        found = {k: self._kept[k] for k in keys if k in self._kept}
        if new:
            found |= dict(zip(new, self._forward(list(new.values())), strict=True))
        for key in keys:
            self._kept[key] = found[key]
            self._kept.move_to_end(key)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return [found[k] for k in keys]


def _key(own: Any) -> str:
    """Digest of features and places: tensors, arrays, records of these, and plain values."""
    digest = xxhash.xxh3_128()
    for part in own if isinstance(own, tuple | list) else [own]:
        values = [getattr(part, f.name) for f in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else [part]
        for value in values:
            if isinstance(value, Tensor):
                value = value.detach().cpu().contiguous().view(torch.uint8).numpy()
            if isinstance(value, np.ndarray):
                digest.update(str((value.shape, value.dtype)).encode())
                digest.update(np.ascontiguousarray(value).tobytes())
            else:
                digest.update(repr(value).encode())
    return digest.hexdigest()


@contextmanager
def kept_slides(model: PreTrainedModel, limit: int = 16) -> Iterator[KeptSlides | None]:
    """While entered, the tower of a resting model reads each of the last `limit` slides once. None without a tower.

    The model must not change meanwhile: the weights are no part of the key.
    """
    tower: Any = slide_tower(model)
    if tower is None:
        yield None
        return
    kept = KeptSlides(tower.forward, limit)
    tower.forward = kept
    try:
        yield kept
    finally:
        del tower.forward
