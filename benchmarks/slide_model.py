"""What a slide of 1,000 to 12,800 patches costs: `python benchmarks/slide_model.py [--quick] [--json FILE]`.

Two curves, forward and backward, each point in a process of its own: the published tower (LongNet, 2 layers x 512 x 8
heads, features of 512 numbers) alone, beside the same tower with dense attention (torch's fused kernel); and tower
and decoder over the whole prompt (decoder of 2 layers x 128, one token a patch), with gradient checkpointing. Time is
the processor time of all threads, which other work on the machine moves little, the best of the rounds; memory is the
peak of the process above what it held before the first step. The exponent is the slope of log time over log patches: 1
is linear. With a CUDA device the prompt is also measured with a decoder of the 7B's shape and LoRA, by the clock. A
ratio above 1 means that Eosin is better. Research use only.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peak import peak_bytes
from shapes import TEXT_7B
from steps import made_in

SIZES, QUICK = (1000, 1600, 3200, 6400, 12_800), (500, 1000, 2000)
DIMENSION = 512


def bag_of(num: int) -> Any:
    """Random features on a square of tiles of 256 µm."""
    import numpy as np

    from eosin.core.nouns.bags import PatchBag

    cells, side = np.arange(num), math.isqrt(num - 1) + 1
    features = np.random.default_rng(0).normal(size=(num, DIMENSION)).astype(np.float32)
    return PatchBag("slide", features, np.stack([cells % side, cells // side], 1) * 256.0, 256.0, 0.5)


def build(shape: str) -> tuple[Any, Any]:
    """A slide reader with the published tower: "small", or a decoder of the 7B's shape with LoRA."""
    from eosin.core.settings.model import SlideModel, SlideTower, TinyModel, TinyText
    from eosin.core.settings.stages import Lora
    from eosin.models.slide_encoder.build import build_slide_reader

    text = TinyText(hidden_size=128, intermediate_size=256, num_layers=2, num_heads=4, num_kv_heads=2)
    if shape == "7b":
        text = TinyText(**TEXT_7B)
    settings = SlideModel(
        base=TinyModel(text=text), sees_images=False, tower=SlideTower(preset="pathreasoner-r1"), dimension=DIMENSION
    )
    corpus = ["which tissue does this slide show"] * 4
    if shape != "7b":
        return build_slide_reader(corpus, settings, 0)
    import torch
    from peft import get_peft_model

    from eosin.train.stages.base import lora_config

    with made_in(torch.bfloat16, "cuda"):
        model, processor = build_slide_reader(corpus, settings, 0)
    model = get_peft_model(model.cuda().bfloat16(), lora_config(Lora(r=16), []))
    model.enable_input_require_grads()
    return model, processor


def tower_step(model: Any, num: int) -> Any:
    """Forward and backward of tower and projector."""
    import torch

    from eosin.models.slide_encoder.rows import PatchPositions

    bag = bag_of(num)
    weights = next(model.slide_tower.parameters())
    features = torch.from_numpy(bag.features).to(weights.device, weights.dtype)
    places = PatchPositions(bag.centres_um, bag.tile_um, bag.mpp)

    def step() -> None:
        model.slide_tower.read(features, places).tokens.square().mean().backward()

    return step


def prompt_step(model: Any, processor: Any, num: int) -> Any:
    """Forward and backward of tower and decoder; the loss is on the last token."""
    chat = [{"role": "user", "content": [{"type": "image", "image": bag_of(num)}, {"type": "text", "text": "which?"}]}]
    inputs = processor.apply_chat_template([chat], tokenize=True, return_dict=True, return_tensors="pt")
    inputs = {k: v.to(model.device) for k, v in inputs.items()}
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def step() -> None:
        model(**inputs, logits_to_keep=1, use_cache=False).logits.float().logsumexp(-1).sum().backward()

    return step


def one(kind: str, num: int, rounds: int, threads: int) -> dict[str, float]:
    """One point of a curve, in this process."""
    import torch

    from eosin.models.slide_encoder import tower as slide_tower

    torch.set_num_threads(threads)
    if kind == "dense":
        attention = torch.nn.functional.scaled_dot_product_attention
        slide_tower.dilated_attention = lambda q, k, v, _: attention(q[None], k[None], v[None])[0]
    model, processor = build("7b" if kind == "7b" else "small")
    step = prompt_step(model, processor, num) if kind in ("prompt", "7b") else tower_step(model, num)
    on_gpu = model.device.type == "cuda"
    before = torch.cuda.memory_allocated() if on_gpu else peak_bytes()
    clock = time.perf_counter if on_gpu else time.process_time
    seconds = []
    for _ in range(rounds):
        model.zero_grad()
        begun = clock()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(clock() - begun)
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()
    return {"seconds": min(seconds), "gib": (peak - before) / 2**30}


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of log value over log size, by least squares."""
    x, y = [math.log(s) for s in sizes], [math.log(v) for v in values]
    middle = sum(x) / len(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def measure(kind: str, num: int, rounds: int, threads: int) -> dict[str, float]:
    """One point, in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps([kind, num, rounds, threads])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_of(points: dict[str, dict[int, dict[str, float]]]) -> list[dict[str, Any]]:
    """The table as house law 13 asks for it."""
    rows = []
    for num, own in points["tower"].items():
        peer = points["dense"][num]
        rows.append({
            "name": f"tower, {num:,} patches", "ours": round(own["seconds"], 3), "peer": round(peer["seconds"], 3),
            "unit": "CPU s forward + backward", "ratio": round(peer["seconds"] / own["seconds"], 2),
            "note": f"peak {own['gib']:.2f} GiB, dense {peer['gib']:.2f}",
        })  # fmt: skip
    for kind in ("prompt", "7b"):
        for num, own in points.get(kind, {}).items():
            unit = "s forward + backward" if kind == "7b" else "CPU s forward + backward"
            rows.append({
                "name": f"{kind}, {num:,} patches", "ours": round(own["seconds"], 3), "peer": None, "unit": unit,
                "ratio": None, "note": f"peak {own['gib']:.2f} GiB",
            })  # fmt: skip
    for kind, by_size in points.items():
        for what in ("seconds", "gib"):
            slope = exponent(list(by_size), [max(v[what], 1e-6) for v in by_size.values()])
            name = {"seconds": "time", "gib": "memory"}[what]
            rows.append({
                "name": f"exponent of {name}, {kind}", "ours": round(slope, 2), "peer": None, "unit": "", "ratio": None,
                "note": "1 is linear in patches",
            })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 to 2,000 patches")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*json.loads(options.one))))
        return
    import torch

    kinds = ["tower", "dense", "prompt", *(["7b"] if torch.cuda.is_available() else [])]
    sizes = QUICK if options.quick else SIZES
    points: dict[str, dict[int, dict[str, float]]] = {kind: {} for kind in kinds}
    print(f"{'patches':>8}" + "".join(f"{kind + ' CPU s':>14}{'GiB':>7}" for kind in kinds))
    for num in sizes:
        for kind in kinds:
            points[kind][num] = measure(kind, num, 2 if num > 2000 else 3, options.threads)
        cells = "".join(f"{points[k][num]['seconds']:>14.2f}{points[k][num]['gib']:>7.2f}" for k in kinds)
        print(f"{num:>8}{cells}", flush=True)
    rows = rows_of(points)
    for row in rows:
        if row["name"].startswith("exponent"):
            print(f"{row['name']:<32}{row['ours']:>6.2f}")
    if "7b" not in kinds:
        print("no CUDA device: the 7B's shape was not measured")
    if options.json:
        options.json.write_text(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
