"""A model whose weights, gradients or optimiser are shared out over processes: FSDP and DeepSpeed, as the Trainer takes
them, and whole weights out of such a model."""

from __future__ import annotations

from typing import Any

from accelerate import DistributedType, PartialState

from eosin.core.settings.launch import Launch


def sharding_arguments(launch: Launch, model: Any) -> dict[str, Any]:
    """Arguments of the trainer for a launch; empty where each process holds the whole model."""
    if launch.kind == "fsdp":
        config: dict[str, Any] = {
            "version": 2, "reshard_after_forward": launch.shard == "all", "cpu_offload": launch.offload,
            "state_dict_type": "FULL_STATE_DICT",
        }  # fmt: skip
        layers = layer_classes(model)
        if layers:
            config["transformer_layer_cls_to_wrap"] = layers
        return {"fsdp": True, "fsdp_config": config}
    if launch.kind == "deepspeed":
        return {"deepspeed": deepspeed_config(launch)}
    return {}


def share_out_on_cpu(launch: Launch) -> None:
    """Let FSDP share a model out over processes without GPUs: between a trainer's arguments and the trainer.

    accelerate takes FSDP on accelerators alone, and on CPUs goes on with whole models without a word. It asks the type
    of its processes, which is told otherwise here; nothing else of it looks at that before FSDP stands in its place.
    """
    state = PartialState._shared_state
    if launch.kind == "fsdp" and state.get("distributed_type") == DistributedType.MULTI_CPU:
        state["distributed_type"] = DistributedType.MULTI_GPU


def layer_classes(model: Any) -> list[str]:
    """Names of the classes of layers that are sharded one by one: those that transformers says must stay whole, where
    the model has any of them."""
    there = {type(m).__name__ for m in model.modules()}
    return sorted(set(getattr(model, "_no_split_modules", None) or ()) & there)


def deepspeed_config(launch: Launch) -> dict[str, Any]:
    """DeepSpeed's settings; "auto" is filled in by the Trainer from its own arguments."""
    zero: dict[str, Any] = {
        "stage": 3 if launch.shard == "all" else 2, "overlap_comm": True, "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
    }  # fmt: skip
    if launch.shard == "all":
        zero |= {
            "stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }  # fmt: skip
    if launch.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if launch.shard == "all":
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        "bf16": {"enabled": "auto"}, "zero_optimization": zero, "gradient_clipping": "auto",
        "gradient_accumulation_steps": "auto", "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto",
    }  # fmt: skip


def whole_weights(trainer: Any, launch: Launch) -> dict[str, Any] | None:
    """All weights by name, on the host of the first process. Every process must call it: they hold parts of it.

    None where each process holds the whole model anyway.
    """
    if launch.sharding == "none":
        return None
    found: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return found
