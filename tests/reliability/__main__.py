"""python -m tests.reliability [--points 500] [--verbs run evaluate ...] [--ways kill term ...] [--at VERB:N[:WAY] ...]

Stops every verb at chosen file operations (killed, asked to end, on a full disk; or with standard output closed, or
into a read-only folder), gives the command again, and compares with an unbroken run. Prints a table; ends with 1 where
something was lost, half, unequal, left behind or stuck.
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
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a forked process has one thread only
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=500, help="tries in all, spread over the verbs")
    parser.add_argument("--ways", nargs="*", default=["kill", "term", "full", "pipe", "read-only"])
    parser.add_argument("--cpu-minutes", type=float, default=1e9, help="stop trying after so much processor time")
    parser.add_argument("--verbs", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", nargs="*", default=[], metavar="VERB:N[:WAY]", help="only these points")
    parser.add_argument("--keep", action="store_true", help="leave the folder of material and tries")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eosin-kills-"))
    try:
        with ExitStack() as stack:
            return go(chosen, folder, stack)
    finally:
        if not chosen.keep:
            shutil.rmtree(folder, ignore_errors=True)


def go(chosen: argparse.Namespace, folder: Path, stack: ExitStack) -> int:
    from tests.support.forked import load_everything

    load_everything()
    from tests.reliability.kill import Tried, tried
    from tests.reliability.verbs import material
    from tests.reliability.ways import WAYS, small_disk

    asked = [(at.split(":") + ["kill"])[2] for at in chosen.at] or chosen.ways
    has_disk = any(WAYS[w].needs_disk for w in asked) and stack.enter_context(small_disk(folder / "try"))
    if not has_disk and any(WAYS[w].needs_disk for w in asked):
        print("no small disk can be mounted here: full disks and read-only folders are left out", flush=True)
    verbs = [v for v in material(folder, set(chosen.verbs), stack) if not chosen.verbs or v.name in chosen.verbs]
    for verb in verbs:
        unbroken(verb, folder)
    found: list[Tried] = []
    for verb, point, name in points_of(verbs, chosen):
        if (WAYS[name].needs_disk and not has_disk) or cpu_minutes() > chosen.cpu_minutes:
            continue
        folder_name = verb.name.replace(" ", "-")
        one = tried(verb, folder / "reference" / folder_name, folder / "try" / folder_name, point, WAYS[name])
        found.append(one)
        if one.fault:
            print(f"FAULT {one.verb} {one.way} at operation {one.point} ({one.operation}): {one.fault}", flush=True)
    return tell(found)


def unbroken(verb, folder: Path) -> None:  # type: ignore[no-untyped-def]
    """The run that all tries are compared with; counts the operations."""
    from tests.reliability.kill import attempt

    out = folder / "try" / verb.name.replace(" ", "-")  # where all tries stand: records name their places
    out.mkdir(parents=True)
    begun = time.monotonic()
    code, operations = attempt(verb, out, 0)
    if code:
        print((out.parent / f"{out.name}.log").read_text("utf-8", "replace")[-2000:])
        raise SystemExit(f"{verb.name} ended with {code} where nothing was stopped")
    (folder / "reference").mkdir(exist_ok=True)
    shutil.move(out, folder / "reference" / out.name)
    verb.points = len(operations)
    print(f"{verb.name}: {len(operations)} file operations, {time.monotonic() - begun:.1f} s", flush=True)


def cpu_minutes() -> float:
    """Processor time of this process and of all tries so far."""
    used = os.times()
    return (used.user + used.system + used.children_user + used.children_system) / 60


def points_of(verbs, chosen):  # type: ignore[no-untyped-def]
    """(verb, point, way) of all tries: those that were asked for, else a seeded choice spread over verbs and ways,
    in an order that leaves none of them to the end."""
    from tests.reliability.ways import WAYS

    by_name = {v.name: v for v in verbs}
    for at in chosen.at:
        name, number, *way = at.split(":")
        if name in by_name:
            yield by_name[name], int(number), (way or ["kill"])[0]
    if chosen.at:
        return
    rng = random.Random(chosen.seed)
    tries = [(v, 0, w) for v in verbs for w in chosen.ways if WAYS[w].at_start]
    ways = [w for w in chosen.ways if not WAYS[w].at_start]
    everywhere = [(v, n, w) for v in verbs for n in range(1, v.points + 1) for w in ways]
    per_verb = max(1, (chosen.points - len(tries)) // max(1, len(verbs)))
    for verb in verbs:
        own = [t for t in everywhere if t[0] is verb]
        tries += rng.sample(own, min(len(own), per_verb))
    rng.shuffle(tries)
    yield from tries


def tell(found) -> int:  # type: ignore[no-untyped-def]
    """A table of verbs and ways: tries, and faults where there are any."""
    tries, faults = Counter((t.verb, t.way) for t in found), Counter((t.verb, t.way) for t in found if t.fault)
    ways = sorted({t.way for t in found})
    print(f"\n{'verb':<18}" + "".join(f"{w:>11}" for w in ways) + f"{'tries':>8}{'faults':>8}")
    for verb in dict.fromkeys(t.verb for t in found):
        row = "".join(f"{tries[verb, w]:>11}" for w in ways)
        of_verb = [t for t in found if t.verb == verb]
        print(f"{verb:<18}{row}{len(of_verb):>8}{sum(bool(t.fault) for t in of_verb):>8}")
    row = "".join(f"{sum(t.way == w for t in found):>11}" for w in ways)
    print(f"{'all':<18}{row}{len(found):>8}{sum(faults.values()):>8}")
    print(f"{cpu_minutes():.1f} minutes of processor time")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
