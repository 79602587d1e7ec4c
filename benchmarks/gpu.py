"""What only a GPU can show: `python benchmarks/gpu.py [--quick] [--budget-s 480] [--json FILE]`.

Parts, most wanted first, each in a process of its own and each row written as soon as it is measured, so that a lease
that ends early keeps what was seen:

- `parity`: log-probabilities and gradients of the shared prompt (FlexAttention, and split attention) beside plain TRL,
  on the device, in fp32 and bf16, with the 7B's head sizes, several lengths and images of several sizes.
- `rl`: whole GRPO steps of the 7B's shape beside plain TRL (`benchmarks/rl.py`, LoRA, bf16, checkpointing).
- `sft`: SFT steps of the same shape beside plain TRL: a frozen tower's output is kept once an image.
- `tower`: the published slide tower (LongNet) beside dense attention, 1,000 to 51,200 patches.
- `prompt`: tower and decoder of the 7B's shape over one token a patch, with LoRA.

A ratio above 1 means that Eosin is better. `--quick` runs the same code with small shapes on whatever there is.
Research use only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rl import Case, adapter, dataset, kept_tower, one
from shapes import TEXT_7B
from steps import made_in, step_timer

Row = dict[str, Any]
G = 4
ROOM = 40


def device() -> str:
    """Where everything runs."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def clean() -> None:
    """Give memory back and forget the peak."""
    import gc

    import torch

    gc.collect()
    if device() == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def settle() -> None:
    """Wait for what is under way on the device."""
    import torch

    if device() == "cuda":
        torch.cuda.synchronize()


def seconds_of(step: Callable[[], None], rounds: int) -> float:
    """Median seconds of a step after one that is not counted."""
    import statistics

    found = []
    for _ in range(rounds + 1):
        settle()
        begun = time.perf_counter()
        step()
        settle()
        found.append(time.perf_counter() - begun)
    return statistics.median(found[1:])


# -- parity -----------------------------------------------------------------------------------------------------------


def parity_model(wide: bool, dtype: Any) -> tuple[Any, Any]:
    """Two layers of the 7B's text model (head size 128, 28 heads on 4), or of a small one, on the device."""

    from eosin.core.settings.model import TinyModel, TinyText, TinyVision
    from eosin.models.tiny import build_config, build_processor, model_of, train_tokenizer

    text = TinyText(hidden_size=256, intermediate_size=768, num_layers=3, num_heads=8, num_kv_heads=4)
    if wide:
        text = TinyText(**{**TEXT_7B, "num_layers": 2})
    settings = TinyModel(
        image_px=28 * 15, vocab_size=640, text=text,
        vision=TinyVision(depth=2, hidden_size=128, intermediate_size=384),
    )  # fmt: skip
    tokenizer = train_tokenizer(["the tissue shows glands and stroma"] * 4, settings.vocab_size)
    with made_in(dtype, device()):
        model = model_of(build_config(tokenizer, settings), 0)
    processor = build_processor(tokenizer, settings)
    processor.tokenizer.padding_side = "left"
    return model, processor


def parity_rows(sides: list[int]) -> list[Row]:
    """G rows a group; images of several sizes, prompts of several lengths."""
    import numpy as np
    from PIL import Image

    rng, rows = np.random.default_rng(0), []
    for i, side in enumerate(sides):
        picture = Image.fromarray(rng.integers(0, 255, (28 * side, 28 * side, 3), dtype=np.uint8))
        content = [{"type": "image"}, {"type": "text", "text": "Which tissue is this? " * (1 + 3 * i)}]
        row = {"prompt": [{"role": "user", "content": content}], "images": [picture], "sample_number": i}
        rows += [row] * G
    return rows


def ragged(num: int, end: int, room: int) -> list[list[int]]:
    """Completions of 1 to `room` tokens, the last of each the end token."""
    import numpy as np

    rng = np.random.default_rng(1)
    return [[*rng.integers(20, 300, int(rng.integers(1, room))).tolist(), end] for _ in range(num)]


def loss_of(path: str, model: Any, processor: Any, rows: list[Row], room: int, folder: str) -> tuple[Any, Any, float]:
    """(log-probabilities, gradients by name, seconds) of one GRPO loss over fixed completions."""
    import copy

    import torch
    from datasets import Dataset
    from trl import GRPOConfig

    from eosin.core.settings.rl import Algorithm
    from eosin.train.monitor import StepClock
    from eosin.train.rl.trl_overrides import GroupTrainer, SharedPrefixTrainer

    low = model.dtype != torch.float32
    arguments = GRPOConfig(
        output_dir=folder, per_device_train_batch_size=len(rows), num_generations=G, max_completion_length=room,
        beta=0.0, loss_type="grpo", use_cpu=device() == "cpu", report_to=[], disable_tqdm=True, top_k=0, bf16=low,
        remove_unused_columns=False, gradient_checkpointing=False, temperature=0.9,
    )  # fmt: skip
    kind, more = (GroupTrainer, {}) if path == "plain" else (SharedPrefixTrainer, {"backend": path})
    data = Dataset.from_dict({"sample_number": list(range(len(rows) // G))})
    trainer = kind(
        model=copy.deepcopy(model), reward_funcs=[lambda completions, **_: [float(i % 3) for i in range(len(rows))]],
        args=arguments, train_dataset=data, processing_class=processor, clock=StepClock(),
        algorithm=Algorithm.model_validate({"name": "grpo", "beta": 0.0}), **more,
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    fixed = ragged(len(rows), trainer.eos_token_ids[0], room)
    trainer._generate_single_turn = lambda ids, *_a, **_k: (fixed[: len(ids)], None)
    trainer.model.train()
    batch = trainer._generate_and_score_completions(rows)
    if path != "plain":
        batch["encoded_prompts"] = trainer._loss_prompts
    seen: list[Any] = []
    ask = trainer._get_per_token_logps_and_entropies

    def listening(*args: Any, **kwargs: Any) -> Any:
        found = ask(*args, **kwargs)
        seen.append(found[0].detach().float())
        return found

    trainer._get_per_token_logps_and_entropies = listening

    def step() -> None:
        trainer.model.zero_grad()
        trainer.compute_loss(trainer.model, dict(batch)).backward()

    seconds = seconds_of(step, 2)
    mask = batch["completion_mask"].bool()
    grads = {n: p.grad.detach().float() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return seen[-1] * mask, grads, seconds


def worst(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Largest relative difference of a parameter's gradient, over those that have one worth the name."""
    top = max(float(g.norm()) for g in a.values())
    return max(float((a[n] - b[n]).norm() / a[n].norm()) for n in a if float(a[n].norm()) > 1e-4 * top)


def parity(quick: bool) -> Iterator[Row]:
    """Shared against plain."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    cases = [(False, torch.float32), (False, torch.bfloat16), (True, torch.float32), (True, torch.bfloat16)]
    paths = ("flex", "split") if device() == "cuda" else ("split",)  # FlexAttention has no backward on a CPU
    shapes = [([8, 15], ROOM)] if quick else [([8, 15], ROOM), ([15, 3, 9], 17), ([32, 20], 130)]
    for wide, dtype in cases[: 2 if quick else 4]:
        model, processor = parity_model(wide, dtype)
        for sides, room in shapes:
            rows = parity_rows(sides)
            with tempfile.TemporaryDirectory() as folder:
                sides_of = {p: loss_of(p, model, processor, rows, room, folder) for p in ("plain", *paths)}
            plain = sides_of["plain"]
            for path in paths:
                logps, grads, seconds = sides_of[path]
                name = f"{'7B heads' if wide else 'small'} {str(dtype)[6:]}, images {sides}, {room} tokens, {path}"
                yield {
                    "name": name, "ours": round(seconds, 4), "peer": round(plain[2], 4), "unit": "s a loss",
                    "ratio": round(plain[2] / seconds, 2), "logp": float((logps - plain[0]).abs().max()),
                    "gradient": worst(plain[1], grads),
                    "note": f"largest log p difference {float((logps - plain[0]).abs().max()):.1e} nats, "
                    f"largest relative gradient difference {worst(plain[1], grads):.1e}",
                }  # fmt: skip
        del model
        clean()


# -- steps of the 7B's shape ------------------------------------------------------------------------------------------


def rl_pairs(quick: bool) -> Iterator[Row]:
    """Whole GRPO steps, ours and plain TRL in turn, one counted step after one that is not."""
    shape, length = ("lora", 32) if quick else ("7b", 128)
    for side in [19] if quick else [32, 64, 45, 90]:
        case = Case(
            f"GRPO step, 7B shape, prompt {side * side:,}, completion {length}", side, length, steps=1, repeats=1,
            shape=shape,
        )  # fmt: skip
        found: dict[str, dict[str, Any]] = {}
        for path in ("shared", "plain"):
            clean()
            try:
                found[path] = one(case, path, 8)
            except RuntimeError as exc:  # out of memory, on the larger ones
                found[path] = {"error": str(exc)[:200]}
        yield pair_row(case, found)


def pair_row(case: Case, found: dict[str, dict[str, Any]]) -> Row:
    """One row of two sides."""
    ours, peer = found["shared"], found["plain"]
    if "error" in ours or "error" in peer:
        note = f"Eosin: {ours.get('error', 'ran')}; TRL: {peer.get('error', 'ran')}"
        own, other = ours.get("seconds"), peer.get("seconds")
        return {"name": case.name, "ours": own, "peer": other, "unit": "s a step", "ratio": None, "note": note}
    tokens = case.num * case.groups * case.length
    return {
        "name": case.name, "ours": round(ours["seconds"], 2), "peer": round(peer["seconds"], 2), "unit": "s a step",
        "ratio": round(peer["seconds"] / ours["seconds"], 2),
        "note": f"G {case.num}; {tokens / ours['seconds']:.0f} : {tokens / peer['seconds']:.0f} tokens a second; peak "
        f"{ours['peak_gib']:.1f} : {peer['peak_gib']:.1f} GiB; share of bf16 peak {ours['peak_share']:.1%} : "
        f"{peer['peak_share']:.1%}",
    }  # fmt: skip


def sft_pairs(quick: bool) -> Iterator[Row]:
    """SFT steps: four images a batch, a reply of some 130 tokens; the second epoch counts."""
    for side in [8] if quick else [32, 64]:
        case = Case("sft", side, 0, shape="lora" if quick else "7b")
        found = {path: sft_side(case, path) for path in ("shared", "plain")}
        ours, peer = found["shared"], found["plain"]
        yield {
            "name": f"SFT step, 7B shape, 4 images of {side * side:,} tokens, tower frozen, later epochs",
            "ours": round(ours[0], 3), "peer": round(peer[0], 3), "unit": "s a step",
            "ratio": round(peer[0] / ours[0], 2), "note": f"peak {ours[1]:.1f} : {peer[1]:.1f} GiB",
        }  # fmt: skip


def sft_side(case: Case, path: str) -> tuple[float, float]:
    """(seconds a step, peak GiB) of the second epoch."""
    import statistics

    import torch
    from rl import model_of, on_gpu
    from trl import SFTConfig, SFTTrainer

    from eosin.train.data.collate import MaskedCollator

    clean()
    model, processor = model_of(case)
    processor.tokenizer.padding_side = "right"
    reply = [{"role": "assistant", "content": [{"type": "text", "text": "the tissue shows glands and stroma " * 20}]}]
    prompts = dataset(28 * case.side, case)
    rows = [{**prompts[i], "completion": reply} for i in range(12)]
    from datasets import Dataset

    data = Dataset.from_dict({"number": list(range(12))}).with_transform(
        lambda batch: {k: [rows[i][k] for i in batch["number"]] for k in ("prompt", "completion", "images")}
    )
    seconds: list[float] = []

    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, per_device_train_batch_size=4, max_steps=6, use_cpu=not on_gpu(case), report_to=[],
            disable_tqdm=True, save_strategy="no", remove_unused_columns=False, max_length=None, bf16=True,
            gradient_checkpointing=True, completion_only_loss=True, learning_rate=1e-5,
        )  # fmt: skip
        ours = {"data_collator": MaskedCollator(processor)} if path == "shared" else {}
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=data, processing_class=processor, peft_config=adapter(),
            callbacks=[step_timer(seconds, settle)], **ours,
        )  # fmt: skip
        with kept_tower(model, folder, path):
            trainer.train()
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu(case) else 0.0
    return statistics.median(seconds[3:]), peak


# -- slides -----------------------------------------------------------------------------------------------------------


def longnet_parity() -> Iterator[Row]:
    """Dilated attention on the device beside its definition through one dense mask, with odd lengths; values and
    gradients."""
    import torch

    from eosin.models.slide_encoder.longnet import dense_reference, dilated_attention

    pairs = ((64, 1), (128, 2), (256, 4), (512, 8))
    for dtype in (torch.float32, torch.bfloat16):
        for num in (500, 1000, 1237):
            torch.manual_seed(num)
            first = [torch.randn(8, num, 64, device=device(), dtype=dtype, requires_grad=True) for _ in range(3)]
            second = [t.detach().double().requires_grad_() for t in first]
            weight = torch.randn(8, num, 64, device=device())
            (dilated_attention(*first, pairs).float() * weight).sum().backward()
            (dense_reference(*second, pairs) * weight).sum().backward()
            out = dilated_attention(*[t.detach() for t in first], pairs).double()
            wanted = dense_reference(*[t.detach() for t in second], pairs)
            grads = max(
                float((a.grad.double() - b.grad).norm() / b.grad.norm()) for a, b in zip(first, second, strict=False)
            )
            error = float((out - wanted).norm() / wanted.norm())
            yield {
                "name": f"LongNet against its definition, {num:,} patches, {str(dtype)[6:]}", "ours": round(error, 9),
                "peer": None, "unit": "relative difference", "ratio": None,
                "note": f"values {error:.1e}, gradients {grads:.1e}",
            }  # fmt: skip


def towers(quick: bool) -> Iterator[Row]:
    """LongNet tower and projector, forward and backward, beside the same with dense attention."""
    import torch
    from slide_model import build, tower_step

    from eosin.models.slide_encoder import tower as slide_tower

    yield from longnet_parity()
    own = slide_tower.dilated_attention
    model, _ = build("small")

    def dense(q: Any, k: Any, v: Any, _: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]

    for dtype in [torch.float32] if quick else [torch.float32, torch.bfloat16]:
        model = model.to(device(), dtype)
        for num in [500] if quick else [1000, 3200, 12_800, 51_200]:
            found = {}
            for path in ("ours", "dense"):
                clean()
                slide_tower.dilated_attention = own if path == "ours" else dense
                step = tower_step(model, num)
                held = torch.cuda.memory_allocated() if device() == "cuda" else 0
                seconds = seconds_of(step, 3)
                peak = torch.cuda.max_memory_allocated() - held if device() == "cuda" else 0
                found[path] = (seconds, peak / 2**30)
            slide_tower.dilated_attention = own
            (ours, gib), (peer, other) = found["ours"], found["dense"]
            yield {
                "name": f"slide tower, {num:,} patches, {str(dtype)[6:]}", "ours": round(ours, 4),
                "peer": round(peer, 4), "unit": "s forward + backward", "ratio": round(peer / ours, 2),
                "note": f"peak {gib:.2f} GiB, dense {other:.2f}",
            }  # fmt: skip


def prompts(quick: bool) -> Iterator[Row]:
    """Tower and decoder of the 7B's shape, LoRA, one token a patch."""
    import torch
    from slide_model import build, prompt_step

    clean()
    model, processor = build("small" if quick else "7b")
    for num in [500] if quick else [1000, 3200, 6400, 12_800]:
        clean()
        step = prompt_step(model, processor, num)
        seconds = seconds_of(step, 1)
        peak = torch.cuda.max_memory_allocated() / 2**30 if device() == "cuda" else 0.0
        yield {
            "name": f"slide prompt, 7B shape, {num:,} patches", "ours": round(seconds, 3), "peer": None,
            "unit": "s forward + backward", "ratio": None, "note": f"peak {peak:.1f} GiB, weights included",
        }  # fmt: skip


PARTS: dict[str, tuple[Callable[[bool], Iterator[Row]], float]] = {
    "parity": (parity, 150), "rl": (rl_pairs, 300), "tower": (towers, 90), "sft": (sft_pairs, 120),
    "prompt": (prompts, 90),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small shapes, on whatever there is")
    parser.add_argument("--budget-s", type=float, default=480.0, help="stop asking for more after so many seconds")
    parser.add_argument("--parts", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="write the table to this file, after every row")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        for row in PARTS[options.part][0](options.quick):
            print(json.dumps(row), flush=True)
        return
    end = time.monotonic() + options.budget_s
    rows: list[Row] = []
    for part in options.parts.split(",") if options.parts else PARTS:
        left = end - time.monotonic()
        if left < 20:
            print(f"{part}: no time left", flush=True)
            continue
        rows += run_part(part, options, min(left, PARTS[part][1]), rows)


def run_part(part: str, options: argparse.Namespace, limit_s: float, before: list[Row]) -> list[Row]:
    """Rows of one part, from a process that is ended after `limit_s` seconds."""
    import threading

    command = [sys.executable, __file__, "--part", part, *(["--quick"] if options.quick else [])]
    begun, rows = time.monotonic(), list[Row]()
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        guard = threading.Timer(limit_s, child.kill)
        guard.start()
        assert child.stdout is not None
        for line in child.stdout:
            if not line.startswith('{"name"'):
                continue
            rows.append({"part": part, **json.loads(line)})
            row = rows[-1]
            print(
                f"{row['name']:<66}{row['ours']!s:>9}{row['peer']!s:>9}{row['ratio']!s:>7}  {row['note']}", flush=True
            )
            if options.json:
                options.json.write_text(json.dumps({"cases": before + rows}, indent=1))
        code = child.wait()
        guard.cancel()
        if code:
            errors.seek(0)
            print(f"{part}: ended with {code}\n{errors.read()[-1500:]}", flush=True)
    print(f"{part}: {time.monotonic() - begun:.0f} s", flush=True)
    return rows


if __name__ == "__main__":
    main()
