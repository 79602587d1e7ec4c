"""Replies that another engine draws (vLLM, by TRL's interface): settings, pictures, log-probabilities, checks.

vLLM itself needs a GPU. An engine of ours with the same two methods stands in its place and draws real replies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.train.conftest import new_model
from tests.train.test_shared_prefix import rows_of, trainer_of

from eosin.core.errors import EosinError
from eosin.core.settings.rl import Algorithm, Vllm
from eosin.core.settings.stages import RlStage
from eosin.engines.group_decode import SamplingParams, sample_groups
from eosin.models import shared_prefix
from eosin.models.load import Loaded
from eosin.train.rl import preflight
from eosin.train.rl.trl_overrides import SharedPrefixTrainer
from eosin.train.stages.rl import vllm_arguments

NUM = 4


class Engine:
    """`sync_weights` and `generate` as TRL's VLLMGeneration has them; draws with a model of its own."""

    def __init__(self, trainer: Any, loaded: Loaded, syncs: bool = True) -> None:
        self.trainer, self.loaded, self.syncs = trainer, loaded, syncs
        self.synced = 0
        self.shown: list[Any] = []

    def sync_weights(self) -> None:
        self.synced += 1
        if self.syncs:
            self.loaded.model.load_state_dict(self.trainer.accelerator.unwrap_model(self.trainer.model).state_dict())

    def generate(self, prompts: Any, images: Any, num_generations: int, profiler: Any = None) -> Any:
        self.shown.append(images)
        base, rows = self.loaded.model, range(0, len(prompts), num_generations)
        message = [{"type": "image"}, {"type": "text", "text": "x"}]
        encoded = []
        for i in rows:
            row = {"prompt": [{"role": "user", "content": message}], "images": images[i]}
            prompt = preflight.encode_row(base, self.loaded.processor, row, images[i])
            kinds = [[int(t == base.config.image_token_id) for t in prompts[i]]]
            fields = {**prompt.pixels, "mm_token_type_ids": kinds}
            encoded.append(preflight.encode_prompt(base, prompts[i], fields))
        shared_prefix.enable(base)
        sampling = SamplingParams(num_generations, self.trainer.max_completion_length, self.trainer.temperature,
                                  tuple(self.trainer.eos_token_ids), self.trainer._tokenizer.pad_token_id,
                                  self.trainer.banned)  # fmt: skip
        drawn = sample_groups(base, encoded, sampling)
        return prompts, drawn.ids, [[[p] for p in row] for row in drawn.logprobs], None


def with_engine(folder: Path, syncs: bool = True) -> tuple[SharedPrefixTrainer, Engine, list[dict[str, Any]]]:
    rows = rows_of(4, NUM, [1])
    trainer = trainer_of(SharedPrefixTrainer, new_model(), folder, rows, NUM, algorithm=Algorithm(beta=0.0))
    trainer.use_vllm, trainer.vllm_mode, trainer._last_loaded_step = True, "server", -1
    trainer.vllm_importance_sampling_correction = False
    engine = Engine(trainer, new_model(seed=1 if not syncs else 0), syncs)
    trainer.vllm_generation = engine
    return trainer, engine, rows


def test_the_words_are_trl_s() -> None:
    from trl import GRPOConfig

    said = vllm_arguments(Vllm.model_validate({"mode": "server", "url": "http://h:8000", "correction": False}), [7, 9])
    assert set(said) <= set(GRPOConfig.__dataclass_fields__)
    assert said["vllm_server_base_url"] == "http://h:8000" and said["vllm_mode"] == "server"
    assert said["generation_kwargs"] == {"logit_bias": {7: -100.0, 9: -100.0}}
    assert vllm_arguments(None, [7]) == {}
    assert RlStage.model_validate({"vllm": "colocate"}).vllm == Vllm(mode="colocate")
    for wrong in ({"mode": "server"}, {"mode": "colocate", "url": "http://h"}, {"memory_share": 1.5}):
        with pytest.raises(ValidationError):
            Vllm.model_validate(wrong)


def test_pictures_and_log_probabilities_go_there_and_back(tmp_path: Path) -> None:
    trainer, engine, rows = with_engine(tmp_path)
    groups = trainer._draw(rows[: 2 * NUM])
    assert engine.synced == 1
    assert all(len(shown) == 1 for shown in engine.shown[0]) and len(engine.shown[0]) == 2 * NUM
    for group in groups:
        assert group.logprobs is not None and group.images is None
        assert [len(own) for own in group.logprobs] == [len(own) for own in group.completion_ids]


def test_the_checks_hold_for_that_engine_and_find_other_weights(tmp_path: Path) -> None:
    trainer, engine, rows = with_engine(tmp_path / "good")
    checks = preflight.check(trainer, rows[::NUM], None, shared=True)
    assert engine.synced == 1 and checks.round_trip < 1e-4 and checks.sight is not None
    preflight.refuse(checks, "stages.rl")
    trainer, engine, rows = with_engine(tmp_path / "other", syncs=False)
    with torch.no_grad():
        for parameter in engine.loaded.model.parameters():
            parameter.mul_(2.0)
    checks = preflight.check(trainer, rows[::NUM], None, shared=True)
    with pytest.raises(EosinError, match="do not see the same thing"):
        preflight.refuse(checks, "stages.rl")
