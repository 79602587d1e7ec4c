"""The weights that a stage leaves, averaged with those of its start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from eosin.core.settings.stages import SftStage
from eosin.core.store import artifacts as store
from eosin.models.load import load
from eosin.train.averaging import StartWeights
from eosin.train.heldout import Answers
from eosin.train.keep_best import Average, BestKeeper
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext

Make = Callable[..., StageContext]
SETTINGS = SftStage(
    steps=12, batch_size=16, learning_rate=3e-3, log_every=12, keep="best", valid_every=12, max_new_tokens=8,
    average_with_start=0.25,
)  # fmt: skip


def test_a_share_of_the_start_by_hand(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, bias=True)
    model.bias.requires_grad_(False)  # a frozen weight is left alone
    nn.init.constant_(model.weight, 1.0)
    start = StartWeights(model, tmp_path)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, -1.0]]))
        model.bias.fill_(7.0)
    start.mix_into(model, 0.25)
    assert model.weight.tolist() == [[2.5, -0.5]] and model.bias.tolist() == [7.0]


def test_a_small_change_is_not_lost_in_bf16(tmp_path: Path) -> None:
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    nn.init.constant_(model.weight, 1.0)
    start = StartWeights(model, tmp_path)
    with torch.no_grad():
        model.weight.fill_(1.0 + 2**-6)
    start.mix_into(model, 0.5)
    assert model.weight.item() == 1.0 + 2**-7  # between them, and a number of bf16


def test_an_adapter_changes_the_model_by_the_rest_of_what_it_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(nn.Linear(6, 5)), LoraConfig(r=2, target_modules=["0"]))
    start = StartWeights(model, tmp_path)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight))
                assert "lora_" in name
    layer = model.base_model.model[0]
    whole = layer.get_delta_weight("default").clone()
    start.mix_into(model, 0.4)
    assert torch.allclose(layer.get_delta_weight("default"), 0.6 * whole, atol=1e-6)


def test_a_stage_leaves_the_mean_and_keeps_what_was_trained(context: Make, capsys: pytest.CaptureFixture[str]) -> None:
    ctx = context("sft", num_valid=9)
    before = {n: p.detach().clone() for n, p in ctx.loaded.model.named_parameters()}
    result = sft.run(SETTINGS, ctx)
    told = result.extra["keep"]
    assert told["best_step"] == 12 and told["averaged"]["share_of_start"] == 0.25 and told["averaged"]["stays"]
    assert told["kept"] == "mean of step 12 and the start"
    assert "goes on from the mean of step 12 and its start" in capsys.readouterr().err
    trained, left = (load(ctx.folder / name).model.state_dict() for name in ("last", "checkpoint"))
    moved = [n for n in before if not torch.equal(trained[n], before[n])]
    assert moved
    for name in before:
        assert torch.allclose(left[name], 0.75 * trained[name] + 0.25 * before[name], atol=1e-6)

    # killed before its record was written, the stage ends the same
    again = context("sft", num_valid=9)
    first = load_file(ctx.folder / "checkpoint" / "model.safetensors")
    assert sft.run(SETTINGS, again).extra["keep"]["averaged"] == told["averaged"]
    second = load_file(ctx.folder / "checkpoint" / "model.safetensors")
    assert all(torch.equal(first[n], second[n]) for n in first)


class Asked:
    """Stands for the valid questions: what a model with this weight answers is given."""

    def __init__(self, by_weight: dict[float, str]) -> None:
        self.by_weight = by_weight

    def ask(self, model: nn.Linear) -> Answers:
        return marks(self.by_weight[model.weight.item()])


class Written:
    """A context that writes what it is given, with torch's own names."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, "rl"

    def save(self, name: str, model: nn.Module, step: int, *, replace: bool = False) -> None:
        torch.save(model.state_dict(), self.folder / f"{name}.pt")


def marks(right: str) -> Answers:
    """32 answers, eight times the four that are given; classes a and b in turn."""
    return Answers(tuple("ab" * 16), tuple(c == "1" for c in right * 8), (None,) * 32, 0)


@pytest.mark.parametrize(
    ("looks", "means", "weight", "step"),
    [
        # start 1.0; after 4 steps 3.0, after 8 steps 5.0: the means are 2.0 and 3.0
        (["1110", "1110", "1111"], {3.0: "1111"}, 3.0, 8),  # the end is the best: only its mean is asked
        (["1110", "1110", "1111"], {3.0: "1110"}, 5.0, 8),  # worse than the best beyond noise
        (["1110", "1111", "1110"], {3.0: "1110", 2.0: "1111"}, 2.0, 4),  # the mean of the best look
        (["1110", "1111", "1110"], {3.0: "1111", 2.0: "1111"}, 3.0, 8),  # as good: the later one
        (["1110", "0110", "0010"], {3.0: "1111"}, 3.0, 8),  # training did harm, its mean does not
        (["1110", "0110", "0010"], {3.0: "0110"}, 1.0, 0),  # nor does that help: the start
        (["1110", "1110", "1010"], {3.0: "1010", 2.0: "1110"}, 2.0, 4),  # class b was lost on the way
        (["1010", "1010", "1010"], {3.0: "1010"}, 3.0, 8),
    ],
)
def test_which_weights_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: list[str], means: dict[float, str], weight: float, step: int
) -> None:
    ctx, model = Written(tmp_path), nn.Linear(1, 1, bias=False)
    monkeypatch.setattr(store, "exists", lambda path: False)
    monkeypatch.setattr(
        "eosin.train.keep_best.restore_weights",
        lambda m, path: m.load_state_dict(torch.load(path.with_suffix(".pt"), weights_only=True)),
    )
    nn.init.constant_(model.weight, 1.0)
    asked = Asked(means)
    keeper = BestKeeper(ctx, "accuracy")  # type: ignore[arg-type]
    keeper.average = Average(StartWeights(model, tmp_path), 0.5, asked)  # type: ignore[arg-type]
    for i, right in enumerate(looks):
        nn.init.constant_(model.weight, 1.0 + 2 * i)
        keeper.look(model, 4 * i, marks(right))
    assert keeper.settle(model, 8) == step
    assert model.weight.item() == weight
    record = keeper.record()
    assert record["averaged"]["stays"] is (weight in means)
    assert ("did harm" in record["verdict"]) is (weight not in means)
    assert (tmp_path / "last.pt").exists()


def test_only_with_keep_best() -> None:
    with pytest.raises(ValidationError, match="needs keep: best"):
        SftStage(average_with_start=0.5)
