"""Several processes of one run on this machine. One that dies takes the others down, and one message says so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from eosin.core import stopping
from eosin.core.errors import EosinError
from eosin.core.ranks import LOST_A_PROCESS

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
POLL_S = 0.2
GRACE_S = 20.0
"""From asking the others to end until they are ended."""
SAVE_S = 240.0
"""From SIGTERM until processes that still save are ended."""


def child_command(recipe: str, overrides: Sequence[str], out: str) -> list[str]:
    """The command of one process."""
    return [sys.executable, "-m", "eosin.cli.main", "run", recipe, *overrides, "--out", out]


def run_processes(command: Sequence[str], num: int) -> None:
    """Run `num` processes as torchrun would start them, until all have ended.

    Raises:
        EosinError: one of them ended with an error; the others were ended.
        StopRequested: this process was asked to end, and so were they.
    """
    port = _free_port()
    children = [subprocess.Popen(list(command), env=_environment(rank, num, port)) for rank in range(num)]
    try:
        with stopping.saves_first():
            _watch(children)
    except KeyboardInterrupt:  # and StopRequested
        _end(children, 0.0 if stopping.is_asked() else GRACE_S)
        raise
    finally:
        _end(children, 0.0)


def _environment(rank: int, num: int, port: int) -> dict[str, str]:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num, "LOCAL_WORLD_SIZE": num, "MASTER_ADDR": "127.0.0.1",
           "MASTER_PORT": port}  # fmt: skip
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": max(1, (os.cpu_count() or 1) // num)}
    return {**os.environ, **{k: str(v) for k, v in {**own, **threads}.items()}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for all; end them where one fails, and give them time to save where this process is asked to end."""
    told_at: float | None = None
    first: tuple[int, int] | None = None
    while any(c.poll() is None for c in children):
        if stopping.is_asked() and told_at is None:
            told_at = time.monotonic()
            _signal(children, signal.SIGTERM)
        first = first or _first_failed(children)
        if first is not None and told_at is None:
            _end(children, GRACE_S)
            break
        if told_at is not None and time.monotonic() - told_at > SAVE_S:
            _end(children, 0.0)
        time.sleep(POLL_S)
    first = first or _first_failed(children)
    if first is not None and not stopping.is_asked():
        raise EosinError(
            f"Process {first[0]} of {len(children)} {_how(first[1])}; the others were ended.",
            found="its own message stands above, where it had one",
            next_step="mend what it says, then give the same command again: the run goes on from its last save",
        )  # fmt: skip


def _first_failed(children: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int] | None:
    """(rank, exit code) of a process that failed by itself, and not because it lost another one."""
    failed = [(rank, c.returncode) for rank, c in enumerate(children) if c.poll() not in (None, 0)]
    return next((f for f in failed if f[1] != LOST_A_PROCESS), failed[0] if failed else None)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    hint = " (out of memory, perhaps)" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"


def _signal(children: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _end(children: Sequence[subprocess.Popen[bytes]], grace_s: float) -> None:
    """Ask those that still run to end, and end them after some seconds."""
    if all(c.poll() is not None for c in children):
        return
    end = time.monotonic() + grace_s
    if grace_s:
        _signal(children, signal.SIGTERM)
        while time.monotonic() < end and any(c.poll() is None for c in children):
            time.sleep(POLL_S)
    _signal(children, signal.SIGKILL)
    for child in children:
        child.wait()
