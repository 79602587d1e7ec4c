"""Pairs of a picture and a caption: which samples give one, who belongs together, and batches of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eosin.core.errors import EosinError, ImageError
from eosin.core.images import RegionReader, load_image
from eosin.core.nouns.outcome import Dropped, Filtered, Kept, filtered
from eosin.core.nouns.sample import Sample, SlideBag
from eosin.models.clip.clip import Clip
from eosin.models.clip.ranks import numbered
from eosin.train.clip.losses import Relations


def pairs_of(samples: Sequence[Sample], clip: Clip) -> Filtered[Sample]:
    """The samples that give a pair: a caption in words and a picture. Others are dropped with their reason."""
    return filtered(_pair(s, clip) for s in samples)


def _pair(sample: Sample, clip: Clip) -> Kept[Sample] | Dropped:
    if not sample.caption or not sample.caption.strip():
        return Dropped(sample.id, "no caption", step="clip")
    if not sample.images or isinstance(sample.images[0], SlideBag):
        return Dropped(sample.id, "no picture", step="clip")
    if clip.num_tokens(sample.caption) <= 2:
        return Dropped(sample.id, "no word of the caption is known", sample.caption[:80], "clip")
    return Kept(sample)


def group_key(sample: Sample) -> str | None:
    """What makes two pairs one thing: the slide, else the figure, the case, or the patient."""
    origin, figure = sample.origin, sample.extra.get("figure")
    if origin.slide:
        return f"slide:{origin.source}:{origin.slide}"
    if figure is not None:
        whole = {k: v for k, v in figure.items() if k != "panel"} if isinstance(figure, Mapping) else figure
        told = hashlib.blake2b(str(whole).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        return f"figure:{origin.source}:{origin.article or ''}:{told}"
    for kind in ("case", "patient"):
        if value := getattr(origin, kind):
            return f"{kind}:{origin.source}:{value}"
    return None


def caption_key(caption: str) -> str:
    """What makes two captions equal: their words, whatever their case and spaces."""
    return " ".join(caption.casefold().split())


class Pictures:
    """Pictures of pairs in the size of the image tower, kept in memory up to a bound, first come first kept.

    Args:
        limit_gib: bound of the memory; what does not fit is decoded each time.
    """

    def __init__(self, clip: Clip, read_region: RegionReader | None, limit_gib: float) -> None:
        self._clip, self._read_region, self._limit = clip, read_region, limit_gib * 2**30
        self._kept: OrderedDict[str, Tensor] = OrderedDict()
        self._bytes = 0

    def get(self, sample: Sample) -> Tensor:
        """uint8 (px, px, 3).

        Raises:
            ImageError: the picture cannot be read.
        """
        if sample.id in self._kept:
            return self._kept[sample.id]
        image = sample.images[0]
        assert not isinstance(image, SlideBag)
        pixels = self._clip.pixels([load_image(image, self._read_region)])[0]
        if self._bytes + pixels.numel() <= self._limit:
            self._kept[sample.id] = pixels
            self._bytes += pixels.numel()
        return pixels

    def stack(self, samples: Sequence[Sample]) -> Tensor:
        """uint8 (N, px, px, 3)."""
        return torch.stack([self.get(s) for s in samples])

    def readable(self, samples: Sequence[Sample]) -> Filtered[Sample]:
        """The samples whose pictures can be read; they are read for this, once."""
        return filtered(self._tried(s) for s in samples)

    def _tried(self, sample: Sample) -> Kept[Sample] | Dropped:
        try:
            self.get(sample)
        except ImageError as exc:
            return Dropped(sample.id, exc.message, exc.where or "", "clip")
        return Kept(sample)


@dataclass
class Pairs:
    """All pairs of a split.

    Attributes:
        samples: N of them. ids: int64 (N, L), their captions as the text tower reads them.
        caption, group: int64 (N,), see `losses.Relations`.
        num_cut: captions that are longer than the tower reads.
    """

    samples: Sequence[Sample]
    ids: Tensor
    caption: Tensor
    group: Tensor
    num_cut: int

    @classmethod
    def of(cls, samples: Sequence[Sample], clip: Clip) -> Pairs:
        captions = [s.caption or "" for s in samples]
        tokens = clip.tokens(captions)
        keys = [group_key(s) for s in samples]
        group = torch.from_numpy(numbered(keys))
        group[torch.tensor([k is None for k in keys], dtype=torch.bool)] = -1
        equal = torch.from_numpy(numbered([caption_key(c) for c in captions]))
        return cls(samples, tokens.ids, equal, group, tokens.num_cut)

    def __len__(self) -> int:
        return len(self.samples)

    def relations(self, chosen: Tensor, *, equal_is_right: bool, groups_compete: bool) -> Relations:
        """Who belongs together among the chosen pairs."""
        return Relations(self.caption[chosen], self.group[chosen], equal_is_right, groups_compete)


def batch_of(num: int, batch: int, step: int, seed: int) -> tuple[Tensor, int]:
    """The pairs (batch,) of a step, and the epoch. Every epoch is a new order; its last pairs that fill no batch rest.

    It follows from its arguments alone, so that a resumed run goes on with the very pairs that come next.

    Args:
        num: pairs in all. batch: of all processes together.
    """
    if num < batch:
        raise EosinError(
            "There are fewer pairs than one batch holds.", expected=f"at least {batch}", found=str(num),
            next_step="make batch_size smaller",
        )  # fmt: skip
    epoch, place = divmod(step, num // batch)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))
    return order[place * batch : (place + 1) * batch], epoch
