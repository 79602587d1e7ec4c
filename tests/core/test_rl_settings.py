"""Algorithms as data: the papers' settings under the papers' names, and names that tell of every change."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from eosin.core.errors import RecipeError
from eosin.core.settings.recipe import load_recipe
from eosin.core.settings.rl import PAPERS, Algorithm, CollapseStop, Difficulty, plain_rewards
from eosin.core.settings.stages import PretrainStage, RlStage, SftStage

FIELDS = (
    "epsilon", "epsilon_high", "beta", "loss_type", "scale_rewards", "importance_sampling_level",
    "mask_truncated", "dynamic_sampling", "overlong_buffer",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # written out by hand from the papers, not read from the code
        ("grpo", (0.2, 0.2, 0.04, "grpo", "group", "token", True, False, 0.0)),
        ("dapo", (0.2, 0.28, 0.0, "dapo", "group", "token", True, True, 4096 / 20480)),
        ("dr_grpo", (0.2, 0.2, 0.0, "dr_grpo", "none", "token", True, False, 0.0)),
        ("gspo", (0.0003, 0.0004, 0.0, "grpo", "group", "sequence", True, False, 0.0)),
    ],
)
def test_papers(name: str, expected: tuple[object, ...]) -> None:
    algorithm = Algorithm.model_validate(name)
    assert tuple(getattr(algorithm, f) for f in FIELDS) == expected
    assert algorithm.num_iterations == 1 and not algorithm.unbiased_kl and algorithm.max_generation_batches == 10
    assert algorithm == RlStage(algorithm={"name": name}).algorithm == RlStage(algorithm=name).algorithm
    assert "{" not in algorithm.true_name


def test_true_name_tells_every_changed_field() -> None:
    assert Algorithm().true_name == "GRPO"
    assert Algorithm(name="dr_grpo").true_name == "Dr. GRPO"
    assert Algorithm(name="dapo", beta=0.01).true_name == "DAPO+{beta=0.01}"
    assert Algorithm(beta=0.01, mask_truncated=False).true_name == "GRPO+{beta=0.01, mask_truncated=False}"
    for name, paper in PAPERS.items():
        for field, value in paper.items():
            if field == "loss_type" and name == "gspo" or "sampling_level" in field and paper["loss_type"] != "grpo":
                continue  # a ratio of a whole reply becomes a loss in one way only
            other = Algorithm.model_validate({"name": name, field: _other(field, value)})
            assert f"{field}=" in other.true_name, (name, field)


def _other(field: str, value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 1 if field == "overlong_buffer" else value * 2 + 1
    if field == "loss_type":
        return "bnpo"
    return {"group": "batch", "none": "batch", "token": "sequence", "sequence": "token"}[str(value)]


def test_one_clip_bound_moves_both_where_the_paper_has_one() -> None:
    assert Algorithm(epsilon=0.1).epsilon_high == 0.1
    assert Algorithm(epsilon=0.1).true_name == "GRPO+{epsilon=0.1, epsilon_high=0.1}"
    assert Algorithm(epsilon=0.1, epsilon_high=0.3).epsilon_high == 0.3
    assert Algorithm(name="dapo", epsilon=0.1).epsilon_high == 0.28


def test_a_custom_algorithm_states_itself() -> None:
    with pytest.raises(
        ValidationError, match="missing: epsilon_high, beta, .*overlong_buffer; there is no such"
    ) as told:
        Algorithm.model_validate({"name": "custom", "epsilon": 0.2, "epsilonn": 1})
    assert "max_generation_batches" not in str(told.value)  # nothing is sampled again, so no limit is needed
    stated = {
        "name": "custom", "epsilon": 0.1, "epsilon_high": 0.3, "beta": 0.0, "loss_type": "bnpo",
        "scale_rewards": "batch", "importance_sampling_level": "token", "num_iterations": 2,
        "mask_truncated": False, "dynamic_sampling": False, "overlong_buffer": 0,
    }  # fmt: skip
    name = Algorithm.model_validate(stated).true_name
    assert name.startswith(
        "custom{epsilon=0.1, epsilon_high=0.3, beta=0.0, unbiased_kl=False, loss_type=bnpo, scale_rewards=batch"
    )
    with pytest.raises(ValidationError, match="missing: max_generation_batches, min_group_std"):
        Algorithm.model_validate({**stated, "dynamic_sampling": True})
    with pytest.raises(ValidationError, match="missing: unbiased_kl"):
        Algorithm.model_validate({**stated, "beta": 0.1})
    with pytest.raises(ValidationError, match="missing: overlong_penalty"):
        Algorithm.model_validate({**stated, "overlong_buffer": 0.2})


def test_a_sequence_ratio_goes_with_a_sequence_mean() -> None:
    for loss in ("dapo", "bnpo", "dr_grpo"):
        with pytest.raises(ValidationError, match="goes with loss_type: grpo"):
            Algorithm(name="gspo", loss_type=loss)


def test_overlong_tokens_by_hand() -> None:
    assert Algorithm(name="dapo").overlong_tokens(20480) == 4096
    assert Algorithm(name="dapo").overlong_tokens(3) == 1
    assert Algorithm().overlong_tokens(20480) == 0


def test_defaults_of_the_stage() -> None:
    stage = RlStage()
    assert stage.fast_path == "auto" and stage.roundtrip_tolerance is None and stage.difficulty is None
    assert stage.collapse == CollapseStop(steps=5, min_entropy=1e-3, min_reward_std=1e-4, max_unparsed=0.9)
    assert stage.vision_cache_gib == SftStage().vision_cache_gib == PretrainStage().vision_cache_gib == 1.0
    assert RlStage(difficulty="rates").difficulty == Difficulty(file="rates", keep=(0.1, 0.9))
    assert RlStage(collapse=None).collapse is None


def test_rewards_by_name_by_term_and_by_source() -> None:
    assert plain_rewards(RlStage(rewards="eosin").rewards) == "eosin"
    assert plain_rewards(RlStage(rewards=["format", {"name": "accuracy", "weight": 2, "block": "one"}]).rewards) == [
        {"name": "format", "weight": 1.0},
        {"name": "accuracy", "weight": 2.0, "block": "one"},
    ]
    by_source = {"default": "eosin", "pathmmu": [{"name": "accuracy", "weight": 1.0}]}
    assert plain_rewards(RlStage(rewards=by_source).rewards) == by_source


RECIPE = """
stages:
  rl: {algorithm: dapoo, fast_path: off}
  b: {kind: rl, algorithm: {name: dapo, epsilonn: 3, beta: -1}, rewards: {name: eosin}}
  c: {kind: rl, rewards: {default: [{name: format, weight: x}], pathmmu: []}, collapse: {step: 3}}
  d: {kind: rl, rewards: [{weight: 3}], difficulty: {file: a, keep: [0.5, 0.1]}, roundtrip_tolerance: 0}
"""


def test_mistakes_are_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "mine.yaml")
    told = "\n".join(caught.value.problems)
    for hint in (
        "stages.rl.algorithm: there is no algorithm 'dapoo'; did you mean dapo?",
        "stages.b.algorithm.epsilonn: there is no such setting; did you mean epsilon?",
        "stages.b.algorithm.beta: Input should be greater than or equal to 0",
        "stages.b.rewards: a set or a term with options is written in a list",
        "stages.c.rewards: rewards are the name of a set, a list of terms, or a mapping",
        "stages.c.collapse.step: there is no such setting; did you mean steps?",
        "stages.d.rewards.0.name: Field required",
        "stages.d.difficulty.keep: keep is [lowest, highest] pass rate",
        "stages.d.roundtrip_tolerance",
    ):
        assert hint in told, told
    assert len(caught.value.problems) == 9


def test_command_line_changes_one_field_of_a_named_algorithm(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("stages: {rl: {algorithm: dapo, fast_path: off, difficulty: rates}}")
    resolved = load_recipe(
        tmp_path / "mine.yaml", ["stages.rl.algorithm.beta=0.01", "stages.rl.difficulty.keep=[0.2, 0.8]"]
    )
    stage = resolved.recipe.stages["rl"]
    assert stage.kind == "rl" and stage.algorithm.true_name == "DAPO+{beta=0.01}" and stage.fast_path == "off"
    assert stage.difficulty == Difficulty(file="rates", keep=(0.2, 0.8))
    rows = {r["field"]: r["from"] for r in resolved.provenance}
    assert rows["stages.rl.algorithm.beta"] == "command line"
    assert rows["stages.rl.algorithm.epsilon_high"] == "paper"
    assert rows["stages.rl.algorithm.name"] == "recipe"
    (tmp_path / "again.yaml").write_text(resolved.to_yaml())
    assert load_recipe(tmp_path / "again.yaml").recipe.stages == resolved.recipe.stages
