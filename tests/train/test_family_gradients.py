"""With every family that shares its prompt, loss and every gradient are those of plain TRL; a killed stage of every
family ends with the same bits; and a model that only looks as if it shared takes the plain path."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.support.families import FAMILIES, write_family
from tests.train.test_resume import also_killed, weights
from tests.train.test_shared_prefix import assert_same_as_plain, rows_of, saved

from eosin.core.errors import EosinError
from eosin.core.settings.rl import Algorithm, RewardSpec
from eosin.core.settings.stages import Lora, RlStage, SftStage
from eosin.models import shared_prefix, vision_cache
from eosin.models.load import Loaded, freeze, load
from eosin.models.vision_cache import cache_vision
from eosin.train.stages import rl, sft
from eosin.train.stages.base import StageContext
from eosin.train.stages.saves import seed_everything

Make = Callable[..., StageContext]
Models = Callable[[str], Loaded]
SHARING = [f for f in FAMILIES if f != "gemma3"]
SFT = SftStage(steps=2, batch_size=2, learning_rate=1e-3, save_every=1, log_every=1)
RL = RlStage(
    steps=1, batch_size=4, num_generations=2, max_new_tokens=4, learning_rate=1e-3, log_every=1, collapse=None,
    rewards=[RewardSpec(name="tests.support.rewards:hears", label="heard")], algorithm=Algorithm(beta=0.0),
)  # fmt: skip


@cache
def _made(family: str, folder: Path) -> Loaded:
    return load(write_family(family, folder / family))


@pytest.fixture
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Copies of a family's model as `model: {kind: hub, name: FOLDER}` loads it."""
    base = tmp_path_factory.getbasetemp() / "families"

    def make(family: str) -> Loaded:
        if family == "smolvlm" and find_spec("num2words") is None:
            pytest.skip("the processor of SmolVLM needs the package num2words")
        return copy.deepcopy(_made(family, base))

    return make


@pytest.mark.parametrize("lora", [None, Lora(r=2)], ids=["full", "lora"])
@pytest.mark.parametrize("family", SHARING)
def test_loss_and_gradients_are_those_of_the_plain_path(
    tmp_path: Path, model_of: Models, family: str, lora: Lora | None
) -> None:
    loaded = saved(model_of(family), tmp_path / "model")
    # On the plain path TRL's loss knows nothing of LLaVA-OneVision's number of pictures a prompt.
    rows = rows_of(2, 3, [1] if family == "llava_onevision" else [1, 2])
    moved, _ = assert_same_as_plain(tmp_path, loaded, rows, 3, lora=lora, algorithm=Algorithm(beta=0.0))
    assert any("language_model" in n or "text_model" in n for n in moved)
    if lora is None and family == "qwen3_vl":
        assert any("deepstack_merger_list" in n for n in moved)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_stage_goes_on_to_the_same_bits(
    context: Make, model_of: Models, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (context(name, model_of(family), num_train=6) for name in ("whole", "killed"))
    before = {n: p.clone() for n, p in whole.loaded.model.named_parameters()}
    also_killed(sft.run, SFT, whole, killed, monkeypatch)
    again = StageContext(**{**killed.__dict__, "loaded": model_of(family), "picture_cache": {}})
    seed_everything(0)
    result = sft.run(SFT, again)
    a, b = weights(whole), weights(again)
    assert result.num_steps == 2 and a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert any(not torch.equal(before[n], p) for n, p in whole.loaded.model.named_parameters())


def test_a_model_that_only_looks_as_if_it_shared_takes_the_plain_path(
    context: Make, model_of: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma's windows and its pictures that see themselves, hidden from the look at its config."""
    monkeypatch.setattr(shared_prefix, "unsuited", lambda model: None)
    result = rl.run(RL, context("rl", model_of("gemma3"), num_train=6))
    assert result.extra["path"].startswith("plain TRL") and "trial" in result.extra["path"]
    with pytest.raises(EosinError, match="cannot be shared") as refused:
        rl.run(RL.model_copy(update={"fast_path": "on"}), context("on", model_of("gemma3"), num_train=6))
    assert refused.value.where == "stages.on.fast_path" and refused.value.next_step == "stages.on.fast_path=auto"


@pytest.mark.parametrize(
    ("change", "told"),
    [("model_type", "models of type llava are not known"), ("vision_feature_layer", "features of several layers")],
)
def test_a_tower_whose_output_cannot_be_kept_is_named(
    model_of: Models, change: str, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = model_of("llava").model
    with cache_vision(model, tmp_path, 0.01) as kept:
        assert kept is None and not caplog.messages  # it trains
    freeze(model, {"vision"})
    if change == "model_type":
        monkeypatch.setattr(vision_cache, "PICTURES", ())
    else:
        model.config.vision_feature_layer = [-2, -1]
    with cache_vision(model, tmp_path, 0.01) as kept:
        assert kept is None and told in caplog.messages[0]
