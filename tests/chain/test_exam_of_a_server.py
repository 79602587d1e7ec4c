"""A model served by another process has the same score as here, item by item; the verb takes an address."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import forked
from tests.support.chat_server import by_reply, serving
from tests.support.toys import toy_samples

from eosin.chain.exam import examine, examine_server
from eosin.clients.settings import ServerSettings
from eosin.core.nouns.prompt import PromptSettings
from eosin.core.nouns.reply import Grammar
from eosin.core.settings.exam import ExamSettings
from eosin.core.settings.model import TinyModel, TinyText, TinyVision
from eosin.core.settings.stages import SftStage
from eosin.core.store import artifacts as store
from eosin.models.load import Loaded
from eosin.models.tiny import build_tiny
from eosin.train.data.rows import corpus_of
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext

ROOT = Path(__file__).resolve().parents[2]
GRAMMAR = Grammar.of("think/answer")
PROMPT = PromptSettings(instruction=True, answer="text")
SMALL = TinyModel(
    image_px=56,
    vocab_size=420,
    vision=TinyVision(depth=2, hidden_size=32, intermediate_size=64, num_heads=2),
    text=TinyText(hidden_size=48, intermediate_size=96, num_layers=2, num_heads=2, num_kv_heads=1),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint that writes replies in form, some of them right; and 24 questions on disk."""
    folder = tmp_path_factory.mktemp("served")
    train = toy_samples(48, "train")
    model, processor = build_tiny(corpus_of(train, GRAMMAR, PROMPT), SMALL, 0)
    context = StageContext(
        name="sft", folder=folder, loaded=Loaded(model, processor, "tiny"), train=train, valid=[], grammar=GRAMMAR,
        prompt=PROMPT, seed=0,
    )  # fmt: skip
    sft.run(SftStage(steps=45, batch_size=12, learning_rate=8e-3, log_every=90), context)
    samples = folder / "samples.jsonl"
    samples.write_text("".join(s.model_dump_json() + "\n" for s in toy_samples(24, "test")))
    return folder / "checkpoint", samples


@pytest.fixture(scope="module")
def served(trained: tuple[Path, Path]) -> Iterator[str]:
    """The same checkpoint behind the address of another process."""
    said = trained[1].parent / "address"
    process = forked.start(["-m", "tests.support.chat_server", trained[0]], cwd=ROOT, stdout=said)
    try:
        while not said.exists() or not said.read_text().endswith("\n"):
            assert process.poll() is None
            time.sleep(0.01)
        yield said.read_text().strip()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_served_model_scores_as_it_does_here(trained: tuple[Path, Path], served: str, tmp_path: Path) -> None:
    checkpoint, samples = trained
    settings = ExamSettings(probes=["blank"], bootstrap=100, batch_size=1, max_new_tokens=40, baselines="none")
    here = examine(str(checkpoint), samples, settings, tmp_path / "here", None)["exam"]
    server = ServerSettings(served, "tiny", concurrency=8, backoff_s=0.1)
    there = examine_server(server, samples, settings, tmp_path / "there", None)
    usage = there["server"]  # blank questions are equal but for the order of their options, and sent once
    assert usage["calls"] + usage["cache_hits"] == 48 and usage["calls"] == 24 + 6 and usage["failures"] == 0
    for name in ("predictions.jsonl", "probe-blank.jsonl"):
        assert store.read_jsonl(tmp_path / "here" / "exam" / name) == store.read_jsonl(
            tmp_path / "there" / "exam" / name
        )
    assert here["accuracy"] > 0 and here["unparsed_rate"] < 1  # else all could be equal for nothing
    same = ("accuracy", "ci95", "confusion", "unparsed_rate", "mean_num_tokens", "probes")
    assert {k: here[k] for k in same} == {k: there["exam"][k] for k in same}


def test_the_verb_examines_an_address(trained: tuple[Path, Path], tmp_path: Path) -> None:
    with serving(by_reply(lambda request: "<think>seen</think><answer>A</answer>")) as server:
        command = ["evaluate", server.url, str(trained[1]), "--out", str(tmp_path / "e"), "--probes", "",
                   "--baselines", "none", "--in-flight", "4"]  # fmt: skip
        done = forked.eosin(*command)
        assert done.returncode == 0, done.stderr
        assert f"written to {tmp_path / 'e' / 'exam'}" in done.stdout and "calls 24" in done.stdout
        summary = json.loads((tmp_path / "e" / "exam" / "summary.json").read_text())
        assert summary["engine"] == f"server:tiny@{server.url}" and summary["n"] == 24
        server.fault = lambda number: "hang up"
        command[command.index("--out") + 1] = str(tmp_path / "f")
        done = forked.eosin(*command, "--retries", "0", "--cache", tmp_path / "other", "--model", "tiny")
        assert done.returncode == 2 and "gave no answer" in done.stderr and "Traceback" not in done.stderr
