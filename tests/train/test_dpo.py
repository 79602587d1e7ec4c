"""Direct preference optimisation: what an expert chose becomes likelier than what was put right, pictures included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.slide_toys import chat_of, new_reader, toy_bag
from tests.train.conftest import GRAMMAR, PROMPT
from trl import DPOConfig, DPOTrainer

from eosin.core.errors import EosinError
from eosin.core.nouns.prompt import REJECTED, gold_reply, prompt_messages
from eosin.core.nouns.sample import Sample
from eosin.core.settings.data import PhantomData
from eosin.core.settings.stages import DpoStage
from eosin.engines.base import Request
from eosin.engines.transformers_engine import TransformersEngine
from eosin.models.load import Loaded, load
from eosin.sources.phantom import read_phantom
from eosin.train.data.rows import ImageCache
from eosin.train.stages import dpo
from eosin.train.stages.base import StageContext

Make = Callable[..., StageContext]


def put_right(sample: Sample) -> Sample:
    """The sample with a reply that names another option."""
    other = next(c.letter for c in sample.choices if c.letter != sample.answer)
    wrong = gold_reply(sample.model_copy(update={"answer": other}), GRAMMAR, PROMPT.answer)
    return sample.model_copy(update={"extra": {**sample.extra, REJECTED: wrong}})


@pytest.fixture(scope="module")
def pairs() -> list[Sample]:
    """Phantom tiles, each with its gold reply and one that was put right."""
    found = read_phantom(PhantomData(train_cases=6, valid_cases=0, test_cases=1, tiles_per_case=1, tile_px=56), 0)
    return [put_right(s) for s in found.kept if s.split == "train"]


def margins(loaded: Loaded, samples: list[Sample]) -> list[float]:
    """log p(chosen) - log p(rejected) of each pair, read by the engine and not by the trainer."""
    engine, pictures = TransformersEngine(loaded), ImageCache(None, 1.0)
    found = []
    for sample in samples:
        messages = prompt_messages(sample, GRAMMAR, instruction=PROMPT.instruction)
        request = Request(sample.id, messages, tuple(pictures.get(sample)), begun="<think>")
        texts = [gold_reply(sample, GRAMMAR, PROMPT.answer), str(sample.extra[REJECTED])]
        a, b = engine.option_logprobs(request, [t.removeprefix("<think>") for t in texts])
        found.append(a - b)
    return found


def test_chosen_replies_become_likelier_than_rejected_ones(context: Make, pairs: list[Sample]) -> None:
    ctx = replace(context("dpo"), train=[*pairs, *context("dpo").train[:4]])
    before = margins(ctx.loaded, pairs)
    stage = DpoStage(steps=12, batch_size=6, learning_rate=3e-3, beta=0.1, log_every=6)
    result = dpo.run(stage, ctx)
    after = margins(load(ctx.folder / "checkpoint"), pairs)
    assert np.mean(np.array(after) > before) >= 5 / 6
    assert np.mean(after) > np.mean(before) + 1
    assert result.extra["pairs"]["n"] == len(pairs) and result.extra["pairs"]["samples"] == len(pairs) + 4
    assert result.extra["pairs"]["rewards"]["margins"] > 0


def test_without_pairs_the_stage_does_not_start(context: Make) -> None:
    ctx = context("dpo")
    alike = [s.model_copy(update={"extra": {REJECTED: gold_reply(s, GRAMMAR, PROMPT.answer)}}) for s in ctx.train]
    with pytest.raises(EosinError, match="no preference pair"):
        dpo.run(DpoStage(steps=1), replace(ctx, train=alike))


def test_a_bag_of_patches_goes_through_the_trainer(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """One step on slides: the loss at the start is log 2, since policy and reference are the same."""
    made, rng = new_reader(), np.random.default_rng(0)
    made.processor.tokenizer.pad_token = made.processor.tokenizer.pad_token or made.processor.tokenizer.eos_token
    say = lambda text: [{"role": "assistant", "content": [{"type": "text", "text": text}]}]  # noqa: E731
    bags = [[toy_bag(k, rng, num=9 + 7 * k)] for k in range(2)]
    rows = [
        {"prompt": chat_of([None]), "chosen": say("tumour glands"), "rejected": say("stroma"), "images": own}
        for own in bags
    ]
    for row in rows:
        row["prompt"][0]["content"][0] = {"type": "image"}
    from datasets import Dataset

    data = Dataset.from_dict({"n": [0, 1]}).with_transform(
        lambda batch: {k: [rows[n][k] for n in batch["n"]] for k in rows[0]}
    )
    args = DPOConfig(
        output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, learning_rate=1e-3, logging_steps=1,
        use_cpu=not torch.cuda.is_available(), report_to=[], remove_unused_columns=False, save_strategy="no",
        disable_tqdm=True, bf16=False,
    )  # fmt: skip
    before = made.model.model.slide_tower.embed.weight.detach().clone()
    trainer = DPOTrainer(
        model=made.model, ref_model=dpo._start_of(made.model), args=args, train_dataset=data,
        processing_class=made.processor,
    )  # fmt: skip
    trainer.train()
    first = next(r for r in trainer.state.log_history if "loss" in r)
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert not torch.equal(before, made.model.model.slide_tower.embed.weight)
