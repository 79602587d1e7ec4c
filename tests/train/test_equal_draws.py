"""What is drawn follows from (seed, epoch or step, sample), not from the process: two processes (gloo) train as one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.support import forked
from tests.support.equal_stages import KINDS, stage
from tests.support.streams import stream_of, write_shards
from tests.support.toys import toy_samples

from eosin.core.store import artifacts as store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages on one process, and on two."""
    folder = tmp_path_factory.mktemp("draws")
    write_shards(toy_samples(24, "train"), folder / "shards", a_shard=10)
    stream_of(folder / "shards")
    for kind in KINDS:
        stage(kind, folder / "one" / kind, folder / "shards")
    done = forked.ranks(2, ["-m", "tests.support.equal_stages", folder / "two", folder / "shards"])
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_draw_what_one_draws(kind: str, folder: Path) -> None:
    """Streamed (a worker in each process) and augmented; augmented, in batches by length; RL on TRL's own path."""
    logs = [[r for r in store.read_jsonl(folder / n / kind / "metrics.jsonl") if "loss" in r] for n in ("one", "two")]
    assert len(logs[0]) == len(logs[1]) == (4 if kind == "plain" else 6)
    assert [r["loss"] for r in logs[1]] == pytest.approx([r["loss"] for r in logs[0]], abs=1e-5)
    if kind == "plain":
        for name in ("reward", "completion_length"):
            assert [r[name] for r in logs[1]] == pytest.approx([r[name] for r in logs[0]], abs=1e-6)
        assert len({r["reward"] for r in logs[0]}) > 1  # what was drawn tells
    one, two = (load_file(next((folder / n / kind / "checkpoint").glob("*.safetensors"))) for n in ("one", "two"))
    assert all(torch.allclose(one[n], two[n], atol=2e-5) for n in one)
