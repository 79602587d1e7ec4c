"""An anchor of gold replies inside RL: its loss by hand, what it adds to TRL's, its order, and what it teaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.train.conftest import GRAMMAR, PROMPT
from tests.train.test_shared_prefix import ragged, rows_of, trainer_of

from eosin.core.errors import EosinError
from eosin.core.settings.rl import Algorithm, AnchorSettings
from eosin.core.settings.stages import RewardSpec, RlStage
from eosin.core.store import artifacts as store
from eosin.train.data.rows import rows_dataset, sft_row
from eosin.train.rl import anchor as room
from eosin.train.rl.anchor import Anchor
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext


def anchor_of(ctx: StageContext, weight: float = 0.5, batch_size: int = 2) -> Anchor:
    rows = rows_dataset(ctx.train, sft_row(GRAMMAR, PROMPT), ctx.pictures(1.0))
    return Anchor(AnchorSettings(weight=weight, batch_size=batch_size), rows, ctx.loaded.processor, ctx.seed)


def test_its_loss_is_the_mean_over_the_tokens_of_the_gold_replies(context: Callable[..., StageContext]) -> None:
    """One row at a time without padding, against the batch of both."""
    ctx = context("rl", num_train=6)
    anchor, model = anchor_of(ctx), ctx.loaded.model.eval()
    rows = anchor.rows_of(0, 0, 1)
    logps = []
    for row in rows:
        shown = anchor._rows[[row]]
        batch = anchor._collate([{key: shown[key][0] for key in shown}])
        labels = batch.pop("labels")[0]
        with torch.no_grad():
            found = torch.log_softmax(model(**batch).logits[0].float(), -1)
        in_loss = (labels[1:] >= 0).nonzero()[:, 0]
        text = ctx.loaded.processor.tokenizer.decode(labels[1:][in_loss])
        assert text.startswith("<think>") and ctx.train[row].reasoning[0] in text
        logps.append(found[in_loss, labels[1:][in_loss]])
    want = -torch.cat(logps).mean()
    assert float(anchor.loss(model, rows, torch.device("cpu")).detach()) == pytest.approx(float(want), rel=1e-4)


@pytest.mark.parametrize("kind", [GroupTrainer, SharedPrefixTrainer])
def test_it_is_added_to_the_policy_loss_with_its_weight(
    kind: type[GroupTrainer], context: Callable[..., StageContext], tmp_path: Path
) -> None:
    ctx = context("rl", num_train=6)
    rows = rows_of(2, 2, [1])
    algorithm = Algorithm.model_validate({"name": "dapo", "dynamic_sampling": False})
    trainer = trainer_of(kind, ctx.loaded, tmp_path, rows, 2, algorithm=algorithm)
    fixed = ragged(len(rows), trainer.eos_token_ids[0])
    trainer._generate_single_turn = lambda ids, *_a, **_k: (fixed[: len(ids)], None)  # type: ignore[method-assign]
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows)
    if isinstance(trainer, SharedPrefixTrainer):
        batch["encoded_prompts"] = trainer._loss_prompts
    anchor = anchor_of(ctx)
    found = {}
    for held in (None, anchor):
        trainer.anchor = held
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        found[held is not None] = (float(loss.detach()), gradient.clone())
    trainer.model.zero_grad()
    gold = anchor.loss(trainer.model, anchor.rows_of(0, 0, 1), torch.device("cpu"))
    (0.5 * gold).backward()
    alone = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
    assert found[True][0] == pytest.approx(found[False][0] + 0.5 * float(gold.detach()), rel=1e-4)
    difference = found[True][1] - found[False][1] - alone
    assert float(difference.norm()) < 1e-3 * float(alone.norm()) and float(alone.norm()) > 0
    assert trainer._metrics["train"]["anchor_loss"] == [pytest.approx(float(gold.detach()), rel=1e-4)]


def test_its_order_follows_from_seed_and_place(
    context: Callable[..., StageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context("rl", num_train=12)
    anchor = anchor_of(ctx, batch_size=3)
    places = [anchor.rows_of(step, part, 2) for step in range(2) for part in range(2)]
    assert sorted(row for rows in places for row in rows) == list(range(12))
    assert places == [anchor_of(ctx, batch_size=3).rows_of(step, part, 2) for step in range(2) for part in range(2)]
    assert anchor.rows_of(2, 0, 2) != places[0] or anchor.rows_of(2, 1, 2) != places[1]
    monkeypatch.setattr(room, "num_ranks", lambda: 2)
    ranks = []
    for number in range(2):
        monkeypatch.setattr(room, "rank", lambda number=number: number)
        ranks.append([row for part in range(2) for row in anchor.rows_of(0, part, 2)])
    assert sorted(ranks[0] + ranks[1]) == list(range(12))


def test_where_rewards_tell_nothing_it_still_teaches(context: Callable[..., StageContext]) -> None:
    """With advantages of 0 and no KL the policy loss has no gradient: what falls is the anchor's alone."""
    ctx = context("rl", num_train=12)
    settings = RlStage(
        steps=8, batch_size=4, num_generations=2, max_new_tokens=8, learning_rate=5e-3, warmup_fraction=0.0,
        algorithm=Algorithm(beta=0.0, mask_truncated=False), rewards=[RewardSpec(name="format", weight=1.0)],
        anchor=AnchorSettings(weight=1.0, batch_size=4), collapse=None, keep="last", log_every=1,
    )  # fmt: skip
    rl.run(settings, ctx)
    losses = [row["anchor_loss"] for row in store.read_jsonl(ctx.metrics_file) if "anchor_loss" in row]
    assert len(losses) == 8 and losses[-1] < 0.8 * losses[0]


def test_a_number_is_its_weight_and_a_chain_is_needed(context: Callable[..., StageContext]) -> None:
    settings = RlStage.model_validate(
        {"steps": 1, "batch_size": 4, "num_generations": 2, "max_new_tokens": 8, "anchor": 0.2, "collapse": None}
    )
    assert settings.anchor == AnchorSettings(weight=0.2)
    ctx = context("bare")
    ctx = replace(ctx, train=[s.model_copy(update={"reasoning": ()}) for s in ctx.train])
    with pytest.raises(EosinError, match="gold chain") as found:
        rl.run(settings, ctx)
    assert found.value.where == "stages.bare.anchor"
