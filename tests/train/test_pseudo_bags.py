"""Pseudo-bag masking: the published rule by hand, a measurement that resumes, and targets that fit what is left."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.masked_slides import KINDS, CountingEngine, kinds_shown, slide_sample
from tests.support.slide_toys import new_reader

from eosin.core.errors import EosinError
from eosin.core.nouns.outcome import Dropped, Kept
from eosin.core.nouns.prompt import PromptSettings, gold_reply
from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Entity, Sample, make_choices, user_prompt
from eosin.core.settings.masking import PseudoBags, Trajectory
from eosin.core.settings.stages import SftStage
from eosin.core.store import artifacts as store
from eosin.core.store.artifacts import Artifact
from eosin.knowledge.linking.linker import Linker
from eosin.scoring import load_rewards
from eosin.scoring.reading.item import item_from_sample
from eosin.slides.features.regions import SlideRegions
from eosin.train.data.collate import MaskedCollator
from eosin.train.data.rows import rows_dataset, sft_row
from eosin.train.masking.bag_clusters import clusters_of, draw, eligible, probabilities
from eosin.train.masking.not_assessable import Lost, Rewriter, rewrite
from eosin.train.masking.pseudo_bags import lost_by_truth, with_pseudo_bags
from eosin.train.stages import sft
from eosin.train.stages.base import StageContext

GRAMMAR = Grammar.of("info/think/answer", numbered_steps=True)
PROMPT = PromptSettings(instruction=False, answer="text")
THREE = PseudoBags(num_clusters=3, share=1.0, batch_size=4, tau=0.2)


def stage(folder: Path, samples: list[Sample], checkpoint: str = "aaaa", loaded: Any = None) -> StageContext:
    folder.mkdir(exist_ok=True)
    parent = Artifact(folder, {"kind": "checkpoint", "digest": checkpoint})
    return StageContext(
        name="sft2", folder=folder, loaded=loaded, train=samples, valid=[], grammar=GRAMMAR, prompt=PROMPT, seed=0,
        parents=(parent,), read_region=SlideRegions(),
    )  # fmt: skip


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return [slide_sample(tmp_path, i) for i in range(4)]


def entity_reward(sample: Sample) -> float | None:
    """Of the sample's own gold reply."""
    reply = gold_reply(sample, GRAMMAR, "text")
    return load_rewards([{"name": "entities"}], GRAMMAR).score(item_from_sample(sample, reply)).total


# ---- the rule -------------------------------------------------------------------------------------------------------


def test_eligible_clusters_by_hand() -> None:
    sizes = [1, 2, 97]  # N = 100: at least max(1, floor(2)) = 2 patches
    assert eligible(np.repeat([0, 1, 2], sizes), 0.02) == [1, 2]
    assert eligible(np.repeat([0, 1, 2], [1, 9, 39]), 0.02) == [0, 1, 2]  # N = 49: floor(0.98) = 0, so 1
    assert eligible(np.zeros(30, np.int64), 0.02) == []  # nothing would remain


def test_probabilities_by_hand() -> None:
    chances = probabilities({3: 0.5, 5: 0.1}, tau=0.4, uniform=0.3)
    soft = np.exp([1.25, 0.25]) / np.exp([1.25, 0.25]).sum()
    assert chances == pytest.approx({3: 0.7 * soft[0] + 0.15, 5: 0.7 * soft[1] + 0.15})
    assert sum(chances.values()) == pytest.approx(1)
    assert probabilities({1: 0.9, 2: -0.9}, tau=1e-4, uniform=0.3) == pytest.approx({1: 0.85, 2: 0.15})
    assert probabilities({}, 0.1, 0.3) == {} and draw({}, 0, "a") is None


def test_draws_follow_the_chances_and_the_name() -> None:
    chances = {0: 0.7, 4: 0.2, 7: 0.1}
    counted = Counter(draw(chances, 0, f"s{i}") for i in range(2000))
    assert {c: n / 2000 for c, n in counted.items()} == pytest.approx(chances, abs=0.04)
    assert draw(chances, 0, "s1") == draw(chances, 0, "s1")


def test_clusters_follow_the_patches_and_random_ones_have_the_same_sizes(samples: list[Sample]) -> None:
    bag = SlideRegions().bag(samples[0].images[0])  # type: ignore[arg-type]
    found, dealt = (clusters_of(bag, 3, 0, mode) for mode in ("entity", "random"))  # type: ignore[arg-type]
    assert {frozenset(np.flatnonzero(found == c)) for c in range(3)} == {
        frozenset(np.flatnonzero(k == KINDS)) for k in range(3)
    }
    assert sorted(np.bincount(dealt)) == sorted(np.bincount(found)) == [6, 6, 12]
    assert not np.array_equal(found, dealt)
    assert np.array_equal(found, clusters_of(bag, 3, 0))
    assert clusters_of(bag.take(np.array([3])), 8, 0).tolist() == [0]


# ---- the measurement ------------------------------------------------------------------------------------------------


def test_deltas_by_hand_and_what_they_lead_to(samples: list[Sample], tmp_path: Path) -> None:
    """Gold: crowded glands, mitoses, necrosis, no mucin pools. The engine names what it sees, so that
    R(whole) = 1; without row 2: P = 2, all right, 2 * 2 / (2 + 4) = 2/3; without row 3: 2 * 3 / (3 + 4) = 6/7."""
    ctx = stage(tmp_path / "s", samples)
    rows, facts = with_pseudo_bags(samples, THREE, ctx, engine=CountingEngine())
    summary = store.read_json(ctx.folder / "pseudo_bags" / "summary.json")
    for slide in summary["slides"]:
        deltas = {tuple(c["lost"]): c["delta"] for c in slide["clusters"]}
        assert slide["whole"] == 1.0
        assert deltas == pytest.approx({
            (): 0.0, ("back-to-back glands", "mitosis"): 1 / 3, ("necrosis",): 1 / 7}, abs=1e-4)  # fmt: skip
        best = max(slide["clusters"], key=lambda c: c["p"])
        assert best["delta"] == pytest.approx(1 / 3, abs=1e-4)
        assert sum(c["p"] for c in slide["clusters"]) == pytest.approx(1, abs=1e-3)
    assert facts["num_replies"] == 4 * 4 and facts["num_copies"] == len(rows) - 4
    assert facts["num_chosen"] == facts["num_copies"] + sum(facts["set_aside"].values()) == 4


def test_the_cost_is_said_before_the_first_reply_and_estimated_after_the_first_batch(
    samples: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        with_pseudo_bags(samples, THREE, stage(tmp_path / "s", samples), engine=CountingEngine(dies_at=0))
    assert "4 slides x (whole + clusters) = 16 replies" in capsys.readouterr().err
    with_pseudo_bags(samples, THREE, stage(tmp_path / "s", samples), engine=CountingEngine())
    assert "first 4 replies took" in (said := capsys.readouterr().err) and "for the other 12" in said


def test_a_killed_measurement_goes_on_and_nothing_is_asked_twice(samples: list[Sample], tmp_path: Path) -> None:
    ctx = stage(tmp_path / "s", samples)
    with pytest.raises(KeyboardInterrupt):
        with_pseudo_bags(samples, THREE, ctx, engine=CountingEngine(dies_at=2))
    second = CountingEngine()
    rows, facts = with_pseudo_bags(samples, THREE, ctx, engine=second)
    assert sum(second.batches) == facts["num_asked"] == 16 - 8
    third = CountingEngine()
    again, _ = with_pseudo_bags(samples, THREE, ctx, engine=third)
    assert third.batches == [] and again == rows
    other = CountingEngine()
    with_pseudo_bags(samples, THREE, stage(tmp_path / "s", samples, checkpoint="bbbb"), engine=other)
    assert sum(other.batches) == 16  # another checkpoint is another model
    fresh = CountingEngine()
    assert with_pseudo_bags(samples, THREE, stage(tmp_path / "t", samples), engine=fresh)[0] != [] and fresh.batches


def test_random_clusters_are_measured_and_drawn_alike(samples: list[Sample], tmp_path: Path) -> None:
    random = THREE.model_copy(update={"mode": "random"})
    rows, facts = with_pseudo_bags(samples, random, stage(tmp_path / "s", samples), engine=CountingEngine())
    assert facts["num_copies"] == 4 and facts["num_changed"] == 0  # every kind of patch is left somewhere
    assert all(len(SlideRegions().bag(r.images[0])) < 24 for r in rows[4:])  # type: ignore[arg-type]


# ---- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evidence", ["measured", "truth"])
def test_copies_lack_the_patches_and_say_what_cannot_be_assessed(
    samples: list[Sample], tmp_path: Path, evidence: str
) -> None:
    settings = THREE.model_copy(update={"evidence": evidence})
    rows, facts = with_pseudo_bags(samples, settings, stage(tmp_path / "s", samples), engine=CountingEngine())
    assert facts["by_evidence"] == {evidence: 4} and rows[:4] == samples
    linker = Linker.builtin()
    seen = set()
    for copy in rows[4:]:
        bag = SlideRegions().bag(copy.images[0])  # type: ignore[arg-type]
        gone = {0, 1, 2} - kinds_shown(bag)
        seen |= gone
        lost = {1: {"crowded glands", "mitoses"}, 2: {"necrosis"}, 0: set()}[gone.pop()]
        assert len(bag) in (18, 12) and copy.origin.parents == (copy.id.split("#")[0],)
        assert {e.name for e in samples[0].entities} - {e.name for e in copy.entities} == lost
        text = f"{copy.findings} {' '.join(copy.reasoning)}"
        for name in lost:
            claims = [m for m in linker.link(text) if m.concept == linker.concept_of(name)]
            assert claims and {m.scope for m in claims} == {"unassessed"}  # neither present nor absent
        assert len(copy.reasoning) == 3 and copy.answer == "A"
        assert entity_reward(copy) == entity_reward(samples[0]) == 1.0
    assert seen >= {1}


def test_rewriting_by_hand(samples: list[Sample]) -> None:
    links = Linker.builtin()
    lost = Lost(frozenset({str(links.concept_of("mitoses")), str(links.concept_of("necrosis"))}))
    made = rewrite(samples[0], lost, GRAMMAR, "keep")
    assert isinstance(made, Kept)
    assert made.value.findings == (
        "There is evidence of crowded glands. The presence of mitoses is not assessable. "
        "The presence of necrosis is not assessable. No mucin pools are present."
    )
    assert made.value.reasoning == (
        "There is evidence of crowded glands. The presence of mitoses is not assessable.",
        "There is no evidence of mucin pools. The presence of necrosis is not assessable.",
        "This fits adenocarcinoma.",
    )
    own = Rewriter(samples[0], lost, GRAMMAR)
    assert own.text("- Necrosis is seen.\n- Glands are crowded.") == (
        "- The presence of necrosis is not assessable.\n- Glands are crowded."
    )
    both = own.text("Mitoses and necrosis are seen. There are mitoses and necrosis.")
    assert both == "The presence of mitoses and necrosis is not assessable."  # said once


def test_a_diagnosis_without_evidence_is_kept_or_becomes_an_option_that_all_rows_have(
    samples: list[Sample], tmp_path: Path
) -> None:
    links = Linker.builtin()
    gone = Lost(frozenset(str(links.concept_of(n)) for n in ("crowded glands", "mitoses", "necrosis")), diagnosis=True)
    kept = rewrite(samples[0], gone, GRAMMAR, "keep")
    assert isinstance(kept, Kept) and kept.value.answer_text == "adenocarcinoma" and len(kept.value.choices) == 3
    made = rewrite(samples[0], gone, GRAMMAR, "not assessable")
    assert isinstance(made, Kept)
    assert made.value.answer == "D" and made.value.answer_text == "not assessable"
    assert made.value.reasoning[-1] == "The diagnosis is not assessable."
    assert [e.name for e in made.value.entities] == ["mucin pools"]
    assert "adenocarcinoma" not in f"{made.value.findings} {made.value.reasoning}"
    Sample.model_validate(made.value.model_dump())
    option = THREE.model_copy(update={"lost_answer": "not assessable"})
    rows, _ = with_pseudo_bags(samples, option, stage(tmp_path / "s", samples), engine=CountingEngine())
    assert {r.choices[-1].text for r in rows} == {"not assessable"} and {r.answer for r in rows[:4]} == {"A"}


def test_a_question_about_a_lost_finding_is_set_aside_or_answered_so(samples: list[Sample]) -> None:
    question = user_prompt("Does this slide show necrosis?")
    asked = samples[0].model_copy(update={"messages": question, "choices": make_choices(["no", "yes"]), "answer": "B"})
    lost = Lost(frozenset({str(Linker.builtin().concept_of("necrosis"))}))
    aside = rewrite(asked, lost, GRAMMAR, "keep")
    assert isinstance(aside, Dropped) and aside.reason == "what is asked about was taken out"
    other = Lost(frozenset({str(Linker.builtin().concept_of("mitoses"))}), diagnosis=True)
    stays = rewrite(asked, other, GRAMMAR, "not assessable")  # the necrosis can still be seen
    assert isinstance(stays, Kept) and stays.value.answer_text == "yes"
    made = rewrite(asked, lost, GRAMMAR, "not assessable")
    assert isinstance(made, Kept) and made.value.answer_text == "not assessable"
    assert made.value.reasoning[-1] == "So the answer is not assessable."  # "This fits adenocarcinoma." was no answer
    assert "adenocarcinoma" in {e.name for e in made.value.entities}  # of which there is evidence still


def test_an_open_list_of_findings_is_rewritten_as_the_findings_are(samples: list[Sample]) -> None:
    listing = samples[0].model_copy(update={
        "messages": user_prompt("Which findings are there?"), "choices": (), "answer": "Crowded glands and necrosis.",
        "reasoning": ("Crowded glands and necrosis are seen.", "Necrosis speaks for adenocarcinoma.")})  # fmt: skip
    names = ("crowded glands", "mitoses", "necrosis")
    gone = Lost(frozenset(str(Linker.builtin().concept_of(n)) for n in names), diagnosis=True)
    made = rewrite(listing, gone, GRAMMAR, "keep")
    assert isinstance(made, Kept)
    assert made.value.answer == "The presence of crowded glands and necrosis is not assessable."
    assert [e.name for e in made.value.entities] == ["mucin pools"]  # nothing is left that speaks for a diagnosis
    assert "adenocarcinoma" not in " ".join(made.value.reasoning)


def test_what_lies_under_the_patches_by_hand(samples: list[Sample]) -> None:
    """Half of the crowded glands are gone with three of the six patches of row 2."""
    bag = SlideRegions().bag(samples[0].images[0])  # type: ignore[arg-type]
    truth = json.loads(Path(samples[0].extra["truth"]).read_text(encoding="utf-8"))
    links = Linker.builtin()
    names = {links.concept_of("crowded glands"), links.concept_of("mitoses")}
    gone = np.zeros(24, bool)
    gone[12:15] = True
    assert lost_by_truth(samples[0], bag, gone, truth, 0.75) == Lost()
    assert lost_by_truth(samples[0], bag, gone, truth, 0.5) == Lost(frozenset(map(str, names)))
    gone[12:23] = True  # all of row 2, five of the six of row 3: 11 of 12 lesions
    assert lost_by_truth(samples[0], bag, gone, truth, 0.75).diagnosis
    truth["lesions"][0]["visible"] = False
    gone[:] = False
    gone[13:18] = True  # all that can be seen
    assert lost_by_truth(samples[0], bag, gone, truth, 1.0).concepts == names


# ---- the stage ------------------------------------------------------------------------------------------------------


def test_a_stage_measures_with_its_starting_model_and_trains_on_copies_and_variants(tmp_path: Path) -> None:
    """The whole way on a tiny slide reader: real generation, both maskings, a second run that asks nothing."""
    samples = [slide_sample(tmp_path, i) for i in range(3)]
    ctx = stage(tmp_path / "sft2", samples, loaded=new_reader())
    bags = PseudoBags(num_clusters=3, share=1.0, batch_size=6, max_new_tokens=8)
    settings = SftStage(steps=2, batch_size=2, log_every=1, pseudo_bags=bags, trajectory=Trajectory(max_variants=2))
    ctx = StageContext(**{**ctx.__dict__, "parents": ()})
    result = sft.run(settings, ctx)
    facts = result.extra
    assert facts["pseudo_bags"]["num_replies"] == 12 and facts["pseudo_bags"]["num_copies"] == 3
    assert facts["trajectory"]["num_rows"] == 2 * 6
    rows = sft.training_rows(settings, ctx)
    assert len(store.read_jsonl(ctx.folder / "pseudo_bags" / "replies.jsonl")) == 12  # nothing was asked again
    data = rows_dataset(rows.samples, sft_row(GRAMMAR, PROMPT), ctx.pictures(0.1), cuts=rows.cuts)
    batch = MaskedCollator(ctx.loaded.processor)([data[0], data[6]])
    num_patches = batch["image_grid_thw"][:, 0].tolist()
    assert num_patches[0] == 24 and num_patches[1] in (12, 18)  # the copy really lacks its cluster
    json.dumps(facts, allow_nan=False)


def test_samples_without_one_bag_and_bags_that_cannot_be_read(samples: list[Sample], tmp_path: Path) -> None:
    bare = [s.model_copy(update={"images": (), "messages": user_prompt("What is it?", 0)}) for s in samples]
    with pytest.raises(EosinError, match="need slides shown as bags"):
        with_pseudo_bags(bare, THREE, stage(tmp_path / "s", bare), engine=CountingEngine())
    Path(samples[0].images[0].path).write_bytes(b"no h5")  # type: ignore[union-attr]
    blind = samples[1].model_copy(update={"entities": (), "extra": {}, "findings": None, "reasoning": ("So.",)})
    mixed = [samples[0], blind, *samples[2:]]
    rows, facts = with_pseudo_bags(mixed, THREE, stage(tmp_path / "s", mixed), engine=CountingEngine())
    assert facts["num_measured"] == 2 and len(rows) == 4 + 2
    dropped = store.read_jsonl(tmp_path / "s" / "pseudo_bags" / "dropped.jsonl")
    assert {d["id"] for d in dropped} == {"slide0", "slide1"}
    assert {d["reason"] for d in dropped} >= {"no question with gold entities"}


def test_a_slide_of_one_kind_keeps_its_bag(samples: list[Sample], tmp_path: Path) -> None:
    """One patch: no cluster may go, and no copy is made."""
    from eosin.slides.features.h5 import FeatureBag, TileGeometry, write_bag

    path = tmp_path / "one.h5"
    place = TileGeometry(tile_px=224, side_level0=224, mpp=0.5, level0_mpp=0.5)
    write_bag(path, FeatureBag("one", np.ones((1, 12), np.float32), np.zeros((1, 2), np.int64), place),
              encoder_name="toy-encoder")  # fmt: skip
    bag = samples[0].images[0].model_copy(update={"path": str(path)})
    lone = [samples[0].model_copy(update={"images": (bag,)})]
    rows, facts = with_pseudo_bags(lone, THREE, stage(tmp_path / "s", lone), engine=_Blind())
    assert rows == lone and facts["set_aside"] == {"nothing would remain: the bag is kept": 1}


class _Blind(CountingEngine):
    def __init__(self) -> None:
        super().__init__()
        self._reply = lambda _: "<info>Necrosis.</info>\n<think>1. So.</think>\n<answer>A</answer>"


def test_entities_that_the_lexicon_does_not_know_are_followed_too(samples: list[Sample]) -> None:
    odd = samples[0].model_copy(
        update={"entities": (Entity(name="zorbified stroma"),), "findings": "Zorbified stroma is seen. All is calm."}
    )
    made = rewrite(odd, Lost(frozenset({"zorbified stroma"})), GRAMMAR, "keep")
    assert isinstance(made, Kept) and made.value.entities == ()
    assert made.value.findings == "The presence of zorbified stroma is not assessable. All is calm."
