"""Other rewards for other sources, rewards that look at the image, and the algorithm's overlong punishment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eosin.core.errors import EosinError
from eosin.core.images import encode_png
from eosin.core.nouns.outcome import Scored
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import (
    ImageBytes,
    ImageFile,
    ImageRef,
    Origin,
    Sample,
    SlideRegion,
    make_choices,
    user_prompt,
)
from eosin.core.nouns.units import BoxLevel0
from eosin.core.settings.stages import RlStage
from eosin.scoring import ScoreItem, load_rewards
from eosin.scoring.adapters.trl import TrlReward
from eosin.scoring.sets.by_source import SourceRewards, length_twice, load_source_rewards, stage_rewards, with_overlong
from eosin.scoring.sets.compose import RewardSet
from eosin.scoring.sets.rates import summarise

GRAMMAR = Grammar.of("think/answer")
GOOD = "<think>Pools of mucin.</think>\n<answer>B. mucin</answer>"
WRONG = "<think>Pools of mucin.</think>\n<answer>C. stroma</answer>"


def sample(id: str, source: str, images: tuple[ImageRef, ...] = (), **more: Any) -> Sample:
    return Sample(
        id=id, images=images, messages=user_prompt("What is this?", len(images)), answer="B",
        choices=make_choices(("necrosis", "mucin", "stroma")), origin=Origin(source=source, stain="H&E"), **more,
    )  # fmt: skip


def tile(grey: int) -> ImageBytes:
    return ImageBytes(data=encode_png(Image.fromarray(np.full((16, 16, 3), grey, np.uint8))))


def brightness(item: ScoreItem, grammar: Grammar, *, index: int = 0) -> Scored:
    """A reward that looks: mean grey value of one image, 0..1."""
    return Scored(float(np.asarray(item.open_image(index)).mean() / 255))


def spoils(item: ScoreItem, grammar: Grammar) -> float:
    """A reward that draws into the image it was given."""
    item.open_image(0).paste((0, 0, 0), (0, 0, 16, 16))
    return 0.0


def knows_everything(item: ScoreItem, grammar: Grammar) -> float:
    """A reward that reads the region, the origin and further columns."""
    region, origin = item.region(0), item.origin
    assert region is not None and origin is not None and item.sample is not None
    return region.box.x0 + (origin.stain == "H&E") + item.extra["weight"] + (item.sample.label == "mucin")


def test_each_source_has_its_own_terms() -> None:
    rewards = load_source_rewards(
        {"tiles": [{"name": "accuracy", "weight": 2.0}], "default": [{"name": "format", "weight": 0.5}]}, GRAMMAR
    )
    assert isinstance(rewards, SourceRewards) and rewards.names == ["accuracy", "format"]
    items = [ScoreItem(id="1", reply=r, choices={"A": "x", "B": "mucin", "C": "stroma"}, answer="B", source=s)
             for r, s in ((GOOD, "other"), (GOOD, "tiles"), (WRONG, "tiles"), ("B", "more"))]  # fmt: skip
    outcomes = rewards.score_batch(items)
    assert [o.total for o in outcomes] == [0.5, 2.0, 0.0, 0.0]
    assert [list(o.terms) for o in outcomes] == [["format"], ["accuracy"], ["accuracy"], ["format"]]
    summary = summarise(outcomes)
    assert summary["terms"]["accuracy"] == {**summary["terms"]["accuracy"], "n": 2, "unscored": 0, "mean": 0.5}
    assert rewards.label == "{tiles: 2 accuracy, default: 0.5 format}"
    assert rewards.described()["sources"]["tiles"]["label"] == "2 accuracy"


def test_a_source_without_rewards_is_refused_before_generation() -> None:
    rewards = load_source_rewards({"tiles": "eosin", "slides": "patho-r1-grpo"}, GRAMMAR)
    samples = {s.id: s for s in (sample("1", "tiles"), sample("2", "zoo"), sample("3", "books"))}
    with pytest.raises(EosinError, match="sources that have no rewards") as told:
        TrlReward(rewards, samples)
    assert told.value.found == "books, zoo" and "default: eosin" in str(told.value)
    stage = RlStage(rewards={"tiles": "eosin"})
    with pytest.raises(EosinError, match="zoo"):
        stage_rewards(stage, GRAMMAR, ["tiles", "zoo"])
    assert isinstance(stage_rewards(stage, GRAMMAR, ["tiles"]), SourceRewards)
    with pytest.raises(EosinError, match="did you mean"):
        load_source_rewards({"tiles": "eosinn"}, GRAMMAR)


def test_trl_logs_terms_under_their_names_and_unscored_stays_none() -> None:
    extra: dict[str, list[Any]] = {}
    metric: dict[str, float] = {}
    rewards = load_source_rewards({"tiles": ["accuracy"], "default": ["entities"]}, GRAMMAR)
    reward = TrlReward(rewards, {"1": sample("1", "tiles"), "2": sample("2", "reports")})
    totals = reward(
        prompts=[""] * 3, completions=[GOOD, "nonsense", GOOD], id=["1", "1", "2"],
        log_extra=extra.__setitem__, log_metric=metric.__setitem__,
    )  # fmt: skip
    assert totals == [1.0, 0.0, None]  # nobody annotated the entities of sample 2
    assert extra == {"accuracy": [1.0, 0.0, None], "entities": [None, None, None]}
    assert metric["reward/accuracy"] == 0.5 and metric["reward/accuracy/unscored"] == 0.0
    assert "reward/entities" not in metric and metric["reward/entities/unscored"] == 1.0
    assert metric["unparsed_rate"] == pytest.approx(1 / 3)
    assert metric["reward_of/tiles"] == 0.5 and "reward_of/reports" not in metric


def test_the_prompt_is_never_scored() -> None:
    """Fault of a released reward: prompt and completion were scored as one text."""
    reward = TrlReward(load_rewards(["accuracy", "format"]), {"1": sample("1", "tiles")})
    prompts = [[{"role": "user", "content": GOOD}], GOOD]
    assert reward(prompts=prompts, completions=["", WRONG], id=["1"] * 2) == [0.0, 1.0]


def test_rows_without_ids_are_an_error_that_says_so() -> None:
    with pytest.raises(EosinError, match="no ids") as told:
        TrlReward(load_rewards("accuracy"), {})(prompts=[""], completions=[GOOD], prompt_id=["1"])
    assert "remove_unused_columns" in str(told.value)


def test_rewards_see_every_image() -> None:
    spec = [{"name": f"{__name__}:brightness", "label": f"image{i}", "index": i} for i in (0, 1, 2)]
    two = sample("1", "tiles", (tile(51), tile(255)))
    reward = TrlReward(load_rewards([*spec[:2], {**spec[2], "weight": 0}, f"{__name__}:spoils"]), {"1": two})
    [outcome] = reward.rewards.score_batch(reward.items([GOOD], None, ["1"]))
    assert outcome.terms["image0"] == pytest.approx(0.2) and outcome.terms["image1"] == pytest.approx(1.0)
    assert "no image 2" in outcome.unscored["image2"] and outcome.total == pytest.approx(1.2)
    again = reward.rewards.score_batch(reward.items([GOOD], None, ["1"]))[0]
    assert again.terms["image0"] == pytest.approx(0.2)  # what one reward draws, no other sees


def test_an_image_is_read_once_a_group(tmp_path: Path) -> None:
    path = tmp_path / "tile.png"
    path.write_bytes(tile(102).data)
    one = sample("1", "tiles", (ImageFile(path=str(path)),))
    reward = TrlReward(load_rewards(f"{__name__}:brightness"), {"1": one})
    assert reward(prompts=[""], completions=[GOOD], id=["1"]) == [pytest.approx(0.4)]
    path.unlink()
    assert reward(prompts=[""] * 2, completions=[GOOD] * 2, id=["1"] * 2) == [pytest.approx(0.4)] * 2
    fresh = TrlReward(load_rewards(f"{__name__}:brightness"), {"1": one})
    assert fresh(prompts=[""], completions=[GOOD], id=["1"]) == [None]  # no picture: unscored, not black


def test_rewards_see_region_origin_and_columns() -> None:
    region = SlideRegion(path="a.svs", box=BoxLevel0(x0=100, y0=0, x1=132, y1=32), mpp=0.5)
    one = sample("1", "slides", (region,), extra={"weight": 7}, label="mucin")
    asked: list[SlideRegion] = []

    def read(ref: SlideRegion) -> Image.Image:
        asked.append(ref)
        return Image.new("RGB", (32, 32), (255, 255, 255))

    names = [f"{__name__}:knows_everything", f"{__name__}:brightness"]
    reward = TrlReward(load_rewards(names), {"1": one}, read_region=read)
    assert reward(prompts=[""] * 2, completions=[GOOD] * 2, id=["1"] * 2) == [pytest.approx(110.0)] * 2
    assert asked == [region]
    without = TrlReward(load_rewards(names), {"1": one})
    assert without(prompts=[""], completions=[GOOD], id=["1"]) == [None]


def length_item(num_tokens: int | None, reply: str = GOOD, **more: Any) -> ScoreItem:
    return ScoreItem(
        id="1", reply=reply, choices={"A": "necrosis", "B": "mucin"}, answer="B", num_tokens=num_tokens, **more
    )


@pytest.mark.parametrize(
    ("num_tokens", "punished"),
    # equation 13 by hand: cap 100, buffer 20: 0 up to 80, (80 - n) / 20 up to 100, then -1
    [(1, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1.0), (120, -1.0)],
)
def test_overlong_by_hand(num_tokens: int, punished: float) -> None:
    stage = RlStage(rewards=["accuracy"], algorithm="dapo", max_new_tokens=100)
    rewards = stage_rewards(stage, GRAMMAR, [])
    outcome = rewards.score(length_item(num_tokens))
    assert outcome.terms == {"accuracy": 1.0, "overlong": pytest.approx(punished)}
    assert outcome.total == pytest.approx(1.0 + punished)


def test_overlong_weight_label_and_bounds() -> None:
    stage = RlStage(
        rewards=[{"name": "accuracy", "weight": 2}], max_new_tokens=50,
        algorithm={"name": "dapo", "overlong_buffer": 0.1, "overlong_penalty": 0.5},
    )  # fmt: skip
    rewards = stage_rewards(stage, GRAMMAR, [])
    assert isinstance(rewards, RewardSet)
    assert rewards.score(length_item(49)).total == pytest.approx(2 - 0.5 * 4 / 5)
    assert rewards.score(length_item(49, truncated=True)).total == pytest.approx(1.5)
    assert rewards.label == "2 accuracy + 0.5 overlong"
    assert (rewards.minimum, rewards.maximum) == (-0.5, 2.0)
    assert rewards.described()["penalties"] == [
        {"name": "overlong", "weight": 0.5, "max_tokens": 50, "cache_tokens": 5}
    ]
    off = [{"name": "dapo", "overlong_buffer": 0}, {"name": "dapo", "overlong_penalty": 0}]
    for algorithm in ("grpo", "dr_grpo", "gspo", *off):
        assert stage_rewards(RlStage(algorithm=algorithm, rewards="accuracy"), GRAMMAR, []).names == ["accuracy"]


def test_overlong_stands_outside_gate_and_rescaling() -> None:
    gated = load_rewards([{"name": "patho-r1-grpo", "gate": "both"}], GRAMMAR)
    gated = with_overlong(gated, 100, 20, 1.0)
    assert gated.score(length_item(90, WRONG)).total == pytest.approx(0.0 - 0.5)
    dropped = load_rewards(["accuracy", "entities"], GRAMMAR, missing_gold="drop")
    assert with_overlong(dropped, 100, 20, 1.0).score(length_item(90)).total == pytest.approx(2.0 - 0.5)


def test_overlong_without_a_count_masks_the_reply() -> None:
    rewards = with_overlong(load_rewards(["accuracy"], GRAMMAR), 100, 20, 1.0)
    outcome = rewards.score(length_item(None))
    assert outcome.total is None and outcome.unscored == {"overlong": "num_tokens not given"}


def test_overlong_twice_is_refused_or_told() -> None:
    with pytest.raises(EosinError, match="in the rewards and in the algorithm"):
        stage_rewards(RlStage(algorithm="dapo", rewards=["accuracy", "overlong"]), GRAMMAR, [])
    both = stage_rewards(RlStage(algorithm="dapo", rewards={"a": "patho-r1-dapo", "b": "accuracy"}), GRAMMAR, ["a"])
    assert length_twice(both) == ["patho-r1-dapo + 1 overlong"]
    assert isinstance(both, SourceRewards) and both.names[-1] == "overlong"
    assert length_twice(stage_rewards(RlStage(rewards="patho-r1-dapo"), GRAMMAR, [])) == []
