"""What a stage that learns pairs reads: its rows, held or streamed, and the order in which they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from eosin.core.images import Picture
from eosin.core.nouns.sample import Sample
from eosin.models.pictures import max_pixels_of, refusals_of
from eosin.train.data.collate import trim_padding
from eosin.train.data.order import EpochNumber, LengthOrder, OrderedTrainer, RowOrder, text_lengths
from eosin.train.data.rows import Augmentation, ImageCache, Row, rows_dataset
from eosin.train.data.streamed import ASIDE, StreamedRows, streamed_facts

if TYPE_CHECKING:
    from eosin.train.masking.trajectory import TrainingRows
    from eosin.train.stages.base import StageContext

MakeRow = Callable[[Sample, list[Picture]], Row]
MISSED = "by_length has nothing to save"


@dataclass
class Feed:
    """The training rows of a stage.

    Attributes:
        some: rows that are held, for what is tried before the first step; all of them where nothing is streamed.
        streamed: the rows that are read from their shards; None where all are held.
        order: Eosin's own order of the rows; None: the Trainer's random one.
        watchers: callbacks that tell readers which epoch it is.
    """

    some: Dataset
    streamed: StreamedRows | None = None
    order: RowOrder | None = None
    watchers: list[EpochNumber] = field(default_factory=list)
    aside: Path | None = None

    def __len__(self) -> int:
        return len(self.some) if self.streamed is None else len(self.streamed)

    def group(self, lengths: Sequence[int], rows_a_step: int, seed: int) -> None:
        """Let the rows of every optimiser step be of about one length."""
        by_length, epoch = LengthOrder(lengths, rows_a_step, seed), EpochNumber()
        self.order = RowOrder(len(by_length), by_length.iterate, epoch)
        self.watchers.append(epoch)

    def into(self, trainer: OrderedTrainer) -> None:
        """Let a trainer that was made with `some` read these rows in this order."""
        trainer.row_order = self.order
        if self.streamed is not None:
            trainer.train_dataset = self.streamed

    def facts(self) -> dict[str, Any]:
        """What stage.json says of streaming."""
        return streamed_facts(self.streamed, self.aside) if self.streamed is not None and self.aside is not None else {}


def feed_of(ctx: StageContext, shown: TrainingRows, make_row: MakeRow, pictures: ImageCache, augments: bool) -> Feed:
    """The rows of a stage, all of them held, or streamed where the context has a stream."""
    augment = Augmentation(ctx.seed) if augments else None
    watchers: list[EpochNumber] = [augment] if augment is not None else []
    some = rows_dataset(shown.samples, make_row, pictures, augment=augment, cuts=shown.cuts)
    if ctx.stream is None:
        return Feed(some, watchers=watchers)
    epoch, order, aside = EpochNumber(), ctx.stream.order, ctx.folder / ASIDE
    processor: Any = ctx.loaded.processor
    rows = StreamedRows(
        ctx.stream, make_row, ImageCache(max_pixels_of(processor), 0.0, ctx.read_region),
        refusals_of(getattr(processor, "image_processor", None)), aside, augment,
    )  # fmt: skip
    return Feed(some, rows, RowOrder(len(order), order.iterate, epoch), [*watchers, epoch], aside)


def lengths_of(ctx: StageContext, shown: TrainingRows, make_row: MakeRow, collate: Any, rows: Dataset) -> list[int]:
    """Tokens of every row: those of its texts are counted, those of a picture are taken from the first row with one."""
    tokenizer = ctx.loaded.processor.tokenizer  # type: ignore[attr-defined]
    first = next((i for i, s in enumerate(shown.samples) if s.images), None)
    a_picture = 0
    if first is not None:
        tokens, _ = trim_padding(collate([rows[first]]), 0)
        text = text_lengths([shown.samples[first]], make_row, tokenizer, 0)[0]
        a_picture = max(0, len(tokens) - text) // len(shown.samples[first].images)
    return text_lengths(shown.samples, make_row, tokenizer, a_picture)
