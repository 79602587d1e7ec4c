"""Processes that tests fork: what a new Python would have, they have, and what would need one is refused."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support import forked

pytestmark = pytest.mark.skipif(not forked.FORKS, reason="real interpreters are started here")

FACTS = """
import json, os, random, signal, sys, threading
import numpy as np, torch
facts = {
    "argv": sys.argv[1:], "name": __name__, "cwd": os.getcwd(), "mine": os.environ.get("MINE"), "group": os.getpgrp(),
    "pid": os.getpid(), "term": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "read": sys.stdin.read(),
    "threads": threading.active_count(), "open": len(os.listdir("/proc/self/fd")),
    "drawn": [random.random(), float(np.random.random())], "torch": torch.rand(1).item(),
    "group of torch": torch.distributed.is_initialized(),
}
print(json.dumps(facts))
"""


def test_a_process_has_its_own_everything(tmp_path: Path) -> None:
    one, two = (
        json.loads(forked.run(["-c", FACTS, "a", n], env={**os.environ, "MINE": n}, cwd=tmp_path).stdout) for n in "12"
    )
    assert (one["argv"], one["mine"], one["cwd"], one["name"]) == (["a", "1"], "1", str(tmp_path), "__main__")
    assert one["group"] == one["pid"] != two["pid"] and one["term"] and one["read"] == ""
    assert one["threads"] == 1 and one["open"] <= 4 and not one["group of torch"]  # in, out, errors, the list itself
    assert all(a != b for a, b in zip(one["drawn"], two["drawn"], strict=True))
    assert one["torch"] == two["torch"]  # as in new processes: torch begins with one seed


@pytest.mark.parametrize(
    ("code", "ends", "said"),
    [
        ("import sys; print('x'); print('y', file=sys.stderr)", 0, ("x\n", "y\n")),
        ("import sys; sys.exit(7)", 7, ("", "")),
        ("import sys; sys.exit('no')", 1, ("", "no\n")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ("", "")),
        ("import atexit; atexit.register(print, 'last')", 0, ("last\n", "")),
    ],
)
def test_how_it_ends(code: str, ends: int, said: tuple[str, str]) -> None:
    done = forked.run(["-c", code])
    assert (done.returncode, done.stdout, done.stderr) == (ends, *said)


def test_a_traceback_is_one() -> None:
    done = forked.run(["-c", "raise ValueError('odd')"])
    assert done.returncode == 1 and "Traceback" in done.stderr and "ValueError: odd" in done.stderr


def test_a_signal_reaches_it_and_what_it_started_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        "print(child.pid, flush=True)\ntime.sleep(600)"
    )
    started = forked.start(["-c", code], stdout=tmp_path / "out")
    while not (tmp_path / "out").exists() or not (tmp_path / "out").read_text().endswith("\n"):
        time.sleep(0.01)
    assert started.poll() is None
    started.send_signal(signal.SIGTERM)
    assert started.wait() == -signal.SIGTERM and started.poll() == -signal.SIGTERM
    child = Path("/proc") / (tmp_path / "out").read_text().strip()
    while child.exists() and "zombie" not in (child / "status").read_text():
        time.sleep(0.01)


def test_ranks_meet_and_one_that_fails_ends_the_others() -> None:
    code = (
        "import torch, torch.distributed as d\nd.init_process_group('gloo')\nx = torch.ones(1) * (d.get_rank() + 1)\n"
        "d.all_reduce(x)\nprint(x.item())\nd.destroy_process_group()"
    )
    done = forked.ranks(2, ["-c", code])
    assert done.returncode == 0 and done.stdout == "3.0\n3.0\n", done.stderr
    failing = "import os, sys, time\nsys.exit(4) if os.environ['RANK'] == '1' else time.sleep(600)"
    assert forked.ranks(2, ["-c", failing]).returncode in (4, -signal.SIGTERM)


def test_what_is_read_while_importing_needs_a_new_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    with pytest.raises(ValueError, match="HF_HOME"):
        forked.run(["-c", "print(1)"])
