"""Stop a command at its N-th file operation, give it again, and see that nothing is lost, half, or other than it was.

A process that has imported everything once is forked for every try, so that a try costs what the command costs. In the
child an audit hook counts what the command is about to do to files below its output folder (open for writing, rename,
remove, make or remove a folder), and before the chosen one does what `ways.py` says: kills the process as a power cut
would, asks it to end, or fills the disk.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability.ways import KILL, Way

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
TIMES = re.compile(
    r"^(created|seconds|since|.*_seconds|.*_s|peak_rss_gib|step_time|.*_per_second|share_.*|.*_runtime|"
    r"record)$"
)
# Pages say when they were made; the log and the table of slides say what each start did, so that two starts say more.
FREE = re.compile(r"(\.html|/eosin_log_[^/]*\.jsonl|/eosin_slides_[^/]*\.csv)$")
TIMEOUT_S = 3600.0  # stuck; on a busy machine a try takes minutes


@dataclass
class Tried:
    """What became of one try.

    Attributes:
        point: number of the file operation before which the kill came; 0 for none.
        way: how it was stopped.
        operation: what it would have been.
        fault: what was wrong afterwards; "" where all is well.
    """

    verb: str
    point: int
    way: str = "kill"
    operation: str = ""
    fault: str = ""


@dataclass
class Verb:
    """A command line to try.

    Attributes:
        argv: as `eosin` takes it; OUT stands for the folder of the try.
        results: paths below OUT that must be equal in the end, files or folders.
        once: the command refuses to run again where its whole result stands; that is well, too.
    """

    name: str
    argv: Sequence[str]
    results: Sequence[str]
    once: bool = False
    points: int = field(default=0, compare=False)


def in_child(work: Callable[[], int], log: Path, timeout_s: float = TIMEOUT_S, *, nobody_reads: bool = False) -> int:
    """Run `work` in a forked process group; its exit code, or minus the signal that ended it.

    Args:
        nobody_reads: what it prints goes into a pipe whose reader is gone; its errors still go to the log.
    """
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(handle, 2)
            if nobody_reads:
                reader, handle = os.pipe()
                os.close(reader)
            os.dup2(handle, 1)
            code = work()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            os._exit(code)
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            _end_group(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    _end_group(pid)
    os.waitpid(pid, 0)
    return -999


def _end_group(pid: int) -> None:
    """End what the process left running: readers of slides, workers of loaders."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def command(argv: Sequence[str]) -> int:
    """One command of Eosin in this process, as the shell would see it."""
    from eosin.cli.main import run

    sys.argv = ["eosin", *argv]
    try:
        run()
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def stop_before(point: int, below: Path, told: int, way: Way) -> None:
    """From now on count operations on files below a folder; stop before number `point` (0: never).

    Args:
        told: open file to which every operation is written, one a line.
    """
    root, seen, me = str(below), 0, os.getpid()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            path, mode, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not (writes or (isinstance(mode, str) and set(mode) & set("wax+"))):
                return
        elif event in WRITES:
            path = args[0]
        else:
            return
        if not isinstance(path, (str, bytes, os.PathLike)) or os.getpid() != me:
            return
        place = os.fsdecode(path)
        if not place.startswith(root):
            return
        seen += 1
        os.write(told, f"{event} {place.removeprefix(root)}\n".encode("utf-8", "replace"))
        if seen == point:
            way.strike(below)

    sys.addaudithook(hook)


def attempt(verb: Verb, out: Path, point: int, way: Way = KILL) -> tuple[int, list[str]]:
    """Run a verb with its output in `out`, stopped before a point; its exit code and the operations it did."""
    told = out.parent / f"{out.name}.operations"

    def work() -> int:
        handle = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        stop_before(point, out, handle, way)
        return command([a.replace("OUT", str(out)) for a in verb.argv])

    with way.around(out):
        code = in_child(work, out.parent / f"{out.name}.log", nobody_reads=way.nobody_reads)
    return code, told.read_text("utf-8").splitlines()


def again(verb: Verb, out: Path) -> tuple[int, str]:
    """The same command, left alone; its exit code and what it said."""
    log = out.parent / f"{out.name}.log"
    code = in_child(lambda: command([a.replace("OUT", str(out)) for a in verb.argv]), log)
    return code, log.read_text("utf-8", "replace")


def tried(verb: Verb, reference: Path, out: Path, point: int, way: Way = KILL) -> Tried:
    """Stop at a point, run again, compare with the unbroken run."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    code, operations = attempt(verb, out, point, way)
    found = Tried(verb.name, point, way.name, operations[point - 1] if 0 < point <= len(operations) else "")
    said = (out.parent / f"{out.name}.log").read_text("utf-8", "replace")
    found.fault = way.complaint(code, said)
    if found.fault:
        return found
    code, said = again(verb, out)
    differing = list(differences(reference, out, verb.results))
    if code == 2 and verb.once and "overwrites" in said and not differing:
        code = 0
    if code != 0:
        found.fault = f"the second start ended with {code}: {(said.strip().splitlines() or [''])[-1][:160]}"
    elif differing:
        found.fault = f"{len(differing)} differ: " + "; ".join(differing[:3])
    else:
        left = [p.name for p in out.rglob(".*") if p.name.endswith((".tmp", ".lock", ".old", ".work"))]
        found.fault = f"left behind: {left[0]}" if left else ""
    return found


def differences(reference: Path, out: Path, results: Sequence[str]) -> Iterator[str]:
    """Files of the results that are missing, too many, or not equal but for times."""
    for result in results:
        here, there = _files(reference / result), _files(out / result)
        for name in sorted(here.keys() ^ there.keys()):
            yield f"{result}/{name} {'is missing' if name in here else 'is too many'}"
        for name in sorted(here.keys() & there.keys()):
            if not _equal(here[name], there[name]):
                yield f"{result}/{name}{_where(here[name], there[name])}"


def _files(place: Path) -> dict[str, Path]:
    if place.is_file():
        return {"": place}
    return {str(p.relative_to(place)): p for p in place.rglob("*") if p.is_file()} if place.is_dir() else {}


def _equal(a: Path, b: Path) -> bool:
    if FREE.search(str(a)):
        return b.stat().st_size > 0
    if a.suffix in (".json", ".jsonl"):
        return _parsed(a) == _parsed(b)
    return a.read_bytes() == b.read_bytes()


def _where(a: Path, b: Path) -> str:
    """The first place at which two records differ."""
    return "" if a.suffix not in (".json", ".jsonl") else f": {_first(_parsed(a), _parsed(b))}"


def _first(a: Any, b: Any) -> str:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next((f".{k}{_first(a[k], b[k])}" for k in a if a[k] != b[k]), "")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next((f"[{i}]{_first(x, y)}" for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), "")
    return f" {str(a)[:60]} and {str(b)[:60]}"


def _parsed(path: Path) -> Any:
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        return [_without_times(json.loads(line)) for line in text.split("\n") if line]
    return _without_times(json.loads(text))


def _without_times(value: Any) -> Any:
    """A record without what tells when and how fast; digests of records with it."""
    if isinstance(value, dict):
        kept = {k: _without_times(v) for k, v in value.items() if not TIMES.match(str(k))}
        if "parts" in kept and "digest" in kept:  # a manifest: files are compared themselves, digests follow from them
            kept["parts"] = sorted(kept["parts"])
            del kept["digest"]
        if set(kept) >= {"path", "kind", "digest"}:  # a parent
            del kept["digest"]
        return kept
    if isinstance(value, list):
        return [_without_times(v) for v in value]
    return str(value).replace(str(Path.cwd()), "") if isinstance(value, Path) else value
