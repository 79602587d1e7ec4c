"""Several data sets in one run: files beside each other, and stages that see some of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.support.paper_data import patho_files
from tests.support.toys import toy_samples
from tests.train.conftest import GRAMMAR, PROMPT

from eosin.chain.parts import of_sources, training_part
from eosin.chain.recipe.data import read_source
from eosin.chain.recipe.run import run_recipe
from eosin.core.errors import EosinError
from eosin.core.settings.data import SamplesData
from eosin.core.settings.recipe import Recipe, load_recipe
from eosin.core.settings.stages import SftStage
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext


def test_files_beside_each_other_are_sources_and_captions_come_with_their_rows(tmp_path: Path) -> None:
    pairs, cot, questions = patho_files(tmp_path)
    found = read_source(SamplesData(path=str(pairs), also=[str(cot), str(questions)]), 0)
    by_source = {s: [x for x in found.kept if x.origin.source == s] for s in ("pairs", "cot", "questions")}
    assert [len(v) for v in by_source.values()] == [24, 24, 24]
    assert all(x.caption and x.answer is None for x in by_source["pairs"])
    assert all(x.choices and x.reasoning and x.caption is None for x in by_source["cot"])
    recipe = Recipe.model_validate({"stages": {"sft": {"kind": "sft", "sources": ["cot"]}, "rl": {"kind": "rl"}}})
    assert {s.origin.source for s in training_part(recipe, "sft", found.kept)} == {"cot"}
    assert len(of_sources(recipe, "rl", found.kept)) == 72
    odd = Recipe.model_validate({"stages": {"sft": {"kind": "sft", "sources": ["cot", "cott"]}}})
    with pytest.raises(EosinError, match="no such source"):
        training_part(odd, "sft", found.kept)


def test_sft_leaves_out_what_has_no_answer_and_counts_it(tmp_path: Path) -> None:
    asked, bare = toy_samples(3, "train"), toy_samples(3, "valid")
    bare = [s.model_copy(update={"answer": None}) for s in bare]
    ctx = StageContext(
        name="sft", folder=tmp_path, loaded=None, train=[*asked, *bare], valid=[], grammar=GRAMMAR,  # type: ignore[arg-type]
        prompt=PROMPT, seed=0, parents=(),
    )  # fmt: skip
    rows = sft.training_rows(SftStage(), ctx)
    assert [s.id for s in rows.samples] == [s.id for s in asked] and rows.facts == {"num_without_answer": 3}


def test_a_source_that_a_later_stage_lacks_is_said_before_the_first_is_trained(tmp_path: Path) -> None:
    recipe = {
        "data": {"source": "phantom", "train_cases": 2, "valid_cases": 1, "test_cases": 1, "tile_px": 56},
        "stages": {"sft": {}, "rl": {"sources": ["questions"]}}, "base_exam": False, "exams": {},
    }  # fmt: skip
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(EosinError, match="no such source") as found:
        run_recipe(load_recipe(path), tmp_path / "run")
    assert found.value.where == "stages.rl.sources" and "dropped.jsonl" in str(found.value.next_step)
    assert not (tmp_path / "run" / "stages").exists() and not (tmp_path / "run" / "base").exists()
