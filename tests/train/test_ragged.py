"""Batches without padding: loss and gradients of the padded batch, and no sample sees another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, PROMPT, new_model

from eosin.core.errors import EosinError
from eosin.core.settings.stages import Lora, PretrainStage, SftStage
from eosin.core.store import artifacts as store
from eosin.models.ragged import LENGTHS, reads_ragged, without_padding
from eosin.train.data.collate import MaskedCollator
from eosin.train.data.ragged import collator_for, why_padded
from eosin.train.data.rows import ImageCache, rows_dataset, sft_row
from eosin.train.stages import pretrain, sft
from eosin.train.stages.base import StageContext


def ragged_rows(num: int = 6, images: int = 2) -> Any:
    """Rows of very unequal lengths; some with two pictures of different sizes."""
    samples = []
    for i, sample in enumerate(toy_samples(num, "train")):
        shown = sample.images * (images if i % 3 == 1 else 1)
        samples.append(sample.model_copy(update={"reasoning": sample.reasoning * (1 + 4 * (i % 3)), "images": shown}))
    if images > 1:
        from eosin.core.nouns.sample import ImagePart, Message

        samples = [
            s.model_copy(update={"messages": (Message(role="user", parts=(
                *(ImagePart(index=k) for k in range(len(s.images))), *s.messages[-1].parts[1:])),)})
            for s in samples
        ]  # fmt: skip
    return rows_dataset(samples, sft_row(GRAMMAR, PROMPT), ImageCache(None, 1.0))


def batch_of(loaded: Any, rows: Any) -> dict[str, Any]:
    tokenizer = loaded.processor.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return MaskedCollator(loaded.processor)([rows[i] for i in range(len(rows))])


def loss_and_gradients(model: Any, batch: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return float(loss), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("images", [1, 2])
def test_loss_and_gradients_are_those_of_the_padded_batch(images: int) -> None:
    loaded = new_model()
    padded = batch_of(loaded, ragged_rows(images=images))
    row = without_padding(loaded.model, padded)
    assert (
        row["input_ids"].shape == (1, int(padded["attention_mask"].sum())) and int(padded["attention_mask"].min()) == 0
    )
    plain, grads = loss_and_gradients(loaded.model, padded)
    with reads_ragged(loaded.model):
        ours, own = loss_and_gradients(loaded.model, row)
    assert ours == pytest.approx(plain, abs=1e-5)
    assert own.keys() == grads.keys() and len(own) > 10
    assert max(float((own[n] - grads[n]).abs().max()) for n in grads) < 1e-5
    again, _ = loss_and_gradients(loaded.model, padded)  # the model is as it was
    assert again == plain


def test_a_sample_does_not_see_another_and_stands_at_its_own_positions() -> None:
    loaded = new_model()
    row = without_padding(loaded.model, batch_of(loaded, ragged_rows()))
    first = int(row[LENGTHS][0])
    with torch.no_grad(), reads_ragged(loaded.model):
        before = loaded.model(**row).logits[0]
        changed = {**row, "input_ids": row["input_ids"].clone()}
        changed["input_ids"][0, first - 1] = 300  # the last token of the first sample
        after = loaded.model(**changed).logits[0]
    assert not torch.equal(before[first - 1], after[first - 1])
    assert torch.equal(before[first:], after[first:])
    starts = (row[LENGTHS].cumsum(0) - row[LENGTHS]).tolist()
    assert all(row["position_ids"][:, 0, s].eq(0).all() for s in starts)
    assert row["labels"][0, starts].eq(-100).all()


@pytest.mark.parametrize("lora", [None, Lora(r=2)])
def test_a_stage_ends_the_same_with_and_without_padding(
    lora: Lora | None, context: Callable[..., StageContext]
) -> None:
    logs, told = [], []
    for packing in ("on", "off"):
        ctx = context(packing, num_train=24, num_valid=4)
        settings = SftStage(
            steps=4, batch_size=6, learning_rate=1e-3, log_every=1, save_every=2, packing=packing, lora=lora
        )
        told.append(sft.run(settings, ctx).extra["batches"])
        logs.append([r for r in store.read_jsonl(ctx.metrics_file) if "loss" in r])
    assert told == ["without padding", "padded (packing is off)"]
    for name in ("loss", "num_tokens", "token_accuracy", "grad_norm"):
        assert [r[name] for r in logs[0]] == pytest.approx([r[name] for r in logs[1]], rel=1e-4, abs=1e-5), name


def test_captions_too(context: Callable[..., StageContext]) -> None:
    result = pretrain.run(PretrainStage(steps=1, batch_size=4, packing="on"), context("captions", num_train=8))
    assert result.extra["batches"] == "without padding"


def test_a_model_that_cannot_is_padded_or_refused() -> None:
    loaded, rows = new_model(), ragged_rows()
    batch_of(loaded, rows)
    masked = MaskedCollator(loaded.processor)
    assert why_padded(loaded.model, masked, rows) is None
    loaded.model.config.get_text_config().sliding_window = 4
    loaded.model.config.get_text_config().layer_types = ["sliding_attention"] * 2
    collate, words = collator_for("auto", loaded.model, masked, rows, "stages.sft")
    assert collate is masked and "sliding" in words
    with pytest.raises(EosinError, match="without padding"):
        collator_for("on", loaded.model, masked, rows, "stages.sft")
