"""SFT steps on rows of unequal length beside plain TRL: `python benchmarks/sft.py [--quick] [--json FILE]`.

Both sides train the same small Qwen2.5-VL on the same rows in the same order; TRL pads every batch to its longest row,
Eosin puts the rows one after the other (train/data/ragged.py). Sides take turns, each in a process of its own, one step
that is not counted first; seconds are those of the processor, as machines are shared. The losses a token are compared
step by step. A ratio above 1 means that Eosin is better.

The lengths of the replies are log-normal (sigma 0.9), as those of chains of reasoning are: most short, a few long.
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
from pathlib import Path
from typing import Any

Row = dict[str, Any]
# name, text model, picture side in pixels, rows a step, median words of a reply, whether the tower trains
CASES: dict[str, tuple[dict[str, int], int, int, int, bool]] = {
    "3 M, short replies": ({"hidden_size": 192, "intermediate_size": 512, "num_layers": 4}, 56, 16, 24, True),
    "3 M, long replies": ({"hidden_size": 192, "intermediate_size": 512, "num_layers": 4}, 56, 8, 120, True),
    "3 M, pictures of 64 tokens": ({"hidden_size": 192, "intermediate_size": 512, "num_layers": 4}, 224, 8, 60, False),
    "100 M, long replies": ({"hidden_size": 768, "intermediate_size": 2304, "num_layers": 12}, 56, 8, 60, False),
}
QUICK = ("3 M, short replies",)
WORDS = [
    "glands",
    "nuclei",
    "stroma",
    "mucin",
    "lumen",
    "crypts",
    "cells",
    "mitoses",
    "necrosis",
    "lymphocytes",
    "even",
    "crowded",
    "pale",
    "large",
]


def rows_of(px: int, median: int, num: int = 64) -> list[Row]:
    """Rows with a picture, a question and a reply of a log-normal number of words."""
    import numpy as np
    from PIL import Image

    rng, rows = np.random.default_rng(0), []
    for size in np.clip(rng.lognormal(np.log(median), 0.9, num), 2, 12 * median).astype(int):
        picture = Image.fromarray(rng.integers(0, 255, (px, px, 3), dtype=np.uint8))
        reply = " ".join(rng.choice(WORDS, size))
        content = [{"type": "image"}, {"type": "text", "text": "Which tissue is this?"}]
        rows.append({
            "prompt": [{"role": "user", "content": content}], "images": [picture],
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": reply}]}],
        })  # fmt: skip
    return rows


def processor_timer(seconds: list[float]) -> Any:
    """A trainer's callback that appends the processor's seconds of every optimiser step."""
    from transformers import TrainerCallback

    class Timer(TrainerCallback):  # type: ignore[misc]
        begin = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begin = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.process_time() - self.begin)

    return Timer()


def one(name: str, side: str, steps: int, threads: int) -> dict[str, Any]:
    """Median seconds of a step, the losses, and the tokens of all steps."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from eosin.core.settings.model import TinyModel, TinyText, TinyVision
    from eosin.models.load import freeze
    from eosin.models.ragged import reads_ragged
    from eosin.models.tiny import build_tiny
    from eosin.train.data.collate import MaskedCollator
    from eosin.train.data.ragged import RaggedCollator

    torch.set_num_threads(threads)
    text, px, batch, median, trains = CASES[name]
    shape = TinyModel(
        image_px=px, vocab_size=640, text=TinyText(**text, num_heads=4, num_kv_heads=2),
        vision=TinyVision(depth=2, hidden_size=128, intermediate_size=384),
    )  # fmt: skip
    model, processor = build_tiny(WORDS * 8, shape, 0)
    freeze(model, set() if trains else {"vision"})
    rows = rows_of(px, median)
    data = Dataset.from_dict({"number": list(range(len(rows)))}).with_transform(
        lambda found: {k: [rows[i][k] for i in found["number"]] for k in rows[0]}
    )
    seconds: list[float] = []
    collate = {"data_collator": RaggedCollator(MaskedCollator(processor), model)} if side == "eosin" else {}
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, per_device_train_batch_size=batch, max_steps=steps + 1, use_cpu=True, report_to=[],
            disable_tqdm=True, save_strategy="no", remove_unused_columns=False, max_length=None, logging_steps=1,
            gradient_checkpointing=False, completion_only_loss=True, learning_rate=1e-4, bf16=False, seed=0,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=arguments, train_dataset=data, processing_class=processor,
            callbacks=[processor_timer(seconds)], **collate,
        )  # fmt: skip
        if side == "eosin":
            with reads_ragged(model):
                trainer.train()
        else:
            trainer.train()
    logs = [r for r in trainer.state.log_history if "loss" in r]
    return {"seconds": statistics.median(seconds[1:]), "losses": [r["loss"] for r in logs],
            "tokens": logs[-1]["num_tokens"]}  # fmt: skip


def pair(name: str, steps: int, repeats: int, threads: int) -> Row:
    """Both sides in turn."""
    found: dict[str, list[dict[str, Any]]] = {"eosin": [], "trl": []}
    for repeat in range(repeats):
        for side in ("trl", "eosin") if repeat % 2 == 0 else ("eosin", "trl"):
            command = [sys.executable, __file__, "--one", json.dumps([name, side, steps, threads])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {side: statistics.median(r["seconds"] for r in runs) for side, runs in found.items()}
    losses = zip(found["eosin"][0]["losses"], found["trl"][0]["losses"], strict=True)
    apart = max(abs(a - b) for a, b in losses)
    tokens = found["eosin"][0]["tokens"]
    assert tokens == found["trl"][0]["tokens"], "the sides were given other tokens"
    rate = tokens / (steps + 1)
    return {
        "name": name, "ours": round(seconds["eosin"], 3), "peer": round(seconds["trl"], 3), "unit": "s a step",
        "ratio": round(seconds["trl"] / seconds["eosin"], 2),
        "note": f"{rate / seconds['eosin']:.0f} : {rate / seconds['trl']:.0f} real tokens a second; losses a token "
        f"differ by at most {apart:.1e}",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small case, few steps")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--json", type=Path, help="write the table to this file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*json.loads(options.one))))
        return
    names = [n for n in (QUICK if options.quick else CASES) if not options.only or options.only in n]
    rows = []
    print(f"{'SFT step, rows of unequal length':<36}{'Eosin':>9}{'TRL':>9}{'ratio':>7}  note")
    for name in names:
        rows.append(row := pair(name, 3 if options.quick else 7, 1 if options.quick else 2, options.threads))
        print(f"{name:<36}{row['ours']:>8.3f}s{row['peer']:>8.3f}s{row['ratio']:>7.2f}  {row['note']}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"cases": rows}, indent=1))


if __name__ == "__main__":
    main()
