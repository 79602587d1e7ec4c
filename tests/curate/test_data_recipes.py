"""The papers' data recipes, each end to end on phantom material, with a scripted local server as the teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.curate.test_ground_step import table
from tests.support.audited import SIGNS, changed, clean_samples, encoded, picture
from tests.support.chat_server import by_reply, serving
from tests.support.scripted_teacher import reply

from eosin.chain.curation.run import curate, preview
from eosin.core.formats import read_samples, write_samples
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.core.settings.recipe import load_settings

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "data"
NAMES = sorted(p.stem for p in RECIPES.glob("*.yaml"))


def figures(folder: Path) -> Path:
    """Figures with captions, as documents give them."""
    made = []
    for i, s in enumerate(clean_samples(60)):
        origin = s.origin.model_dump() | {
            "case": None,
            "article": f"a{i // 3}",
            "organ": "colon" if i % 3 else "stomach",
        }
        text = f"H&E, {SIGNS[s.label or ''][:-1].lower()} in field {i} of plate {i * 7}. This is {s.label}."
        made.append(
            changed(s, id=f"f{i}", caption=text, choices=(), answer=None, reasoning=(), split=None, origin=origin)
        )
    write_samples(made, folder / "figures")
    return folder / "figures"


def pathmmu(folder: Path) -> Path:
    """A file in PathMMU's layout."""
    rows = []
    for i, s in enumerate(clean_samples(40)):
        (folder / f"{i}.jpg").write_bytes(encoded(picture(i)))
        options = [f"{c.letter}) {c.text}" for c in s.choices]
        answer = f"{s.answer}) {s.answer_text}"
        asked = {"No": i, "question": "Which diagnosis fits?", "options": options, "answer": answer}
        rows.append({**asked, "img": f"{i}.jpg", "explanation": " ".join(s.reasoning)})
    path = folder / "pathmmu.json"
    path.write_text(json.dumps({"PubMed": rows[:20], "EduContent": rows[20:]}))
    return path


def source_of(name: str, folder: Path) -> Path:
    if name == "pathvlm-r1":
        return pathmmu(folder)
    return table(folder / "reports.csv") if name == "pathreasoner" else figures(folder)


def test_there_is_a_recipe_for_each_data_set() -> None:
    assert NAMES == ["patho-r1-cot", "patho-r1-cpt", "patho-r1-rl", "pathreasoner", "pathvlm-r1"]


@pytest.mark.parametrize("name", NAMES)
def test_every_number_says_where_it_is_from(name: str) -> None:
    text = (RECIPES / f"{name}.yaml").read_text("utf-8")
    assert "not published" in text and "Fetch" in text and "paper" in text.casefold()


@pytest.mark.parametrize("name", NAMES)
def test_a_paper_s_data_end_to_end(name: str, tmp_path: Path) -> None:
    path = source_of(name, tmp_path)
    with serving(by_reply(reply())) as server:
        changes = [f"data.path={path}"]
        if name == "patho-r1-cot":
            changes += [f"teacher.url={server.url}", "teacher.model=tiny", "teacher.retries=0"]
        recipe = load_settings(CurationRecipe, RECIPES / f"{name}.yaml", changes)
        assert isinstance(recipe, CurationRecipe)
        lines = preview(recipe, tmp_path / "out")
        assert server.bodies == [] and any(line.startswith("# 1. ") for line in lines)
        made = curate(recipe, tmp_path / "out")
        asked = len(server.bodies)
        curate(recipe, tmp_path / "out")
        assert len(server.bodies) == asked and (asked > 0) == (name == "patho-r1-cot")
    kept = list(read_samples(tmp_path / "out").kept)
    assert len(kept) >= 10, made.manifest["drop_reasons"]
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert all(step["num_in"] == step["num_kept"] + sum(step["dropped"].values()) for step in ledger["steps"])
    _look_at(name, kept)


def _look_at(name: str, kept: list[Sample]) -> None:
    if name in ("patho-r1-cot", "pathreasoner"):
        assert all(s.reasoning and s.answer for s in kept)
    if name in ("patho-r1-rl", "pathvlm-r1"):
        assert all(len(s.choices) > 1 and s.answer for s in kept)
    if name != "patho-r1-cpt":
        groups = {(s.origin.group, s.split) for s in kept}
        assert len({g for g, _ in groups}) == len(groups)
    else:
        assert all(s.caption and s.images for s in kept)
