"""What Eosin relies on in TRL and transformers. A failure here says: read the new source before moving the pin."""

from __future__ import annotations

import inspect

import pytest
import trl
from accelerate import PartialState
from accelerate.state import AcceleratorState
from packaging.version import Version
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLAttention,
    Qwen2_5_VLModel,
    Qwen2_5_VLTextModel,
)
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.utils import add_fused_lm_head

from eosin.train.data.order import OrderedTrainer
from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer

BOTH = {
    "_prepare_inputs": ["self", "generation_batch"],
    "_compute_loss": ["self", "model", "inputs"],
    "_get_per_token_logps_and_entropies": [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
        "compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes",
        "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
    ],
}  # fmt: skip
GROUP = {
    "_generate": ["self", "prompts"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_get_train_sampler": ["self", "dataset"],
    **BOTH,
}  # fmt: skip
SHARED = {
    "_tokenize_prompts": ["self", "prompts"],
    "_generate_single_turn": [
        "self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images",
    ],
    **BOTH,
}  # fmt: skip


def source(name: str) -> str:
    return inspect.getsource(getattr(GRPOTrainer, name))


def test_the_pinned_range() -> None:
    assert Version("1.16") <= Version(trl.__version__) < Version("1.17")


@pytest.mark.parametrize(("kind", "overridden"), [(GroupTrainer, GROUP), (SharedPrefixTrainer, SHARED)])
def test_overridden_methods_have_the_known_signature(kind: type, overridden: dict[str, list[str]]) -> None:
    for name, parameters in overridden.items():
        assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == parameters, name
    own = {n for n in vars(kind) if n.startswith("_") and not n.startswith("__")}
    assert own & set(dir(GRPOTrainer)) == set(overridden)


def test_the_parent_asks_for_completions_rewards_and_log_probabilities_where_it_did() -> None:
    text = source("_generate_and_score_completions")
    assert text.count("self._generate(") == 1 and text.count("self._calculate_rewards(") == 1
    assert text.count("self._get_per_token_logps_and_entropies(") == 3  # old, reference model, reference adapter
    assert "extra_fields,\n            images,\n            tool_images,\n        ) = self._generate(prompts)" in text
    assert "images = dataset_images" in text and "process_slice" in text
    assert "self._generate_single_turn(" in source("_generate") and "self._tokenize_prompts(" in source("_generate")
    assert "self._get_per_token_logps_and_entropies(" in source("_compute_loss")


def test_the_batch_that_is_split_by_group_holds_what_it_held() -> None:
    text = source("_generate_and_score_completions")
    for key in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", "num_items_in_batch"):
        assert f'"{key}": ' in text
    buffered = source("_prepare_inputs")
    assert "self._step % generate_every == 0 or self._buffered_inputs is None" in buffered
    assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in buffered


def test_advantages_and_truncation_are_computed_as_eosin_says() -> None:
    text = source("_generate_and_score_completions")
    assert "advantages = advantages / (std_rewards + 1e-4)" in text
    assert "completion_mask = completion_mask * (~is_truncated).unsqueeze(1).int()" in text
    assert "unscorable_mask = torch.isnan(rewards_per_func).all(dim=1)" in text


def test_token_level_losses_divide_by_the_mean_step_of_the_generation() -> None:
    """What GroupTrainer makes the step's own tokens of."""
    text = source("_compute_loss")
    assert 'normalizer = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes' in text
    assert "normalizer = normalizer * self.current_gradient_accumulation_steps / self.args.steps_per_generation" in text


def test_token_types_still_come_from_the_processor() -> None:
    """Why GroupTrainer pads on the left."""
    text = source("_generate_and_score_completions")
    assert "self.processing_class(images=images, text=prompts_text, padding=True, return_tensors=" in text


def test_rewards_still_receive_the_logging_function_and_columns() -> None:
    for word in ("log_metric", "log_extra", "completion_ids=", "reward_kwargs"):
        assert word in source("_calculate_rewards")


def test_the_fused_head_takes_labels_that_stand_where_they_are_predicted() -> None:
    text = inspect.getsource(add_fused_lm_head)
    assert "shift_labels" in text and "last_hidden_state" in text
    assert {"temperature", "outputs"} <= set(inspect.signature(add_fused_lm_head).parameters)


def test_the_text_model_passes_a_mapping_of_masks_through_and_the_layer_gives_its_index() -> None:
    assert "isinstance(causal_mask_mapping := attention_mask, dict)" in inspect.getsource(Qwen2_5_VLTextModel.forward)
    attention = inspect.getsource(Qwen2_5_VLAttention)
    assert "self.layer_idx = layer_idx" in attention and "ALL_ATTENTION_FUNCTIONS.get_interface(" in attention
    for parent, names in (
        (Qwen2_5_VLModel.forward, {"input_ids", "attention_mask", "position_ids", "pixel_values", "image_grid_thw"}),
        (Qwen2_5_VLForConditionalGeneration.forward, {"logits_to_keep"}),
        (Qwen2_5_VLModel.get_rope_index, {"input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask"}),
        (sdpa_attention_forward, {"module", "query", "key", "value", "attention_mask"}),
    ):
        assert names <= set(inspect.signature(parent).parameters)


def test_arguments_that_recipes_set_exist() -> None:
    grpo = {
        "beta", "epsilon", "epsilon_high", "loss_type", "scale_rewards", "num_iterations", "num_generations",
        "mask_truncated_completions", "max_completion_length", "steps_per_generation", "disable_dropout", "top_k",
        "importance_sampling_level", "generation_kwargs",
    }  # fmt: skip
    assert grpo <= set(inspect.signature(GRPOConfig).parameters)
    assert {"completion_only_loss", "max_length"} <= set(inspect.signature(SFTConfig).parameters)
    assert "processing_class" in inspect.signature(SFTTrainer).parameters


def test_the_trainer_asks_for_its_order_where_ours_is_given() -> None:
    """`OrderedTrainer` overrides this alone; the epoch's readers begin after the callbacks were told of the epoch."""
    own = {n for n in vars(OrderedTrainer) if n.startswith("_") and not n.startswith("__")}
    assert own == {"_get_train_sampler"}
    assert list(inspect.signature(SFTTrainer._get_train_sampler).parameters) == ["self", "train_dataset"]
    loader = inspect.getsource(SFTTrainer.get_train_dataloader)
    assert "self._get_train_sampler" in loader and "self.train_dataset" in loader
    loop = inspect.getsource(SFTTrainer._inner_training_loop)
    assert loop.index("callback_handler.on_epoch_begin") < loop.index("self._run_epoch(")
    assert "iter(train_dataloader)" in inspect.getsource(SFTTrainer._run_epoch)


def test_accelerate_asks_the_type_of_its_processes_before_it_takes_fsdp() -> None:
    """`stages.sharding.share_out_on_cpu` tells it otherwise on CPUs, which are not in its list."""
    text = inspect.getsource(AcceleratorState.__init__)
    assert "self.distributed_type in [" in text and "DistributedType.MULTI_CPU" not in text
    assert "self.distributed_type = DistributedType.FSDP" in text
    assert isinstance(PartialState._shared_state, dict)
