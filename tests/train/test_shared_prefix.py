"""The shared-prefix path against plain TRL: same completions, same loss, same gradients; same log-probabilities."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tests.support.close import other_numbers, same_numbers
from tests.support.toys import toy_image
from tests.train.conftest import new_model
from trl import GRPOConfig
from trl.data_utils import prepare_multimodal_messages
from trl.trainer.utils import add_fused_lm_head

from eosin.core.errors import EosinError
from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import Lora, RewardSpec, RlStage
from eosin.core.store import artifacts as store
from eosin.engines import shared_trial
from eosin.engines.group_decode import SamplingParams, encode_prompt, sample_groups
from eosin.engines.packed_rows import pack
from eosin.engines.reply_automaton import ReplyAutomaton
from eosin.models import shared_prefix
from eosin.models.load import Loaded
from eosin.train.monitor import StepClock
from eosin.train.packed_loss import packed_logprobs
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext, lora_config

ROOM = 7


def rows_of(num_groups: int, num: int, images: list[int]) -> list[dict[str, Any]]:
    """G rows a group; prompts of different lengths, `images[i]` pictures in prompt i."""
    rng = np.random.default_rng(5)
    rows = []
    for i in range(num_groups):
        pictures = [toy_image(k % 3, rng) for k in range(images[i % len(images)])]
        content = [{"type": "image"} for _ in pictures]
        text = "Which colour is this field? " * (1 + i % 3)
        prompt = [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]
        rows += [{"prompt": prompt, "images": pictures, "sample_number": i}] * num
    return rows


def ragged(num_rows: int, end: int, seed: int = 1) -> list[list[int]]:
    """Completions of 1 to ROOM tokens; every fifth is cut off, the others end with the end token."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(num_rows):
        size = ROOM if i % 5 == 4 else int(rng.integers(1, ROOM + 1))
        ids = rng.integers(20, 300, size).tolist()
        found.append(ids if i % 5 == 4 else [*ids[:-1], end])
    return found


def reward(completions: list[Any], **_: Any) -> list[float | None]:
    """Different for every completion; some are not scored."""
    return [None if i % 7 == 6 else float(i % 4) / 3 for i, _ in enumerate(completions)]


def dataset_of(rows: list[dict[str, Any]]) -> Dataset:
    """A data set that hands out made rows."""

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [rows[i] for i in batch["sample_number"]]
        return {key: [row[key] for row in chosen] for key in rows[0]}

    return Dataset.from_dict({"sample_number": list(range(len(rows)))}).with_transform(fetch)


def trainer_of(
    kind: type[GroupTrainer], loaded: Loaded, folder: Path, rows: list[dict[str, Any]], num: int, *,
    lora: Lora | None = None, algorithm: Algorithm | None = None, held: ReplyAutomaton | None = None, **changes: Any,
) -> GroupTrainer:  # fmt: skip
    algorithm = algorithm or Algorithm()
    values = {
        "output_dir": str(folder), "per_device_train_batch_size": len(rows), "num_generations": num,
        "max_completion_length": ROOM, "beta": algorithm.beta, "loss_type": algorithm.loss_type, "use_cpu": True,
        "scale_rewards": algorithm.scale_rewards, "mask_truncated_completions": algorithm.mask_truncated,
        "epsilon_high": algorithm.epsilon_high, "importance_sampling_level": algorithm.importance_sampling_level,
        "report_to": [], "disable_tqdm": True, "remove_unused_columns": False, "temperature": 0.9, "top_k": 0,
        "bf16": False, "gradient_checkpointing": False,
    }  # fmt: skip
    trainer = kind(
        model=copy.deepcopy(loaded.model), reward_funcs=[reward], args=GRPOConfig(**{**values, **changes}),
        train_dataset=dataset_of(rows[::num]), processing_class=loaded.processor, peft_config=lora_config(lora, []),
        clock=StepClock(), algorithm=algorithm, held=held,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    if trainer.ref_model is None and algorithm.beta and lora is None:
        raise AssertionError("no reference")
    return trainer


def loss_and_gradients(
    trainer: GroupTrainer, rows: list[dict[str, Any]], fixed: list[list[int]] | None = None
) -> tuple[float, dict[str, torch.Tensor]]:
    fixed = fixed or ragged(len(rows), trainer.eos_token_ids[0])
    trainer._generate_single_turn = lambda ids, *_a, **_k: (fixed[: len(ids)], None)  # type: ignore[method-assign]
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows)
    if isinstance(trainer, SharedPrefixTrainer):
        batch["encoded_prompts"] = trainer._loss_prompts
    else:
        assert batch["pixel_values"].shape[0] > 0
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return float(loss.detach()), grads


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm().clamp(min=1e-12))


def saved(loaded: Loaded, folder: Path) -> Loaded:
    """The model on disk, because TRL loads the reference from there."""
    loaded.model.save_pretrained(folder)
    loaded.model.config._name_or_path = str(folder)
    loaded.model.name_or_path = str(folder)
    return loaded


def assert_same_as_plain(
    tmp_path: Path,
    loaded: Loaded,
    rows: Any,
    num: int,
    *,
    lora: Lora | None,
    algorithm: Algorithm,
    fixed: list[list[int]] | None = None,
    **changes: Any,
) -> tuple[list[str], list[str]]:
    """Loss and every gradient of the shared prompt are those of plain TRL (relative difference under 1e-4).

    Returns:
        Names of the parameters whose gradient is not zero, and of all that have one.
    """
    results = []
    for kind in (GroupTrainer, SharedPrefixTrainer):
        torch.manual_seed(3)
        folder = tmp_path / kind.__name__
        trainer = trainer_of(kind, loaded, folder, rows, num, lora=lora, algorithm=algorithm, **changes)
        if lora is not None:  # a fresh adapter's B is zero, and with it the gradient of A
            torch.manual_seed(4)
            for n, p in trainer.model.named_parameters():
                if "lora_B" in n:
                    torch.nn.init.normal_(p, std=0.05)
        results.append(loss_and_gradients(trainer, rows, fixed))
    (plain, plain_grads), (shared, shared_grads) = results
    assert shared == pytest.approx(plain, rel=1e-4, abs=1e-7)
    assert plain_grads.keys() == shared_grads.keys()
    moved = [n for n, g in plain_grads.items() if g.norm() > 1e-9]
    assert max(relative(plain_grads[n], shared_grads[n]) for n in moved) < 1e-4
    return moved, list(plain_grads)


CASES = [
    # groups, G, pictures by prompt, algorithm, lora, changes
    pytest.param(2, 4, [1], "grpo", None, {}, id="grpo-kl"),
    pytest.param(3, 2, [1, 2], "dapo", None, {}, id="dapo-G2-two-pictures"),
    pytest.param(1, 8, [1], "dapo", None, {}, id="dapo-G8-one-group"),
    pytest.param(2, 4, [2, 1], "dr_grpo", Lora(r=4), {}, id="dr-grpo-lora"),
    pytest.param(2, 4, [1], "gspo", None, {}, id="gspo"),
    pytest.param(2, 4, [1], "grpo", Lora(r=4), {}, id="grpo-kl-lora-reference"),
    pytest.param(2, 4, [1, 3], "dapo", None, {"gradient_checkpointing": True}, id="checkpointing"),
]


@pytest.mark.parametrize(("groups", "num", "images", "name", "lora", "changes"), CASES)
def test_loss_and_gradients_are_those_of_plain_trl(
    tmp_path: Path, groups: int, num: int, images: list[int], name: str, lora: Lora | None, changes: dict[str, Any]
) -> None:
    loaded = saved(new_model(), tmp_path / "model")
    rows = rows_of(groups, num, images)
    algorithm = Algorithm.model_validate({"name": name, "dynamic_sampling": False})
    moved, everything = assert_same_as_plain(tmp_path, loaded, rows, num, lora=lora, algorithm=algorithm, **changes)
    assert len(moved) > 0.8 * len(everything)
    if lora is None:
        assert any("visual.blocks" in n for n in moved)


def test_bf16_gradients_agree_within_its_precision(tmp_path: Path) -> None:
    loaded = new_model()
    loaded.model.to(torch.bfloat16)
    rows = rows_of(2, 4, [1, 2])
    algorithm = Algorithm.model_validate({"name": "dapo", "dynamic_sampling": False})
    results = []
    for kind in (GroupTrainer, SharedPrefixTrainer):
        trainer = trainer_of(kind, loaded, tmp_path / kind.__name__, rows, 4, algorithm=algorithm)
        results.append(loss_and_gradients(trainer, rows))
    (plain, plain_grads), (shared, shared_grads) = results
    assert shared == pytest.approx(plain, rel=2e-2)
    a = torch.cat([g.float().flatten() for g in plain_grads.values()])
    b = torch.cat([shared_grads[n].float().flatten() for n in plain_grads])
    assert relative(a, b) < 2e-2


@pytest.mark.parametrize("backend", ["split", "flex"])
def test_both_attentions_see_prompt_and_self_and_nothing_else(backend: Any) -> None:
    """Against a dense mask written out by hand: two groups, prompts of 5 and 3 tokens, two completions of 2."""
    is_prompt = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    pattern = shared_prefix.Packed(is_prompt, num=2, length=2, backend=backend)
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 9, 16), torch.randn(2, 2, 9, 16), torch.randn(2, 2, 9, 16)
    allowed = torch.zeros(2, 9, 9, dtype=torch.bool)
    for b, size in enumerate((5, 3)):
        for q in range(9):
            for k in range(9):
                in_prompt = k < size and k <= q
                own = (5 <= k <= q) and ((q - 5) // 2 == (k - 5) // 2)
                allowed[b, q, k] = in_prompt or own
    want = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), attn_mask=allowed[:, None], scale=0.25
    )
    found = pattern.attend(0, query, key, value, 0.25)
    real = torch.cat((is_prompt, torch.ones(2, 4, dtype=torch.bool)), 1)
    assert torch.allclose(found.transpose(1, 2)[real], want.transpose(1, 2)[real], atol=1e-5)


def encoded(loaded: Loaded, rows: list[dict[str, Any]]) -> list[Any]:
    """Prompts as the generator takes them."""
    found = []
    for row in rows:
        message = prepare_multimodal_messages(row["prompt"], images=row["images"])
        fields = loaded.processor.apply_chat_template(
            [message], tokenize=True, add_generation_prompt=True, return_dict=True
        )
        found.append((encode_prompt(loaded.model, fields["input_ids"][0], dict(fields)), fields))
    return found


def sampling_of(loaded: Loaded, **changes: Any) -> SamplingParams:
    end = int(loaded.processor.tokenizer.eos_token_id)
    values = {"num": 3, "max_new_tokens": 12, "temperature": 0.8, "end_ids": (end,), "pad_id": 0}
    return SamplingParams(**{**values, **changes})


def test_drawn_log_probabilities_are_those_of_a_plain_forward_pass() -> None:
    """Prompts of different lengths and numbers of images; groups that end early leave the batch."""
    loaded = new_model()
    loaded.model.eval()
    ends = tuple(range(20, 200))  # ending is likely, so that whole groups finish at different times
    pairs = encoded(loaded, rows_of(4, 1, [1, 2]))
    shared_prefix.enable(loaded.model)
    torch.manual_seed(1)
    drawn = sample_groups(loaded.model, [p for p, _ in pairs], sampling_of(loaded, end_ids=ends))
    shared_prefix.disable(loaded.model)
    assert len({max(len(ids) for ids in drawn.ids[i : i + 3]) for i in range(0, 12, 3)}) > 1
    for row, (ids, logps) in enumerate(zip(drawn.ids, drawn.logprobs, strict=True)):
        assert not set(ids[:-1]) & set(ends) and (ids[-1] in ends or len(ids) == 12)
        prompt, fields = pairs[row // 3]
        whole = torch.tensor([[*prompt.ids, *ids]])
        types = torch.zeros_like(whole)
        types[0, : len(prompt.ids)] = torch.as_tensor(fields["mm_token_type_ids"][0])
        with torch.no_grad():
            logits = loaded.model(
                input_ids=whole, attention_mask=torch.ones_like(whole), pixel_values=fields["pixel_values"],
                image_grid_thw=fields["image_grid_thw"], mm_token_type_ids=types,
            ).logits[0, len(prompt.ids) - 1 : -1]  # fmt: skip
        want = torch.log_softmax(logits / 0.8, -1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(logps), want, atol=1e-5)


def test_greedy_decoding_is_that_of_transformers() -> None:
    loaded = new_model()
    pairs = encoded(loaded, rows_of(2, 1, [1, 2]))
    shared_prefix.enable(loaded.model)
    greedy = sampling_of(loaded, temperature=0.0, num=2)
    drawn = sample_groups(loaded.model, [p for p, _ in pairs], greedy)
    shared_prefix.disable(loaded.model)
    for i, (prompt, fields) in enumerate(pairs):
        tokens = torch.tensor([prompt.ids])
        want = loaded.model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), pixel_values=fields["pixel_values"],
            image_grid_thw=fields["image_grid_thw"], mm_token_type_ids=torch.as_tensor(fields["mm_token_type_ids"]),
            max_new_tokens=12, do_sample=False,
        )[0, len(prompt.ids) :].tolist()  # fmt: skip
        assert drawn.ids[2 * i] == drawn.ids[2 * i + 1] == want[: len(drawn.ids[2 * i])]


def test_image_tokens_are_never_drawn_and_sampling_follows_the_seed() -> None:
    loaded = new_model()
    image = loaded.model.config.image_token_id
    with torch.no_grad():
        loaded.model.lm_head.weight[image] *= 30
    prompts = [p for p, _ in encoded(loaded, rows_of(1, 1, [1]))]
    shared_prefix.enable(loaded.model)
    torch.manual_seed(0)
    free = sample_groups(loaded.model, prompts, sampling_of(loaded, num=8))
    torch.manual_seed(0)
    held = sample_groups(loaded.model, prompts, sampling_of(loaded, num=8, banned=(image,)))
    torch.manual_seed(0)
    again = sample_groups(loaded.model, prompts, sampling_of(loaded, num=8, banned=(image,)))
    assert any(image in ids for ids in free.ids)
    assert not any(image in ids for ids in held.ids)
    assert held == again


def test_a_completion_reads_nothing_of_its_neighbours() -> None:
    """Changing one completion changes no other one's log-probabilities; changing the image changes all of them."""
    loaded = new_model()
    prompts = [p for p, _ in encoded(loaded, rows_of(1, 1, [1]))]
    trainer_head(loaded.model)
    shared_prefix.enable(loaded.model)
    ids = torch.tensor([[30, 31, 32], [40, 41, 42], [50, 51, 52]])
    real = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        first, _ = packed_logprobs(loaded.model, pack(prompts, ids, real, 0))
        changed = ids.clone()
        changed[1] = torch.tensor([90, 91, 92])
        second, _ = packed_logprobs(loaded.model, pack(prompts, changed, real, 0))
        blank = replace(prompts[0], pixels={**prompts[0].pixels, "pixel_values": prompts[0].pixels["pixel_values"] * 0})
        third, _ = packed_logprobs(loaded.model, pack([blank], ids, real, 0))
    assert same_numbers(first[[0, 2]], second[[0, 2]])
    assert other_numbers(first[1], second[1])
    assert all(other_numbers(a, b) for a, b in zip(first, third, strict=True))


def test_models_with_other_attention_are_refused_with_the_reason() -> None:
    loaded = new_model()
    assert shared_trial.unsupported(loaded.model) is None
    text = loaded.model.config.text_config
    text.layer_types = ["sliding_attention"] * len(text.layer_types)
    assert "sliding_attention" in (shared_trial.unsupported(loaded.model) or "")


def trainer_head(model: Any) -> None:
    """The fused head that TRL gives every model that it trains."""
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))


def test_greedy_members_of_a_group_take_the_likeliest_token_and_the_others_are_drawn_as_before(tmp_path: Path) -> None:
    loaded = new_model()
    loaded.model.eval()
    pairs = encoded(loaded, rows_of(2, 1, [1, 2]))
    prompts = [p for p, _ in pairs]
    shared_prefix.enable(loaded.model)
    base = sampling_of(loaded, max_new_tokens=12, num=3, seeds=(3, 4))
    drawn = sample_groups(loaded.model, prompts, base)
    mixed = sample_groups(loaded.model, prompts, replace(base, greedy=1))
    alone = sample_groups(loaded.model, prompts, replace(base, temperature=0.0))
    shared_prefix.disable(loaded.model)
    for group in range(2):
        first = 3 * group
        assert mixed.ids[first] == alone.ids[first] and mixed.ids[first] != drawn.ids[first]
        assert mixed.ids[first + 1 : first + 3] == drawn.ids[first + 1 : first + 3]
        assert mixed.logprobs[first + 1] == pytest.approx(drawn.logprobs[first + 1], abs=1e-5)
        # at the sampling temperature: a greedy reply is scored as the policy that trains would score it
        assert mixed.logprobs[first] != pytest.approx(alone.logprobs[first], abs=1e-3)


@pytest.mark.parametrize(("fast_path", "right"), [("auto", True), ("off", False)])
def test_a_stage_draws_its_greedy_replies_or_says_that_it_cannot(
    context: Callable[..., StageContext], fast_path: Any, right: bool
) -> None:
    """Both greedy replies of a group are the same; where the prompt is not shared the stage does not start."""
    settings = RlStage(
        steps=1, batch_size=8, num_generations=4, greedy_replies=2, max_new_tokens=6, fast_path=fast_path, log_every=1,
        collapse=None, keep="last", algorithm=Algorithm(beta=0.0, mask_truncated=False),
        rewards=[RewardSpec(name="accuracy", weight=1.0)],
    )  # fmt: skip
    ctx = context("rl", num_train=6)
    if not right:
        with pytest.raises(EosinError) as found:
            rl.run(settings, ctx)
        assert found.value.where == "stages.rl.greedy_replies"
        return
    rl.run(settings, ctx)
    groups: dict[str, list[str]] = {}
    for row in store.read_jsonl(ctx.folder / "rollouts.jsonl"):
        groups.setdefault(str(row["sample_id"]), []).append(str(row["reply"]))
    assert len(groups) == 2 and all(len(g) == 4 and len(set(g)) <= 3 for g in groups.values())
