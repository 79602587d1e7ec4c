"""A stage that does no harm: the best checkpoint by the valid split stays, the start among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from eosin.core.settings.rl import RewardSpec
from eosin.core.settings.stages import RlStage, SftStage
from eosin.core.store import artifacts as store
from eosin.models.load import load
from eosin.train.heldout import Answers
from eosin.train.keep_best import BestKeeper, Look, looks_every, verdict
from eosin.train.stages import rl, sft
from eosin.train.stages.base import StageContext

Make = Callable[..., StageContext]


def answers(right: str, labels: str = "aabb", entities: tuple[float | None, ...] | None = None) -> Answers:
    """Answers from signs: "1" is right."""
    return Answers(tuple(labels), tuple(c == "1" for c in right), entities or (None,) * len(right), 0)


def test_the_figures_by_hand() -> None:
    found = answers("1101", "aaab", (1.0, 0.5, 0.0, 0.5))
    assert found.recalls == {"a": 2 / 3, "b": 1.0}
    assert found.value("accuracy") == pytest.approx((2 / 3 + 1) / 2)  # balanced
    assert found.value("entities") == 0.5
    assert found.value("score") == pytest.approx(((2 / 3 + 1) / 2 + 0.5) / 2)
    assert answers("1100").value("score") == 0.5  # without gold entities accuracy alone


class Written:
    """A context that only notes what is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.saved = folder, "rl", list[tuple[str, int]]()

    def save(self, name: str, model: Any, step: int, *, replace: bool = False) -> None:
        self.saved.append((name, step))


@pytest.mark.parametrize(
    ("looks", "best"),
    [
        (["1010", "1110", "1010"], 1),
        (["1110", "1010", "1010"], 0),  # the start is the best
        (["1010", "1010", "0101"], 2),  # as good: the later one
        (["1010", "1100", "1010"], 2),  # b was lost at 1, though the figure is the same
        (["1010", "1100", "1100"], 0),
    ],
)
def test_the_best_sound_look_stays(tmp_path: Path, looks: list[str], best: int) -> None:
    keeper = BestKeeper(Written(tmp_path), "accuracy")  # type: ignore[arg-type]
    for step, right in enumerate(looks):
        keeper.look(None, step, answers(right))
    assert keeper.best.step == best
    note = store.read_object(tmp_path / "keep.json")
    assert [row["step"] for row in note["looks"]] == [0, 1, 2]


def test_what_is_said() -> None:
    def look(step: int, right: str) -> Look:
        found = answers(right, "ab" * (len(right) // 2))
        return Look(step, found.value("accuracy"), tuple(found.each("accuracy")), found.recalls)

    start, worse, better, same = (look(i, s) for i, s in enumerate(["1110" * 8, "0110" * 8, "1111" * 8, "1110" * 8]))
    assert "worse than its start" in verdict(start, worse, start) and "goes on from its start" in verdict(
        start, worse, start
    )
    assert "better than its start" in verdict(start, better, better)
    assert "no more than noise" in verdict(start, same, same)
    assert verdict(start, look(4, "1010" * 8), start).startswith("Training lost b")


def test_looks_by_default() -> None:
    assert looks_every(RlStage(), 30) == 5
    assert looks_every(RlStage(keep="last"), 30) is None
    assert looks_every(RlStage(valid_every=7), 30) == 7
    assert looks_every(SftStage(), 30) is None


def test_a_stage_that_does_harm_changes_nothing(context: Make, capsys: pytest.CaptureFixture[str]) -> None:
    start = context("sft")
    sft.run(SftStage(steps=60, batch_size=16, learning_rate=1e-2, log_every=60), start)
    ctx = context("rl", load(start.folder / "checkpoint"), num_valid=9)
    settings = RlStage(
        steps=4, batch_size=8, num_generations=4, max_new_tokens=40, log_every=1, learning_rate=1.0, warmup_fraction=0,
        rewards=[RewardSpec(name="format"), RewardSpec(name="accuracy")], collapse=None,
    )  # fmt: skip
    result = rl.run(settings, ctx)
    kept = result.extra["keep"]
    assert (kept["kept"], kept["best_step"], kept["figure"], kept["n"]) == ("start", 0, "valid_score", 9)
    assert kept["start"] > kept["end"]
    before, after = (load_file(f.folder / "checkpoint" / "model.safetensors") for f in (start, ctx))
    last = load_file(ctx.folder / "last" / "model.safetensors")
    assert all((before[k] == after[k]).all() for k in before)
    assert any((before[k] != last[k]).any() for k in before)
    assert store.open_artifact(ctx.folder / "checkpoint").manifest["step"] == 0
    assert "goes on from its start" in capsys.readouterr().err


def test_without_a_valid_split_it_is_said_and_the_last_step_stays(
    context: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = context("none")
    settings = RlStage(steps=1, batch_size=8, num_generations=4, max_new_tokens=8, collapse=None)
    result = rl.run(settings, ctx)
    assert "keep" not in result.extra
    assert "no valid split" in capsys.readouterr().err
