"""What is checked before the first step of reinforcement learning, on real prompts with real images.

1. Round trip: the generator's log-probabilities of its own completions against the trainer's. A wrong image, a wrong
   position or another template shows here and nowhere else.
2. Sight: with blank images in place of the real ones the log-probabilities must change.
3. Ratio: two passes over the same completions with the same weights must agree but for rounding, so that the
   probability ratio of the first update is 1.
4. Shared path: its log-probabilities against plain TRL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from trl.data_utils import prepare_multimodal_messages

from eosin.core.errors import EosinError
from eosin.core.nouns.bags import PatchBag
from eosin.engines.group_decode import EncodedPrompt, SamplingParams, encode_prompt, sample_groups
from eosin.engines.packed_rows import pack
from eosin.engines.reply_automaton import held_generate
from eosin.models import shared_prefix
from eosin.train.packed_loss import packed_logprobs

NUM_PROMPTS = 3
ROUNDING = 1e-5  # nats or a ratio in fp32: what another address in memory or another kernel changes stays far below


@dataclass(frozen=True)
class Checks:
    """Largest absolute differences of log-probabilities a token, in nats.

    Attributes:
        round_trip: generator against trainer.
        sight: real against blank images; no more than rounding says that the model does not see. None where there is
            no image.
        ratio: |probability ratio - 1| of two passes with the same weights.
        shared: shared against plain path; None on the plain path.
        tolerance: of the round trip and of the shared path.
        ratio_tolerance: rounding in fp32; in 16 bits a pass with and one without gradients may run other kernels.
    """

    round_trip: float
    sight: float | None
    ratio: float
    shared: float | None
    tolerance: float
    num_tokens: int
    ratio_tolerance: float = ROUNDING

    def line(self) -> str:
        """One line to print."""
        sight = "no image" if self.sight is None else f"{self.sight:.1e}"
        shared = "" if self.shared is None else f", shared against plain {self.shared:.1e}"
        return (
            f"checks on {self.num_tokens} sampled tokens (largest difference, nats): generator against trainer "
            f"{self.round_trip:.1e}, blank image {sight}, ratio - 1 {self.ratio:.1e}{shared}; "
            f"tolerance {self.tolerance:.0e}"
        )


def default_tolerance(dtype: torch.dtype, mixed: bool) -> float:
    """1e-3 nats in fp32; 5e-2 where weights or passes are in 16 bits."""
    return 1e-3 if dtype == torch.float32 and not mixed else 5e-2


@torch.no_grad()
def check(trainer: Any, rows: Sequence[dict[str, Any]], tolerance: float | None, *, shared: bool) -> Checks:
    """Run all checks on a few rows of the training data.

    Args:
        trainer: a GroupTrainer; its model is not changed.
        shared: whether the trainer computes the prompt once a group.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    probe = _Probe(trainer, model, base, [dict(r) for r in rows[:NUM_PROMPTS]])
    limit = tolerance or default_tolerance(base.dtype, trainer.args.bf16 or trainer.args.fp16)
    was_shared, was_training = shared_prefix.is_enabled(base), model.training
    model.train()
    try:
        return probe.run(limit, shared)
    finally:
        model.train(was_training)
        (shared_prefix.enable if was_shared else shared_prefix.disable)(base)


def encode_row(model: Any, processor: Any, row: dict[str, Any], images: list[Any]) -> EncodedPrompt:
    """The prompt of a row of the training data, with these images in the places of its own."""
    message = prepare_multimodal_messages(row["prompt"], images=images)
    inputs = processor.apply_chat_template(
        conversation=[message], tokenize=True, add_generation_prompt=True, return_dict=True
    )
    fields = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}
    return encode_prompt(model, inputs["input_ids"][0], fields)


class _Probe:
    def __init__(self, trainer: Any, model: Any, base: Any, rows: list[dict[str, Any]]) -> None:
        self.trainer, self.model, self.base, self.rows = trainer, model, base, rows
        self.pad = trainer._tokenizer.pad_token_id
        self.ends = tuple(trainer.eos_token_ids)
        self.prompts = [self._encode(r, r["images"]) for r in rows]

    def _encode(self, row: dict[str, Any], images: list[Any]) -> EncodedPrompt:
        return encode_row(self.base, self.trainer.processing_class, row, images)

    def run(self, tolerance: float, shared: bool) -> Checks:
        ids, drawn = self._sample(shared)
        plain = self._plain(self.prompts, ids)
        ours = self._shared(ids) if shared else plain
        with torch.enable_grad():  # as in the loss
            again = self._shared(ids) if shared else self._plain(self.prompts, ids)
        again = [a.detach() for a in again]
        blank = self._plain([self._encode(r, [_blank(i) for i in r["images"]]) for r in self.rows], ids)
        mixed = self.trainer.args.bf16 or self.trainer.args.fp16
        return Checks(
            round_trip=_worst(drawn, ours),
            sight=_worst(plain, blank) if any(r["images"] for r in self.rows) else None,
            ratio=max(float(((a - b).exp() - 1).abs().max()) for a, b in zip(ours, again, strict=True)),
            shared=_worst(plain, ours) if shared else None,
            tolerance=tolerance,
            num_tokens=sum(map(len, ids)),
            ratio_tolerance=ROUNDING if self.base.dtype == torch.float32 and not mixed else tolerance,
        )

    def _length(self) -> int:
        return min(32, int(self.trainer.max_completion_length))

    def _sample(self, shared: bool) -> tuple[list[list[int]], list[Tensor]]:
        """One completion of every prompt by the engine that will draw them, and its log-probabilities."""
        if self.trainer.use_vllm:
            return self._sample_vllm()
        return self._sample_shared() if shared else self._sample_plain()

    def _sample_vllm(self) -> tuple[list[list[int]], list[Tensor]]:
        """With the policy's own weights, sent there first; the first tokens of each reply are looked at."""
        engine, size = self.trainer.vllm_generation, self._length()
        engine.sync_weights()
        shown = [list(r["images"]) or None for r in self.rows]
        _, ids, logprobs, _ = engine.generate(
            prompts=[list(p.ids) for p in self.prompts], images=shown if any(shown) else None, num_generations=1
        )
        return [own[:size] for own in ids], [torch.tensor([t[0] for t in own[:size]]) for own in logprobs]

    def _sample_shared(self) -> tuple[list[list[int]], list[Tensor]]:
        shared_prefix.enable(self.base)
        sampling = SamplingParams(2, self._length(), self.trainer.temperature, self.ends, self.pad, self.trainer.banned,
                                  self.trainer.held)  # fmt: skip
        drawn = sample_groups(self.model, self.prompts, sampling)
        return drawn.ids[::2], [torch.tensor(row) for row in drawn.logprobs[::2]]

    def _sample_plain(self) -> tuple[list[list[int]], list[Tensor]]:
        """As TRL generates: transformers' own generate, one prompt at a time."""
        ids, logps = [], []
        held = self.trainer.held
        for prompt in self.prompts:
            inputs = self._inputs(prompt, [])
            with held_generate(self.base, held):
                out = self.model.generate(
                    **inputs, generation_config=self.trainer.generation_config, max_new_tokens=self._length(),
                    return_dict_in_generate=True, output_logits=True,
                )  # fmt: skip
            new = out.sequences[0, len(prompt.ids) :]
            logits = torch.stack(out.logits, 1)[0].float() / self.trainer.temperature
            if held is not None:
                own = held.to(logits.device)
                logits = logits.masked_fill(~own.may[own.states(new[None])[0]], -torch.inf)
            ids.append(new.tolist())
            logps.append(torch.log_softmax(logits, -1).gather(1, new[:, None])[:, 0].cpu())
        return ids, logps

    def _inputs(self, prompt: EncodedPrompt, completion: list[int]) -> dict[str, Any]:
        where = self.base.device
        tokens = torch.tensor([[*prompt.ids, *completion]], device=where)
        inputs: dict[str, Any] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **prompt.pixels}
        for name, kinds in prompt.kinds.items():
            inputs[name] = torch.cat((kinds, kinds.new_zeros(1, len(completion))), 1)
        return inputs

    def _plain(self, prompts: list[EncodedPrompt], ids: list[list[int]]) -> list[Tensor]:
        """The trainer's log-probabilities as TRL computes them, one completion at a time, ordinary attention."""
        shared_prefix.disable(self.base)
        found = []
        for prompt, own in zip(prompts, ids, strict=True):
            inputs = self._inputs(prompt, own)
            labels = inputs["input_ids"].clone()
            labels[:, : len(prompt.ids)] = -100
            with self.trainer.accelerator.autocast():
                out = self.model(**inputs, labels=labels, fused_lm_head=True)
            found.append(out.log_probs[0, -len(own) :].float().cpu())
        return found

    def _shared(self, ids: list[list[int]]) -> list[Tensor]:
        """The same on the shared path: all prompts in one batch, every completion twice."""
        shared_prefix.enable(self.base)
        size = max(map(len, ids))
        rows = [own + [self.pad] * (size - len(own)) for own in ids for _ in range(2)]
        real = [[True] * len(own) + [False] * (size - len(own)) for own in ids for _ in range(2)]
        where = self.base.device
        packed = pack(
            self.prompts, torch.tensor(rows, device=where), torch.tensor(real, device=where), self.pad,
            self.trainer.backend,
        )  # fmt: skip
        with self.trainer.accelerator.autocast():
            logps, _ = packed_logprobs(self.model, packed, self.trainer.held)
        return [logps[2 * i, : len(own)].float().cpu() for i, own in enumerate(ids)]


def _blank(image: Any) -> Any:
    """A white image of the same size; the same places without any content."""
    from PIL import Image

    if isinstance(image, PatchBag):
        return image.blank()
    return Image.new("RGB", image.size, (255, 255, 255))


def _worst(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


def refuse(checks: Checks, where: str) -> None:
    """Stop where a check fails; `shared` is not judged here, because the plain path can take over."""
    if not checks.round_trip <= checks.tolerance:
        raise EosinError(
            "The generator and the trainer do not see the same thing: their log-probabilities differ.",
            expected=f"at most {checks.tolerance:.0e} nats a token",
            found=f"{checks.round_trip:.1e}",
            where=where,
            next_step="check the processor's image settings and the chat template; set roundtrip_tolerance to go on",
        )
    if checks.sight is not None and not checks.sight > ROUNDING / 10:
        raise EosinError(
            "The policy does not see the image: with blank images every log-probability stays the same.",
            where=where,
            next_step="check that prompts hold an image part and that the model's processor returns pixels",
        )
    if not checks.ratio <= checks.ratio_tolerance:
        raise EosinError(
            "The probability ratio before the first update is not 1: two passes with the same weights differ.",
            found=f"{checks.ratio:.1e}",
            where=where,
            next_step="switch dropout off (lora.dropout: 0) and use deterministic kernels",
        )


def as_record(checks: Checks) -> dict[str, Any]:
    """For stage.json."""
    return asdict(checks)
