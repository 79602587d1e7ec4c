"""What trainers ask of the slide reader: stock TRL trains it; the shared prompt gives the same loss and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.slide_toys import chat_of, new_reader, toy_bag
from tests.support.toys import toy_image
from tests.train.test_shared_prefix import (
    assert_same_as_plain,
    dataset_of,
    encoded,
    sampling_of,
    saved,
    trainer_head,
    trainer_of,
)
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import Lora
from eosin.engines.group_decode import sample_groups
from eosin.engines.packed_rows import pack
from eosin.models import shared_prefix
from eosin.models.load import Loaded, load
from eosin.train.packed_loss import packed_logprobs
from eosin.train.rl.trl_overrides import GroupTrainer
from eosin.train.stages.saves import restore_weights


def slide_rows(num_groups: int, num: int, with_image: bool = False) -> list[dict[str, Any]]:
    """G rows a group; slides of different sizes, prompts of different lengths; every second with a region image."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(num_groups):
        pictures: list[Any] = [toy_bag(i % 3, rng, num=9 + 7 * i)]
        if with_image and i % 2 == 0:
            pictures.insert(i % 4 // 2, toy_image(i % 3, rng))
        if i == 2:
            pictures.append(toy_bag(1, rng, num=5))
        content = [{"type": "image"} for _ in pictures]
        text = "Which tissue is this? " * (1 + i % 3)
        prompt = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        completion = [{"role": "assistant", "content": [{"type": "text", "text": f"tumour number {i % 3}"}]}]
        rows += [{"prompt": prompt, "images": pictures, "sample_number": i, "completion": completion}] * num
    return rows


def without(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != name} for row in rows]


def settings_of(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "use_cpu": True, "report_to": [], "disable_tqdm": True, "bf16": False,
        "remove_unused_columns": False, "max_steps": 2, "learning_rate": 1e-2, "save_strategy": "no",
        "gradient_checkpointing": False,
    }  # fmt: skip


def changed(before: dict[str, torch.Tensor], model: Any) -> set[str]:
    return {n for n, p in model.named_parameters() if not torch.equal(before[n], p)}


def numbered(completions: list[Any], **_: Any) -> list[float]:
    return [float(i) for i, _ in enumerate(completions)]


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def assert_slides_trained(moved: set[str]) -> None:
    for part in ("slide_tower.embed", "slide_tower.blocks.0.qkv", "slide_tower.projector.fc2", "language_model"):
        assert any(part in n for n in moved), part


def test_stock_sft_trains_on_slides(tmp_path: Path) -> None:
    loaded = new_reader()
    before = weights(loaded.model)
    trainer = SFTTrainer(
        model=loaded.model, args=SFTConfig(**settings_of(tmp_path), per_device_train_batch_size=3, max_length=None),
        train_dataset=dataset_of(slide_rows(3, 1, with_image=True)), processing_class=loaded.processor,
    )  # fmt: skip
    first = trainer.train().training_loss
    assert np.isfinite(first)
    assert_slides_trained(changed(before, loaded.model))


def test_stock_grpo_trains_on_slides(tmp_path: Path) -> None:
    loaded = new_reader()
    loaded.processor.tokenizer.padding_side = "left"
    before = weights(loaded.model)
    args = GRPOConfig(
        **settings_of(tmp_path), per_device_train_batch_size=4, num_generations=2, max_completion_length=5, beta=0.0,
        generation_kwargs={"suppress_tokens": [loaded.model.config.image_token_id, loaded.model.config.video_token_id]},
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=loaded.model, args=args, reward_funcs=[numbered],
        train_dataset=dataset_of(without(slide_rows(4, 1, with_image=True), "completion")),
        processing_class=loaded.processor,
    )  # fmt: skip
    trainer.train()
    assert_slides_trained(changed(before, loaded.model))


CASES = [
    pytest.param(2, 4, False, "grpo", None, {}, {}, id="grpo-kl"),
    pytest.param(3, 2, True, "dapo", None, {}, {}, id="several-slides-and-images"),
    pytest.param(2, 4, False, "dapo", None, {"tower": {"pooling": "topk", "num_tokens": 6}}, {}, id="topk"),
    pytest.param(2, 2, False, "dapo", None, {"tower": {"pooling": "queries", "num_tokens": 4}}, {}, id="queries"),
    pytest.param(2, 2, False, "dapo", None, {"tower": {"pooling": "kmeans", "num_tokens": 5}}, {}, id="kmeans"),
    pytest.param(2, 4, True, "grpo", Lora(r=4), {}, {}, id="lora-tower-whole"),
    pytest.param(2, 2, True, "dapo", None, {}, {"gradient_checkpointing": True}, id="checkpointing"),
]


@pytest.mark.parametrize(("groups", "num", "with_image", "name", "lora", "shape", "changes"), CASES)
def test_loss_and_gradients_are_those_of_plain_trl(
    tmp_path: Path, groups: int, num: int, with_image: bool, name: str, lora: Lora | None, shape: dict[str, Any],
    changes: dict[str, Any],
) -> None:  # fmt: skip
    loaded = saved(new_reader(**shape), tmp_path / "model")
    rows = without(slide_rows(groups, num, with_image), "completion")
    algorithm = Algorithm.model_validate({"name": name, "dynamic_sampling": False})
    moved, _ = assert_same_as_plain(tmp_path, loaded, rows, num, lora=lora, algorithm=algorithm, **changes)
    for part in ("slide_tower", "projector.fc1"):
        assert any(part in n for n in moved)
    assert any("slide_tower" in n and "blocks" in n for n in moved)


def test_generation_loss_and_plain_forward_agree() -> None:
    """Drawn log-probabilities, those of the packed loss, and those of one plain forward pass over the whole text."""
    loaded = new_reader()
    loaded.model.eval()
    pairs = encoded(loaded, slide_rows(3, 1, with_image=True))
    shared_prefix.enable(loaded.model)
    torch.manual_seed(1)
    image = loaded.model.config.image_token_id
    drawn = sample_groups(loaded.model, [p for p, _ in pairs], sampling_of(loaded, end_ids=(), banned=(image,)))
    trainer_head(loaded.model)
    loaded.model.lm_head_temperature = 1.0
    ids = torch.tensor(drawn.ids)
    with torch.no_grad():
        packed, _ = packed_logprobs(loaded.model, pack([p for p, _ in pairs], ids, torch.ones_like(ids) > 0, 0))
    shared_prefix.disable(loaded.model)
    for row, (own, logps) in enumerate(zip(drawn.ids, drawn.logprobs, strict=True)):
        prompt, fields = pairs[row // 3]
        whole = torch.tensor([[*prompt.ids, *own]])
        with torch.no_grad():
            logits = loaded.model(
                input_ids=whole, attention_mask=torch.ones_like(whole), pixel_values=fields["pixel_values"],
                image_grid_thw=fields["image_grid_thw"],
            ).logits[0, len(prompt.ids) - 1 : -1]  # fmt: skip
        for heat, found in ((0.8, torch.tensor(logps)), (1.0, packed[row])):
            want = torch.log_softmax(logits / heat, -1).gather(1, torch.tensor(own)[:, None])[:, 0]
            assert torch.allclose(found, want, atol=1e-5)


def test_another_slide_changes_every_log_probability() -> None:
    loaded = new_reader()
    rng = np.random.default_rng(0)
    trainer_head(loaded.model)
    ids = torch.tensor([[30, 31, 32], [40, 41, 42]])
    found = []
    for label in (0, 1):
        row = {"prompt": chat_of([toy_bag(label, rng)]), "images": []}
        prompts = [p for p, _ in encoded(loaded, [row])]
        shared_prefix.enable(loaded.model)
        with torch.no_grad():
            found.append(packed_logprobs(loaded.model, pack(prompts, ids, torch.ones_like(ids) > 0, 0))[0])
        shared_prefix.disable(loaded.model)
    assert bool((found[0] != found[1]).all())


def test_a_resumed_run_starts_from_the_weights_that_were_saved(tmp_path: Path) -> None:
    trained, fresh = new_reader(seed=1), new_reader(seed=2)
    trained.model.slide_tower.set_scale(torch.full((12,), 0.5), torch.full((12,), 2.0))
    trained.model.save_pretrained(tmp_path)
    restore_weights(fresh.model, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(trained.model.state_dict().values(),
                                                 fresh.model.state_dict().values(), strict=True))  # fmt: skip


def test_an_adapter_saves_the_slide_tower_whole_and_loads_with_it(tmp_path: Path) -> None:
    loaded = saved(new_reader(), tmp_path / "base")
    rows = without(slide_rows(2, 2), "completion")
    trainer = trainer_of(GroupTrainer, loaded, tmp_path / "run", rows, 2, lora=Lora(r=2))
    trains = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert any("slide_tower" in n and "blocks.0.qkv" in n for n in trains)
    assert not any("original_module" in n for n in trains)
    with torch.no_grad():
        for name, p in trainer.model.named_parameters():
            if name in trains:
                p.add_(0.01)
    trainer.model.save_pretrained(tmp_path / "adapter")
    loaded.processor.save_pretrained(tmp_path / "adapter")
    again: Loaded = load(tmp_path / "adapter")
    pixels = loaded.processor(images=[rows[0]["images"]])
    trainer.model.eval()
    want = trainer.model.base_model.model.slide_tokens(**pixels)[0].tokens
    assert torch.allclose(again.model.eval().slide_tokens(**pixels)[0].tokens, want, atol=1e-6)
    assert not torch.allclose(loaded.model.eval().slide_tokens(**pixels)[0].tokens, want, atol=1e-3)
