"""Pseudo-bags as the paper has them, beside Eosin's own; and data that has texts and no entities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tests.support.masked_slides import CountingEngine, slide_sample
from tests.support.slide_toys import new_reader
from tests.train.test_pseudo_bags import GRAMMAR, THREE, stage

from eosin.chain.recipe.tools import _try_bags_encoder
from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Entity, Sample
from eosin.core.settings.masking import PseudoBags, Trajectory
from eosin.core.settings.recipe import Recipe
from eosin.core.settings.stages import SftStage
from eosin.core.store import artifacts as store
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample
from eosin.scoring.sets.named import PUBLISHED_ENTITIES
from eosin.train.masking import pseudo_bags
from eosin.train.masking.not_assessable import with_entities
from eosin.train.masking.pseudo_bags import with_pseudo_bags
from eosin.train.stages import sft

PUBLISHED = THREE.model_copy(update={"reward": "published", "targets": "as they are", "trajectories": "whole"})


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return [slide_sample(tmp_path, i) for i in range(4)]


def test_delta_by_the_published_reward_is_the_difference_of_its_scores(samples: list[Sample], tmp_path: Path) -> None:
    ctx = stage(tmp_path / "s", samples)
    with_pseudo_bags(samples, PUBLISHED, ctx, engine=CountingEngine())
    rows = store.read_jsonl(ctx.folder / "pseudo_bags" / "replies.jsonl")
    reward = load_rewards([PUBLISHED_ENTITIES], GRAMMAR)
    scores = {
        r["cluster"]: reward.score(item_from_sample(samples[0], r["reply"])).total
        for r in rows if r["sample_id"] == "train-0"
    }  # fmt: skip
    summary = store.read_json(ctx.folder / "pseudo_bags" / "summary.json")
    [slide] = [s for s in summary["slides"] if s["sample_id"] == "train-0"]
    assert {c["cluster"]: c["delta"] for c in slide["clusters"]} == pytest.approx(
        {c: scores[-1] - s for c, s in scores.items() if c >= 0}, abs=1e-4
    )
    hard = store.read_json(_measured(samples, tmp_path / "h") / "summary.json")["slides"][0]
    assert {c["delta"] for c in hard["clusters"]} != {c["delta"] for c in slide["clusters"]}
    assert {tuple(c["lost"]) for c in hard["clusters"]} == {tuple(c["lost"]) for c in slide["clusters"]}


class OneForAll:
    """A sentence encoder to which all names are one."""

    label = "one-for-all"

    def __init__(self, name: str) -> None:
        assert name == "folder"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 4), dtype=np.float32)


def test_the_published_reward_compares_names_by_the_encoder_that_the_recipe_names(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_bags, "SentenceEncoder", OneForAll)
    ctx = stage(tmp_path / "s", samples)
    with_pseudo_bags(samples, PUBLISHED, ctx, engine=CountingEngine())
    by_letters = {r["key"]: r for r in store.read_jsonl(ctx.folder / "pseudo_bags" / "replies.jsonl")}
    with_pseudo_bags(samples, PUBLISHED.model_copy(update={"encoder": "folder"}), ctx, engine=CountingEngine())
    rows = store.read_jsonl(ctx.folder / "pseudo_bags" / "replies.jsonl")
    by_meaning = [r for r in rows if r["key"] not in by_letters]
    assert len(by_meaning) == len(by_letters), "another encoder, another measurement"
    reward = load_rewards([PUBLISHED_ENTITIES], GRAMMAR, encode=OneForAll("folder"), encode_name="one-for-all")
    known = {s.id: s for s in samples}
    for row in by_meaning:
        assert row["reward"] == reward.score(item_from_sample(known[row["sample_id"]], row["reply"])).total
    assert [r["reward"] for r in by_meaning] != [r["reward"] for r in by_letters.values()]


def test_the_encoder_of_a_recipe_reaches_published_pseudo_bags_and_is_tried_first() -> None:
    raw = {
        "name": "x", "data": {"source": "phantom"}, "scoring": {"encoder": "mine"},
        "stages": {
            "a": {"kind": "sft", "pseudo_bags": {"reward": "published"}},
            "b": {"kind": "sft", "pseudo_bags": {"reward": "published", "encoder": "own"}},
            "c": {"kind": "sft", "pseudo_bags": {}},
        },
    }  # fmt: skip
    stages = Recipe.model_validate(raw).stages
    found = {name: s.pseudo_bags.encoder for name, s in stages.items() if isinstance(s, SftStage) and s.pseudo_bags}
    assert found == {"a": "mine", "b": "own", "c": None}
    with pytest.raises(ValidationError, match="compares no names"):
        PseudoBags(encoder="mine")
    first = stages["a"]
    assert isinstance(first, SftStage)
    with pytest.raises(EosinError, match="encoder") as failed:
        _try_bags_encoder("a", first, set())
    assert "mine" in str(failed.value.as_text() if hasattr(failed.value, "as_text") else failed.value)


def _measured(samples: list[Sample], folder: Path) -> Path:
    ctx = stage(folder, samples)
    with_pseudo_bags(samples, THREE, ctx, engine=CountingEngine())
    return ctx.folder / "pseudo_bags"


def test_the_published_target_is_that_of_the_whole_slide(samples: list[Sample], tmp_path: Path) -> None:
    rows, facts = with_pseudo_bags(samples, PUBLISHED, stage(tmp_path / "s", samples), engine=CountingEngine())
    assert facts["num_copies"] == 4 and facts["num_changed"] == 0
    for copy in rows[4:]:
        [whole] = [s for s in samples if s.id == copy.id.split("#")[0]]
        same = {"id", "images", "origin"}
        assert copy.model_dump(exclude=same) == whole.model_dump(exclude=same)
        assert copy.images[0].without_clusters  # type: ignore[union-attr]
    with pytest.raises(ValidationError, match="leave lost_answer out"):
        PseudoBags(targets="as they are", lost_answer="not assessable")


@pytest.mark.parametrize(("mode", "num"), [("all", 2 * 6), ("whole", 2 * 3 + 3)])
def test_copies_carry_full_trajectories_only_in_the_paper(tmp_path: Path, mode: str, num: int) -> None:
    """Three chains of three steps give two variants each; three copies give two each, or one."""
    samples = [slide_sample(tmp_path, i) for i in range(3)]
    ctx = stage(tmp_path / "sft2", samples, loaded=new_reader())
    bags = PseudoBags(num_clusters=3, share=1.0, max_new_tokens=4, trajectories=mode)  # type: ignore[arg-type]
    rows = sft.training_rows(SftStage(pseudo_bags=bags, trajectory=Trajectory(max_variants=2)), ctx)
    assert len(rows) == num
    firsts = [m for s, m in zip(rows.samples, rows.first_steps, strict=True) if "#without" in s.id]
    assert (set(firsts) == {1}) == (mode == "whole")


def without_entities(samples: list[Sample]) -> list[Sample]:
    """As SlideChat's and PathReasoner's files are read: texts, and no entities."""
    return [s.model_copy(update={"entities": (), "extra": {}}) for s in samples]


def test_findings_are_read_from_their_text_where_the_data_has_no_entities(
    samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = without_entities(samples)
    found = with_entities(bare[0]).entities
    assert {(e.name, e.polarity) for e in found} == {
        ("back-to-back glands", "present"), ("mitosis", "present"), ("necrosis", "present"), ("mucin", "absent"),
    }  # fmt: skip
    rows, facts = with_pseudo_bags(bare, THREE, stage(tmp_path / "s", bare), engine=CountingEngine())
    assert facts["num_linked"] == 4 and facts["num_without_findings"] == 0 and facts["num_changed"] >= 1
    assert "4 have their findings from their text" in capsys.readouterr().err
    changed = [c for c in rows[4:] if c.findings != bare[0].findings]
    assert len(changed) == facts["num_changed"]
    assert all("not assessable" in str(c.findings) and c.entities == () for c in changed)


def test_samples_that_name_no_finding_are_counted(
    samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The slide is measured by another question; its second question has an answer and nothing else."""
    plain = samples[0].model_copy(
        update={"id": "plain", "entities": (), "extra": {}, "findings": None, "reasoning": ()}
    )
    both = [samples[0], plain]
    _, facts = with_pseudo_bags(both, THREE, stage(tmp_path / "s", both), engine=CountingEngine())
    assert facts["num_without_findings"] == 1
    assert "1 name no finding" in capsys.readouterr().err


def test_what_a_text_says_both_ways_is_no_finding(samples: list[Sample]) -> None:
    torn = samples[0].model_copy(update={"entities": (), "findings": "There is necrosis. No necrosis. Mitoses."})
    assert [e.name for e in with_entities(torn).entities] == ["mitosis"]
    own = samples[0].model_copy(update={"entities": (Entity(name="necrosis"),)})
    assert with_entities(own) is own
