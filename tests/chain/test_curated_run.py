"""Curation inside a run: `data.curate` through the command line, killed and gone on, and what a look at it says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import forked
from tests.support.audited import SIGNS, changed, clean_samples
from tests.support.chat_server import by_reply, serving
from tests.support.scripted_teacher import reply
from tests.support.toys import toy_recipe, toy_samples, toy_table
from typer.testing import CliRunner

from eosin.chain.plan.workload import Assumed, _samples
from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples, write_samples
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.settings.recipe import Recipe, load_recipe
from eosin.core.store import artifacts as store
from eosin.curate.dedupe import dedupe

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
KILLED = """
import os, signal, sys
from eosin.cli.main import app
from eosin.curate.engine.shards import Place
real = Place.write
def write(self, shard, *rest):
    if (self.step, shard) == ("dedupe", 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, shard, *rest)
Place.write = write
app(sys.argv[1:], standalone_mode=False)
"""


def written(file: Path, curate: Any, **data: Any) -> Path:
    """A recipe of one short SFT, whose data has steps."""
    recipe = toy_recipe(file.parent / "tiles", {}, "text")
    recipe["data"] = {**(data or recipe["data"]), "curate": curate}
    recipe["stages"] = {"sft": {"steps": 1, "batch_size": 4}}
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), "utf-8")
    return file


def ran(*argv: str | Path) -> Any:
    return CliRunner().invoke(app, [str(a) for a in argv])


def test_killed_in_its_curation_a_run_goes_on_to_its_end(tmp_path: Path) -> None:
    """A real kill between two shards; what stood is not done again; ledger, card and page agree."""
    toy_table(tmp_path / "tiles", num=45)
    data = (tmp_path / "tiles" / "manifest.csv").read_text().splitlines()
    copied = (tmp_path / "tiles" / data[1].split(",")[0]).read_bytes()
    (tmp_path / "tiles" / "copy.png").write_bytes(copied)
    (tmp_path / "tiles" / "manifest.csv").write_text("\n".join([*data, "copy.png," + data[1].split(",", 1)[1]]) + "\n")
    steps = [{"filter": {"text": "all", "min_side_px": 16}}, {"dedupe": {"near_image": False, "near_text": None}},
             {"mixture": {"by": "label", "temperature": 1, "weights": {"red": 2, "green": 1, "blue": 1},
                          "max_repeats": 2}}]  # fmt: skip
    recipe = written(tmp_path / "r.yaml", {"steps": steps, "unknown_licence": "keep", "shard_samples": 20})
    argv = ["run", str(recipe), "--out", str(tmp_path / "run")]
    assert forked.run(["-c", KILLED, *argv]).returncode == -9
    work = tmp_path / "run" / ".curated.work"
    shard = work / "02-dedupe" / "counts" / "00000.json"
    assert (
        shard.exists() and (work / "01-filter" / "done.json").exists() and not (tmp_path / "run" / "curated").exists()
    )

    real, seen = store.write_json, []

    def noted(path: Path, value: Any) -> None:
        seen.append(path)
        real(path, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eosin.curate.engine.shards.write_json", noted)
        done = ran(*argv, "data.curate.shard_samples=20")
    assert done.exit_code == 0, done.output
    assert shard not in seen and shard.with_name("00001.json") in seen and not work.exists()
    ledger = json.loads((tmp_path / "run/curated/ledger.json").read_text("utf-8"))
    assert [s["step"] for s in ledger["steps"]] == ["read", "filter", "dedupe", "mixture"]
    assert ledger["steps"][2]["dropped"] == {"same image and question": 1}
    kept = read_samples(tmp_path / "run/samples").kept
    train = [s for s in kept if s.split == "train"]
    drawn = ledger["steps"][3]["facts"]["parts"]
    assert len(kept) == ledger["total"]["out"] and len(train) == sum(drawn.values())
    assert sum("~2" in s.id for s in train) == ledger["steps"][3]["again"] > 0  # what is shown again is no copy
    card = json.loads((tmp_path / "run/samples/card.json").read_text("utf-8"))
    assert card["name"] == "toy" and [s["out"] for s in card["curation"]] == [s["num_out"] for s in ledger["steps"]]
    page = (tmp_path / "run/report/index.html").read_text("utf-8")
    assert "Curation before the first stage" in page and "1 same image and question" in page
    again = ran(*argv)
    assert again.exit_code == 0 and "Nothing to do" in again.output


def test_a_teacher_in_a_run_is_paid_once(tmp_path: Path) -> None:
    """The budget ends halfway: the run stops and says how to go on; with a larger one it asks for the rest alone."""
    samples = [
        changed(s, caption=f"H&E, {SIGNS[s.label or ''][:-1].lower()} in field {i} of plate {i}. This is {s.label}.",
                choices=(), answer=None, reasoning=())
        for i, s in enumerate(clean_samples(12))
    ]  # fmt: skip
    write_samples(samples, tmp_path / "in.parquet")
    with serving(by_reply(reply())) as server:
        teacher = {"url": server.url, "model": "tiny", "retries": 0, "max_in_flight": 2, "max_calls": 9}
        step = {"reason": {"tasks": {"complex-reasoning": 1, "multiple-choice": 0, "detailed-description": 0,
                                     "multi-turn-dialogue": 0}}}  # fmt: skip
        curate = {"teacher": teacher, "steps": [step], "shard_samples": 5}
        recipe = written(tmp_path / "r.yaml", curate, source="samples", path=str(tmp_path / "in.parquet"))
        look = ran("run", recipe, "--dry-run")
        assert "# before the first stage, curate 1. reason" in look.output and f"tiny at {server.url}" in look.output
        verbs: list[list[str | Path]] = [["train", "show-mask", recipe],
                                         ["export", "verl", recipe, "--out", tmp_path / "x"]]  # fmt: skip
        for verb in verbs:
            refused = ran(*verb)
            assert isinstance(refused.exception, EosinError) and "not asked for a look" in str(refused.exception)
        assert server.bodies == []
        command = ("run", recipe, "--out", tmp_path / "run")
        stopped = ran(*command)
        assert "no answer is paid twice" in str(stopped.exception) and not (tmp_path / "run/curated").exists()
        done = ran(*command, "data.curate.teacher.max_calls=100")
        assert done.exit_code == 0, done.output
        num = len(server.answered)
        assert num == len(set(server.answered)) > 12
        assert ran(*command).exit_code == 0 and len(server.answered) == num
    last = json.loads((tmp_path / "run/curated/ledger.json").read_text("utf-8"))["steps"][-1]
    assert last["num_in"] == 12 == last["num_kept"] + sum(last["dropped"].values()) and last["num_kept"] >= 3
    assert all(s.extra["reason"]["teacher"] == "tiny" for s in read_samples(tmp_path / "run/samples").kept)


def test_a_step_that_leaves_nothing_stops_the_run_each_time(tmp_path: Path) -> None:
    toy_table(tmp_path / "tiles", num=15)
    recipe = written(tmp_path / "r.yaml", [{"filter": {"text": "all", "min_words": 900}}])
    for _ in range(2):  # the second time too: what a step made nothing of is not done
        stopped = ran("run", recipe, "data.licence=CC0-1.0", "--out", tmp_path / "run")
        assert "The step filter left no sample" in str(stopped.exception)
        assert not (tmp_path / "run/curated").exists()


def test_what_is_wrong_is_said_before_anything_is_done(tmp_path: Path) -> None:
    asked = ran("run", written(tmp_path / "a.yaml", ["filter", "reason"]), "--dry-run")
    assert "data.curate.steps.1.teacher: the step reason needs a server" in str(asked.exception)
    wrong = ran("run", written(tmp_path / "b.yaml", [{"dedupe": {"near_txt": 0.9}}]), "--dry-run")
    assert "did you mean near_text?" in str(wrong.exception)
    with pytest.raises(ValueError, match="data.curate is for the recipe of a run"):
        CurationRecipe.model_validate({"data": {"source": "phantom", "curate": ["filter"]}, "steps": ["filter"]})


def test_the_plan_does_not_guess_how_many_are_left() -> None:
    recipe = Recipe.model_validate({"data": {"source": "phantom", "curate": ["filter"]}, "stages": {"sft": {}}})
    assert _samples(recipe, "sft", recipe.stages["sft"], Assumed()) is None
    assert _samples(recipe, "sft", recipe.stages["sft"], Assumed(samples=(("", 7),))) == 7


def test_a_list_is_the_steps_alone(tmp_path: Path) -> None:
    short = load_recipe(written(tmp_path / "a.yaml", ["filter", {"dedupe": {"near_text": 0.9}}])).recipe
    long = load_recipe(written(tmp_path / "b.yaml", {"steps": ["filter", {"step": "dedupe", "near_text": 0.9}]})).recipe
    assert short.data == long.data
    again = tmp_path / "c.yaml"
    again.write_text(load_recipe(tmp_path / "a.yaml").to_yaml(), "utf-8")
    assert load_recipe(again).recipe == short


def test_a_repeat_stays_with_the_sample_it_repeats() -> None:
    first, other = toy_samples(2, "train")
    again = first.model_copy(
        update={"id": f"{first.id}~2", "origin": first.origin.model_copy(update={"parents": (first.id,)})}
    )
    copy = first.model_copy(update={"id": "copy~2"})  # a name alone makes no repeat
    found = dedupe([again, first, other, copy], perceptual=False).samples
    assert [s.id for s in found.kept] == [again.id, first.id, other.id]
    assert found.reasons() == {"same image and question": 1}
