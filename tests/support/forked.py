"""Processes that cost what they do, and not nine seconds of imports each: forked from one that has imported everything.

`run`, `start` and `ranks` take what stands after `python` on a command line. They give real processes: with their own
environment, folder, group and exit code, ended by real signals, joined by gloo over localhost where they are several.
What a new interpreter would do anew and a forked one does not: import, read the environment while importing (a start
that would need it is refused, see `READ_AT_IMPORT`), and choose the order of sets of strings, which is the same in all
of them and another one in the process of the tests. Where that is the subject, start `sys.executable`.

Only Linux forks well after these imports; elsewhere real interpreters are started.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FORKS = sys.platform == "linux"
READ_AT_IMPORT = (
    "ATEN_CPU_CAPABILITY", "HF_HOME", "HF_HUB_CACHE", "LANG", "LC_ALL", "MPLBACKEND", "MPLCONFIGDIR", "PYTHONHASHSEED",
    "PYTHONIOENCODING", "PYTHONUTF8", "TORCH_HOME", "TRANSFORMERS_CACHE", "XDG_CACHE_HOME",
)  # fmt: skip
"""Variables that are looked at while Python starts or libraries are imported, and that a test may set for itself."""
AT_FIRST = dict(os.environ)
"""Before a test changes it for itself, and before the imports do."""
SET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
       "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
"""In every process that is forked: one thread, offline, quiet."""
EOSIN = ("-m", "eosin.cli.main")
GRACE_S = 60.0
"""From asking the other processes of a start to end until they are ended."""


# ---- in the test's process -----------------------------------------------------------------------------------------


class Forked:
    """A started process, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, parent: Parent, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._parent = parent

    def poll(self) -> int | None:
        """The exit code, minus the signal that ended it, or None while it runs."""
        return self.wait(0.0)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code; None where it still runs after `timeout_s`."""
        if self.returncode is None:
            self.returncode = self._parent.ended(self.pid, timeout_s)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Parent:
    """The process that has imported everything; started when the first test needs it."""

    def __init__(self) -> None:
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**AT_FIRST, **SET, "PYTHONPATH": paths}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked"], cwd=ROOT, env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._asks, self._told = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._rest, self._codes = b"", dict[int, int]()
        atexit.register(self.close)

    def start(self, argv: Sequence[str], told: dict[str, Any]) -> Forked:
        os.write(self._asks, json.dumps({"argv": list(argv), **told}).encode() + b"\n")
        while True:
            for answer in self._answers(None):
                if "started" in answer:
                    return Forked(self, answer["started"])
                if "refused" in answer:
                    raise ValueError(answer["refused"])

    def ended(self, pid: int, timeout_s: float | None) -> int | None:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while pid not in self._codes:
            left = None if end is None else max(0.0, end - time.monotonic())
            self._answers(left)
            if pid not in self._codes and end is not None and time.monotonic() >= end:
                return None
        return self._codes.pop(pid)

    def _answers(self, timeout_s: float | None) -> list[dict[str, Any]]:
        """What the parent says within some time; notes who has ended."""
        if not select.select([self._told], [], [], timeout_s)[0]:
            return []
        read = os.read(self._told, 1 << 16)
        assert read, "the process that forks has ended"
        *lines, self._rest = (self._rest + read).split(b"\n")
        answers = [json.loads(line) for line in lines]
        self._codes.update({a["ended"]: a["code"] for a in answers if "ended" in a})
        return answers

    def close(self) -> None:
        """End it, and with it everything that it started."""
        os.close(self._asks)
        self._process.wait()


_parent: Parent | None = None


def start(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: str | Path | None = None,
    stdout: str | Path = os.devnull, stderr: str | Path = os.devnull,
) -> Any:  # fmt: skip
    """Start a process that goes on beside the test.

    Args:
        argv: what stands after `python`: `-m MODULE ...`, `-c CODE ...` or `FILE ...`.
        env: the whole environment; default: that of the tests.
        stdout: a file; so is `stderr`.

    Returns:
        A `Forked`, or a `subprocess.Popen` where forking is not safe.

    Raises:
        ValueError: the environment has variables that are read while importing, and that differ from the parent's.
    """
    global _parent
    words = [str(a) for a in argv]
    environment = {**(os.environ if env is None else env), **SET}
    if not FORKS:
        with open(stdout, "wb") as out, open(stderr, "wb") as err:
            return subprocess.Popen([sys.executable, *words], env=environment, cwd=cwd, stdout=out, stderr=err)
    _parent = _parent or Parent()
    told = {"env": environment, "cwd": str(cwd or Path.cwd()), "stdout": str(stdout), "stderr": str(stderr)}
    return _parent.start(words, told)


def run(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end, as `subprocess.run` does with captured text."""
    return ranks(1, argv, env=env, cwd=cwd)


def eosin(*args: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line `eosin ...` in a process of its own."""
    return run([*EOSIN, *args], env=env)


def ranks(
    num: int, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: str | Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `num` processes that know each other, as torchrun does: what they all say, and the first code that is not 0.

    They meet at a store in the test's process, whose port is whichever is free.
    """
    with tempfile.TemporaryDirectory() as folder:
        at = [(Path(folder) / f"out{n}", Path(folder) / f"err{n}") for n in range(num)]
        meeting = _meeting(num) if num > 1 else None
        base = dict(os.environ if env is None else env)
        started = []
        for n, (out, err) in enumerate(at):
            own = {} if meeting is None else {"RANK": n, "LOCAL_RANK": n, "MASTER_PORT": meeting.port, **_shared(num)}
            whole = {**base, **{k: str(v) for k, v in own.items()}}
            started.append(start(argv, env=whole, cwd=cwd, stdout=out, stderr=err))
        codes = _all_ended(started)
        said = ["".join(path.read_text("utf-8", "replace") for path in paths) for paths in zip(*at, strict=True)]
    return subprocess.CompletedProcess([str(a) for a in argv], next((c for c in codes if c), 0), *said)


def _shared(num: int) -> dict[str, Any]:
    return {"WORLD_SIZE": num, "LOCAL_WORLD_SIZE": num, "MASTER_ADDR": "127.0.0.1",
            "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": 0}  # fmt: skip


def _meeting(num: int) -> Any:
    from torch.distributed import TCPStore

    return TCPStore("127.0.0.1", 0, num, is_master=True, wait_for_workers=False)


def _all_ended(started: Sequence[Any]) -> list[int]:
    """Wait for all; where one fails, the others are asked to end."""
    while all(p.poll() in (None, 0) for p in started) and any(p.poll() is None for p in started):
        time.sleep(0.01)
    for number, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 0.0)):
        for process in started:
            process.send_signal(number)
        end = time.monotonic() + grace_s
        while any(p.poll() is None for p in started) and time.monotonic() < end:
            time.sleep(0.01)
    return [p.wait() for p in started]


# ---- in the process that forks -------------------------------------------------------------------------------------

MODULES = (
    "torch", "transformers", "trl", "datasets", "peft", "pyarrow.parquet", "matplotlib.pyplot", "sklearn.ensemble",
    "sklearn.linear_model", "cv2", "tifffile", "openslide", "h5py", "openai", "torch.distributed", "accelerate",
    "eosin.cli.main", "eosin.chain.recipe.run", "eosin.chain.exam", "eosin.chain.rl_data", "eosin.train.stages.rl",
    "eosin.train.stages.sft", "eosin.train.stages.pretrain", "eosin.train.stages.clip", "eosin.train.warmup.stage",
    "eosin.report", "eosin.slides.features.run", "eosin.evaluate.exam.entry", "eosin.curate", "eosin.documents",
)  # fmt: skip
"""What commands import; what cannot be imported here is left to those that need it."""


def load_everything() -> None:
    """Import once what every process needs, in one thread; it is no garbage, and is not looked through for it."""
    import importlib

    for name in MODULES:
        with suppress(ImportError):
            importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    threads = [(at / "comm").read_text().strip() for at in Path("/proc/self/task").iterdir()] if FORKS else []
    lost = [t for t in threads[1:] if t != "jemalloc_bg_thd"]  # of pyarrow; starts again in a forked process
    assert not lost, f"threads after the imports, which a forked process would lack: {lost}"
    assert not torch.distributed.is_initialized()
    gc.collect()
    gc.freeze()


def serve() -> list[str] | None:
    """Fork for every line that is read. Returns in a child with its command line, and in the parent at the end."""
    asks, tells = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    woken, wakes = os.pipe()
    for end in (woken, wakes):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    alive, rest = set[int](), b""
    while True:
        ready = select.select([asks, woken], [], [])[0]
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, 1 << 12)
            for pid, code in _reaped(alive):
                _tell(tells, {"ended": pid, "code": code})
        if asks not in ready:
            continue
        read = os.read(asks, 1 << 20)
        if not read:
            for pid in alive:
                _end_group(pid)
            return None
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            told = json.loads(line)
            differing = _differing(told["env"])
            if differing:
                _tell(tells, {"refused": f"read while importing, and not as here: {differing}; start a new Python"})
                continue
            pid = os.fork()
            if pid == 0:
                for handle in (asks, tells, woken, wakes, null):
                    os.close(handle)
                _become(told)
                return list(told["argv"])
            alive.add(pid)
            _tell(tells, {"started": pid})


def _tell(handle: int, what: dict[str, Any]) -> None:
    os.write(handle, json.dumps(what).encode() + b"\n")


def _reaped(alive: set[int]) -> list[tuple[int, int]]:
    found = []
    for pid in list(alive):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            alive.remove(pid)
            _end_group(pid)
            found.append((pid, os.waitstatus_to_exitcode(status)))
    return found


def _end_group(pid: int) -> None:
    """End what a process left running: readers of slides, workers of loaders."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _differing(environment: Mapping[str, str]) -> list[str]:
    """Variables that were read while importing, and were not what they are now."""
    return [n for n in READ_AT_IMPORT if environment.get(n) != AT_FIRST.get(n)]


def _become(told: Mapping[str, Any]) -> None:
    """What a new process has and a forked one lacks: a group, a folder, an environment, streams, signals, draws."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number, handler in ((signal.SIGCHLD, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_DFL),
                            (signal.SIGINT, signal.default_int_handler)):  # fmt: skip
        signal.signal(number, handler)
    for name, stream in (("stdout", 1), ("stderr", 2)):
        handle = os.open(told[name], os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(handle, stream)
        os.close(handle)
    by_imports = {n: v for n, v in os.environ.items() if AT_FIRST.get(n) != v}
    os.environ.clear()
    os.environ.update({**told["env"], **by_imports})
    os.chdir(told["cwd"])
    sys.path[0] = told["cwd"]
    more = [p for p in told["env"].get("PYTHONPATH", "").split(os.pathsep) if p and os.path.abspath(p) not in sys.path]
    sys.path[1:1] = [os.path.abspath(p) for p in more]
    import numpy as np

    np.random.seed()  # noqa: NPY002  the fork itself seeds Python's own generator anew; torch's always starts alike


def be(argv: Sequence[str]) -> None:
    """Do what a new Python would do with these words."""
    if tuple(argv[:2]) == EOSIN:
        from eosin.cli.main import run as command

        sys.argv = ["eosin", *argv[2:]]
        command()
        return
    if argv[0] == "-c":
        sys.argv = ["-c", *argv[2:]]
        exec(compile(argv[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
        return
    by_name = argv[0] == "-m"
    sys.argv = list(argv[1 if by_name else 0 :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the module was imported before
        if by_name:
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(argv[0], run_name="__main__")


def leave(work: Callable[[], None]) -> None:
    """Do it, and end as an interpreter does, but for taking every module to pieces, which takes half a second."""
    code = 0
    try:
        work()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def main() -> None:
    load_everything()
    argv = serve()
    if argv is not None:
        leave(lambda: be(argv))


if __name__ == "__main__":
    main()
