"""The checks before the first step pass on a sound model and catch the faults they are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.conftest import new_model
from tests.train.test_shared_prefix import rows_of, trainer_of

from eosin.core.errors import EosinError
from eosin.core.settings.rl import Algorithm
from eosin.core.settings.stages import Lora, RewardSpec, RlStage
from eosin.models import shared_prefix
from eosin.train.rl import preflight
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext

SHARED = [pytest.param(GroupTrainer, id="plain"), pytest.param(SharedPrefixTrainer, id="shared")]


def made(kind: type[GroupTrainer], folder: Path, **changes: Any) -> tuple[GroupTrainer, list[dict[str, Any]]]:
    rows = rows_of(3, 2, [1, 2])
    algorithm = Algorithm.model_validate({"name": "dapo"})
    return trainer_of(kind, new_model(), folder, rows, 2, algorithm=algorithm, **changes), rows[::2]


def run(trainer: GroupTrainer, rows: list[dict[str, Any]]) -> preflight.Checks:
    return preflight.check(trainer, rows, None, shared=isinstance(trainer, SharedPrefixTrainer))


@pytest.mark.parametrize("kind", SHARED)
def test_a_sound_model_passes_and_says_so(tmp_path: Path, kind: type[GroupTrainer]) -> None:
    trainer, rows = made(kind, tmp_path)
    checks = run(trainer, rows)
    preflight.refuse(checks, "stages.rl")
    assert checks.round_trip < 1e-5 and checks.ratio < 1e-5 and checks.sight is not None and checks.sight > 1e-4
    assert (checks.shared is not None and checks.shared < 1e-5) == (kind is SharedPrefixTrainer)
    assert "generator against trainer" in checks.line() and checks.num_tokens > 3
    base = trainer.accelerator.unwrap_model(trainer.model)
    assert shared_prefix.is_enabled(base) == (kind is SharedPrefixTrainer)


def test_an_image_that_the_trainer_sees_otherwise_is_caught(tmp_path: Path) -> None:
    """The generator reads one image, the loss another: what silent corruption of images looks like."""
    trainer, rows = made(SharedPrefixTrainer, tmp_path)
    probe = preflight._Probe
    original = probe._shared

    def corrupted(self: Any, ids: list[list[int]]) -> list[torch.Tensor]:
        for prompt in self.prompts:
            prompt.pixels["pixel_values"].mul_(-1)
        return original(self, ids)

    probe._shared = corrupted  # type: ignore[method-assign]
    try:
        checks = run(trainer, rows)
    finally:
        probe._shared = original  # type: ignore[method-assign]
    with pytest.raises(EosinError, match="do not see the same thing"):
        preflight.refuse(checks, "stages.rl")


@pytest.mark.parametrize("kind", SHARED)
def test_a_policy_that_does_not_see_is_refused(tmp_path: Path, kind: type[GroupTrainer]) -> None:
    trainer, rows = made(kind, tmp_path)
    with torch.no_grad():
        for parameter in trainer.model.model.visual.merger.parameters():
            parameter.zero_()
    checks = run(trainer, rows)
    assert checks.sight is not None and checks.sight < 1e-6
    with pytest.raises(EosinError, match="does not see the image"):
        preflight.refuse(checks, "stages.rl")


def test_dropout_between_two_passes_is_refused(tmp_path: Path) -> None:
    trainer, rows = made(GroupTrainer, tmp_path)
    layer = trainer.model.model.language_model.layers[0].mlp.down_proj
    layer.register_forward_hook(lambda m, _i, out: torch.nn.functional.dropout(out, 0.1, training=m.training))
    checks = run(trainer, rows)
    assert checks.ratio > 1e-4
    with pytest.raises(EosinError, match="ratio before the first update is not 1"):
        preflight.refuse(preflight.Checks(**{**checks.__dict__, "round_trip": 0.0}), "stages.rl")


def test_a_stage_prints_and_records_its_checks(
    context: Callable[..., StageContext], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = RlStage(
        steps=1, batch_size=8, num_generations=4, max_new_tokens=8, rewards=[RewardSpec(name="format")],
        algorithm=Algorithm(beta=0.0), collapse=None, freeze=["vision"],
    )  # fmt: skip
    result = rl.run(settings, context("rl"))
    assert result.extra["checks"]["round_trip"] < 1e-5
    assert "shared by its group" in result.extra["path"]
    err = capsys.readouterr().err
    assert "ratio - 1 " in err and "prompt shared by its group, split attention" in err


def test_lora_dropout_is_switched_off_in_rl(context: Callable[..., StageContext]) -> None:
    settings = RlStage(
        steps=1, batch_size=4, num_generations=4, max_new_tokens=4, rewards=[RewardSpec(name="format")],
        algorithm=Algorithm(), collapse=None, lora=Lora(r=2, dropout=0.5),
    )  # fmt: skip
    assert rl.run(settings, context("rl")).extra["checks"]["ratio"] < 1e-5


def test_fast_path_on_refuses_a_model_that_does_not_allow_it(context: Callable[..., StageContext]) -> None:
    ctx = context("rl")
    ctx.loaded.model.config.text_config._attn_implementation = "flash_attention_2"
    settings = RlStage(steps=1, batch_size=4, num_generations=4, fast_path="on", rewards=[RewardSpec(name="format")])
    with pytest.raises(EosinError, match="cannot be shared with this model"):
        rl.run(settings, ctx)
