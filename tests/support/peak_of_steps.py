"""Run alone: peak memory of real SFT stages of small shapes, each over what the process held before. Writes a list.

`python -m tests.support.peak_of_steps CASES.json OUT.json`; a case is {model, stage, repeat}.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch

from eosin.core.nouns.prompt import PromptSettings
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.model import TinyModel
from eosin.core.settings.stages import SftStage
from eosin.models.load import Loaded
from eosin.models.tiny import build_tiny
from eosin.train.data.collate import MaskedCollator
from eosin.train.data.rows import rows_dataset, sft_row
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext
from tests.support.toys import toy_samples

GRAMMAR, PROMPT = Grammar.of("think/answer"), PromptSettings(instruction=False, answer="text")


def peak() -> int:
    """Most resident bytes since `forget_peak`."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak() -> int:
    """Let the peak begin anew; what is resident now."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed and kept would be used again, and not be counted
    Path("/proc/self/clear_refs").write_text("5", "utf-8")
    return int(psutil.Process().memory_info().rss)


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """Bytes over the start, and the sizes of the batch that the trainer was given."""
    repeat = case.get("repeat", 1)
    samples = [s.model_copy(update={"reasoning": s.reasoning * repeat}) for s in toy_samples(16, "train")]
    before = forget_peak()
    model, processor = build_tiny(["red green blue tissue"] * 20, TinyModel.model_validate(case["model"]), 0)
    settings = SftStage.model_validate({"steps": 2, "save_every": 1000, **case["stage"]})
    with tempfile.TemporaryDirectory() as folder:
        ctx = StageContext("sft", Path(folder), Loaded(model, processor, "tiny"), samples, [], GRAMMAR, PROMPT, 0)
        rows = rows_dataset(samples, sft_row(GRAMMAR, PROMPT), ctx.pictures(1.0))
        batch = MaskedCollator(processor)([rows[i] for i in range(settings.batch_size)])
        sft.run(settings, ctx)
    return {
        "bytes": peak() - before, "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": int(batch["input_ids"].shape[1]), "patches": int(batch["pixel_values"].shape[0]),
    }  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    measured(cases[-1])  # libraries, their kernels and buffers that stay are there now
    Path(sys.argv[2]).write_text(json.dumps([measured(case) for case in cases]), "utf-8")
