"""Rollouts on disk: whole groups, their images once, what became of them; the same rows after a resume."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.toys import toy_samples
from tests.train.conftest import new_model

from eosin.core.errors import ImageError
from eosin.core.settings.stages import RewardSpec, RlStage
from eosin.core.store import artifacts as store
from eosin.scoring.reading.item import ScoreItem
from eosin.scoring.sets.compose import Outcome
from eosin.train.rl.rollouts import RolloutWriter, thumbnail, verdicts
from eosin.train.stages import rl
from eosin.train.stages.base import StageContext


def scored(rewards: list[float | None], ids: list[str], size: int = 2) -> tuple[list[ScoreItem], list[Outcome]]:
    """Completions of `size` a prompt with these totals."""
    items = [ScoreItem(id=ids[i // size], reply=f"reply {i}", question="?", answer="A") for i in range(len(rewards))]
    return items, [Outcome(r, {"accuracy": r}, {} if r is not None else {"accuracy": "judge down"}) for r in rewards]


def writer_at(path: Path, at: list[int], **changed: object) -> RolloutWriter:
    settings = {"stage": "rl", "num_generations": 2, "keep_every": 1} | changed
    return RolloutWriter(path, step=lambda: at[0], **settings)  # type: ignore[arg-type]


def test_groups_are_written_whole_with_step_and_advantage(tmp_path: Path) -> None:
    at = [0]
    writer = writer_at(tmp_path / "rollouts.jsonl", at)
    writer(*scored([1.0, 0.0, 0.5, None], ["a", "b"]))
    at[0] = 1
    writer(*scored([1.0, 1.0], ["c"]))
    rows = store.read_jsonl(tmp_path / "rollouts.jsonl")
    assert [(r["step"], r["group"], r["sample_id"]) for r in rows] == [
        (1, 0, "a"), (1, 0, "a"), (1, 1, "b"), (1, 1, "b"), (2, 0, "c"), (2, 0, "c"),
    ]  # fmt: skip
    assert rows[0]["advantage"] == pytest.approx(0.5 / (np.sqrt(0.5) + 1e-4))
    assert rows[3]["reward"] is None and rows[3]["advantage"] is None
    assert rows[3]["unscored"] == {"accuracy": "judge down"}


def test_what_became_of_each_group_by_hand(tmp_path: Path) -> None:
    """Three rounds for two places: two groups without variance, one with variance too many."""
    groups = [object() for _ in range(5)]
    varied = [False, True, False, True, True]
    fates, advantages = verdicts(groups, [groups[3], groups[1]], varied, [0.7, -0.7, 0.5, -0.5], 2)
    assert fates == ["no variance", "kept", "no variance", "kept", "not needed"]
    assert advantages == [None, None, 0.5, -0.5, None, None, 0.7, -0.7, None, None]
    short, _ = verdicts(groups[:2], [groups[1], groups[0]], [False, True], [1.0, -1.0, 0.0, 0.0], 2)
    assert short == ["kept without variance", "kept"]

    writer = writer_at(tmp_path / "rollouts.jsonl", [6], waits=True)
    writer(*scored([1.0, 1.0, 1.0, 0.0], ["a", "b"]))  # two calls for one step: dynamic sampling asked again
    writer(*scored([0.0, 0.0, 0.0, 1.0, 1.0, 0.0], ["c", "d", "e"]))
    assert not (tmp_path / "rollouts.jsonl").exists()
    writer.decided(fates, advantages, [True] * 6 + [False, True] + [True] * 2)
    rows = store.read_jsonl(tmp_path / "rollouts.jsonl")
    assert [r["group"] for r in rows[::2]] == [0, 1, 2, 3, 4]
    assert [r["fate"] for r in rows[::2]] == fates
    assert [r["advantage"] for r in rows] == advantages
    assert [r["in_loss"] for r in rows] == [False, False, True, True, False, False, False, True, False, False]
    with pytest.raises(ValueError, match="0 groups wait"):
        writer.decided(fates, advantages)


def test_a_resume_writes_the_same_groups_once(tmp_path: Path) -> None:
    """Stopped after step 5 and resumed from the save of step 3: the same rows as without the stop."""

    def steps(path: Path, first: int, last: int) -> None:
        at = [first]
        writer = writer_at(path, at, keep_every=3)
        for at[0] in range(first, last):
            writer(*scored([1.0, 0.0] * 4, [f"{at[0]}-{k}" for k in range(4)]))

    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    steps(whole, 0, 9)
    steps(cut, 0, 5)
    store.keep_rows(cut, lambda row: row["step"] <= 3)  # as run_trainer does
    steps(cut, 3, 9)
    assert store.read_jsonl(whole) == store.read_jsonl(cut)
    groups = {(r["step"], r["group"]) for r in store.read_jsonl(whole)}
    assert len(groups) == 12  # one in three of 36
    assert {g for _, g in groups} == {0, 1, 2, 3}  # at other places in each step


def test_images_are_small_and_written_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def pictures(sample_id: str) -> list[Image.Image]:
        asked.append(sample_id)
        if sample_id == "broken":
            raise ImageError("image truncated or damaged")
        return [Image.new("RGB", (900, 300), "pink"), Image.new("L", (50, 60))]

    at = [0]
    writer = writer_at(tmp_path / "rollouts.jsonl", at, pictures=pictures)
    writer(*scored([1.0, 0.0, 0.0, 0.0], ["a/../b", "broken"]))
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "rollouts" / "images").iterdir()}
    at[0] = 1
    writer(*scored([1.0, 0.0], ["a/../b"]))
    rows = store.read_jsonl(tmp_path / "rollouts.jsonl")
    assert rows[0]["images"] == rows[4]["images"] and rows[2]["images"] == []
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "rollouts" / "images").iterdir()} == first
    sizes = [Image.open(tmp_path / name).size for name in rows[0]["images"]]
    assert sizes == [(224, 75), (50, 60)]
    assert all((tmp_path / name).resolve().is_relative_to(tmp_path / "rollouts") for name in rows[0]["images"])


def test_only_written_groups_read_their_images(tmp_path: Path) -> None:
    asked: list[str] = []

    def pictures(sample_id: str) -> list[Image.Image]:
        asked.append(sample_id)
        return [Image.new("RGB", (60, 60))]

    writer_at(tmp_path / "a.jsonl", [0], pictures=pictures, keep_every=2)(*scored([1.0, 0.0] * 4, list("abcd")))
    assert asked == ["a", "c"]
    writer_at(tmp_path / "b.jsonl", [0], pictures=pictures, writes=False)(*scored([1.0, 0.0], ["a"]))
    assert asked == ["a", "c"] and not (tmp_path / "b.jsonl").exists()


def test_thumbnail_is_a_jpeg_of_the_picture() -> None:
    sample = toy_samples(1, "train")[0]
    picture = Image.open(io.BytesIO(sample.images[0].data))  # type: ignore[union-attr]
    small = Image.open(io.BytesIO(thumbnail(picture)))
    assert small.format == "JPEG" and small.size == picture.size
    difference = np.abs(np.asarray(small, float).mean((0, 1)) - np.asarray(picture.convert("RGB"), float).mean((0, 1)))
    assert difference.max() < 2


class KilledError(Exception):
    """Stands for a kill in the middle of a stage."""


def dapo_stage() -> RlStage:
    own = f"{Path(__file__).parents[1] / 'support' / 'rewards.py'}:share_of_e"
    return RlStage(
        algorithm="dapo", steps=6, batch_size=8, num_generations=4, max_new_tokens=12, log_every=1, learning_rate=1e-3,
        save_every=3, rewards=[RewardSpec(name=own)], collapse=None, keep_rollouts=1000,
    )  # fmt: skip


def run_killed(ctx: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `dapo_stage` and kill it at step 5, after the save of step 3."""
    original = RolloutWriter.decided

    def kill(self: RolloutWriter, *args: Any) -> None:
        original(self, *args)
        if self._at_step == 4:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(RolloutWriter, "decided", kill)
        with pytest.raises(KilledError):
            rl.run(dapo_stage(), ctx)


def test_a_resumed_stage_leaves_the_rollouts_of_an_unbroken_one(
    context: Callable[..., StageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DAPO with dynamic sampling, killed at step 5 after the save of step 3."""
    whole = context("whole")
    rl.run(dapo_stage(), whole)
    cut = context("cut")
    run_killed(cut, monkeypatch)
    assert max(r["step"] for r in store.read_jsonl(cut.folder / "rollouts.jsonl")) == 5
    rl.run(dapo_stage(), replace(cut, loaded=new_model()))
    ours, theirs = (store.read_jsonl(c.folder / "rollouts.jsonl") for c in (whole, cut))
    told = ("step", "group", "sample_id", "reply", "fate", "images")
    assert [[r[k] for k in told] for r in ours] == [[r[k] for k in told] for r in theirs]
    for step in range(1, 7):
        of_step = [r for r in ours if r["step"] == step]
        kept = [r for r in of_step if str(r["fate"]).startswith("kept")]
        assert len(kept) == 8  # a whole batch of two groups
        for number in {r["group"] for r in kept}:
            group = [r for r in kept if r["group"] == number]
            assert len(group) == 4 and abs(sum(r["advantage"] for r in group)) < 1e-3
        assert all(r["advantage"] is None and not r["in_loss"] for r in of_step if r not in kept)
    assert all((whole.folder / name).is_file() for r in ours for name in r["images"])
    rows = store.read_jsonl(whole.metrics_file)
    seen = [r["prompts_seen"] for r in rows if "prompts_seen" in r]
    assert seen[-1] == len({(r["step"], r["group"]) for r in ours})  # every group was written here
    wanted = {
        "reward", "reward_std", "group_std", "frac_zero_std", "groups_kept", "groups_dropped", "generation_batches",
        "entropy", "clip_low", "clip_high", "truncated_rate", "unparsed_rate", "completion_length",
        "tokens_per_second", "share_generate", "share_rewards", "share_loss", "prompts_seen",
    }  # fmt: skip
    assert wanted <= set(rows[0]), wanted - set(rows[0])
