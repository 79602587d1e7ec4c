"""RL held to the reply grammar: drawn, scored and trained under the same mask, on both paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engines.test_reply_automaton import random_reply
from tests.train.conftest import GRAMMAR, new_model
from tests.train.test_shared_prefix import assert_same_as_plain, encoded, rows_of, sampling_of, saved, trainer_of

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Parsed
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import Lora, RewardSpec, RlStage
from eosin.core.store import artifacts as store
from eosin.engines.group_decode import sample_groups
from eosin.engines.reply_automaton import ReplyAutomaton, automaton_of
from eosin.models import shared_prefix
from eosin.models.load import Loaded
from eosin.train.rl import preflight
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext


def held_of(loaded: Loaded) -> ReplyAutomaton:
    return automaton_of(loaded, GRAMMAR, [], "here")


def allowed_replies(held: ReplyAutomaton, num: int, most: int) -> list[list[int]]:
    """Beginnings of replies that may be drawn; every third one is whole."""
    rng = np.random.default_rng(2)
    every = np.ones(held.may.shape[1], dtype=bool)
    found: list[list[int]] = []
    while len(found) < num:
        if ids := random_reply(held, rng, every):
            found.append(ids if len(found) % 3 == 0 and len(ids) < 120 else ids[:most])
    return found


@pytest.mark.parametrize(
    ("name", "lora"), [("grpo", None), ("dapo", Lora(r=4)), ("gspo", None)], ids=["kl", "lora", "sequence"]
)
def test_loss_and_gradients_of_both_paths_agree_under_the_mask(tmp_path: Path, name: str, lora: Lora | None) -> None:
    loaded = saved(new_model(), tmp_path / "model")
    held = held_of(loaded)
    rows = rows_of(2, 3, [1, 2])
    algorithm = Algorithm.model_validate({"name": name, "dynamic_sampling": False, "mask_truncated": False})
    moved, _ = assert_same_as_plain(
        tmp_path, loaded, rows, 3, lora=lora, algorithm=algorithm, fixed=allowed_replies(held, 6, 12), held=held
    )
    assert len(moved) > 10


def test_log_probabilities_are_those_of_the_masked_policy() -> None:
    """Against all logits of a plain pass, masked and renormalised by hand."""
    loaded = new_model()
    loaded.model.eval()
    held = held_of(loaded)
    pairs = encoded(loaded, rows_of(2, 1, [1, 2]))
    shared_prefix.enable(loaded.model)
    torch.manual_seed(1)
    drawn = sample_groups(loaded.model, [p for p, _ in pairs], sampling_of(loaded, held=held, max_new_tokens=20))
    shared_prefix.disable(loaded.model)
    for row, (ids, logps) in enumerate(zip(drawn.ids, drawn.logprobs, strict=True)):
        prompt, fields = pairs[row // 3]
        whole = torch.tensor([[*prompt.ids, *ids]])
        types = torch.zeros_like(whole)
        types[0, : len(prompt.ids)] = torch.as_tensor(fields["mm_token_type_ids"][0])
        with torch.no_grad():
            logits = loaded.model(
                input_ids=whole, attention_mask=torch.ones_like(whole), pixel_values=fields["pixel_values"],
                image_grid_thw=fields["image_grid_thw"], mm_token_type_ids=types,
            ).logits[0, len(prompt.ids) - 1 : -1]  # fmt: skip
        probabilities = torch.softmax(logits / 0.8, -1)
        state = 0
        for t, token in enumerate(ids):
            assert held.may[state, token]
            want = probabilities[t, token] / probabilities[t][held.may[state]].sum()
            assert logps[t] == pytest.approx(float(want.log()), abs=1e-4)
            state = int(held.follow[state, token])


@pytest.mark.parametrize("kind", [GroupTrainer, SharedPrefixTrainer])
def test_the_checks_before_the_first_step_hold_under_the_mask(tmp_path: Path, kind: type[GroupTrainer]) -> None:
    rows = rows_of(3, 2, [1, 2])
    loaded = new_model()
    algorithm = Algorithm.model_validate({"name": "dapo"})
    trainer = trainer_of(kind, loaded, tmp_path, rows, 2, algorithm=algorithm, held=held_of(loaded))
    checks = preflight.check(trainer, rows[::2], None, shared=kind is SharedPrefixTrainer)
    preflight.refuse(checks, "stages.rl")
    assert checks.round_trip < 1e-4 and checks.ratio < 1e-4


@pytest.mark.parametrize("fast_path", ["on", "off"])
def test_a_stage_draws_nothing_but_replies_in_form(context: Callable[..., StageContext], fast_path: Any) -> None:
    """From random weights: every reply begins as the grammar says, and whatever ended is parsed."""
    ctx = context("rl")
    settings = RlStage(
        steps=1, batch_size=4, num_generations=2, max_new_tokens=40, constrain="grammar", fast_path=fast_path,
        collapse=None, keep="last", algorithm=Algorithm(beta=0.0, mask_truncated=False), log_every=1,
        rewards=[RewardSpec(name="accuracy", weight=1.0)],
    )  # fmt: skip
    rl.run(settings, ctx)
    rows = store.read_jsonl(ctx.folder / "rollouts.jsonl")
    assert len(rows) == 4
    for row in rows:
        assert row["reply"].startswith("<think>")
        assert row["num_tokens"] == 40 or isinstance(GRAMMAR.parse(row["reply"]), Parsed)


def test_what_cannot_be_held_is_said_before_anything_is_drawn(context: Callable[..., StageContext]) -> None:
    settings = RlStage(steps=1, batch_size=4, num_generations=2, max_new_tokens=8, constrain="grammar", collapse=None)
    ctx = replace(context("bare"), grammar=Grammar(("answer",), bare="whole"))
    with pytest.raises(EosinError, match="without tags") as found:
        rl.run(settings, ctx)
    assert found.value.where == "stages.bare.constrain"
    loaded = new_model()
    loaded.model.config.get_text_config().logit_scale = 2.0
    with pytest.raises(EosinError, match="cannot be held to a grammar"):
        rl.run(settings, context("scaled", loaded))
