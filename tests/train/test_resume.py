"""A stage that was killed and goes on ends as one that was never stopped: weights to the bit, counts, rollouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.conftest import new_model

from eosin.core.errors import EosinError
from eosin.core.settings.rl import Algorithm, RewardSpec
from eosin.core.settings.stages import Lora, RlStage, SftStage, WarmupStage
from eosin.core.store import artifacts as store
from eosin.train.stages import rl, sft
from eosin.train.stages.base import StageContext, StageResult
from eosin.train.stages.saves import WHOLE, finished_state, last_whole_save, refuse_other_kind, seed_everything
from eosin.train.warmup import stage as warmup

Make = Callable[..., StageContext]
Run = Callable[[Any, StageContext], StageResult]


class KilledError(Exception):
    pass


def fresh(ctx: StageContext) -> StageContext:
    """The same stage in another process: the model from its start, nothing of before in memory."""
    torch.manual_seed(12345)  # whatever that process drew before
    return StageContext(**{**ctx.__dict__, "loaded": new_model(), "picture_cache": {}})


def started(run: Run, settings: Any, ctx: StageContext) -> StageResult:
    seed_everything(ctx.seed)  # as chain.recipe.stages does
    return run(settings, ctx)


def killed_before_the_checkpoint(run: Run, settings: Any, ctx: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps are done and saved; the kill comes when the checkpoint is written."""

    def stop(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(StageContext, "save", stop)
        started(run, settings, ctx)


def also_killed(
    run: Run, settings: Any, whole: StageContext, cut: StageContext, monkeypatch: pytest.MonkeyPatch
) -> StageResult:
    """A stage that is not stopped; what stood on disk before its checkpoint was written stands in the other's folder
    too, as a kill at that moment leaves it."""
    save = StageContext.save

    def copied(self: StageContext, *args: Any, **kwargs: Any) -> Any:
        shutil.copytree(whole.folder, cut.folder, dirs_exist_ok=True)
        return save(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(StageContext, "save", copied)
        result = started(run, settings, whole)
    assert (whole.folder / "checkpoint").is_dir() and not (cut.folder / "checkpoint").exists()
    return result


def weights(ctx: StageContext) -> dict[str, torch.Tensor]:
    [file] = (ctx.folder / "checkpoint").glob("*.safetensors")
    return load_file(str(file))


def assert_same(one: StageContext, other: StageContext) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert [n for n in a if not torch.equal(a[n], b[n])] == []
    logs = [
        [{k: v for k, v in row.items() if k in KEPT} for row in store.read_jsonl(ctx.metrics_file)]
        for ctx in (one, other)
    ]
    assert logs[0] == logs[1] and logs[0]


KEPT = ("step", "num_tokens", "prompts_seen", "reward/heard", "completion_length", "groups_kept")

SFT = SftStage(steps=14, batch_size=8, learning_rate=1e-3, save_every=7, log_every=1, augment=True)  # epochs of 6 steps
RL = RlStage(
    steps=8, batch_size=4, num_generations=2, max_new_tokens=6, learning_rate=1e-3, save_every=5, log_every=1,

    rewards=[RewardSpec(name="tests.support.rewards:hears", label="heard")], algorithm=Algorithm(beta=0.0),
    collapse=None, keep_rollouts=8,
)  # fmt: skip
CASES: dict[str, tuple[Run, Any, int]] = {
    "sft, augmented, third epoch": (sft.run, SFT, 7),
    "sft, adapter": (sft.run, SFT.model_copy(update={"lora": Lora(r=2)}), 7),
    "sft, accumulated": (sft.run, SFT.model_copy(update={"gradient_accumulation": 2, "batch_size": 4}), 7),
    "sft, by length": (sft.run, SFT.model_copy(update={"packing": "off", "batches": "by_length"}), 7),
    "rl": (rl.run, RL, 5),
    "rl, plain": (rl.run, RL.model_copy(update={"fast_path": "off"}), 5),
    "rl, two updates a batch": (rl.run, RL.model_copy(update={"updates_per_batch": 2}), 6),
    "rl, two iterations": (rl.run, RL.model_copy(update={"algorithm": Algorithm(beta=0.0, num_iterations=2)}), 6),
    "rl, dynamic sampling": (rl.run, RL.model_copy(update={"algorithm": Algorithm(name="dapo")}), 5),
    "rl, adapter": (rl.run, RL.model_copy(update={"lora": Lora(r=2)}), 5),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_stage_killed_in_the_middle_ends_the_same(case: str, context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run, settings, at = CASES[case]
    num = 8 if run is rl.run else 48  # rl: an epoch is 4 steps, so the save stands in one and the end in another
    whole, cut = context("whole", num_train=num), context("cut", num_train=num)
    one = also_killed(run, settings, whole, cut, monkeypatch)
    saves = sorted(int(p.name.split("-")[1]) for p in cut.work.glob("checkpoint-*"))
    assert saves[-1] == settings.steps and at in saves
    for save in saves:
        if save > at:
            shutil.rmtree(cut.work / f"checkpoint-{save}")
    two = started(run, settings, fresh(cut))
    assert_same(whole, cut)
    for key in ("base_rates", "rollouts"):
        assert json.dumps(one.extra.get(key)) == json.dumps(two.extra.get(key)), key
    if run is rl.run:
        told = [[(r["step"], r["reply"], r["reward"]) for r in store.read_jsonl(c.folder / "rollouts.jsonl")]
                for c in (whole, cut)]  # fmt: skip
        assert told[0] == told[1] and told[0]


@pytest.mark.parametrize("case", ["sft, augmented, third epoch", "sft, adapter", "rl"])
def test_a_stage_killed_after_its_last_step_trains_none_more(
    case: str, context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settings, _ = CASES[case]
    num = 8 if run is rl.run else 48
    whole, cut = context("whole", num_train=num), context("cut", num_train=num)
    one = also_killed(run, settings, whole, cut, monkeypatch)
    save = last_whole_save(cut.work)
    assert save is not None and finished_state(save) is not None
    two = started(run, settings, fresh(cut))
    assert two.num_steps == one.num_steps == settings.steps
    assert_same(whole, cut)
    assert json.dumps(one.extra.get("base_rates")) == json.dumps(two.extra.get("base_rates"))


def test_the_warm_up_draws_its_heads_from_the_seed_alone(context: Make) -> None:
    settings = WarmupStage(epochs=1, batch_size=16)
    first, second = context("first"), context("second")
    warmup.run(settings, first)
    torch.manual_seed(99)
    torch.rand(1000)  # as another base model would have drawn
    warmup.run(settings, second)
    a, b = weights(first), weights(second)
    assert [n for n in a if not torch.equal(a[n], b[n])] == []
    heads = [load_file(str(c.folder / "warmup_head.safetensors")) for c in (first, second)]
    assert all(torch.equal(heads[0][n], heads[1][n]) for n in heads[0])


def test_an_adapter_is_drawn_from_the_seed_alone(context: Make) -> None:
    settings = SFT.model_copy(update={"lora": Lora(r=2), "steps": 1, "augment": False})
    first, second = context("first"), context("second")
    started(sft.run, settings, first)
    torch.rand(1000)
    started(sft.run, settings, fresh(second))
    assert_same(first, second)


# ---- saves that are not all there ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage that was killed after its last step, with two saves."""
    folder = tmp_path_factory.mktemp("saved")
    from tests.support.toys import toy_samples

    from eosin.core.nouns.prompt import PromptSettings
    from eosin.core.nouns.reply import Grammar

    ctx = StageContext("sft", folder, new_model(), toy_samples(12, "train"), [], Grammar.of("think/answer"),
                       PromptSettings(instruction=False, answer="text"), 0)  # fmt: skip
    sft.run(SftStage(steps=2, batch_size=4, save_every=1, learning_rate=1e-3), ctx)
    return ctx.work


def test_the_saves_stay_until_the_record_is_written(saved: Path) -> None:
    assert last_whole_save(saved) == saved / "checkpoint-2"
    mark = store.read_json(saved / "checkpoint-2" / WHOLE)
    assert {"model.safetensors", "optimizer.pt", "stage_state.json", "trainer_state.json"} <= set(mark["files"])


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "optimizer.pt", "trainer_state.json", WHOLE,
                                  "stage_state.json", "rng_state.pth", "scheduler.pt"])  # fmt: skip
def test_a_save_that_lacks_a_file_is_not_used(saved: Path, tmp_path: Path, gone: str) -> None:
    work = tmp_path / "work"
    shutil.copytree(saved, work)
    (work / "checkpoint-2" / gone).unlink()
    assert last_whole_save(work) == work / "checkpoint-1"
    (work / "checkpoint-1" / gone).unlink()
    assert last_whole_save(work) is None


def test_a_save_that_was_cut_off_is_not_used(saved: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(saved, work)
    file = work / "checkpoint-2" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert last_whole_save(work) == work / "checkpoint-1"
    (work / "checkpoint-1" / WHOLE).write_text("{", "utf-8")
    assert last_whole_save(work) is None


def test_a_save_of_an_older_eosin_is_used_where_it_is_all_there(saved: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(saved, work)
    store.write_json(work / "checkpoint-2" / WHOLE, {"step": 2})
    assert last_whole_save(work) == work / "checkpoint-2"
    (work / "checkpoint-2" / "config.json").unlink()
    assert last_whole_save(work) == work / "checkpoint-1"


def test_a_save_of_another_way_of_sharing_is_refused(saved: Path, tmp_path: Path) -> None:
    refuse_other_kind(saved / "checkpoint-2", is_shared_out=False)
    with pytest.raises(EosinError, match="another way of sharing"):
        refuse_other_kind(saved / "checkpoint-2", is_shared_out=True)
    (tmp_path / "pytorch_model_fsdp.bin").touch()
    refuse_other_kind(tmp_path, is_shared_out=True)
    with pytest.raises(EosinError, match="begun with") as told:
        refuse_other_kind(tmp_path, is_shared_out=False)
    assert told.value.expected == "FSDP"


def test_discarding_renames_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the first deletion, the folder stands no more under its name."""
    (tmp_path / "work" / "checkpoint-1").mkdir(parents=True)

    def stop(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(shutil, "rmtree", stop)
        store.discard(tmp_path / "work")
    assert not (tmp_path / "work").exists()
    assert [p.name.startswith(".work.") and p.name.endswith(".tmp") for p in tmp_path.iterdir()] == [True]
