"""Memory of one process of a stage, by part.

Weights, gradients and optimiser follow from the number of parameters and from who holds them; activations from what the
backward pass keeps of each layer. The peak is not the sum: gradients are made while activations are given back.
"""

from __future__ import annotations

from dataclasses import dataclass

from eosin.chain.plan.gpus import GIB
from eosin.chain.plan.shapes import Shape, Slide, Text, Vision
from eosin.chain.plan.workload import Work, drawn_together
from eosin.core.settings.clip import ClipStage
from eosin.core.settings.launch import Launch
from eosin.core.settings.stage import Stage
from eosin.core.settings.stages import Moved, RejectionStage, RlStage, WarmupStage

HEAD_TILE = 256 * 2**20
"""Bytes of the tile of logits that TRL's fused head makes at a time, at most."""


@dataclass(frozen=True)
class Bytes:
    """Bytes that each process holds of a parameter that trains.

    weights: also of a frozen one. gather: a layer is put together where only parts of it are held.
    """

    weights: float
    gradients: float
    optimiser: float
    gather: bool = False


def bytes_of(launch: Launch, ranks: int, on_cpu: bool = False) -> Bytes:
    """Of a parameter: bf16 weights and AdamW's two moments in bf16 in one process and in DDP, whose buckets hold each
    gradient twice; fp32 masters under FSDP and DeepSpeed, shared out; fp32 throughout on a CPU."""
    if on_cpu:
        return Bytes(4, 4 if ranks == 1 else 8, 8)
    if launch.sharding == "none":
        return Bytes(2, 2 if ranks == 1 else 4, 4)
    on_host = launch.offload
    if launch.kind == "fsdp":
        whole = launch.sharding == "all"
        weights = (0 if on_host else 4 / ranks) + (0 if whole else 2)
        return Bytes(weights, 0 if on_host else 4 / ranks, 0 if on_host else 8 / ranks, gather=whole)
    whole = launch.sharding == "all"
    return Bytes(0 if whole and on_host else 2 / ranks if whole else 2, 2 / ranks, 0 if on_host else 12 / ranks, whole)


@dataclass(frozen=True)
class Memory:
    """Bytes by part, and the most of them that live at one time."""

    parts: dict[str, float]
    peak: float

    @property
    def peak_gib(self) -> float:
        return self.peak / GIB

    def gib(self) -> dict[str, float]:
        """Parts that are not empty, in GiB."""
        return {name: value / GIB for name, value in self.parts.items() if value > 0}


@dataclass(frozen=True)
class Trained:
    """Parameters of a stage: all of them, those that train in the model's own type, and those of adapters."""

    total: int
    own: int
    adapters: int


def trained(stage: Stage, shape: Shape) -> Trained:
    """What of the model trains."""
    vision = shape.vision.parameters - shape.vision.projector if shape.vision else 0
    projector = shape.vision.projector if shape.vision else 0
    slide = shape.slide.parameters if shape.slide else 0
    frozen = set(stage.freeze)
    if isinstance(stage, WarmupStage):
        return Trained(shape.parameters, (slide if shape.slide else vision + projector), 0)
    tower = 0 if "slide" in frozen else slide
    if getattr(stage, "lora", None) is not None:
        return Trained(shape.parameters, tower, shape.text.lora(stage.lora.r))  # type: ignore[attr-defined]
    own = tower + (0 if "vision" in frozen else vision) + (0 if "projector" in frozen else projector)
    return Trained(shape.parameters, own + (0 if "language" in frozen else shape.text.parameters), 0)


def memory_of(
    stage: Stage, shape: Shape, work: Work, launch: Launch, ranks: int, *, on_cpu: bool = False, card: float = 0.0
) -> Memory:
    """Memory of one process.

    Args:
        ranks: processes over which sharded parts are shared out.
        on_cpu: fp32, as on a CPU; else bf16.
        card: bytes of the GPU, of which a colocated vLLM takes its share.
    """
    each, counts = bytes_of(launch, ranks, on_cpu), trained(stage, shape)
    size = 4 if on_cpu else 2
    weights = each.weights * counts.total + 4 * counts.adapters
    if each.gather:
        weights += 2 * (2 * shape.text.per_layer + shape.text.embedding)
    gradients = each.gradients * counts.own + 4 * counts.adapters
    optimiser = each.optimiser * counts.own + 8 * counts.adapters - _spared_by_muon(stage, shape, counts, each)
    parts = {
        "weights": weights, "gradients": gradients, "optimiser": optimiser,
        "activations": _activations(stage, shape, work, size),
        "images": _images(shape, work, size),
        "head": min(HEAD_TILE, work.tokens * shape.text.vocab * 4.0) * 2 if work.reply else 0.0,
        "reference": _reference(stage, shape, each, size), "KV cache": 0.0, "vLLM": 0.0,
    }  # fmt: skip
    if isinstance(stage, RlStage) and stage.vllm is not None:  # its keys and values lie in vLLM's share, or elsewhere
        parts["vLLM"] = card * stage.vllm.memory_share if stage.vllm.mode == "colocate" else 0.0
    elif isinstance(stage, RlStage | RejectionStage):
        parts["KV cache"] = _cache(stage, shape.text, work, size)
    held = parts["weights"] + parts["optimiser"] + parts["reference"] + parts["vLLM"]
    loss = parts["activations"] + parts["images"] + parts["head"]
    kept = gradients if getattr(stage, "gradient_accumulation", 1) > 1 else min(gradients, size * shape.text.embedding)
    peak = held + max(loss + kept, gradients, parts["KV cache"])
    return Memory(parts, peak)


def _spared_by_muon(stage: Stage, shape: Shape, counts: Trained, each: Bytes) -> float:
    """Muon keeps one moment of a hidden matrix where AdamW keeps two; embeddings, the head and patches stay AdamW's."""
    if not isinstance(stage, Moved) or stage.optimizer != "muon":
        return 0.0
    warms, adapts = isinstance(stage, WarmupStage), bool(counts.adapters)
    others = 0 if warms or adapts or "language" in stage.freeze else shape.text.ends
    if shape.vision and not shape.slide and not adapts and (warms or "vision" not in stage.freeze):
        others += shape.vision.patches
    return each.optimiser / 2 * (counts.own - others) + 4 * counts.adapters


def text_layer(text: Text, size: int) -> float:
    """Bytes a token that a decoder layer keeps for its backward pass.

    Norms keep input, normed and output (in 16 bits a copy of the input in fp32 too); attention its queries, keys and
    values, repeated for every head, its output, the output put in order, and the turns of the positions; the gated MLP
    four tensors of its width.
    """
    wide = text.heads * text.dim
    norms = (6 if size == 4 else 8) * text.hidden
    return size * (norms + 5 * wide + 2 * text.dim + 4 * text.intermediate)


def vision_layer(vision: Vision, size: int) -> float:
    """Bytes a patch that a layer of the vision tower keeps."""
    norms = (6 if size == 4 else 8) * vision.hidden
    return size * (norms + 6 * vision.hidden + (4 if vision.gated else 2) * vision.intermediate)


def _activations(stage: Stage, shape: Shape, work: Work, size: int) -> float:
    """All that is kept when the backward pass begins, and the gradients within the layer that it begins with. With
    checkpointing the inputs of the layers, and one layer computed again."""
    saves_memory = bool(getattr(stage, "gradient_checkpointing", False))
    kept, layers = 0.0, [0.0]
    if not isinstance(stage, WarmupStage):
        one = work.tokens * text_layer(shape.text, size)
        inputs = work.tokens * shape.text.hidden * size
        kept += 3 * inputs + shape.text.layers * (inputs if saves_memory else one)  # embedded rows, the last norm
        layers.append(one)
    if shape.vision is not None and work.patches and _eyes_train(stage):
        rows = work.batch // work.group * work.patches
        one = rows * vision_layer(shape.vision, size)
        kept += shape.vision.layers * (rows * shape.vision.hidden * size if saves_memory else one)
        layers.append(one)
    if shape.slide is not None and "slide" not in stage.freeze:
        kept += shape.slide.layers * slide_layer(shape.slide) * (work.batch // work.group) * work.slide_patches
    return kept + max(layers) * (2 if saves_memory else 1)


def _eyes_train(stage: Stage) -> bool:
    return isinstance(stage, WarmupStage) or ("vision" not in stage.freeze and getattr(stage, "lora", None) is None)


def slide_layer(slide: Slide) -> float:
    """Bytes a patch that a layer of LongNet keeps, fp32: what a decoder layer keeps, and what each dilation gathers."""
    return 4.0 * (6 * slide.width + 5 * 6 * slide.width + 2 * slide.ffn)


def _images(shape: Shape, work: Work, size: int) -> float:
    """Pixels as the tower takes them, and the working set of a tower that keeps nothing: one layer."""
    rows = work.batch // work.group
    pixels = 3 * (shape.vision.patch**2 * shape.vision.temporal if shape.vision else 0) * work.patches * 4.0
    slides = (shape.slide.dimension if shape.slide else 0) * work.slide_patches * 4.0
    working = vision_layer(shape.vision, size) * work.patches if shape.vision and work.patches else 0.0
    return rows * (pixels + slides) + working


def _reference(stage: Stage, shape: Shape, each: Bytes, size: int) -> float:
    """A frozen copy of the policy, where a KL term is paid for and no adapter can be switched off instead."""
    if not isinstance(stage, RlStage) or stage.algorithm.beta == 0 or stage.lora is not None:
        return 0.0
    return float(min(each.weights, size) * shape.parameters)


def _cache(stage: RlStage | RejectionStage, text: Text, work: Work, size: int) -> float:
    """Keys and values while replies are drawn: the prompt once a group on the shared path."""
    num = drawn_together(stage)
    one = 2 * text.layers * text.kv_width * size
    prompts = num / stage.num_generations
    return float(one * (prompts * work.prompt + num * stage.max_new_tokens))


def clip_memory(stage: ClipStage, work: Work, sizes: tuple[int, int], *, on_cpu: bool = False) -> Memory:
    """Of two towers with so many parameters: chunks keep their activations, one at a time."""
    size = 4 if on_cpu else 2
    image, text = sizes
    total = image + text
    chunk = stage.chunk_size or stage.batch_size
    # A transformer of width w and 12 layers has about 12 x 12 w^2 parameters, and keeps some 17 w a token and layer.
    widths = [(n / 144) ** 0.5 for n in sizes]
    kept = sum(17 * 12 * w * chunk * n for w, n in zip(widths, (work.patches, work.reply), strict=True)) * size
    images = work.batch * (224 * 224 * 3)
    parts = {"weights": 4.0 * total, "gradients": 4.0 * total, "optimiser": 8.0 * total, "activations": kept,
             "images": float(images)}  # fmt: skip
    return Memory(parts, sum(parts.values()))
