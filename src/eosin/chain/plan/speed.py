"""How long a step takes: operations over what a card does of them, bytes over what its memory moves."""

from __future__ import annotations

from dataclasses import dataclass

from eosin.chain.plan.gpus import Gpu
from eosin.chain.plan.memory import trained
from eosin.chain.plan.shapes import Shape
from eosin.chain.plan.workload import Work, drawn_together
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.stage import Stage
from eosin.core.settings.stages import RejectionStage, RlStage, WarmupStage


@dataclass(frozen=True)
class Rates:
    """What is assumed of speed.

    Attributes:
        mfu: share of a card's bf16 peak that forward and backward passes reach. 0.25 is what SFT of Qwen2.5-VL-7B's
            shape reached on an H100 (docs/benchmarks.md: 0.73 s for 4 pictures of 1,024 tokens, LoRA, checkpointing).
        layer_ms: a decoder layer's time for one new token with transformers' engine, whose cost is launching kernels:
            60 ms for 28 layers there.
        moved: share of the memory's bandwidth that decoding with vLLM reaches.
        dynamic: how often a batch is drawn with dynamic sampling, on average.
    """

    mfu: float = 0.25
    layer_ms: float = 60 / 28
    moved: float = 0.5
    dynamic: float = 2.0


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimiser step on one process, and tokens that it computed with loss or drew."""

    loss: float
    generate: float
    tokens: int

    @property
    def seconds(self) -> float:
        return self.loss + self.generate


def step_time(stage: Stage, shape: Shape, work: Work, gpu: Gpu, rates: Rates, *, sharded: bool = False) -> StepTime:
    """Of one optimiser step. Waiting for a judge, for data and for other processes is not in it."""
    peak = gpu.tflops * 1e12 * rates.mfu
    forward, backward = _passes(stage, shape, work)
    loss = max((forward + backward) / peak, _launching(stage, shape, rates)) * work.accumulation
    drawn, tokens = 0.0, work.tokens * work.accumulation
    if isinstance(stage, RlStage):
        rounds = rates.dynamic if stage.algorithm.dynamic_sampling else 1.0
        steps = stage.updates_per_batch * stage.algorithm.num_iterations  # that one generation serves
        drawn = rounds * generate_time(stage, shape, work, gpu, rates) / steps
        tokens = work.batch * work.reply * work.accumulation
    return StepTime(loss, drawn, tokens)


def _launching(stage: Stage, shape: Shape, rates: Rates) -> float:
    """The least time of one forward and one backward pass: a small model waits for its kernels to be started. Forward
    as long as drawing one token, backward twice that."""
    seen = (shape.vision.layers if shape.vision else 0) + (shape.slide.layers if shape.slide else 0)
    layers = seen if isinstance(stage, WarmupStage) else seen + shape.text.layers
    return 3 * layers * rates.layer_ms / 1000


def _passes(stage: Stage, shape: Shape, work: Work) -> tuple[float, float]:
    """(forward, backward) operations of one batch: two a parameter and token forward, twice that backward, half of it
    where weights are frozen; with checkpointing another forward pass."""
    text = shape.text
    row = work.prompt + work.reply * work.group
    matrices = 2.0 * (text.layers * text.per_layer) * work.tokens
    head = 2.0 * text.embedding * work.batch * work.reply
    attention = 2.0 * text.layers * text.heads * text.dim * row * work.tokens
    rows = work.batch // work.group
    seen = 2.0 * shape.vision.parameters * rows * work.patches if shape.vision else 0.0
    seen += 2.0 * shape.slide.parameters * rows * work.slide_patches if shape.slide else 0.0
    if isinstance(stage, WarmupStage):
        return seen, 2 * seen
    frozen_weights = getattr(stage, "lora", None) is not None or "language" in stage.freeze
    forward = matrices + head + attention
    backward = (1 if frozen_weights else 2) * (matrices + head) + 2 * attention
    if getattr(stage, "gradient_checkpointing", False):
        backward += matrices + attention
    if isinstance(stage, RlStage):  # log-probabilities of the start, and of the policy before several updates
        algorithm = stage.algorithm
        extra = (algorithm.beta > 0) + (stage.updates_per_batch > 1 or algorithm.num_iterations > 1)
        forward += extra * (matrices + head + attention)
    eyes_train = "vision" not in stage.freeze and getattr(stage, "lora", None) is None
    return forward + seen, backward + (2 * seen if eyes_train else 0.0)


def generate_time(stage: RlStage | RejectionStage, shape: Shape, work: Work, gpu: Gpu, rates: Rates) -> float:
    """Seconds to draw a batch of replies that run to their cap: a batch ends with its longest reply."""
    text = shape.text
    num = drawn_together(stage)
    prompts = num / stage.num_generations
    read = 2.0 * text.layers * text.per_layer * prompts * work.prompt / (gpu.tflops * 1e12 * rates.mfu)
    moved = 2.0 * text.parameters + 4.0 * text.layers * text.kv_width * num * (work.prompt + stage.max_new_tokens / 2)
    by_memory = moved / (gpu.bandwidth_tbs * 1e12 * rates.moved)
    by_launch = 0.0 if uses_vllm(stage) else text.layers * rates.layer_ms / 1000
    return read + stage.max_new_tokens * max(by_memory, by_launch)


def uses_vllm(stage: Stage) -> bool:
    """Whether replies are drawn by vLLM."""
    return getattr(stage, "vllm", None) is not None


def drawing_time(stage: RejectionStage, shape: Shape, work: Work, gpu: Gpu, rates: Rates, samples: int) -> float:
    """Seconds to draw all replies of a rejection stage, on one process."""
    batches = samples * stage.num_generations / stage.sample_batch_size
    return batches * generate_time(stage, shape, work, gpu, rates)


def clip_step(stage: ClipStage, work: Work, sizes: tuple[int, int], gpu: Gpu, rates: Rates) -> StepTime:
    """A contrastive step: with chunks the towers run forward twice."""
    operations = 2.0 * (sizes[0] * work.patches + sizes[1] * work.reply) * work.batch
    passes = 4 if stage.chunk_size else 3
    return StepTime(passes * operations / (gpu.tflops * 1e12 * rates.mfu), 0.0, work.batch * work.reply)


__all__ = ["Rates", "StepTime", "clip_step", "drawing_time", "generate_time", "step_time", "trained", "uses_vllm"]
