"""The mask of a stage as it is: rows collated for the trainer, decoded, with what is in the loss and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import SlideBag
from eosin.core.settings.stages import PretrainStage, SftStage
from eosin.train.data.collate import NOT_IN_LOSS, MaskedCollator, spans_in_loss, trim_padding
from eosin.train.data.rows import caption_row, rows_dataset, sft_row
from eosin.train.stages import pretrain
from eosin.train.stages.base import StageContext
from eosin.train.stages.sft import training_rows


@dataclass(frozen=True)
class ShownRow:
    """One row as the trainer is given it.

    Attributes:
        first_step: m; steps before it are context without loss. 1 is the whole reply.
        without: clusters of patches that were taken out of its bag.
        pieces: text and whether it is in the loss, in order, from the first token to the last.
        num_tokens, num_in_loss: of the row; `num_pictures` of them stand for images and slides.
        cut_off: whether the length cap took the row's end.
    """

    sample_id: str
    first_step: int
    num_steps: int
    without: tuple[int, ...]
    pieces: tuple[tuple[str, bool], ...]
    num_tokens: int
    num_in_loss: int
    num_pictures: int
    cut_off: bool


def shown_rows(
    settings: SftStage | PretrainStage,
    ctx: StageContext,
    *,
    sample: str | None = None,
    variant: int | None = None,
    num: int = 3,
) -> list[ShownRow]:
    """The first rows of a stage that fit, from the real batch.

    Args:
        sample: rows of this sample alone; its masked copies too.
        variant: rows that begin their loss at this step.

    Raises:
        EosinError: no row fits.
    """
    make = sft_row(ctx.grammar, ctx.prompt)
    if isinstance(settings, PretrainStage):
        ctx, make = pretrain.captioned(ctx), caption_row
    rows = training_rows(settings, ctx, ask=False)
    fitting = [
        i for i, (s, first) in enumerate(zip(rows.samples, rows.first_steps, strict=True))
        if (sample is None or s.id.split("#")[0] == sample or s.id == sample) and variant in (None, first)
    ]  # fmt: skip
    if not fitting:
        seen = [s.id for s in rows.samples if variant is None or sample is None] or [s.id for s in rows.samples]
        raise EosinError(
            "No row of this stage fits.", expected=f"a sample such as {', '.join(dict.fromkeys(seen[:3]))}",
            found=f"sample {sample or 'any'}, variant {variant or 'any'}; {len(rows)} rows", where=f"stages.{ctx.name}",
        )  # fmt: skip
    data = rows_dataset(rows.samples, make, ctx.pictures(0.1), cuts=rows.cuts)
    collate = MaskedCollator(ctx.loaded.processor, settings.max_tokens)
    whole = MaskedCollator(ctx.loaded.processor)
    shown = []
    for i in fitting[:num]:
        tokens, labels = trim_padding(collate([data[i]]), 0)
        own = rows.samples[i]
        without = tuple(c for ref in own.images if isinstance(ref, SlideBag) for c in ref.without_clusters)
        pieces, num_pictures = _pieces(tokens, labels, ctx.loaded.processor)
        cut = settings.max_tokens is not None and len(trim_padding(whole([data[i]]), 0)[0]) > len(tokens)
        shown.append(
            ShownRow(own.id, rows.first_steps[i], max(1, len(own.reasoning)), without, pieces, len(tokens),
                     int((labels != NOT_IN_LOSS).sum()), num_pictures, cut)
        )  # fmt: skip
    return shown


def _pieces(tokens: Any, labels: Any, processor: Any) -> tuple[tuple[tuple[str, bool], ...], int]:
    """Decoded runs; many placeholders of one picture become one note."""
    tokenizer = processor.tokenizer
    pads = {getattr(processor, name, None) for name in ("image_token_id", "video_token_id")} - {None}
    found: list[tuple[str, bool]] = []
    for first, last, in_loss in spans_in_loss(labels):
        found += [(text, in_loss) for text in _decoded(tokens[first:last].tolist(), pads, tokenizer)]
    return tuple(found), sum(t in pads for t in tokens.tolist())


def _decoded(ids: list[int], pads: set[Any], tokenizer: Any) -> Iterator[str]:
    start = 0
    while start < len(ids):
        stop = start + 1
        while stop < len(ids) and (ids[stop] in pads) == (ids[start] in pads):
            stop += 1
        text = tokenizer.decode(ids[start : start + 1] if ids[start] in pads else ids[start:stop])
        yield f"{text} x {stop - start}" if ids[start] in pads else text
        start = stop
