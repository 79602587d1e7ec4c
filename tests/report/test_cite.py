"""`eosin cite`: what a recipe uses is cited, and what it does not use is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from eosin.chain.citing.cite import bibtex_of, works_of
from eosin.chain.citing.works import WORKS
from eosin.chain.recipe.run import shipped_recipes
from eosin.core.errors import EosinError
from eosin.core.settings.recipe import Recipe, load_recipe


def _works(name: str) -> set[str]:
    return set(works_of(load_recipe(shipped_recipes()[name]).recipe))


def test_the_papers_recipes_cite_their_papers() -> None:
    assert {"pathvlm-r1", "grpo", "qwen2.5-vl", "trl"} <= _works("pathvlm-r1")
    assert "dapo" not in _works("pathvlm-r1") and "lora" not in _works("pathvlm-r1")
    assert {"patho-r1", "dapo"} <= _works("patho-r1")
    assert {"pathreasoner-r1", "longnet", "grpo"} <= _works("pathreasoner-r1")
    assert {"clip"} <= _works("patho-clip-demo") and "qwen2.5-vl" not in _works("patho-clip-demo")


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"kind": "sft"}, set()),
        ({"kind": "sft", "lora": {}}, {"lora"}),
        ({"kind": "sft", "trajectory": {}}, {"pathreasoner-r1"}),
        ({"kind": "rejection"}, {"raft"}),
        ({"kind": "rl", "algorithm": "gspo"}, {"gspo", "trl"}),
        ({"kind": "rl", "rewards": [{"name": "checklist"}]}, {"grpo", "trl", "pathvlm-r1"}),
        ({"kind": "rl", "rewards": {"default": "patho-r1-grpo"}}, {"grpo", "trl", "patho-r1"}),
    ],
)
def test_each_setting_cites_its_work(stage: dict[str, object], expected: set[str]) -> None:
    recipe = Recipe.model_validate({"stages": {"one": stage}})
    assert set(works_of(recipe)) == expected | {"qwen2.5-vl", "transformers"}


def test_bibtex_of_a_run_names_its_data_as_the_card_does(tmp_path: Path) -> None:
    recipe = {"name": "r", "data": {"source": "table", "root": "x", "name": "in-recipe"}, "stages": {"sft": {}}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "samples").mkdir()
    card = {"name": "kather-2016", "title": "50% {odd} & co", "citation": "Kather 2016", "licence": "CC-BY-4.0",
            "homepage": "https://doi.org/10.5281/zenodo.53169"}  # fmt: skip
    (tmp_path / "samples" / "card.json").write_text(json.dumps(card))
    text = bibtex_of(tmp_path)
    keys = re.findall(r"^@misc\{([^,]+),$", text, re.M)
    assert keys == ["eosin", "qwen2.5-vl", "transformers", "data:kather-2016"]
    assert "Kather 2016 Licence: CC-BY-4.0." in text and r"50\% (odd) \& co" in text
    for entry in text.split("\n\n"):
        assert entry.count("{") == entry.count("}"), entry


def test_encoders_are_cited(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {source: slides, root: f, encoder: uni}\nmodel: {kind: slide}\nstages: {sft: {}}\n")
    text = bibtex_of(recipe)
    assert "@misc{encoder:uni," in text and "@misc{longnet," in text


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="no run and no recipe"):
        bibtex_of(tmp_path)


def test_works_are_whole() -> None:
    for work in WORKS.values():
        assert re.fullmatch(r"\d{4}\.\d{4,5}", work.arxiv) or work.url
        assert work.bibtex().count("{") == work.bibtex().count("}")
