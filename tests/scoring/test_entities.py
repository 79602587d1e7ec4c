from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Entity
from eosin.knowledge.linking import tables
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.words import name_key
from eosin.scoring import ScoreItem, load_rewards
from eosin.scoring.reading.linking import load_lexicon, named
from eosin.scoring.terms.entities import dice_hardened, dice_published, trigram_similarity

NAMES = [c.label for c in tables.concepts()]
signed = st.tuples(st.sampled_from(NAMES), st.sampled_from(["present", "absent"]))
FINDINGS = [c.label for c in tables.concepts() if c.type in ("finding", "cell", "marker")]


@given(st.sets(signed, max_size=8), st.sets(signed, min_size=1, max_size=8), signed)
def test_an_entity_never_raises_the_score_unless_it_matches_gold(
    found: set[tuple[str, str]], gold: set[tuple[str, str]], extra: tuple[str, str]
) -> None:
    floor = 0.8
    matches = any(extra[1] == g[1] and trigram_similarity(extra[0], g[0]) >= floor for g in gold)
    before = dice_hardened(found, gold, trigram_similarity, floor=floor) or 0.0
    after = dice_hardened(found | {extra}, gold, trigram_similarity, floor=floor) or 0.0
    assert matches or after <= before + 1e-12


@given(st.sets(signed, min_size=1, max_size=8))
def test_gold_earns_one_and_any_subset_less(gold: set[tuple[str, str]]) -> None:
    assert dice_hardened(gold, gold, trigram_similarity) == 1.0
    fewer = set(sorted(gold)[1:])
    assert (dice_hardened(fewer, gold, trigram_similarity) or 0.0) < 1.0


@given(
    st.lists(st.sampled_from(FINDINGS), max_size=6),
    st.lists(st.sampled_from(FINDINGS), min_size=1, max_size=4, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_repeating_a_finding_changes_nothing(said: list[str], gold: list[str]) -> None:
    rewards = load_rewards("entities")

    def total(text: str) -> float | None:
        entities = tuple(Entity(name=n) for n in gold)
        reply = f"<think>{text}</think><answer>x</answer>"
        return rewards.score(ScoreItem(id="1", reply=reply, entities=entities)).total

    text = ". ".join(said)
    assert total(text) == total(f"{text}. {text}. {text}")


def test_the_published_farm_pays_and_the_hardened_rule_does_not() -> None:
    gold = [f"g{i}" for i in range(10)]
    listed = gold[:3] + [f"x{i}" for i in range(197)]
    soft = dice_published(listed, gold, lambda a, b: 0.8, beta=0.5)
    hard = dice_published(listed, gold, lambda a, b: 0.8, beta=0.0)
    assert soft == pytest.approx(2 * (3 + 0.5 * 0.8 * 197) / 210)  # .779
    assert hard == pytest.approx(6 / 210)  # .029
    now = dice_hardened(
        [(n, "present") for n in listed], [(n, "present") for n in gold], lambda a, b: 0.8, beta=0.5, floor=0.8
    )
    assert now == pytest.approx((3 + 0.5 * 0.8 * 7) / 200)  # at most one soft match for each gold, capped by precision


def entity_item(think: str, entities: Any, **more: Any) -> ScoreItem:
    return ScoreItem(id="1", reply=f"<think>{think}</think><answer>A</answer>", entities=entities, **more)


def test_what_is_both_stated_and_denied_is_not_right() -> None:
    gold = [("mitosis", "absent"), ("necrosis", "present")]
    straight = dice_hardened([("mitosis", "absent"), ("necrosis", "present")], gold, trigram_similarity)
    hedged = dice_hardened(
        [("mitosis", "absent"), ("mitosis", "present"), ("necrosis", "present")], gold, trigram_similarity
    )
    assert straight == 1.0 and hedged == pytest.approx(min(2 * 1 / 5, 1 / 3))
    here_and_there = [("mitosis", "absent"), ("mitosis", "present")]
    assert dice_hardened(here_and_there, here_and_there, trigram_similarity) == 1.0
    entities = (Entity(name="mitosis", polarity="absent"), Entity(name="necrosis"))
    scored = load_rewards("entities").score(
        entity_item("Mitoses are seen. No mitoses are seen. Necrosis is seen.", entities)
    )
    events = scored.events["entities"]
    assert events["matched"] == ["necrosis"] and events["missed"] == ["no mitosis"] and events["num_predicted"] == 3


def test_polarity_counts() -> None:
    gold = (Entity(name="necrosis", polarity="absent"), Entity(name="mitosis"))
    score = load_rewards("entities").score
    assert score(entity_item("Mitoses, but no necrosis.", gold)).total == 1.0
    assert score(entity_item("Mitoses and necrosis.", gold)).total == pytest.approx(0.5)
    assert score(entity_item("No mitoses; necrosis.", gold)).total == 0.0


def test_what_the_question_names_earns_nothing() -> None:
    gold = (Entity(name="necrosis"), Entity(name="gland"))
    outcome = load_rewards("entities").score(
        entity_item(
            "Necrosis.", gold, question="Is there necrosis near the duct?", choices={"A": "yes", "B": "no"}, answer="A"
        )
    )
    assert outcome.total == 0.0
    assert outcome.events["entities"]["num_gold"] == 1


def test_naming_a_wrong_option_is_no_false_finding() -> None:
    gold = (Entity(name="gland"),)
    item = entity_item(
        "Glands. Not lymphoma, not melanoma.", gold, choices={"A": "lymphoma", "B": "melanoma"}, answer="A"
    )
    assert load_rewards("entities").score(item).total == 1.0


def test_what_no_slide_shows_is_not_asked_for() -> None:
    gold = (Entity(name="gland"), Entity(name="lymph node metastasis"), Entity(name="R0", kind="margin"))
    assert load_rewards("entities").score(entity_item("A gland.", gold)).total == 1.0


def test_gold_outside_the_lexicon_can_be_named() -> None:
    gold = (Entity(name="violet whirl bodies"), Entity(name="gland"))
    assert load_rewards("entities").score(entity_item("Violet whirl bodies in a gland.", gold)).total == 1.0
    assert load_rewards("entities").score(entity_item("No violet whirl bodies in a gland.", gold)).total < 1.0


def test_both_empty_is_an_option() -> None:
    item = entity_item("Nothing of note.", ())
    totals = {
        rule: load_rewards([{"name": "entities", "both_empty": rule}]).score(item).total
        for rule in ("zero", "one", "unscored")
    }
    assert totals == {"zero": 0.0, "one": 1.0, "unscored": None}


def test_data_without_entities_is_no_gold() -> None:
    assert load_rewards("entities").score(entity_item("Glands.", None)).unscored == {"entities": "no gold entities"}


def test_substring_linking_has_the_published_faults() -> None:
    gold = (Entity(name="necrosis"),)
    spec = {"name": "entities", "rule": "hard", "linking": "substring", "findings_only": False}
    assert load_rewards([spec]).score(entity_item("no necrosis", gold)).total == 1.0
    assert load_rewards([spec]).score(entity_item("coagulation of dead cells", gold)).total == 0.0


def test_an_encoder_is_used_and_named() -> None:
    def encode(texts: Any) -> np.ndarray:
        return np.array([[1.0, 0.0] if t in ("necrosis", "apoptosis") else [0.0, 1.0] for t in texts])

    gold = (Entity(name="necrosis"),)
    outcome = load_rewards("entities", encode=encode, encode_name="toy").score(entity_item("Apoptosis.", gold))
    assert outcome.total == pytest.approx(0.5)  # beta * 1.0, one to one
    assert outcome.events["entities"]["similarity"] == "toy"


def test_ambiguous_synonyms_are_left_out_and_preferred_names_win() -> None:
    linker = Linker.of(
        [
            named(i, n, "finding")
            for i, n in (
                ("1", ("ductal carcinoma", "ER")),
                ("2", ("emergency room", "ER")),
                ("3", ("ALK",)),
            )
        ]  # fmt: skip
    )
    assert linker.concept_of("ER") is None
    assert linker.meanings_of("ER") == ("1", "2")
    assert linker.concept_of("alk") == "3"


def test_longest_match_and_word_boundaries() -> None:
    linker = Linker.of([named(n, (n,), "finding") for n in ("carcinoma", "squamous cell carcinoma", "CD3")])
    assert [m.concept for m in linker.link("Squamous-cell carcinoma, adenocarcinoma, CD34, CD3+")] == [
        "squamous cell carcinoma", "CD3",
    ]  # fmt: skip


def test_a_name_does_not_span_sentences() -> None:
    linker = Linker.of([named("1", ("fat necrosis",), "finding")])
    assert linker.link("There is fat. Necrosis too.") == ()


def test_places_of_mentions() -> None:
    text = "Some (tumour) necrosis here"
    mention = Linker.builtin().link("There is fat necrosis here.")[0]
    assert "There is fat necrosis here."[mention.start : mention.end] == "fat necrosis"
    assert Linker.builtin().link(text)[-1].label == "necrosis"


def test_builtin_lexicon_is_sound() -> None:
    concepts = tables.concepts()
    assert len({c.id for c in concepts}) == len(concepts)
    assert sum(c.type == "marker" for c in concepts) >= 60
    assert {c.type for c in concepts} == set(tables.KINDS)
    linker = Linker.builtin()
    unsure = {name_key(r["short"]) for r in tables.read_table("abbreviations")}
    grades = Counter(
        name_key(n) for c in concepts if c.type == "grade" for n in (c.label, *(s.text for s in c.synonyms))
    )
    unsure |= {key for key, count in grades.items() if count > 1}  # "ISUP grade" of the kidney and of the prostate
    for concept in concepts:
        for name in (concept.label, *(s.text for s in concept.synonyms)):
            if name_key(name) not in unsure:
                assert linker.concept_of(name) == concept.id, name
                assert [m.concept for m in linker.link(name)] == [concept.id], name


def test_a_lexicon_file_of_ones_own(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.tsv", tmp_path / "bad.tsv"
    good.write_text("# comment\nfinding\tspiral\tcurl | twist\tX:1\n", "utf-8")
    bad.write_text("finding\n", "utf-8")
    assert load_lexicon(good).concept_of("twists") == "X:1"
    with pytest.raises(EosinError, match="cannot be read") as caught:
        load_lexicon(bad)
    assert caught.value.where == f"{bad}:1"
    with pytest.raises(EosinError):
        load_lexicon(tmp_path / "none.tsv")
