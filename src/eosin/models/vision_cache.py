"""The output of a frozen vision tower, computed once an image and kept in a bounded, memory-mapped file.

What is kept is the tower's output before its projector (`merger`, resampler), so that the projector can still train.
The key is the content of the pixels and of the tower's weights: other pixels or other weights never find an old entry.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures
from transformers.vision_utils import get_vision_window_index

from eosin.core.store import artifacts as store
from eosin.models.composed.eyes import Eyes
from eosin.models.load import parts, vision_tower

log = logging.getLogger("eosin.models")

FAMILIES = ("qwen2_5_vl", "qwen2_vl", "qwen3_vl", "eosin_slide_reader")
PICTURES = ("llava", "llava_onevision", "idefics3", "smolvlm", "internvl", "gemma3")
"""Families whose tower takes whole pictures (B, 3, H, W), or pieces of them."""
PROJECTORS = ("merger.", "deepstack_merger_list.", "resampler.")
"""Parts of a tower that run after what is kept."""


class FeatureCache:
    """Tensors by key in one memory-mapped file; when it is full the oldest give way.

    `index.jsonl` beside it names every entry with its checksum; what a crash left half-written is not found.

    Args:
        folder: made if absent; one process at a time.
        limit_bytes: size of the file.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._index = folder / "index.jsonl"
        self._limit = limit_bytes
        data = folder / "features.bin"
        if not data.exists() or data.stat().st_size != limit_bytes:
            self._index.unlink(missing_ok=True)
            with data.open("wb") as handle:
                handle.truncate(limit_bytes)
        self._data = data.open("rb+")
        self._is_full = False
        self._bytes = np.memmap(data, dtype=np.uint8, mode="r+", shape=(limit_bytes,))
        self._entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._end = 0
        self._unchecked: set[str] = set()
        for entry in store.read_jsonl(self._index) if self._index.exists() else []:
            self._place(entry)
            self._unchecked.add(entry["key"])

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Tensor | None:
        """The tensor of a key, copied out of the file, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        raw = self._bytes[entry["at"] : entry["at"] + entry["size"]].copy()
        if key in self._unchecked:
            if zlib.crc32(raw.data) != entry["crc"]:
                del self._entries[key]
                return None
            self._unchecked.discard(key)
        return torch.from_numpy(raw).view(getattr(torch, entry["dtype"])).view(entry["shape"])

    def put(self, key: str, value: Tensor) -> None:
        """Keep a tensor; one larger than the file is not kept."""
        raw = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        if len(raw) > self._limit:
            return
        at = self._end if self._end + len(raw) <= self._limit else 0
        entry = {
            "key": key, "at": at, "size": len(raw), "crc": zlib.crc32(raw.data),
            "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape),
        }  # fmt: skip
        if self._is_full:
            return
        try:
            self._reserve(at, len(raw))
            with self._index.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(entry) + "\n")
        except OSError as exc:  # the disk is full: what is here already serves on, and nothing more is kept
            log.warning(
                "outputs of the frozen vision tower are kept no further: %s (%s)", exc.strerror, self._index.parent
            )
            self._is_full = True
            return
        self._place(entry)
        self._bytes[at : at + len(raw)] = raw

    def _reserve(self, at: int, size: int) -> None:
        """Take the space on the disk before it is written through memory, where a full disk would kill the process."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._data.fileno(), at, size)

    def _place(self, entry: dict[str, Any]) -> None:
        """Enter an entry; those whose bytes it takes are gone."""
        first, last = entry["at"], entry["at"] + entry["size"]
        if first < self._end:  # a new round through the file: the oldest entries lie first
            self._end = 0
        gone = [k for k, e in self._entries.items() if e["at"] < last and first < e["at"] + e["size"]]
        for key in gone:
            del self._entries[key]
        self._entries[entry["key"]] = entry
        self._end = last


def unsupported(model: PreTrainedModel, trains: bool = True) -> str | None:
    """Why the tower's output cannot be kept, or None. `trains`: the model is trained, so its tower must be frozen."""
    tower = vision_tower(model)
    if tower is None:
        return "the model has no vision tower of a known kind"
    if trains and any(p.requires_grad for n, p in tower.named_parameters() if not n.startswith(PROJECTORS)):
        return "the vision tower trains"
    kind = model.config.model_type
    if kind not in FAMILIES + PICTURES and not isinstance(tower, Eyes):
        return f"models of type {kind} are not known to it ({', '.join(FAMILIES + PICTURES)} are)"
    if not isinstance(getattr(model.config, "vision_feature_layer", -1), int):
        return "features of several layers are taken from the tower"
    return None


def weights_digest(tower: nn.Module) -> str:
    """Digest of the tower's weights without its projector."""
    digest = xxhash.xxh3_128()
    for name, value in tower.state_dict().items():
        if not name.startswith(PROJECTORS):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class KeptTower(ABC):
    """What the caches of all towers share: one entry an image, found by its pixels and the tower's weights."""

    replaces = "forward"

    def __init__(self, tower: Any, kept: FeatureCache) -> None:
        self._tower = tower
        self.kept = kept
        self._forward = getattr(tower, self.replaces)
        self.weights = weights_digest(tower)
        self.hits = self.misses = 0

    def _look_up(
        self, pixels: Sequence[Tensor], grids: Sequence[Tensor | None], told: Sequence[dict[str, Any]] | None = None
    ) -> list[Tensor]:
        """The entry of each image; what is new is computed, with what is `told` of it, and kept."""
        told = told or [{}] * len(pixels)
        keys = [self._key(p, g) for p, g in zip(pixels, grids, strict=True)]
        found: dict[str, Tensor | None] = {key: self.kept.get(key) for key in keys}
        for key, own, grid, more in zip(keys, pixels, grids, told, strict=True):
            if found[key] is None:
                found[key] = self._compute(own, grid, **more)
                self.kept.put(key, found[key])  # type: ignore[arg-type]
                self.misses += 1
            else:
                self.hits += 1
        return [found[key].to(pixels[0].device, self._tower.dtype) for key in keys]  # type: ignore[union-attr]

    def _key(self, pixels: Tensor, grid: Tensor | None) -> str:
        shape = list(pixels.shape) if grid is None else grid.tolist()
        digest = xxhash.xxh3_128(self.weights.encode())
        digest.update(str((shape, str(self._tower.dtype))).encode())
        digest.update(pixels.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @abstractmethod
    def _compute(self, pixels: Tensor, grid: Tensor | None, **kwargs: Any) -> Tensor:
        """What is kept of one image."""


class CachedGrid(KeptTower):
    """Takes the place of the grid of composed eyes (`Eyes.grid`)."""

    replaces = "grid"

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (B, 3, H, W), normalised -> features (B, G, D)."""
        return torch.stack(self._look_up(list(pixel_values), [None] * len(pixel_values)))

    @torch.no_grad()
    def _compute(self, pixels: Tensor, grid: Tensor | None, **kwargs: Any) -> Tensor:
        return self._forward(pixels[None])[0]  # type: ignore[no-any-return]


class CachedPictures(KeptTower):
    """Takes the place of the forward pass of a tower that takes whole pictures.

    Args:
        layer: whose hidden state the model reads; None: it reads the last one, after the tower's own norm.
    """

    def __init__(self, tower: Any, kept: FeatureCache, layer: int | None) -> None:
        super().__init__(tower, kept)
        self._layer = layer

    def __call__(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """pixel_values (B, 3, H, W); tensors among `kwargs` have a row an image, such as the mask of patches."""
        rows = [_row(kwargs, i, len(pixel_values)) for i in range(len(pixel_values))]
        masks = [next((v for v in row.values() if isinstance(v, Tensor)), None) for row in rows]
        found = torch.stack(self._look_up(list(pixel_values), masks, rows))
        hidden: Any = None if self._layer is None else {self._layer: found}
        return BaseModelOutputWithPooling(last_hidden_state=found, hidden_states=hidden)

    @torch.no_grad()
    def _compute(self, pixels: Tensor, grid: Tensor | None, **kwargs: Any) -> Tensor:
        told = kwargs | ({} if self._layer is None else {"output_hidden_states": True})
        out = self._forward(pixels[None], **told)
        found: Tensor = (out.last_hidden_state if self._layer is None else out.hidden_states[self._layer])[0]
        return found


def _row(kwargs: dict[str, Any], place: int, num: int) -> dict[str, Any]:
    """What belongs to one image of a batch."""
    return {k: v[place : place + 1] if isinstance(v, Tensor) and len(v) == num else v for k, v in kwargs.items()}


def _layer_of(model: PreTrainedModel) -> int | None:
    """The layer whose hidden state a model reads; None where it is the tower's own last one."""
    layer = getattr(model.config, "vision_feature_layer", None)
    reads_last = model.config.model_type not in ("llava", "llava_onevision") and layer in (None, -1)
    return None if reads_last else layer


class CachedDeepstack(KeptTower):
    """Takes the place of the forward pass of Qwen3-VL's tower: beside the last block's output, what each of its
    deepstack projectors reads is kept (arXiv 2406.04334: features of several layers go to several layers).
    """

    def __call__(self, hidden_states: Tensor, grid_thw: Tensor, **kwargs: Any) -> BaseModelOutputWithDeepstackFeatures:
        """As the tower takes and returns them: last block (patches, D), merged, and merged features of the layers."""
        pixels = torch.split(hidden_states, grid_thw.prod(-1).tolist())
        last, *layers = torch.cat(self._look_up(pixels, list(grid_thw), [kwargs] * len(pixels)), dim=1)
        mergers = zip(self._tower.deepstack_merger_list, layers, strict=True)
        return BaseModelOutputWithDeepstackFeatures(
            last_hidden_state=last, pooler_output=self._tower.merger(last),
            deepstack_features=[merger(layer) for merger, layer in mergers],
        )  # fmt: skip

    @torch.no_grad()
    def _compute(self, pixels: Tensor, grid: Tensor | None, **kwargs: Any) -> Tensor:
        """(1 + layers, patches, D) of one image."""
        assert grid is not None
        read: list[Tensor] = []
        mergers = self._tower.deepstack_merger_list
        hooks = [m.register_forward_pre_hook(lambda module, given: read.append(given[0])) for m in mergers]
        try:
            last = self._forward(pixels, grid_thw=grid[None], **kwargs).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return torch.stack([last, *read])


class CachedTower(KeptTower):
    """Takes the place of the forward pass of a tower of the Qwen2-VL family."""

    def __call__(self, hidden_states: Tensor, grid_thw: Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """hidden_states (patches, patch dimension), grid_thw (images, 3), as the tower takes them."""
        pixels = torch.split(hidden_states, grid_thw.prod(-1).tolist())
        states = torch.cat(self._look_up(pixels, list(grid_thw), [kwargs] * len(pixels)))
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=self._tower.merger(states))

    @torch.no_grad()
    def _compute(self, pixels: Tensor, grid: Tensor | None, **kwargs: Any) -> Tensor:
        """Tower output of one image, in the order in which the projector merges patches."""
        assert grid is not None
        grid = grid[None]
        out: Tensor = self._forward(pixels, grid_thw=grid, **kwargs).last_hidden_state
        if not hasattr(self._tower, "window_size"):
            return out
        index, _ = get_vision_window_index(
            grid, spatial_merge_size=self._tower.spatial_merge_size, window_size=self._tower.window_size,
            patch_size=self._tower.patch_size, kwargs={},
        )  # fmt: skip
        unit = self._tower.spatial_merge_unit
        return out.view(len(out) // unit, unit, -1)[torch.argsort(index.to(out.device))].reshape(out.shape)


@contextmanager
def cache_vision(
    model: PreTrainedModel, folder: Path, limit_gib: float, *, trains: bool = True
) -> Iterator[KeptTower | None]:
    """While entered, a frozen tower's output is kept under `folder`, in one file a process. Yields None where it
    cannot be (see `unsupported`) or `limit_gib` is 0."""
    reason = unsupported(model, trains)
    if limit_gib <= 0 or reason is not None:
        is_frozen = trains and not any(p.requires_grad for p in parts(model)["vision"])
        if limit_gib > 0 and is_frozen:
            log.warning("The frozen tower's output is not kept, and computed at every step: %s.", reason)
        yield None
        return
    tower: Any = vision_tower(model)
    own = folder / f"vision-{os.environ.get('RANK', '0')}-{limit_gib:g}"
    with _in_place(model, tower, FeatureCache(own, int(limit_gib * 2**30))) as kept:
        yield kept


@contextmanager
def _in_place(model: PreTrainedModel, tower: Any, entries: FeatureCache) -> Iterator[KeptTower]:
    kept: KeptTower
    if isinstance(tower, Eyes):
        kept = CachedGrid(tower, entries)
    elif model.config.model_type in PICTURES:
        kept = CachedPictures(tower, entries, _layer_of(model))
    elif hasattr(tower, "deepstack_merger_list"):
        kept = CachedDeepstack(tower, entries)
    else:
        kept = CachedTower(tower, entries)
    setattr(tower, kept.replaces, kept)
    try:
        yield kept
    finally:
        delattr(tower, kept.replaces)


@contextmanager
def share_cache(kept: KeptTower | None, model: PreTrainedModel | None) -> Iterator[None]:
    """Let a second model with the same frozen tower (the reference policy) use the same entries."""
    tower: Any = vision_tower(model) if model is not None and kept is not None else None
    if kept is None or tower is None or weights_digest(tower) != kept.weights:
        yield
        return
    assert model is not None
    with _in_place(model, tower, kept.kept):
        yield
