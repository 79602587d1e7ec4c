"""Every private method of TRL that Eosin overrides, and nothing else. tests/train/test_trl_contract.py
fails when the parent changes one of them."""

from __future__ import annotations

from typing import Any

from trl import GRPOTrainer

from eosin.train.monitor import StepClock


class TimedGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer that tells how long generation and rewards take. The numbers are TRL's own."""

    def __init__(self, *args: Any, clock: StepClock, **kwargs: Any) -> None:
        self._clock = clock
        super().__init__(*args, **kwargs)

    def _generate(self, prompts: list[Any]) -> Any:
        with self._clock.timing("generate"):
            return super()._generate(prompts)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        with self._clock.timing("rewards"):
            return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
