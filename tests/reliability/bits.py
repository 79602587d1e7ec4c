"""python -m tests.reliability.bits: the same small run in processes of their own; what is equal by bits, and what not.

The run has every kind of stage, an exam and a report. It is made again as it was (with other hash seeds and another
folder), with another seed, with two threads, and with the plainest kernels of the CPU. Prints a table for
docs/determinism.md; ends with 1 where the run as it was is not equal.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.reliability.kill import differences
from tests.reliability.verbs import recipe
from tests.support.toys import toy_table

AS_IT_WAS = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
CASES = {
    "again": {"PYTHONHASHSEED": "2"},
    "another seed": {"SEED": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "plainest kernels": {"ATEN_CPU_CAPABILITY": "default"},
}
PARTS = {
    "samples": "samples/train.parquet",
    "start weights": "base/model.safetensors",
    "weights after the warm-up": "stages/warmup/checkpoint/model.safetensors",
    "weights after SFT": "stages/sft/checkpoint/model.safetensors",
    "weights after RL": "stages/rl/checkpoint/model.safetensors",
    "replies in the exam": "evals/rl/heldout/predictions.jsonl",
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="eosin-bits-") as place:
        folder = Path(place)
        toy_table(folder / "tiles", num=36)
        (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe(folder), sort_keys=False), "utf-8")
        run(folder, "first", {})
        print("| | " + " | ".join(CASES) + " |\n" + "|---" * (len(CASES) + 1) + "|")
        for name, changes in CASES.items():
            run(folder, name, changes)
        for part, path in PARTS.items():
            told = [said(folder, name, path) for name in CASES]
            print(f"| {part} | " + " | ".join(told) + " |", flush=True)
        return int(any(said(folder, "again", path) != "equal" for path in PARTS.values()))


def run(folder: Path, name: str, changes: dict[str, str]) -> None:
    """One run in a process of its own."""
    told = {**os.environ, **AS_IT_WAS, **changes}
    out = folder / name.replace(" ", "-")
    argv = [sys.executable, "-m", "eosin.cli.main", "run", str(folder / "tiny.yaml"), f"seed={told.get('SEED', '0')}"]
    done = subprocess.run([*argv, "--out", str(out)], env=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}: {done.stderr[-1500:]}")


def said(folder: Path, name: str, path: str) -> str:
    if not (folder / "first" / path).is_file():
        raise SystemExit(f"the run left no {path}")
    found = list(differences(folder / "first", folder / name.replace(" ", "-"), [path]))
    return "other" if found else "equal"


if __name__ == "__main__":
    sys.exit(main())
