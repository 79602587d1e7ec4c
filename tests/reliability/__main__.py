"""python -m tests.reliability [--points 500] [--verbs run evaluate ...] [--seed 0] [--at VERB:N ...]

Kills every verb at chosen file operations, gives the command again, and compares with an unbroken run. Prints a table;
ends with 1 where something was lost, half, unequal, left behind or stuck.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a forked process has one thread only
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500, help="kills in all, spread over the verbs")
    parser.add_argument("--verbs", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", nargs="*", default=[], metavar="VERB:N", help="only these points")
    parser.add_argument("--keep", action="store_true", help="leave the folder of material and tries")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eosin-kills-"))
    try:
        return go(chosen, folder)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)


def go(chosen: argparse.Namespace, folder: Path) -> int:
    load_everything()
    from tests.reliability.kill import Tried, attempt, tried
    from tests.reliability.verbs import material

    verbs = [v for v in material(folder) if not chosen.verbs or v.name in chosen.verbs]
    for verb in verbs:
        out = folder / "try" / verb.name.replace(" ", "-")  # where all tries stand: records name their places
        out.mkdir(parents=True)
        begun = time.monotonic()
        code, operations = attempt(verb, out, 0)
        if code:
            print((out.parent / f"{out.name}.log").read_text("utf-8", "replace")[-2000:])
            raise SystemExit(f"{verb.name} ended with {code} where nothing was killed")
        (folder / "reference").mkdir(exist_ok=True)
        out.rename(folder / "reference" / out.name)
        verb.points = len(operations)
        print(f"{verb.name}: {len(operations)} file operations, {time.monotonic() - begun:.1f} s", flush=True)
    found: list[Tried] = []
    for verb, point in points_of(verbs, chosen):
        out = folder / "try" / verb.name.replace(" ", "-")
        one = tried(verb, folder / "reference" / verb.name.replace(" ", "-"), out, point)
        found.append(one)
        if one.fault:
            print(f"FAULT {one.verb} before operation {one.point} ({one.operation}): {one.fault}", flush=True)
    return tell(found)


def load_everything() -> None:
    """Import once what every try needs, in one thread."""
    import importlib

    for name in ("torch", "transformers", "trl", "datasets", "peft", "pyarrow.parquet", "matplotlib", "sklearn", "cv2",
                 "tifffile", "openslide", "h5py", "eosin.cli.main", "eosin.chain.recipe.run", "eosin.train.stages.rl",
                 "eosin.train.stages.sft", "eosin.train.warmup.stage", "eosin.report", "eosin.slides.features.run",
                 "eosin.chain.exam", "eosin.chain.rl_data", "eosin.evaluate.exam.entry"):  # fmt: skip
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def points_of(verbs, chosen):  # type: ignore[no-untyped-def]
    """(verb, point) of all tries: those that were asked for, else a seeded choice spread over the verbs."""
    by_name = {v.name: v for v in verbs}
    if chosen.at:
        for at in chosen.at:
            name, _, number = at.rpartition(":")
            if name in by_name:
                yield by_name[name], int(number)
        return
    rng = random.Random(chosen.seed)
    share = {v.name: min(v.points, chosen.points // len(verbs)) for v in verbs}
    left = chosen.points - sum(share.values())
    for verb in sorted(verbs, key=lambda v: -v.points):  # what small verbs do not need goes to the large ones
        more = max(0, min(left, verb.points - share[verb.name]))
        share[verb.name] += more
        left -= more
    for verb in verbs:
        for point in sorted(rng.sample(range(1, verb.points + 1), share[verb.name])):
            yield verb, point


def tell(found) -> int:  # type: ignore[no-untyped-def]
    tries, faults = Counter(t.verb for t in found), Counter(t.verb for t in found if t.fault)
    print(f"\n{'verb':<18}{'kills':>7}{'faults':>8}")
    for verb in tries:
        print(f"{verb:<18}{tries[verb]:>7}{faults[verb]:>8}")
    print(f"{'all':<18}{len(found):>7}{sum(faults.values()):>8}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
