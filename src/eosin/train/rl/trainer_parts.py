"""What the GRPO trainers stand on and TRL has no part in: order of prompts by epoch, counts in saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import TrainerCallback
from trl.trainer.utils import RepeatSampler

from eosin.train.rl import gradient_noise
from eosin.train.rl.groups import Group
from eosin.train.stages.saves import save_folder


class EpochSampler(RepeatSampler):  # type: ignore[misc]
    """TRL draws epoch after epoch from one generator, which a resumed run begins anew. The first epoch is TRL's own."""

    @classmethod
    def like(cls, sampler: RepeatSampler) -> EpochSampler:
        """The same sampler with this order."""
        return cls(
            sampler.data_source, sampler.mini_repeat_count, sampler.batch_size, sampler.repeat_count, sampler.shuffle,
            sampler.seed,
        )  # fmt: skip

    def set_epoch(self, epoch: int) -> None:
        if self.shuffle and self.seed is not None:
            self.generator.manual_seed(self.seed + epoch)


class KeepRolloutState(TrainerCallback):  # type: ignore[misc]
    """Saves and restores the counts and the place in the stream of fresh prompts with the trainer's own saves."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step:
            self._trainer.stream.place = self._trainer.counts.load(save_folder(args, state.global_step))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = save_folder(args, state.global_step)
        if folder.is_dir() and state.is_world_process_zero:
            self._trainer.counts.save(folder, self._trainer.stream.place)


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer of a processor, or the tokenizer itself."""
    return getattr(processor, "tokenizer", processor)


def flat(parts: Any) -> list[Any]:
    """Lists in one list."""
    return [value for part in parts for value in part]


def step_shares(
    now: Mapping[str, float], before: Mapping[str, float], tokens: int, *, judged: bool
) -> dict[str, float]:
    """Shares of the time of the steps since `before` by what it was spent on, and tokens drawn a second.

    Args:
        now, before: seconds so far by kind, "step" among them.
        judged: whether waiting for a judge has a share of its own; what is left over is the loss.
    """
    kinds = ("generate", "rewards", "judge") if judged else ("generate", "rewards")
    spent = {k: now.get(k, 0.0) - before.get(k, 0.0) for k in ("step", *kinds)}
    if spent["step"] <= 0:
        return {}
    shares = {f"share_{k}": spent[k] / spent["step"] for k in kinds}
    rest = max(0.0, 1 - sum(shares.values()))
    return {**shares, "share_loss": rest, "tokens_per_second": tokens / spent["step"]}


def measure_noise(trainer: Any, parts: Sequence[Any]) -> dict[str, float]:
    """The noise scale of a batch in its groups. Metrics that the loss writes on its way are undone."""
    kept = {k: list(v) for k, v in trainer._metrics["train"].items()}
    scale = trainer.current_gradient_accumulation_steps
    if trainer.loss_type in ("dapo", "cispo", "vespo"):  # sums over tokens: the parts add up to the step's loss
        scale = len(parts) * scale / trainer.args.steps_per_generation

    def loss(part: Any) -> Tensor:
        with trainer.compute_loss_context_manager():
            found: Tensor = trainer._compute_loss(trainer.model, part) * scale
        return found

    told, trainer._tell_seen = trainer._tell_seen, None
    try:
        return gradient_noise.measure(parts, loss, [p for p in trainer.model.parameters() if p.requires_grad])
    finally:
        trainer._tell_seen = told
        trainer._metrics["train"].clear()
        trainer._metrics["train"].update(kept)


def varied_first(groups: Sequence[Group], varied: Sequence[bool]) -> list[Group]:
    """Groups whose rewards vary, then the others, each in its order."""
    pairs = list(zip(groups, varied, strict=True))
    return [g for g, has in pairs if has] + [g for g, has in pairs if not has]
