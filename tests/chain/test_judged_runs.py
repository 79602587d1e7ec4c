"""Training and exams that ask a judge, from a recipe through the command line, against a real HTTP server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from safetensors.torch import load_file
from tests.support.judge_stub import JudgeStub, running_stub
from tests.support.judged_runs import (
    fails_between,
    judge_at,
    judged_recipe,
    names_the_colour,
    run_recipe_file,
    trained_policy,
)
from typer.testing import CliRunner

from eosin.cli.main import app
from eosin.core.errors import EosinError, RecipeError
from eosin.core.store import artifacts as store
from eosin.knowledge.graph.build import build_graph
from eosin.knowledge.sources import parse_spec
from eosin.train.monitor import StepClock
from eosin.train.rl.asking import Asking, AsksAhead

BY_JUDGE = {"name": "checklist", "label": "process"}
PLAIN = {"probes": [], "baselines": "none", "max_new_tokens": 40}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def stub() -> Iterator[JudgeStub]:
    with running_stub() as server:
        server.always = names_the_colour()
        yield server


def stage_of(folder: Path, out: str = "run") -> Any:
    return store.read_json(folder / out / "stages" / "rl" / "stage.json")


def metrics_of(folder: Path, out: str = "run") -> list[dict[str, Any]]:
    """Rows of training steps, without those of held-out questions."""
    rows = store.read_jsonl(folder / out / "stages" / "rl" / "metrics.jsonl")
    return [r for r in rows if "loss" in r]


def test_a_stage_trains_with_the_judge_that_the_recipe_names(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    done = run_recipe_file(judged_recipe(tmp_path, judge_at(stub.url), policy), tmp_path)
    assert done.exit_code == 0, done.exception
    assert "judge stub: asked once, answers as named" in done.stderr
    assert "rewards: pathvlm-r1\n" in done.stderr
    record = stage_of(tmp_path)
    assert record["rewards"]["label"] == "pathvlm-r1" and record["rewards_changed"] == []
    judge = record["judge"]
    assert judge["answered_by"] == {"stub": judge["calls"]} and judge["failures"] == 0
    assert judge["calls"] + judge["cache_hits"] > 4 and judge["prompt_tokens"] == 1000 * judge["calls"]
    assert judge["not_taken"] == 0 and judge["waited_s"] >= 0
    seen = record["base_rates"]["judge_and_rules"]["process.image_features"]
    assert seen["judge"] > 0 and 0 <= seen["agree"] <= 1
    rows = metrics_of(tmp_path)
    assert all({"share_judge", "share_generate", "share_rewards", "share_loss"} <= set(r) for r in rows[:3])
    assert abs(sum(v for k, v in rows[0].items() if k.startswith("share_")) - 1) < 1e-6
    assert record["step_time"]["judge"] >= 0
    verdicts = list((tmp_path / "run" / "verdicts").rglob("*.json"))
    assert len(verdicts) > 0 and stub.url not in "".join(p.read_text("utf-8") for p in verdicts)
    page = (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
    assert "judge" in page and "agree" in page


def test_an_outage_masks_replies_and_is_counted(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    # Two tries before the first step; then a few of the first replies meet a server that refuses.
    stub.always = fails_between(3, 5, names_the_colour())
    done = run_recipe_file(judged_recipe(tmp_path, judge_at(stub.url, max_in_flight=4), policy), tmp_path)
    assert done.exit_code == 0, done.exception
    record = stage_of(tmp_path)
    lost = record["unscored"]["reasons"]
    assert lost == {"judge: the server answered 503 (after 1 attempts)": 3} and record["judge"]["failures"] == 3
    rows = store.read_jsonl(tmp_path / "run" / "rollouts.jsonl")
    masked = [r for r in rows if r["reward"] is None]
    assert len(masked) == 3 and not any(r["in_loss"] for r in masked)
    assert all(r["terms"]["process"] is None and r["unscored"]["process"].startswith("judge:") for r in masked)
    assert metrics_of(tmp_path)[0]["unscored_rate"] == pytest.approx(3 / 8)


def test_too_many_outages_stop_the_stage_and_the_same_command_goes_on(
    stub: JudgeStub, policy: Path, tmp_path: Path
) -> None:
    recipe = judged_recipe(
        tmp_path, judge_at(stub.url), policy, steps=6, rewards=[BY_JUDGE], outage={"max_unscored": 0.3, "steps": 2}
    )
    stub.always = fails_between(3, 10_000, names_the_colour())
    done = run_recipe_file(recipe, tmp_path)
    assert isinstance(done.exception, EosinError), done.exception
    told = str(done.exception)
    assert "Too many replies have no reward" in told and "503" in told and "give the same command again" in told
    assert not (tmp_path / "run" / "stages" / "rl" / "stage.json").exists()
    stopped = max(r["step"] for r in metrics_of(tmp_path))
    assert stopped < 6
    stub.always = names_the_colour()
    done = run_recipe_file(recipe, tmp_path)
    assert done.exit_code == 0, done.exception
    record = stage_of(tmp_path)
    assert record["num_steps"] == 6 and record["unscored"]["num_replies"] == 6 * 8
    assert sum(record["unscored"]["reasons"].values()) > 0 and record["judge"]["failures"] > 0
    assert [r["step"] for r in metrics_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_another_model_than_the_named_one_is_refused_before_the_first_step(
    stub: JudgeStub, policy: Path, tmp_path: Path
) -> None:
    stub.always = names_the_colour("impostor")
    done = run_recipe_file(judged_recipe(tmp_path, judge_at(stub.url), policy), tmp_path)
    assert isinstance(done.exception, EosinError) and "Another model than the named one" in str(done.exception)
    assert "answers_as: impostor" in str(done.exception)
    assert not (tmp_path / "run" / "stages").exists()
    done = run_recipe_file(judged_recipe(tmp_path, judge_at(stub.url, answers_as="impostor"), policy), tmp_path, "as")
    assert done.exit_code == 0, done.exception


def test_another_model_that_answers_later_is_masked(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    impostor, honest = names_the_colour("impostor"), names_the_colour()
    stub.always = lambda handler, verdict: (impostor if handler.number in (3, 4) else honest)(handler, verdict)
    done = run_recipe_file(judged_recipe(tmp_path, judge_at(stub.url), policy), tmp_path)
    assert done.exit_code == 0, done.exception
    assert stage_of(tmp_path)["unscored"]["reasons"] == {"judge: another model answered: 'impostor'": 2}


@pytest.mark.parametrize(
    ("fault", "told"),
    [("down", "The judge does not answer"), ("eight of ten", "not in the form"), ("slow", "timed out"),
     (401, "refused the request (401)")],
)  # fmt: skip
def test_a_judge_of_no_use_is_refused_before_the_first_step(
    stub: JudgeStub, policy: Path, tmp_path: Path, fault: Any, told: str
) -> None:
    stub.always = fault
    url = stub.url
    if fault == "down":
        with running_stub() as gone:
            url = gone.url
    judge = judge_at(url, timeout_s=0.5 if fault == "slow" else 5.0)
    done = run_recipe_file(judged_recipe(tmp_path, judge, policy, rewards="pathreasoner-r1"), tmp_path)
    assert isinstance(done.exception, EosinError), done.exception
    assert told in str(done.exception) and "next:" in str(done.exception)
    assert not (tmp_path / "run" / "stages").exists()


def test_waiting_part_by_part_learns_the_same(
    stub: JudgeStub, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two parts of a step, each waiting for its own replies, give the weights of one that waits for all."""
    recipe = judged_recipe(
        tmp_path, judge_at(stub.url), policy, steps=1, batch_size=8, gradient_accumulation=2,
        algorithm={"name": "grpo", "beta": 0.04}, outage=None,
    )  # fmt: skip
    asked: list[bool] = []
    real = Asking.by_part
    monkeypatch.setattr(Asking, "by_part", lambda self, *args: asked.append(real(self, *args)) or asked[-1])
    assert run_recipe_file(recipe, tmp_path, "parts").exit_code == 0
    assert asked and all(asked)
    monkeypatch.setattr(Asking, "by_part", lambda *_: False)
    assert run_recipe_file(recipe, tmp_path, "whole").exit_code == 0
    found = [load_file(tmp_path / o / "stages" / "rl" / "checkpoint" / "model.safetensors") for o in ("parts", "whole")]
    start = load_file(policy / "model.safetensors")
    moved = sum(float((found[0][k] - start[k]).abs().sum()) for k in start)
    apart = sum(float((found[0][k] - found[1][k]).abs().sum()) for k in start)
    assert moved > 0 and apart < 0.02 * moved, (moved, apart)  # Adam's first step makes much of the last digits
    parts, whole = metrics_of(tmp_path, "parts"), metrics_of(tmp_path, "whole")
    for key in ("loss", "grad_norm", "reward", "group_std", "groups_kept", "prompts_seen", "reward/process"):
        assert parts[0][key] == pytest.approx(whole[0][key], rel=1e-3, abs=1e-6), key
    by_class = [store.read_jsonl(tmp_path / o / "stages" / "rl" / "by_class.jsonl") for o in ("parts", "whole")]
    assert [(r["class"], r["num_replies"]) for r in by_class[0]] == [
        (r["class"], r["num_replies"]) for r in by_class[1]
    ]


@pytest.mark.parametrize(
    ("groups", "parts", "sizes"),
    [(16, 4, [2, 2, 4, 8]), (16, 1, [16]), (5, 3, [2, 1, 2]), (2, 4, [1, 1]), (1, 4, [1]), (7, 9, [1, 1, 2, 3])],
)
def test_a_part_is_about_as_large_as_all_before_it(groups: int, parts: int, sizes: list[int]) -> None:
    asking = Asking(cast(AsksAhead, object()), StepClock(), parts)
    made = asking.parts_of(list(range(groups * 8)), 8)
    assert [len(p) // 8 for p in made] == sizes and sum(made, []) == list(range(groups * 8))


def test_replies_may_be_drawn_in_parts(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    for out, more in (("parts", {"generation_parts": 2}), ("plain", {"generation_parts": 2, "fast_path": "off"})):
        done = run_recipe_file(judged_recipe(tmp_path, judge_at(stub.url), policy, steps=1, **more), tmp_path, out)
        assert done.exit_code == 0, done.exception
        assert stage_of(tmp_path, out)["unscored"] == {"num_replies": 8, "reasons": {}}


def test_rejection_sampling_asks_the_judge_and_stops_in_an_outage(
    stub: JudgeStub, policy: Path, tmp_path: Path
) -> None:
    recipe = judged_recipe(tmp_path, judge_at(stub.url), policy)
    recipe["stages"] = {
        "pick": {"kind": "rejection", "rewards": [BY_JUDGE], "num_generations": 4, "max_new_tokens": 40, "steps": 1,
                 "batch_size": 4, "temperature": 0.8, "exam": False, "max_samples": 8, "min_share": 0.0}
    }  # fmt: skip
    stub.always = fails_between(3, 10_000, names_the_colour())
    done = run_recipe_file(recipe, tmp_path)
    assert isinstance(done.exception, EosinError) and "Too many replies have no reward" in str(done.exception)
    assert not (tmp_path / "run" / "stages" / "pick" / "drawn.jsonl").exists()
    stub.always = names_the_colour()
    done = run_recipe_file(recipe, tmp_path)
    assert done.exit_code == 0, done.exception
    record = store.read_json(tmp_path / "run" / "stages" / "pick" / "stage.json")
    assert record["judge"]["calls"] > 0 and record["rewards_changed"] == []


def test_without_a_judge_the_difference_is_said_before_the_first_step(policy: Path, tmp_path: Path) -> None:
    done = run_recipe_file(judged_recipe(tmp_path, None, policy, steps=1), tmp_path)
    assert done.exit_code == 0, done.exception
    line = next(x for x in done.stderr.splitlines() if "rewards: pathvlm-r1+{process=rules}" in x)
    assert "NOT AS PUBLISHED" in line and done.stderr.index(line) < done.stderr.index("checks on")
    record = stage_of(tmp_path)
    assert record["rewards_changed"] == ["pathvlm-r1: process=rules"] and "judge" not in record
    assert "share_judge" not in metrics_of(tmp_path)[0]
    assert "process=rules" in (tmp_path / "run" / "report" / "index.html").read_text("utf-8")


def test_an_exam_lists_judged_terms(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    recipe = judged_recipe(
        tmp_path, None, policy, steps=1, exam=True, rewards="patho-r1-grpo",
        scoring={"judge": judge_at(stub.url, prices={"input": 1.0, "output": 2.0})},
        exams={"heldout": {**PLAIN, "terms": [BY_JUDGE, {"name": "format"}]}},
    )  # fmt: skip
    done = run_recipe_file(recipe, tmp_path)
    assert done.exit_code == 0, done.exception
    scored = store.read_json(tmp_path / "run" / "summary.json")["stages"][-1]["exams"]["heldout"]["scored"]
    assert scored["terms"]["process"]["n"] > 0 and scored["terms"]["process"]["unscored"] == 0
    judge = scored["judge"]
    assert judge["judge"] == "stub" and judge["cost"] == pytest.approx(judge["calls"] * (1000 + 200) / 1e6)
    rows = (tmp_path / "run" / "evals" / "rl" / "heldout" / "terms.jsonl").read_text().splitlines()
    assert len(rows) == scored["total"]["n"] and json.loads(rows[0])["terms"].keys() == {"process", "format"}
    assert "process" in (tmp_path / "run" / "report" / "index.html").read_text("utf-8")


def test_an_exam_in_an_outage_stops_and_goes_on(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    recipe = judged_recipe(
        tmp_path, judge_at(stub.url), policy, steps=1, exam=True, rewards="patho-r1-grpo",
        exams={"heldout": {**PLAIN, "terms": [BY_JUDGE], "max_unscored": 0.1}},
    )  # fmt: skip
    stub.always = fails_between(2, 10_000, names_the_colour())
    done = run_recipe_file(recipe, tmp_path)
    assert isinstance(done.exception, EosinError) and "no verdict on too many replies" in str(done.exception)
    assert not (tmp_path / "run" / "evals" / "rl" / "heldout").exists()
    stub.always = names_the_colour()
    assert run_recipe_file(recipe, tmp_path).exit_code == 0


def test_the_judge_of_the_reward_does_not_examine(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    exam = {"probes": [], "terms": [BY_JUDGE]}
    done = run_recipe_file(judged_recipe(tmp_path, judge_at(stub.url), policy, exams={"heldout": exam}), tmp_path)
    assert isinstance(done.exception, RecipeError) and "would grade what it has taught" in str(done.exception)
    assert "same_judge: true" in str(done.exception) and not stub.requests
    for allowed in ({"same_judge": True}, {"scoring": {"judge": judge_at(stub.url, model="stub-2")}}):
        recipe = judged_recipe(tmp_path, judge_at(stub.url), policy, exams={"heldout": {**exam, **allowed}})
        assert run_recipe_file(recipe, tmp_path, "dry", "--dry-run").exit_code == 0


@pytest.mark.parametrize(
    ("scoring", "told"),
    [({"encoder": "package:no_such_package"}, "There is no such package"),
     ({"encoder": "/no/such/folder"}, "There is no model at this place"),
     ({"clip": "open_clip:ViT-B-32"}, "CLIP without weights"),
     ({"knowledge": "/no/such/graph"}, "There is no knowledge graph"),
     ({"judge": {"url": "http://host:1/v1", "model": "a", "max_cost": 1.0}}, "A limit of cost needs prices")],
)  # fmt: skip
def test_what_is_not_there_is_refused_with_the_recipe(scoring: Any, told: str, policy: Path, tmp_path: Path) -> None:
    recipe = judged_recipe(tmp_path, None, policy, rewards="pathreasoner-r1", scoring=scoring)
    done = run_recipe_file(recipe, tmp_path)
    assert isinstance(done.exception, RecipeError) and told in str(done.exception), done.exception
    assert len(done.exception.problems) == 1 and not (tmp_path / "run").exists()


def test_weights_that_cannot_be_loaded_are_refused_before_the_first_step(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text('{"model_type": "bert"}')
    recipe = judged_recipe(
        tmp_path, None, policy, rewards="pathreasoner-r1", scoring={"encoder": str(tmp_path / "encoder")}
    )
    done = run_recipe_file(recipe, tmp_path)
    assert isinstance(done.exception, EosinError) and "sentence encoder cannot be loaded" in str(done.exception)
    assert not (tmp_path / "run" / "stages").exists()


def test_another_graph_than_the_run_began_with_is_refused(policy: Path, tmp_path: Path) -> None:
    def build(name: str) -> None:
        (tmp_path / "own.tsv").write_text(f"id\tlabel\tsynonyms\ttype\nV:1\t{name}\t\tfinding\n", "utf-8")
        build_graph(tmp_path / "graph", [parse_spec(f"tsv:{tmp_path / 'own.tsv'}")])

    build("violet whirl")
    recipe = judged_recipe(tmp_path, None, policy, steps=1, rewards="eosin",
                           scoring={"knowledge": str(tmp_path / "graph")})  # fmt: skip
    assert run_recipe_file(recipe, tmp_path).exit_code == 0
    assert stage_of(tmp_path)["rewards"]["label"] == "eosin+{knowledge=graph}"
    for file in ("summary.json", "stages/rl/stage.json"):
        (tmp_path / "run" / file).unlink()
    shutil.rmtree(tmp_path / "graph")
    build("violet whorl")
    done = run_recipe_file(recipe, tmp_path)
    assert isinstance(done.exception, EosinError) and "not the one that this run began with" in str(done.exception)


def test_the_command_that_examines_asks_a_judge_too(stub: JudgeStub, policy: Path, tmp_path: Path) -> None:
    samples = policy.parents[2] / "samples"
    done = CliRunner().invoke(
        app,
        ["evaluate", str(policy), str(samples), "--out", str(tmp_path / "exam"), "--max-new-tokens", "40",
         "--probes", "", "--term", "checklist", "--judge", stub.url, "--judge-model", "stub"],
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert "term checklist" in done.output and "unscored 0" in done.output
    scored = store.read_json(tmp_path / "exam" / "exam" / "summary.json")["scored"]
    assert scored["judge"]["judge"] == "stub" and any((tmp_path / "exam" / "verdicts").iterdir())


def test_a_key_in_a_recipe_is_refused_without_being_shown(stub: JudgeStub, tmp_path: Path) -> None:
    judge = judge_at(stub.url, api_key_env="sk-very-secret-0123456789")
    done = run_recipe_file(judged_recipe(tmp_path, judge), tmp_path)
    assert isinstance(done.exception, RecipeError) and "name of an environment variable" in str(done.exception)
    assert "very-secret" not in str(done.exception) + done.output
