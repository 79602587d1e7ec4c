"""Every private method of TRL that Eosin overrides, and nothing else. tests/train/test_trl_contract.py
fails when the parent changes one of them.

`GroupTrainer` is TRL's GRPO with dynamic sampling, masks and honest counts; the prompt is computed as TRL does it.
`SharedPrefixTrainer` computes prompt and image once a group. Losses, advantages and metrics are TRL's own in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import (
    split_pixel_values_by_grid,
    split_tensor_dict,
    unsplit_pixel_values_by_grid,
)

from eosin.core.errors import EosinError
from eosin.core.settings.rl import Algorithm
from eosin.engines.group_decode import EncodedPrompt, SamplingParams, encode_prompt, sample_groups, uniforms_of
from eosin.engines.numbered import numbered_generate
from eosin.engines.packed_rows import pack
from eosin.engines.reply_automaton import ReplyAutomaton, held_generate
from eosin.models import shared_prefix
from eosin.models.load import placeholder_tokens
from eosin.models.shared_prefix import Backend
from eosin.train.data.order import PromptOrder
from eosin.train.label_head import score_labels_alone
from eosin.train.monitor import StepClock
from eosin.train.packed_loss import packed_logprobs
from eosin.train.rl import gradient_noise
from eosin.train.rl.anchor import Anchor, Anchored
from eosin.train.rl.asking import Asking, AsksAhead
from eosin.train.rl.diagnostics import kl_to_start
from eosin.train.rl.drawing import DrawsGroups
from eosin.train.rl.groups import (
    Group,
    PromptStream,
    RolloutCounts,
    flat,
    normalised_by_step,
    split_by_group,
    tokens_in_loss,
)
from eosin.train.stages.saves import save_folder

Warn = Callable[[str], None]
Decided = Callable[[list[Group], list[Group], list[bool], Tensor, Tensor], None]
Seen = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], None]


class GroupTrainer(DrawsGroups, Anchored, GRPOTrainer):  # type: ignore[misc]
    """TRL's GRPO trainer on whole groups: dynamic sampling, unscored completions out of the loss, timed parts.

    Args:
        clock: gets the seconds of generation and rewards.
        algorithm: whose dynamic sampling and tolerance hold.
        warn: told when a batch could not be filled.
        decided: told of every batch: groups scored, groups chosen, which scored ones have variance, and advantages
            and loss masks of the chosen ones' completions.
        asks: the reward function, where it asks a judge that may read while others are drawn.
        generation_parts: parts in which a generation's replies are then drawn.
        seen: told of every pass of the loss: rows of the batch, their masks, entropies, and KL to the reference.
        noise_every: steps between measurements of the gradient's noise (`gradient_noise`); None for none.
        held: the reply grammar that drawing and loss are held to; None for none.
        anchor: gold replies whose loss is added; None for none.

    Attributes:
        why_plain: why the prompt is not shared, for the record; empty where it is.
        classes: class number of every training row, where the prompts of a step are balanced by class.
    """

    why_plain = ""
    classes: Sequence[int] | None = None

    def __init__(
        self, *args: Any, clock: StepClock, algorithm: Algorithm, warn: Warn = print,
        decided: Decided | None = None, seen: Seen | None = None, noise_every: int | None = None,
        asks: AsksAhead | None = None, generation_parts: int = 1, held: ReplyAutomaton | None = None,
        anchor: Anchor | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.clock, self.anchor = clock, anchor
        self.asking = Asking(asks, clock, generation_parts)
        self.algorithm = algorithm
        self.held = held
        self.counts = RolloutCounts()
        self._warn = warn
        self._decided = decided
        self._tell_seen = seen
        self._noise_every = noise_every
        self._of_loss: tuple[Tensor, Tensor | None] | None = None
        self._ready: list[Group] | None = None
        self._drawing: list[dict[str, Any]] = []
        self._drawn_at, self._times_drawn = -1, Counter[int]()
        self._scored: list[Group] = []
        self._varied: list[bool] = []
        self._seconds_logged: dict[str, float] = {}
        self._tokens_drawn = 0
        self._buffered_inputs: Any = None
        self.parts_to_come = 0  # parts of this step whose rewards are still waited for
        # TRL pads prompts on the left, but takes token types from the processor, which pads as its tokenizer says:
        # with "right", image positions of the shorter prompts of a batch are wrong in the loss, and nothing tells.
        _tokenizer_of(kwargs["processing_class"]).padding_side = "left"
        # First of all callbacks: a save is marked whole by a later one, when everything stands in it.
        kwargs["callbacks"] = [_KeepRolloutState(self), *(kwargs.get("callbacks") or [])]
        super().__init__(*args, **kwargs)
        self.stream = PromptStream(len(self.train_dataset), self.args.seed)
        if held is not None or self.accelerator.device.type == "cpu":
            score_labels_alone(self.base_of(self.model), self.temperature, held)
            if self.ref_model is not None:
                score_labels_alone(self.accelerator.unwrap_model(self.ref_model), self.temperature, held)

    def base_of(self, model: Any) -> Any:
        """The transformers model inside wrappers and adapters."""
        plain = self.accelerator.unwrap_model(model)
        return plain.get_base_model() if hasattr(plain, "get_base_model") else plain

    # -- the two things TRL asks for while it makes a batch: completions and rewards ---------------------------------

    def _generate(self, prompts: list[Any]) -> Any:
        if self._ready is None:
            base = self.base_of(self.model)
            numbered = numbered_generate(base, self._uniforms(), self.temperature)
            with self.clock.timing("generate"), numbered, held_generate(base, self.held):
                return super()._generate(prompts)
        groups = self._ready
        images = None if groups[0].images is None else flat(g.images for g in groups)
        logprobs = None if groups[0].logprobs is None else flat(g.logprobs for g in groups)
        return (
            flat(g.prompt_ids for g in groups), flat(g.completion_ids for g in groups), None,
            flat(g.completions for g in groups), logprobs, {}, images, [],
        )  # fmt: skip

    def _uniforms(self) -> Tensor | None:
        """Numbers that TRL's own drawing follows, one a token of every completion; None where others draw."""
        plain = self._drawing and not self.use_vllm
        seeds = None if not plain else self._seeds_of(len(self._drawing) // self.num_generations)
        return uniforms_of(seeds, self.num_generations, self.max_completion_length)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        if self._ready is None:
            with self.clock.timing("rewards"), self.asking.waiting():
                return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return self.accelerator.gather(torch.cat([g.rewards for g in self._ready]))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return self._finish(self._collect(inputs))

    def _finish(self, groups: list[Group]) -> dict[str, Any]:
        """A batch of scored groups as TRL makes it: padded, with advantages and reference log-probabilities."""
        self._ready = groups
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(self._rows_for_parent(groups))
        finally:
            self._ready = None
        batch = self._without_unscored(batch, groups)
        if self._decided is not None:
            self._decided(self._scored, groups, self._varied, batch["advantages"], batch["completion_mask"].any(1))
        self._scored = []
        batch["row_number"] = torch.arange(len(batch["completion_mask"]))
        if self._measures_noise():
            self._measure_noise(batch)
        return batch

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """TRL's, with the token-level losses divided by the tokens of their own optimiser step."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before or not self.model.training:
            return inputs
        self._buffered_inputs = self._by_step(self._buffered_inputs)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _by_step(self, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        counts = self.accelerator.reduce(tokens_in_loss(parts), "sum")
        return normalised_by_step(parts, counts.tolist(), self.args.gradient_accumulation_steps)

    def _rows_for_parent(self, groups: list[Group]) -> list[dict[str, Any]]:
        return flat(g.rows for g in groups)

    def _get_train_sampler(self, dataset: Any = None) -> PromptOrder:
        """TRL's sampler with an order that follows from seed and epoch, also in a stage resumed in a later epoch."""
        return PromptOrder.like(super()._get_train_sampler(dataset), self.classes)

    # -- looking inside ----------------------------------------------------------------------------------------------

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None, Any]:
        one_image_each(kwargs.pop("batch_num_images", None))
        logps, entropies, extra = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._of_loss = (logps.detach(), entropies)
        return logps, entropies, extra

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        loss: Tensor = super()._compute_loss(model, inputs)
        if self._tell_seen is not None and self._of_loss is not None and "row_number" in inputs:
            logps, entropies = self._of_loss
            start = inputs.get("ref_per_token_logps")
            kl = None if start is None else kl_to_start(logps, start)
            self._tell_seen(inputs["row_number"], inputs["completion_mask"], entropies, kl)
        self._of_loss = None
        return loss

    def _measures_noise(self) -> bool:
        every = self._noise_every
        return bool(every) and self.model.training and self.state.global_step % every == 0

    def _measure_noise(self, batch: dict[str, Any]) -> None:
        """The noise scale of this batch, into the metrics. The loss is the step's own; nothing else is changed."""
        kept, told, self._tell_seen = {k: list(v) for k, v in self._metrics["train"].items()}, self._tell_seen, None
        parts = self._one_group_each(batch)
        scale = self.current_gradient_accumulation_steps
        if self.loss_type in ("dapo", "cispo", "vespo"):  # sums over tokens: the parts add up to the step's loss
            scale = len(parts) * scale / self.args.steps_per_generation

        def loss(part: Any) -> Tensor:
            with self.compute_loss_context_manager():
                found: Tensor = self._compute_loss(self.model, part) * scale
            return found

        try:
            found = gradient_noise.measure(parts, loss, [p for p in self.model.parameters() if p.requires_grad])
        finally:
            self._tell_seen = told
            self._metrics["train"].clear()
            self._metrics["train"].update(kept)
        for name, value in found.items():
            self._metrics["train"][name].append(value)

    def _one_group_each(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        num = len(batch["completion_mask"]) // self.num_generations
        return [unsplit_pixel_values_by_grid(p) for p in split_tensor_dict(split_pixel_values_by_grid(batch), num)]

    # -- masks and logs ------------------------------------------------------------------------------------------

    def _without_unscored(self, batch: dict[str, Any], groups: list[Group]) -> dict[str, Any]:
        """Take completions without any score out of the loss, its normaliser and its KL term."""
        unscored = torch.cat([g.rewards for g in groups]).isnan().all(1)
        if not self._most(int(unscored.any())):
            return batch
        mask = batch["completion_mask"] * (~unscored).unsqueeze(1).to(batch["completion_mask"].dtype)
        return {**batch, "completion_mask": mask, "num_items_in_batch": self.accelerator.gather(mask.sum()).sum()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds tokens a second and the share of time in generation, rewards and loss."""
        if self.model.training:
            logs.update(self._timing())
        super().log(logs, start_time)

    def _timing(self) -> dict[str, float]:
        now = dict(self.clock.seconds)
        kinds = ("generate", "rewards", "judge") if self.asking.reward is not None else ("generate", "rewards")
        spent = {k: now.get(k, 0.0) - self._seconds_logged.get(k, 0.0) for k in ("step", *kinds)}
        self._seconds_logged = now
        tokens, self._tokens_drawn = self._tokens_drawn, 0
        if spent["step"] <= 0:
            return {}
        shares = {f"share_{k}": spent[k] / spent["step"] for k in kinds}
        rest = max(0.0, 1 - sum(shares.values()))
        return {**shares, "share_loss": rest, "tokens_per_second": tokens / spent["step"]}


class _KeepRolloutState(TrainerCallback):  # type: ignore[misc]
    """Saves and restores the counts and the place in the stream of fresh prompts with the trainer's own saves."""

    def __init__(self, trainer: GroupTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step:
            self._trainer.stream.place = self._trainer.counts.load(save_folder(args, state.global_step))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = save_folder(args, state.global_step)
        if folder.is_dir() and state.is_world_process_zero:
            self._trainer.counts.save(folder, self._trainer.stream.place)


class SharedPrefixTrainer(GroupTrainer):
    """The same training with prompt and image computed once a group, in generation and in the loss.

    Args:
        backend: the attention of packed rows.

    Image and video placeholders are never drawn: a completion that wrote one would ask for an image.
    """

    greedy = 0  # completions of each group that take the likeliest token

    def __init__(self, *args: Any, backend: Backend = "split", **kwargs: Any) -> None:
        self.backend = backend
        self._encoded: list[EncodedPrompt] = []
        self._shown: list[Any] | None = None  # what another engine is shown: the pictures of every completion
        self._loss_prompts: list[EncodedPrompt] = []
        self._part_groups: list[Group] = []
        super().__init__(*args, **kwargs)
        self.banned = placeholder_tokens(self.base_of(self.model))
        shared_prefix.enable(self.base_of(self.model))
        if self.ref_model is not None:
            shared_prefix.enable(self.accelerator.unwrap_model(self.ref_model))

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        base = self.base_of(self.model)
        self._encoded, shown = [], []
        for prompt in prompts[:: self.num_generations]:
            ids, images, fields = super()._tokenize_prompts([prompt])
            self._encoded.append(encode_prompt(base, ids[0], fields))
            shown += [images[0] if images else None] * self.num_generations
        self._shown = shown if any(shown) else None
        repeated = [p.ids for p in self._encoded for _ in range(self.num_generations)]
        return repeated, None, {}

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int, has_tool_images: bool = False
    ) -> Any:
        if self.use_vllm:
            return super()._generate_single_turn(prompt_ids, self._shown, {}, num_generations)
        sampling = SamplingParams(
            num_generations, self.max_completion_length, self.temperature, tuple(self.eos_token_ids),
            self._tokenizer.pad_token_id, self.banned, self.held, self._seeds_of(len(self._encoded)), self.greedy,
        )  # fmt: skip
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gather_deepspeed3_params=self.args.ds3_gather_for_generation,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        ) as model:
            drawn = sample_groups(
                model, self._encoded, sampling, self.asking.ended(self._drawing, self.processing_class)
            )
        return drawn.ids, None

    def _uniforms(self) -> Tensor | None:
        return None  # `_generate_single_turn` draws, and takes the seeds itself

    def _encoded_prompts(self) -> list[EncodedPrompt]:
        return self._encoded

    def _rows_for_parent(self, groups: list[Group]) -> list[dict[str, Any]]:
        """Rows without images: the parent would run the processor over every completion's copy of them."""
        self._loss_prompts = [g.prompt for g in groups if g.prompt is not None]
        return [{k: v for k, v in row.items() if k != "images"} for g in groups for row in g.rows]

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        self._buffered_inputs: list[Any] | None
        parts = self.args.steps_per_generation
        if self._step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = self._parts_of(generation_batch, parts)
        place = self._step % parts
        if isinstance(self._buffered_inputs[place], list):
            self.parts_to_come = parts - 1 - place
            self._buffered_inputs[place] = self._score_part(self._buffered_inputs[place])
        return self._buffered_inputs[place]

    def _parts_of(self, rows: list[dict[str, Any]], parts: int) -> list[Any]:
        """A generation in parts for the loss; as groups without rewards where each part may wait for its own."""
        if self.asking.by_part(self.args, self.algorithm) and not self._measures_noise():
            self._part_groups = []
            groups = self._draw(rows)
            size = len(groups) // parts
            return [groups[start : start + size] for start in range(0, len(groups), size)]
        batch = self._generate_and_score_completions(rows)
        prompts = self._loss_prompts
        order = torch.randperm(len(prompts)).tolist()
        return self._by_step(split_by_group(batch, prompts, self.num_generations, order, parts))

    def _score_part(self, groups: list[Group]) -> dict[str, Any]:
        """Wait for the rewards of one part of a step, and make it ready for the loss."""
        self._score(groups)
        self._part_groups += groups
        if not self.parts_to_come:
            self._scored, self._varied = self._part_groups, self._varied_of(self._part_groups)
            self._count(self._part_groups, 1)
        self._scored, self._varied = groups, self._varied_of(groups)
        return {**self._finish(groups), "encoded_prompts": [g.prompt for g in groups]}

    def _one_group_each(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        prompts = self._loss_prompts
        return split_by_group(batch, prompts, self.num_generations, range(len(prompts)), len(prompts))

    def _measure_noise(self, batch: dict[str, Any]) -> None:
        prompts = self._loss_prompts
        super()._measure_noise(batch)
        self._loss_prompts = prompts

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self._loss_prompts = inputs["encoded_prompts"]
        loss: Tensor = super()._compute_loss(model, inputs)
        return loss

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:  # fmt: skip
        num = self.num_generations
        step = max(1, (batch_size or len(input_ids)) // num)
        completions, in_loss = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:].bool()
        found: list[tuple[Tensor, Tensor | None]] = []
        for start in range(0, len(self._loss_prompts), step):
            rows = slice(start * num, (start + step) * num)
            packed = pack(
                self._loss_prompts[start : start + step], completions[rows], in_loss[rows],
                self._tokenizer.pad_token_id, self.backend,
            )  # fmt: skip
            with self.accelerator.autocast():
                found.append(packed_logprobs(model, packed, self.held))
        entropies = torch.cat([e for _, e in found if e is not None]) if compute_entropy else None
        logps = torch.cat([logps for logps, _ in found])
        self._of_loss = (logps.detach(), entropies)
        return logps, entropies, None


def _tokenizer_of(processor: Any) -> Any:
    return getattr(processor, "tokenizer", processor)


def one_image_each(numbers: Any) -> None:
    """TRL's loss does not tell LLaVA-OneVision how many images a prompt has; the model then takes it to be one.

    Raises:
        EosinError: a prompt has several.
    """
    if numbers is not None and bool((torch.as_tensor(numbers) != 1).any()):
        raise EosinError(
            "Prompts with several images cannot be trained on the plain path with this model.",
            expected="one image a prompt", found=f"{int(torch.as_tensor(numbers).max())} images",
            next_step="take fast_path: auto, which shares the prompt",
        )  # fmt: skip
