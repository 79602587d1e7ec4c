"""The verbs on files: a recipe is run, previewed and refused; pictures are deduped and kept from exams; Ray agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from planted_pictures import jpeg, texture
from tests.support import forked
from typer.testing import CliRunner

from eosin.chain.curation.run import curate
from eosin.cli.main import app
from eosin.core.errors import RecipeError
from eosin.core.formats import read_samples, write_samples
from eosin.core.images import encode_png
from eosin.core.nouns.sample import ImageBytes, Origin, Sample, make_choices, user_prompt
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.settings.recipe import load_settings
from eosin.curate.engine.shards import Place


def asked(name: str, image: Image.Image, answer: str = "A", **origin: Any) -> Sample:
    return Sample(
        id=name, images=(ImageBytes(data=encode_png(image)),), messages=user_prompt("Which tissue?"),
        choices=make_choices(["fat", "gland"]), answer=answer,
        origin=Origin(**{"source": "t", "licence": "CC0-1.0", "case": name, **origin}),
    )  # fmt: skip


def told(path: Path, *steps: Any, **more: Any) -> CurationRecipe:
    data = {"source": "samples", "path": str(path)}
    return CurationRecipe.model_validate({"data": data, "steps": list(steps), **more})


def test_pictures_are_deduped_and_kept_from_an_exam(tmp_path: Path) -> None:
    base = [texture(i) for i in range(8)]
    samples = [asked(f"s{i}", p) for i, p in enumerate(base)]
    samples += [
        asked("turned", base[0].transpose(Image.Transpose.ROTATE_180)), asked("other answer", jpeg(base[1]), "B"),
        asked("a", base[2], case="s2"), asked("b", base[3], "B"),
    ]  # fmt: skip
    write_samples(samples, tmp_path / "in.parquet")
    exam = [asked("e1", base[4].crop((10, 20, 130, 140)), source="exam"), asked("e2", base[5], source="exam")]
    write_samples(exam, tmp_path / "exam.parquet")
    recipe = told(tmp_path / "in.parquet", "dedupe", {"decontaminate": {"against": str(tmp_path / "exam.parquet")}})
    curate(recipe, tmp_path / "out")
    steps = json.loads((tmp_path / "out/ledger.json").read_text("utf-8"))["steps"]
    assert steps[1]["dropped"] == {
        "nearly the same picture": 1, "same image and question": 1, "same image, different answers": 2,
    }  # fmt: skip
    assert steps[1]["facts"]["near_pictures_that_are_asked_otherwise"] >= 1
    assert steps[2]["dropped"] == {"nearly the same image": 1, "same image": 1}
    assert steps[2]["facts"]["by_exam"] == {str(tmp_path / "exam.parquet"): 2}
    assert {s.id for s in read_samples(tmp_path / "out").kept} == {"s0", "s1", "s2", "s6", "s7", "other answer"}


def test_the_verb_runs_a_recipe_and_shows_its_plan(tmp_path: Path) -> None:
    write_samples([asked(f"s{i}", texture(i, 96)) for i in range(4)], tmp_path / "in.parquet")
    data = f"data: {{source: samples, path: {tmp_path / 'in.parquet'}}}"
    (tmp_path / "r.yaml").write_text(f"{data}\nsteps: [filter, {{split: {{test: 0.5}}}}]\n", "utf-8")
    runner, command = CliRunner(), ["curate", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out")]
    plan = runner.invoke(app, [*command, "--dry-run"])
    assert plan.exit_code == 0 and "# 4 samples in the source" in plan.output and "# 2. split" in plan.output
    assert not (tmp_path / "out").exists()
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert {s.split for s in read_samples(tmp_path / "out").kept} == {"train", "test"}
    shown = runner.invoke(app, ["samples", "stats", str(tmp_path / "out")])
    assert "samples                4" in shown.output


def test_a_wrong_key_of_a_step_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "data: {source: samples, path: x}\nsteps: [{dedupe: {near_txt: 0.9}}, {split: {by: question}}]\n", "utf-8"
    )
    with pytest.raises(RecipeError) as caught:
        load_settings(CurationRecipe, tmp_path / "r.yaml")
    assert "did you mean near_text?" in str(caught.value)
    assert "a split by question is refused" in str(caught.value)


KILLED = """
import os, signal, sys
from pathlib import Path
from eosin.chain.curation.run import curate
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.curate.engine.shards import Place
real = Place.write
def write(self, shard, *rest):
    if (self.step, shard) == ("filter", 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, shard, *rest)
Place.write = write
curate(CurationRecipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_process_leaves_work_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real kill, between two shards of the filter."""
    write_samples([asked(f"s{i}", texture(i, 96)) for i in range(6)], tmp_path / "in.parquet")
    recipe = told(tmp_path / "in.parquet", "filter", "dedupe", shard_samples=2)
    assert forked.run(["-c", KILLED, recipe.model_dump_json(), tmp_path / "out"]).returncode == -9
    assert not (tmp_path / "out").exists()
    written, real = [], Place.write

    def write(self: Place, shard: int, *rest: Any) -> Any:
        written.append((self.step, shard))
        return real(self, shard, *rest)

    monkeypatch.setattr(Place, "write", write)
    made = curate(recipe, tmp_path / "out")
    assert written == [("filter", 1), ("filter", 2), ("dedupe", 0), ("dedupe", 1), ("dedupe", 2)]
    assert made.manifest["counts"]["samples"] == 6


@pytest.mark.long
def test_ray_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    samples = [asked(f"s{i}", texture(i, 96)) for i in range(6)]
    write_samples(samples, tmp_path / "in.parquet")
    steps = ["filter", {"dedupe": {"near_image": False}}]
    here = curate(told(tmp_path / "in.parquet", *steps, shard_samples=2), tmp_path / "here")
    there = curate(told(tmp_path / "in.parquet", *steps, shard_samples=2, engine="ray"), tmp_path / "there")
    assert here.digest == there.digest
