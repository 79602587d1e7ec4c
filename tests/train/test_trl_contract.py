"""What Eosin relies on in TRL. A failure here says: read the new source before moving the pin."""

from __future__ import annotations

import inspect

from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from eosin.train.trl_overrides import TimedGRPOTrainer

OVERRIDDEN = {
    "_generate": ["self", "prompts"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
}


def test_overridden_methods_have_the_known_signature() -> None:
    for name, parameters in OVERRIDDEN.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters


def test_only_listed_private_methods_are_overridden() -> None:
    own = {n for n in vars(TimedGRPOTrainer) if n.startswith("_") and not n.startswith("__")}
    assert own & set(dir(GRPOTrainer)) == set(OVERRIDDEN)


def test_parent_calls_the_overridden_methods() -> None:
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "self._generate(" in source
    assert "self._calculate_rewards(" in source


def test_rewards_still_receive_the_logging_function_and_columns() -> None:
    source = inspect.getsource(GRPOTrainer._calculate_rewards)
    for word in ("log_metric", "log_extra", "completion_ids=", "reward_kwargs"):
        assert word in source


def test_arguments_that_recipes_set_exist() -> None:
    grpo = {
        "beta", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "num_iterations", "num_generations",
        "mask_truncated_completions", "max_completion_length", "steps_per_generation", "disable_dropout", "top_k",
    }  # fmt: skip
    assert grpo <= set(inspect.signature(GRPOConfig).parameters)
    assert {"completion_only_loss", "max_length"} <= set(inspect.signature(SFTConfig).parameters)
    assert "processing_class" in inspect.signature(SFTTrainer).parameters
