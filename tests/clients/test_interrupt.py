"""Ctrl-C while a server, or the look-up of its name, hangs: the process ends at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.judge_stub import running_stub
from tests.support.misbehaviour import hangs_after

# The limit of an attempt in these scripts is ten minutes; what a slow machine needs to end a process is far less.
SOON_S = 30.0
SETUP = """
import asyncio, sys, threading
from eosin.scoring import ScoreItem, load_rewards
from eosin.scoring.judge.model import JudgeSettings, OpenAIJudge
judge = OpenAIJudge(JudgeSettings(sys.argv[1], "stub", timeout_s=600.0))
rewards = load_rewards("semantic", judge=judge)
items = [ScoreItem(id=str(n), reply=f"<think>x</think><answer>lipoma {n}</answer>", question="?", answer="lipoma")
         for n in range(20)]
"""
SCRIPTS = {
    "without a loop": SETUP + "rewards.score_batch(items)",
    "in a running loop, as in a notebook": SETUP
    + "async def main(): rewards.score_batch(items)\nloop = asyncio.new_event_loop()\nloop.run_until_complete(main())",
    "one request": SETUP
    + "from eosin.clients import ChatClient, ChatRequest, Message\n"
    + "ChatClient(judge.settings).complete_now(ChatRequest((Message('user', ('x',)),)))",
    "while a name is looked up": "import os, socket, time\n"
    # By the descriptor: a thread that ends inside print holds the lock of stdout, and the interpreter aborts.
    + "socket.getaddrinfo = lambda *a, **k: (os.write(1, b'asked\\n'), time.sleep(600))\n"
    + SETUP
    + "rewards.score_batch(items)",
}


def stopped(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and messages after Ctrl-C; fails where the process goes on."""
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=SOON_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail("Ctrl-C did not end it")
    return process.returncode, err


def started(*command: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_ctrl_c_ends_a_hang_at_once(name: str) -> None:
    with running_stub() as stub:
        stub.always = hangs_after(lambda v: b"HTTP/1.1 200 OK\r\n")
        process = started("-c", SCRIPTS[name], stub.url.replace("127.0.0.1", "localhost"))
        if "looked up" in name:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("asked")
        else:
            _until(stub.requests, process)
        code, err = stopped(process)
    assert code in (1, 130, -signal.SIGINT)
    assert "KeyboardInterrupt" in err
    assert "never retrieved" not in err and "was destroyed" not in err


def test_ctrl_c_on_the_command_line_ends_without_a_traceback(tmp_path: Path) -> None:
    row = {"id": "1", "reply": "<think>x</think><answer>lipoma</answer>", "question": "?", "answer": "lipoma"}
    (tmp_path / "replies.jsonl").write_text(json.dumps(row) + "\n")
    with running_stub() as stub:
        stub.always = hangs_after(lambda v: b"")
        process = started(
            "-c", "from eosin.cli.main import run\nrun()", "score", str(tmp_path / "replies.jsonl"), "--reward",
            "semantic", "--judge", stub.url, "--judge-model", "stub", "--out", str(tmp_path / "scores.jsonl"),
        )  # fmt: skip
        _until(stub.requests, process)
        code, err = stopped(process)
    assert code == 130
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["replies.jsonl"]


def _until(requests: list[dict[str, object]], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 120
    while not requests:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < limit
        time.sleep(0.02)
