"""A lock holds among processes, ends with them, and is not fooled by clocks, numbers or left files."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.core.store.lock import is_held, lock_beside, locked

_HOLD = """
import sys, time
from pathlib import Path
from eosin.core.store.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def started(code: str, path: Path, says: str) -> subprocess.Popen[str]:
    """A process that runs `code` on a path; returns when it has said that it is there."""
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == f"{says}\n"
    return process


def holder(path: Path) -> subprocess.Popen[str]:
    return started(_HOLD, path, "held")


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    process = holder(path)
    try:
        with pytest.raises(EosinError) as caught, locked(path):
            pass
        assert f"process {process.pid}" in str(caught.value) and "since" in str(caught.value)
        assert is_held(path)
    finally:
        process.kill()
        process.wait()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    process = holder(path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert path.exists() and not is_held(path)
    with locked(path):
        assert json.loads(path.read_text("utf-8"))["process"] == os.getpid()
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "999999 1", "not json", "ME 0", '{"process": 1}', "\x00" * 100], ids=range(6))
def test_whatever_a_left_file_says_it_is_no_lock(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.lock"
    path.write_text(text.replace("ME", str(os.getpid())), "utf-8")
    os.utime(path, (0, 2**33))  # a clock that was set back
    with locked(path):
        assert is_held(path)


def test_the_same_process_cannot_take_it_twice(tmp_path: Path) -> None:
    with locked(tmp_path / "l"), pytest.raises(EosinError, match="Another process"), locked(tmp_path / "l"):
        pass
    with locked(tmp_path / "l"):
        pass


def _race(folder: str, start: float, times: int, found: multiprocessing.Queue[int]) -> None:
    """Take and leave the lock again and again; count who else is inside."""
    path, inside = Path(folder) / "lock", Path(folder) / "inside"
    both = 0
    time.sleep(max(0.0, start - time.time()))
    for _ in range(times):
        try:
            with locked(path):
                try:
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    both += 1
                inside.unlink(missing_ok=True)
        except EosinError:
            continue
    found.put(both)


def test_in_hundreds_of_races_never_two_hold_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    found: multiprocessing.Queue[int] = context.Queue()
    start = time.time() + 1.0
    racers = [context.Process(target=_race, args=(str(tmp_path), start, 300, found)) for _ in range(3)]
    for racer in racers:
        racer.start()
    assert [found.get(timeout=120) for _ in racers] == [0, 0, 0]
    for racer in racers:
        racer.join()


# ---- what dead writers leave ---------------------------------------------------------------------------------------

_WRITE = """
import sys, time
from pathlib import Path
from eosin.core.store import artifacts as store
with store.writing(Path(sys.argv[1]), "samples") as writer:
    (writer.dir / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def writer(out: Path) -> subprocess.Popen[str]:
    return started(_WRITE, out, "writing")


def test_what_a_dead_writer_left_is_removed_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    dead = writer(out)
    dead.kill()
    dead.wait()
    living = writer(out)  # its start removes what the dead one left
    try:
        assert len(list(tmp_path.glob(".out.*.tmp"))) == 1
        with store.writing(out, "samples") as mine:
            (mine.dir / "whole").write_text("whole", "utf-8")
        assert len(list(tmp_path.glob(".out.*.tmp"))) == 1 and (out / "whole").exists()
    finally:
        living.kill()
        living.wait()
    assert store.remove_leftovers(tmp_path) == 1 and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_two_writers_of_one_place_never_overwrite_each_other(tmp_path: Path) -> None:
    """The slower one is told, and what the faster one made stays."""
    out = tmp_path / "out"
    with pytest.raises(EosinError, match="come to stand"), store.writing(out, "samples") as slow:
        (slow.dir / "slow").write_text("slow", "utf-8")
        with store.writing(out, "samples") as fast:
            (fast.dir / "fast").write_text("fast", "utf-8")
    assert (out / "fast").exists() and not (out / "slow").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_that_a_user_made_is_taken_for_a_leftover(tmp_path: Path) -> None:
    mine = [".notes.tmp", "a.12345678.tmp", ".x.1234567.tmp", ".x.12345678.temp", ".x.ABCDEF12.tmp", ".12345678.tmp"]
    for name in mine:
        (tmp_path / name).mkdir()
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / ".deep.0123abcd.tmp").write_text("half", "utf-8")
    (tmp_path / ".link.0123abcd.tmp").symlink_to(tmp_path / "inside")
    assert store.remove_leftovers(tmp_path) == 1
    assert {p.name for p in tmp_path.iterdir()} == {*mine, "inside", ".link.0123abcd.tmp"}


def test_a_lock_lies_beside_what_it_guards(tmp_path: Path) -> None:
    assert lock_beside(tmp_path / "out") == tmp_path / ".out.lock"
