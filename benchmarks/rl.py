"""Whole GRPO steps beside plain TRL: `python benchmarks/rl.py [--quick] [--family NAME] [--json FILE]`.

The same small Qwen2.5-VL, image, prompt, number and length of completions. Every run is a process of its own, so that
peak memory can be compared; ours and the peer's take turns. Completions never end early, so that both do the same
work. `--gpu` runs the shape of Qwen2.5-VL-7B instead (random weights, bf16, LoRA, gradient checkpointing) on a CUDA
device, with the memory of that device and the share of its bf16 peak that each side's own work comes to; `--gpu
--quick` runs the same code with a small shape on whatever there is. `--family` takes a small model of another family
(`tests/support/families.py`), with a small picture and many words. A ratio above 1 means that Eosin is better.
Research use only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peak import peak_bytes
from shapes import TEXT_7B
from steps import made_in, step_timer


@dataclass(frozen=True)
class Case:
    """One pair.

    Attributes:
        side: of the image in tokens; side x side visual tokens.
        words: further words of the question.
        length: tokens of every completion.
        num: completions a group (G).
        groups: groups a step.
        steps: measured steps, after one that is not counted where `warm`.
        trains_tower: whether the vision tower trains; frozen, Eosin computes it once an image.
        patches: instead of an image, a slide of so many patches, read by the published slide tower, which trains.
        shape: "small" trains whole in fp32 on the CPU; "7b" and "lora" train an adapter in bf16 on the GPU, where there
            is one: with the 7B's sizes, or small ones.
        family: instead of Qwen2.5-VL, a small model of this family; its picture has a size of its own.
    """

    name: str
    side: int
    length: int
    num: int = 8
    groups: int = 1
    words: int = 0
    steps: int = 2
    repeats: int = 2
    trains_tower: bool = False
    warm: bool = True
    patches: int = 0
    shape: str = "small"
    family: str = ""


CASES = [
    Case("prompt 64, completion 64", 2, 64, groups=4, steps=3, repeats=3),
    Case("prompt 256, completion 128", 15, 128, groups=2, steps=2),
    Case("prompt 1,024, completion 128", 32, 128),
    Case("prompt 1,024, completion 128, tower trains", 32, 128, trains_tower=True),
    Case("prompt 4,096, completion 256", 64, 256, steps=1, repeats=1, warm=False),
    Case("slide, prompt 4,096, completion 256", 0, 256, steps=1, repeats=1, patches=4063),
]
QUICK = [
    Case("prompt 64, completion 32", 2, 32, groups=4, steps=2, repeats=1),
    Case("prompt 400, completion 64", 19, 64, steps=1, repeats=1),
    Case("slide, prompt 400, completion 64", 0, 64, steps=1, repeats=1, patches=367),
]
GPU = [
    Case(f"7B, prompt {side * side:,}, completion 256", side, 256, repeats=1, shape="7b") for side in (32, 45, 64, 90)
]
GPU_QUICK = [Case("small with LoRA, prompt 400, completion 32", 19, 32, steps=1, repeats=1, shape="lora")]
# Dense bf16 operations a second, from the makers' data sheets.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}


def one(case: Case, path: str, threads: int) -> dict[str, Any]:
    """Run one side of a pair in this process."""
    import torch
    from trl import GRPOConfig, GRPOTrainer

    from eosin.core.settings.rl import Algorithm
    from eosin.models.load import placeholder_tokens
    from eosin.train.monitor import StepClock
    from eosin.train.rl.trl_overrides import SharedPrefixTrainer

    torch.set_num_threads(threads)
    model, processor = model_of(case)
    seconds: list[float] = []

    def reward(completions: list[Any], **_: Any) -> list[float]:
        return [float(i % 3) for i, _ in enumerate(completions)]

    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder, per_device_train_batch_size=case.num * case.groups, num_generations=case.num,
            max_completion_length=case.length, max_steps=case.steps + case.warm, beta=0.0, loss_type="grpo",
            use_cpu=not on_gpu(case), report_to=[], disable_tqdm=True, save_strategy="no", logging_steps=1, top_k=0,
            remove_unused_columns=False, learning_rate=1e-5, gradient_checkpointing=adapts(case), bf16=adapts(case),
        )  # fmt: skip
        common: dict[str, Any] = {
            "model": model, "reward_funcs": [reward], "args": arguments, "processing_class": processor,
            "peft_config": adapter() if adapts(case) else None,
            "train_dataset": slides(case) if case.patches else dataset(28 * case.side, case),
            "callbacks": [step_timer(seconds)],
        }  # fmt: skip
        if path == "plain":
            trainer = GRPOTrainer(**common)
        else:
            algorithm = Algorithm.model_validate({"name": "grpo", "beta": 0.0, "mask_truncated": False})
            backend: Any = "flex" if on_gpu(case) else "split"
            trainer = SharedPrefixTrainer(**common, clock=StepClock(), algorithm=algorithm, backend=backend)
        # A model of random weights would write image tokens, at which plain TRL stops; nobody ends early.
        trainer.generation_config.suppress_tokens = list(placeholder_tokens(model))
        trainer.generation_config.eos_token_id = None
        trainer.eos_token_ids = [10**9]
        with kept_tower(model, folder, path):
            trainer.train()
    used = seconds[1:] if case.warm else seconds
    prompt = int(trainer.state.num_input_tokens_seen / (len(seconds) * case.num * case.groups)) - case.length
    taken = torch.cuda.max_memory_allocated() if on_gpu(case) else peak_bytes()
    median = statistics.median(used)
    share = work(case, model.config, prompt, path) / median / device_peak(case) if adapts(case) else 0.0
    return {
        "seconds": median,
        "peak_gib": taken / 2**30,
        "prompt": prompt,
        "peak_share": share,
    }


def adapts(case: Case) -> bool:
    """Whether an adapter trains, in bf16."""
    return case.shape != "small"


def on_gpu(case: Case) -> bool:
    """Whether the case runs on a GPU."""
    import torch

    return adapts(case) and torch.cuda.is_available()


def adapter() -> Any:
    """LoRA as a recipe has it, the vision tower left as it is."""
    from eosin.core.settings.stages import Lora
    from eosin.train.stages.base import lora_config

    return lora_config(Lora(r=16), ["vision", "projector"])


def device_peak(case: Case) -> float:
    """bf16 operations a second that the device can do: by its name, else as a large product of matrices reaches."""
    import torch

    device = "cuda" if on_gpu(case) else "cpu"
    name = torch.cuda.get_device_name() if on_gpu(case) else ""
    if known := next((v for k, v in PEAKS.items() if k in name), None):
        return known
    side = 8192 if on_gpu(case) else 512
    a = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        product = a @ a
        float(product[0, 0])
        seconds.append(time.perf_counter() - begun)
    return float(2 * side**3 / min(seconds))


def work(case: Case, config: Any, prompt: int, path: str) -> float:
    """Operations of a step with an adapter, as this path does them.

    Two a weight and token, and those of attention between tokens that see each other, four times: to generate, to
    judge, to make activations again, and backward to the activations. The tower looks at an image once (kept), or for
    every completion twice.
    """
    text, eye, num, length = config.text_config, config.vision_config, case.num, case.length
    width, patches = text.hidden_size, 4 * case.side**2
    heads = width // text.num_attention_heads * text.num_key_value_heads
    layer = 2 * width * (width + heads) + 3 * width * text.intermediate_size
    copies = 1 if path == "shared" else num
    tokens = copies * prompt + num * length
    pairs = copies * prompt**2 / 2 + num * length * (prompt + length / 2)
    decoder = 2 * tokens * (text.num_hidden_layers * layer + width * text.vocab_size)
    attention = 4 * pairs * text.num_hidden_layers * width
    looks = 1 if path == "shared" else 2 * num
    tower = 2 * patches * eye.depth * (4 * eye.hidden_size**2 + 3 * eye.hidden_size * eye.intermediate_size)
    return float(case.groups * (4 * (decoder + attention) + looks * tower))


def model_of(case: Case) -> tuple[Any, Any]:
    """The small model of a case and its processor."""
    from eosin.core.settings.model import SlideModel, SlideTower, TinyModel, TinyText, TinyVision
    from eosin.models.load import freeze
    from eosin.models.slide_encoder.build import build_slide_reader
    from eosin.models.tiny import build_tiny

    shape = TinyModel(
        image_px=28 * max(case.side, 2), vocab_size=640,
        vision=TinyVision(depth=4, hidden_size=128, intermediate_size=384),
        text=TinyText(hidden_size=256, intermediate_size=768, num_layers=6, num_heads=8, num_kv_heads=4),
    )  # fmt: skip
    corpus = ["the tissue shows glands and stroma"] * 4
    if case.family:
        model, processor = of_family(case)
    elif adapts(case):
        model, processor = with_large_head(corpus, case)
    elif case.patches:
        tower = SlideTower(preset="pathreasoner-r1")
        settings = SlideModel(base=shape, sees_images=False, tower=tower, dimension=512)
        model, processor = build_slide_reader(corpus, settings, 0)
    else:
        model, processor = build_tiny(corpus, shape, 0)
        freeze(model, set() if case.trains_tower else {"vision"})
    processor.tokenizer.padding_side = "left"
    return model, processor


def of_family(case: Case) -> tuple[Any, Any]:
    """A small model of a family with a wider decoder of six layers; the tower stands still."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support.families import write_family

    from eosin.models.load import freeze, load

    wider = {"intermediate_size": 768, "num_hidden_layers": 6}
    with tempfile.TemporaryDirectory() as folder:
        made = load(write_family(case.family, Path(folder), wider))
    freeze(made.model, {"vision"})
    return made.model, made.processor


def with_large_head(corpus: list[str], case: Case) -> tuple[Any, Any]:
    """A Qwen2.5-VL of the 7B's shape, or a small one, made in bf16 on its device: no weights are read."""
    import torch

    from eosin.core.settings.model import TinyModel, TinyText, TinyVision
    from eosin.models.tiny import build_config, build_processor, model_of, train_tokenizer

    text = TinyText(hidden_size=256, intermediate_size=768, num_layers=2, num_heads=8, num_kv_heads=4)
    vision = TinyVision(depth=2, hidden_size=128, intermediate_size=384)
    if case.shape == "7b":
        text = TinyText(**TEXT_7B)
        vision = TinyVision(depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16)
    settings = TinyModel(image_px=28 * case.side, vocab_size=640, text=text, vision=vision)
    tokenizer = train_tokenizer(corpus, settings.vocab_size)
    config = build_config(tokenizer, settings)
    config.text_config.vocab_size = 152_064 if case.shape == "7b" else 1000
    config.text_config.max_position_embeddings = 32_768
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    if case.shape == "7b":
        config.vision_config.fullatt_block_indexes = [7, 15, 23, 31]
    with made_in(torch.bfloat16, "cuda" if on_gpu(case) else "cpu"):
        model = model_of(config, 0)
    return model, build_processor(tokenizer, settings)


def kept_tower(model: Any, folder: str, path: str) -> Any:
    """Eosin's kept features of a frozen tower; nothing for the peer."""
    from contextlib import nullcontext

    from eosin.models.vision_cache import cache_vision

    return nullcontext() if path == "plain" else cache_vision(model, Path(folder) / "cache", 1.0)


def dataset(px: int, case: Case) -> Any:
    """Phantom tissue, another image for every prompt."""
    import numpy as np
    from datasets import Dataset
    from PIL import Image

    from eosin.phantom import make_case, render_tile

    tile = np.asarray(render_tile(make_case(0, 2), 0).image)
    rng = np.random.default_rng(0)
    question = "Which tissue class does this tile show?" + " gland" * case.words

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        images = []
        for number in batch["sample_number"]:
            turned = np.roll(np.rot90(tile, number % 4), int(rng.integers(0, 100)), 0)
            images.append([Image.fromarray(np.ascontiguousarray(turned)).resize((px, px))])
        content = [{"type": "image"}, {"type": "text", "text": question}]
        return {
            "prompt": [[{"role": "user", "content": content}] for _ in images], "images": images,
            "sample_number": batch["sample_number"],
        }  # fmt: skip

    return Dataset.from_dict({"sample_number": list(range(64))}).with_transform(fetch)


def slides(case: Case) -> Any:
    """Bags of random features on a square, another one for every prompt."""
    import numpy as np
    from datasets import Dataset

    from eosin.core.nouns.bags import PatchBag

    side = int(np.ceil(case.patches**0.5))
    cells = np.arange(case.patches)
    centres = np.stack([cells % side, cells // side], 1) * 256.0

    def fetch(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        bags = []
        for number in batch["sample_number"]:
            features = np.random.default_rng(number).normal(size=(case.patches, 512)).astype(np.float32)
            bags.append([PatchBag(f"slide {number}", features, centres, 256.0, 0.5)])
        content = [{"type": "image"}, {"type": "text", "text": "Which tissue class does this tile show?"}]
        return {
            "prompt": [[{"role": "user", "content": content}] for _ in bags], "images": bags,
            "sample_number": batch["sample_number"],
        }  # fmt: skip

    return Dataset.from_dict({"sample_number": list(range(64))}).with_transform(fetch)


def pair(case: Case, threads: int) -> dict[str, Any]:
    """Both sides, in turn, each in a new process."""
    found: dict[str, list[dict[str, Any]]] = {"plain": [], "shared": []}
    for repeat in range(case.repeats):
        for path in ("plain", "shared") if repeat % 2 == 0 else ("shared", "plain"):
            command = [sys.executable, __file__, "--one", json.dumps([asdict(case), path, threads])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            found[path].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {path: statistics.median(r["seconds"] for r in runs) for path, runs in found.items()}
    peak = {path: max(r["peak_gib"] for r in runs) for path, runs in found.items()}
    prompt = found["plain"][0]["prompt"]
    tokens = case.num * case.groups * case.length
    ideal = case.num * (prompt + case.length) / (prompt + case.num * case.length)
    return {
        "name": case.name, "ours": round(seconds["shared"], 3), "peer": round(seconds["plain"], 3), "unit": "s a step",
        "ratio": round(seconds["plain"] / seconds["shared"], 2), "ideal": round(ideal, 2),
        "tokens_per_s": [round(tokens / seconds["shared"], 1), round(tokens / seconds["plain"], 1)],
        "peak_gib": [round(peak["shared"], 2), round(peak["plain"], 2)],
        "peak_share": [round(statistics.median(r["peak_share"] for r in found[p]), 4) for p in ("shared", "plain")],
        "note": f"prompt {prompt}, G {case.num}, {case.groups} group(s); ideal by token count {ideal:.2f}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small pairs")
    parser.add_argument("--gpu", action="store_true", help="the 7B's shape on a CUDA device")
    parser.add_argument("--family", help="one pair with this family, such as qwen3_vl, llava, idefics3, internvl")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        values, path, threads = json.loads(options.one)
        print(json.dumps(one(Case(**values), path, threads)))
        return
    rows = []
    cases = (GPU_QUICK if options.quick else GPU) if options.gpu else QUICK if options.quick else CASES
    if options.family:
        cases = [Case(f"{options.family}, long question", 4, 64, words=100, repeats=1, family=options.family)]
    if options.gpu and not options.quick:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("no CUDA device: the 7B's shape cannot be measured here; --gpu --quick tries the code")
        print(torch.cuda.get_device_name())
    print(f"{'whole GRPO step':<46}{'Eosin':>9}{'TRL':>9}{'ratio':>7}{'ideal':>7}{'tok/s':>16}{'peak GiB':>14}")
    for case in cases:
        if options.only and options.only not in case.name:
            continue
        row = pair(case, options.threads)
        rows.append(row)
        ours, peer = row["tokens_per_s"]
        print(
            f"{row['name']:<46}{row['ours']:>8.2f}s{row['peer']:>8.2f}s{row['ratio']:>7.2f}{row['ideal']:>7.2f}"
            f"{ours:>8.0f}{peer:>8.0f}{row['peak_gib'][0]:>7.2f}{row['peak_gib'][1]:>7.2f}"
            + (f"  share of bf16 peak {row['peak_share'][0]:.1%} {row['peak_share'][1]:.1%}" if options.gpu else ""),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
