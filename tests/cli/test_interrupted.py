"""What the command says and how it ends when it is interrupted, or asked to end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

VERB = """
import sys, time
from eosin.cli import main

@main.app.command("wait")
def wait(saves: bool = False) -> None:
    from eosin.core import stopping

    if saves:
        with stopping.saves_first():
            print("waiting", flush=True)
            while not stopping.is_asked():
                time.sleep(0.01)
            print("saved", flush=True)
    print("waiting", flush=True)
    time.sleep(600)

sys.argv = ["eosin", "wait", *sys.argv[1:]]
main.run()
"""


@pytest.mark.parametrize(
    ("sent", "saves", "code", "said"),
    [
        (signal.SIGINT, False, 130, "stopped. Give the same command again"),
        (signal.SIGTERM, False, 0, "asked to end (SIGTERM). What is done is saved"),
        (signal.SIGTERM, True, 0, "asked to end (SIGTERM). What is done is saved"),
    ],
)
def test_it_ends_as_documented(sent: signal.Signals, saves: bool, code: int, said: str) -> None:
    command = [sys.executable, "-c", VERB, *(["--saves"] if saves else [])]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(sent)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert said in errors and "Traceback" not in errors
    assert ("saved" in rest) is saves
