"""Worker processes end when the run is asked to end, and hold nothing up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from eosin.core.processes import worker_processes

RUN = """
import multiprocessing, os, sys, time
from pathlib import Path
from eosin.core import stopping
from eosin.core.processes import worker_processes

folder, take_s = Path(sys.argv[1]), float(sys.argv[2])

def work(number):
    (folder / f"{number}.pid").write_text(str(os.getpid()))
    time.sleep(take_s)
    (folder / f"{number}.done").touch()

stopping.listen()
try:
    with worker_processes(2, context=multiprocessing.get_context("fork")) as pool:
        for _ in pool.map(work, range(1000)):
            pass
except stopping.StopRequested:
    sys.exit(0)
sys.exit(9)
"""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("whole_group", "take_s"), [(True, 600.0), (True, 0.001), (False, 0.2)])
def test_a_run_that_is_asked_to_end_ends(tmp_path: Path, whole_group: bool, take_s: float) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path), str(take_s)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        while len(list(tmp_path.glob("*.pid"))) < 4 if take_s < 1 else len(list(tmp_path.glob("*.pid"))) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    begun = {int(p.read_text() or 0) for p in tmp_path.glob("*.pid")} - {0}
    assert begun and not any(_is_alive(pid) for pid in begun)
    assert len(list(tmp_path.glob("*.pid"))) < 1000
    if not whole_group:  # what was begun is finished, what was not is left
        assert len(list(tmp_path.glob("*.pid"))) == len(list(tmp_path.glob("*.done")))


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_worker_that_is_ended_alone_is_no_request_to_stop() -> None:
    with pytest.raises(BrokenProcessPool), worker_processes(2) as pool:
        list(pool.map(_die, range(4)))


def _noted(path: str) -> str:
    return Path(path).read_text()


def _note(path: Path, text: str) -> None:
    path.write_text(text)


def test_workers_begin_as_told(tmp_path: Path) -> None:
    with worker_processes(1, _note, (tmp_path / "x", "begun")) as pool:
        assert list(pool.map(_noted, [str(tmp_path / "x")])) == ["begun"]
