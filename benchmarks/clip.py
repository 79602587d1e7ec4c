"""Contrastive training and retrieval: `python benchmarks/clip.py [--quick] [--part NAME] [--json FILE]`.

Three questions. What does a batch of 1,024 cost in memory with gradient caching, beside one of 64? How fast is a
training step beside open_clip's own (its model, its ClipLoss) at an equal batch? How long does retrieval among 100,000
pairs take, and does it give what all products at once give? Every measurement is a process of its own; steps of the two
sides take turns in one process, and CPU seconds count, so that other work on the machine changes little. Ratio above 1:
Eosin is better.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peak import peak_bytes

MODEL = {
    "image_px": 64, "dim": 64, "context_length": 24, "vision": {"layers": 4, "width": 128, "heads": 4, "patch_size": 8},
    "text": {"layers": 2, "width": 128, "heads": 4},
}  # fmt: skip
CHUNK = 64


def clip_and_batch(num: int) -> tuple[Any, Any, Any]:
    """A small new model, pixels (N, px, px, 3) and ids (N, L)."""
    import torch

    from eosin.core.settings.clip import TinyClip
    from eosin.models.clip.load import new_clip

    clip = new_clip(TinyClip.model_validate(MODEL), 0)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (num, 64, 64, 3), dtype=torch.uint8, generator=generator)
    ids = torch.randint(1, 40_000, (num, 24), generator=generator)
    ids[:, -1] = 49_407
    clip.network.train()
    return clip, pixels, ids


def our_step(clip: Any, pixels: Any, ids: Any, chunk: int | None) -> float:
    """Loss, with the gradients left in the model."""
    import torch

    from eosin.train.clip.losses import Relations, infonce
    from eosin.train.clip.step import Tower, backward

    num = len(pixels)
    relations = Relations(torch.arange(num), torch.full((num,), -1))
    towers = [Tower(f, x.split(chunk or num), True) for f, x in ((clip.images, pixels), (clip.texts, ids))]
    return float(backward(*towers, relations, infonce, clip.network.logit_scale, None))


def their_step(clip: Any, pixels: Any, ids: Any) -> float:
    """The same by open_clip: forward of the whole model, ClipLoss, backward."""
    from open_clip.loss import ClipLoss

    images, texts, scale = clip.network(clip.normalised(pixels), ids)
    loss = ClipLoss()(images, texts, scale)
    loss.backward()
    return float(loss)


def memory(num: int, chunk: int | None) -> dict[str, float]:
    """Peak memory above that of the loaded model, of one backward pass."""
    clip, pixels, ids = clip_and_batch(num)
    our_step(clip, pixels[:8], ids[:8], 4)  # whatever the libraries take once
    before = peak_bytes()
    our_step(clip, pixels, ids, chunk)
    return {"mib": peak_bytes() / 2**20, "above": (peak_bytes() - before) / 2**20}


def gradients(num: int) -> dict[str, float]:
    """Largest difference between gradients in chunks and of the whole batch."""
    found = []
    for chunk in (None, CHUNK):
        clip, pixels, ids = clip_and_batch(num)
        our_step(clip, pixels, ids, chunk)
        found.append({n: p.grad for n, p in clip.network.named_parameters() if p.grad is not None})
    return {"worst": max(float((found[0][n] - found[1][n]).abs().max()) for n in found[0])}


def speed(num: int, rounds: int) -> dict[str, float]:
    """Best CPU seconds of a step, ours and open_clip's, in turn."""
    clip, pixels, ids = clip_and_batch(num)
    best = {"ours": float("inf"), "peer": float("inf")}
    for _ in range(rounds + 1):
        for name, step in (("ours", lambda: our_step(clip, pixels, ids, None)),
                           ("peer", lambda: their_step(clip, pixels, ids))):  # fmt: skip
            begun = time.process_time()
            step()
            best[name] = min(best[name], time.process_time() - begun)
            clip.network.zero_grad(set_to_none=True)
    return best


def ranks(num: int, dim: int) -> dict[str, float]:
    """Seconds and memory of retrieval both ways among `num` pairs."""
    import numpy as np

    from eosin.models.clip.ranks import ranks_both_ways

    pictures, captions = pairs(num, dim)
    before = peak_bytes()
    begun, cpu = time.perf_counter(), time.process_time()
    found = ranks_both_ways(pictures, captions, np.arange(num).tolist())
    seconds = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    return {**seconds, "gib": peak_bytes() / 2**30, "above": (peak_bytes() - before) / 2**30,
            "r1": float((found.captions <= 1).mean())}  # fmt: skip


def pairs(num: int, dim: int) -> tuple[Any, Any]:
    """Unit vectors of pictures and of captions that are near them."""
    import numpy as np

    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(num, dim)).astype(np.float32)
    captions = pictures + 2.5 * rng.normal(size=(num, dim)).astype(np.float32)
    for rows in (pictures, captions):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return pictures, captions


def dense(num: int, dim: int) -> dict[str, float]:
    """Share of ranks that differ from those of all products at once."""
    import numpy as np

    from eosin.models.clip.ranks import ranks_both_ways

    pictures, captions = pairs(num, dim)
    found = ranks_both_ways(pictures, captions, np.arange(num).tolist(), tile=512)
    products = pictures @ captions.T
    right = np.diag(products)
    rows = (products >= right[:, None]).sum(1)
    columns = (products >= right[None]).sum(0)
    return {"differ": float(((rows != found.captions).mean() + (columns != found.pictures).mean()) / 2)}


WHAT = {"memory": memory, "gradients": gradients, "speed": speed, "ranks": ranks, "dense": dense}


def measure(threads: int, name: str, *arguments: Any) -> dict[str, float]:
    """One measurement in a process of its own."""
    env = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, "--one", json.dumps([name, *arguments])]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def cases(quick: bool, threads: int, only: str | None) -> list[dict[str, Any]]:
    """The table as house law 13 asks for it; `only` names one part of it."""
    large, pairs_num, rounds = (256, 20_000, 3) if quick else (1024, 100_000, 8)
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "memory": lambda: [memory_case(large, threads)],
        "gradients": lambda: [gradients_case(threads)],
        "speed": lambda: [speed_case(rounds, threads)],
        "retrieval": lambda: retrieval_cases(pairs_num, threads),
    }
    return [case for name, make in parts.items() if only in (None, name) for case in make()]


def memory_case(large: int, threads: int) -> dict[str, Any]:
    small, big = measure(threads, "memory", 64, None), measure(threads, "memory", large, CHUNK)
    whole = measure(threads, "memory", large, None)
    return {
        "name": f"batch of {large:,} in chunks of {CHUNK}", "ours": round(big["mib"]), "peer": round(whole["mib"]),
        "unit": "MiB peak; peer: at once", "ratio": round(whole["mib"] / big["mib"], 2),
        "note": f"a batch of 64: {small['mib']:.0f} MiB, x {big['mib'] / small['mib']:.2f}; above the loaded model "
                f"x {big['above'] / small['above']:.2f}",
    }  # fmt: skip


def gradients_case(threads: int) -> dict[str, Any]:
    worst = measure(threads, "gradients", 256)
    return {"name": "gradients in chunks, batch of 256", "ours": worst["worst"], "peer": None,
            "unit": "largest difference", "ratio": None, "note": "fp32"}  # fmt: skip


def speed_case(rounds: int, threads: int) -> dict[str, Any]:
    step = measure(threads, "speed", 64, rounds)
    return {
        "name": "training step, batch of 64", "ours": round(64 / step["ours"], 1), "peer": round(64 / step["peer"], 1),
        "unit": "images a CPU second", "ratio": round(step["peer"] / step["ours"], 3), "note": "peer: open_clip",
    }  # fmt: skip


def retrieval_cases(num: int, threads: int) -> list[dict[str, Any]]:
    found, differ = measure(threads, "ranks", num, 512), measure(threads, "dense", 5_000, 512)
    return [
        {"name": f"retrieval, {num:,} x {num:,} x 512, both ways", "ours": round(found["seconds"], 1), "peer": None,
         "unit": "s", "ratio": None,
         "note": f"{found['cpu']:.0f} CPU s, peak {found['gib']:.2f} GiB; R@1 {found['r1']:.3f}"},
        {"name": "retrieval in tiles against all products, 5,000", "ours": differ["differ"], "peer": None,
         "unit": "share of ranks that differ", "ratio": None, "note": ""},
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a batch of 256, 20,000 pairs")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--part", choices=("memory", "gradients", "speed", "retrieval"), help="this part alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, *arguments = json.loads(options.one)
        print(json.dumps(WHAT[name](*arguments)))
        return
    rows = cases(options.quick, options.threads, options.part)
    for row in rows:
        peer = "" if row["peer"] is None else f"{row['peer']:>10}"
        print(f"{row['name']:<52}{row['ours']:>12.6g}{peer:>10}  {row['unit']}  {row['ratio'] or ''}  {row['note']}")
    if options.json:
        options.json.write_text(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
