"""Samples as the rows that trainers take. Pictures are decoded once, resized to what the model sees, and kept."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from eosin.core.images import Picture, RegionReader, load_picture
from eosin.core.nouns.bags import PatchBag
from eosin.core.nouns.prompt import REJECTED, PromptSettings, caption_messages, gold_reply, prompt_messages
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import ImageRef, Message, Sample
from eosin.models.pictures import shrink
from eosin.models.template import escape_special, to_chat
from eosin.train.data.augment import AugmentSettings, augment_pil, rng_of
from eosin.train.data.bag_augment import BagAugment, augment_bag
from eosin.train.data.order import EpochNumber

Row = dict[str, Any]

# A crop could cut off what the text speaks of; flips, quarter turns and colour cannot.
TEXT_SAFE = AugmentSettings(crop=0.0, rotate=0.0)


class ImageCache:
    """Decoded pictures of samples, kept in memory up to a bound, least recently used first out.

    Args:
        max_pixels: area that the processor keeps (`max_pixels_of`); larger pictures are shrunk once.
        limit_gib: bound of the memory that pictures take; 0 keeps none.
    """

    def __init__(self, max_pixels: int | None, limit_gib: float, read_region: RegionReader | None = None) -> None:
        self._max_pixels = max_pixels
        self.limit_gib = limit_gib
        self._read_region = read_region
        self._kept: OrderedDict[tuple[str, int], Image.Image] = OrderedDict()
        self._bytes = 0

    def get(self, sample: Sample) -> list[Picture]:
        """All pictures of a sample: RGB images, and bags of patches."""
        return [self._one(sample.id, i, ref) for i, ref in enumerate(sample.images)]

    def _one(self, sample_id: str, index: int, ref: ImageRef) -> Picture:
        key = (sample_id, index)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        picture = load_picture(ref, self._read_region)
        if isinstance(picture, PatchBag):
            return picture  # the reader keeps bags itself, once for all samples of a slide
        picture = shrink(picture, self._max_pixels)
        size = picture.width * picture.height * 3
        self._kept[key] = picture
        self._bytes += size
        while self._bytes > self.limit_gib * 2**30 and self._kept:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.width * old.height * 3
        return picture


class Augmentation(EpochNumber):
    """Augmentation of a stage: what is drawn for a sample follows from (seed, epoch, its id), and from nothing else.

    So a resumed stage sees the pictures that it would have seen, and so do several processes, whatever batches and
    workers they have.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def rng(self, sample_id: str) -> np.random.Generator:
        """The generator of a sample in this epoch."""
        return rng_of(self._seed, self.epoch, sample_id)

    def changed(self, sample_id: str, pictures: Sequence[Picture]) -> list[Picture]:
        """The pictures of a sample, each changed by itself: a batch would round otherwise by its size."""
        rng = self.rng(sample_id)
        return [_changed(picture, rng) for picture in pictures]


def rows_dataset(
    samples: Sequence[Sample],
    make_row: Callable[[Sample, list[Picture]], Row],
    pictures: ImageCache,
    *,
    augment: Augmentation | None = None,
    cuts: Sequence[int] | None = None,
) -> Dataset:
    """A `datasets.Dataset` whose rows are made when they are asked for.

    Args:
        make_row: writes one row from a sample and its pictures.
        augment: flips, quarter turns and stain jitter, other ones each epoch; None switches them off.
        cuts: characters at the beginning of each row's reply that carry no loss (`train.collate`); None for none.
    """

    maker = _RowMaker(samples, make_row, pictures, augment, cuts)
    return Dataset.from_dict({"sample_number": list(range(len(samples)))}).with_transform(maker)


class _RowMaker:
    """Makes the rows of some numbers. To `datasets` it is a name: its fingerprint would else be one of all pictures."""

    def __init__(
        self, samples: Sequence[Sample], make_row: Callable[[Sample, list[Picture]], Row], pictures: ImageCache,
        augment: Augmentation | None, cuts: Sequence[int] | None,
    ) -> None:  # fmt: skip
        self._samples, self._make_row, self._pictures = samples, make_row, pictures
        self._augment, self._cuts = augment, cuts
        self._name = uuid.uuid4().hex

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        rows = [self._row(number) for number in batch["sample_number"]]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _row(self, number: int) -> Row:
        sample = self._samples[number]
        shown = self._pictures.get(sample)
        if self._augment is not None:
            shown = self._augment.changed(sample.id, shown)
        row = {"sample_number": number, **self._make_row(sample, shown)}
        return {**row, "cut": self._cuts[number]} if self._cuts else row

    def __reduce__(self) -> tuple[Any, ...]:
        return _elsewhere, (self._name,)


def _elsewhere(name: str) -> None:
    raise TypeError("Rows are made in the process that holds their samples, or in one forked from it.")


def _changed(picture: Picture, rng: np.random.Generator) -> Picture:
    if isinstance(picture, PatchBag):
        return augment_bag(picture, BagAugment(), rng)
    return augment_pil(picture, rng, TEXT_SAFE)


def sft_row(grammar: Grammar, prompt: PromptSettings) -> Callable[[Sample, list[Picture]], Row]:
    """Question and gold reply; the loss is on the reply."""

    def make(sample: Sample, pictures: list[Picture]) -> Row:
        messages = prompt_messages(sample, grammar, instruction=prompt.instruction)
        return _pair(messages, gold_reply(sample, grammar, prompt.answer), pictures)

    return make


def reply_row(grammar: Grammar, prompt: PromptSettings, replies: Mapping[str, str]) -> Callable[..., Row]:
    """Question and the reply that `replies` has for the sample's id; the loss is on the reply."""

    def make(sample: Sample, pictures: list[Picture]) -> Row:
        messages = prompt_messages(sample, grammar, instruction=prompt.instruction)
        return _pair(messages, replies[sample.id], pictures)

    return make


def preference_row(grammar: Grammar, prompt: PromptSettings) -> Callable[[Sample, list[Picture]], Row]:
    """Question, gold reply and the reply that was put right, as TRL's preference trainers take them."""

    def make(sample: Sample, pictures: list[Picture]) -> Row:
        messages = prompt_messages(sample, grammar, instruction=prompt.instruction)
        own = _pair(messages, gold_reply(sample, grammar, prompt.answer), pictures)
        other = _pair(messages, str(sample.extra[REJECTED]), pictures)
        return {
            "prompt": own["prompt"],
            "chosen": own["completion"],
            "rejected": other["completion"],
            "images": pictures,
        }

    return make


def caption_row(sample: Sample, pictures: list[Picture]) -> Row:
    """A fixed request and the caption; the loss is on the caption."""
    return _pair(caption_messages(sample), sample.caption or "", pictures)


def rl_row(grammar: Grammar, prompt: PromptSettings) -> Callable[[Sample, list[Picture]], Row]:
    """The prompt alone; rewards find the sample by its id."""

    def make(sample: Sample, pictures: list[Picture]) -> Row:
        messages = prompt_messages(sample, grammar, instruction=prompt.instruction)
        return {"id": sample.id, "prompt": to_chat(messages), "images": pictures}

    return make


def _pair(messages: tuple[Message, ...], reply: str, pictures: list[Picture]) -> Row:
    completion = [{"role": "assistant", "content": [{"type": "text", "text": escape_special(reply)}]}]
    return {"prompt": to_chat(messages), "completion": completion, "images": pictures}


def corpus_of(samples: Sequence[Sample], grammar: Grammar, prompt: PromptSettings) -> list[str]:
    """Every text that training shows: for the tokenizer of the small model."""
    texts = []
    for sample in samples:
        texts += [m.text for m in prompt_messages(sample, grammar, instruction=prompt.instruction)]
        texts.append(gold_reply(sample, grammar, prompt.answer))
        if sample.caption:
            texts += [caption_messages(sample)[-1].text, sample.caption]
    return texts
