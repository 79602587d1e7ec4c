"""Questions that cannot be guessed: balanced places, lengths, yes and no; distractors that are wrong; drawn RL sets."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.support.audited import CLASSES

from eosin.chain.audit.answers import answer_faults
from eosin.chain.curation.run import curate
from eosin.core.formats import read_samples, write_samples
from eosin.core.nouns.sample import Entity, Origin, Sample, make_choices, user_prompt
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.curate.questions.balance import places, quotas, yes_no_limits
from eosin.curate.questions.distractors import Distractors
from eosin.knowledge.graph.concepts import Concept, Relation
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker

SIGNS = {"tubular adenoma": "gland formation", "adenocarcinoma": "stromal invasion", "normal mucosa": "goblet cells",
         "hyperplastic polyp": "goblet cells", "ulcerative colitis": "crypt abscess"}  # fmt: skip


def described(n: int) -> list[Sample]:
    """Pictures with a diagnosis and findings, of which some are denied."""
    made = []
    for i in range(n):
        label = CLASSES[i % len(CLASSES)]
        entities = [Entity(name=SIGNS[label]), Entity(name=label, kind="diagnosis"),
                    Entity(name="necrosis", polarity="present" if i % 3 == 0 else "absent")]  # fmt: skip
        made.append(Sample(
            id=f"d{i}", messages=user_prompt("Describe.", 0), label=label, entities=tuple(entities),
            caption=f"{SIGNS[label]}.", origin=Origin(source="d", licence="CC0-1.0", case=f"c{i}",
                                                     organ="colon" if i % 4 else "stomach"),
        ))  # fmt: skip
    return made


def curated(samples: list[Sample], steps: list[Any], folder: Path) -> list[Sample]:
    write_samples(samples, folder / "in.parquet")
    recipe = CurationRecipe.model_validate(
        {"data": {"source": "samples", "path": str(folder / "in.parquet")}, "steps": steps, "shard_samples": 40}
    )
    curate(recipe, folder / "out")
    return list(read_samples(folder / "out").kept)


def test_questions_of_a_described_set_hold_no_bias(tmp_path: Path) -> None:
    made = curated(described(100), ["questions"], tmp_path)
    kinds = Counter(s.extra["question"]["kind"] for s in made)
    assert kinds["diagnosis"] >= 90 and kinds["finding"] >= 60
    chosen = [s for s in made if s.extra["question"]["kind"] == "diagnosis"]
    letters = Counter(s.answer for s in chosen)
    assert set(letters) == set("ABCD") and max(letters.values()) - min(letters.values()) <= 3  # a block is 4, 3 shards
    for s in chosen:
        assert s.answer_text == s.label
    yes_no: dict[str, Counter[str]] = {}
    for s in made:
        if s.extra["question"]["kind"].startswith("yes-no"):
            yes_no.setdefault(s.extra["question"]["about"], Counter())[s.answer_text or ""] += 1
    assert yes_no["necrosis"] == {"yes": 34, "no": 34}
    assert all(c["yes"] == c["no"] for c in yes_no.values())
    found, _ = answer_faults([s for s in made if s.extra["question"]["kind"] != "finding"], 0)
    assert [f.name for f in found if f.level == "fault" and f.name != "answered without the image"] == []


def test_questions_name_their_parent_and_a_sample_without_anything_is_dropped(tmp_path: Path) -> None:
    samples = described(30)
    bare = Sample(id="bare", messages=user_prompt("?", 0), origin=Origin(source="d", licence="CC0-1.0", case="x"))
    made = curated([*samples, bare], [{"questions": {"kinds": ["label"]}}], tmp_path)
    assert {s.origin.parents for s in made} == {(s.id,) for s in samples}
    assert all(len(s.choices) == 4 and s.answer_text == s.label for s in made)
    dropped = "".join(p.read_text() for p in (tmp_path / "out" / "dropped").rglob("*") if p.is_file())
    assert "nothing to ask about" in dropped


def tree() -> Graph:
    """Two kinds of carcinoma and a lymphoma; an alias, a child."""
    names = {"T:1": "carcinoma", "T:2": "ductal carcinoma", "T:3": "lobular carcinoma", "T:4": "apocrine carcinoma",
             "T:5": "follicular lymphoma", "T:6": "cribriform ductal carcinoma", "T:7": "mucinous tumour"}  # fmt: skip
    concepts = [Concept(id=i, label=n, type="diagnosis") for i, n in names.items()]
    pairs = [("T:2", "T:1"), ("T:3", "T:1"), ("T:4", "T:1"), ("T:6", "T:2"), ("T:7", "T:1")]
    return Graph.of(concepts, [Relation(s, "is_a", o) for s, o in pairs])


def test_distractors_are_siblings_and_never_right_too() -> None:
    graph = tree()
    found = Distractors(graph, Linker.of(graph, with_tables=False))
    for seed in range(20):
        options = found.of("ductal carcinoma", 3, random.Random(seed), text="A mucinous tumour is seen beside it.")
        assert options is not None
        assert set(options) == {
            "lobular carcinoma",
            "apocrine carcinoma",
            "follicular lymphoma",
        }
    assert found.of("ductal carcinoma", 5, random.Random(0)) is None


def test_what_is_there_is_no_wrong_option() -> None:
    found = Distractors(Graph.builtin(), Linker.builtin(), ["necrosis", "mitoses", "fibrosis"])
    known = (Entity(name="necrosis", concept=Linker.builtin().concept_of("necrosis")),)
    options = found.of("goblet cells", 2, random.Random(1), known=known, only_pool=True)
    assert options is not None and set(options) == {"mitoses", "fibrosis"}


def test_yes_and_no_are_equally_many() -> None:
    rows = [("a", True, i / 10) for i in range(10)] + [("a", False, i / 3) for i in range(3)] + [("b", True, 0.5)]
    limits = yes_no_limits(rows)
    assert set(limits) == {"a"}  # b has no "no"
    taken = [sum(d < limits["a"][side] for c, t, d in rows if c == "a" and t is (side == 0)) for side in (0, 1)]
    assert taken == [3, 3]
    assert yes_no_limits(rows, most=2)["a"][1] == pytest.approx(2 / 3)


def test_quotas_by_hand() -> None:
    counts = {"a": 100, "b": 25, "c": 1}
    assert quotas(counts, 30, {}, 2.0) == {"a": 19, "b": 10, "c": 1}  # c is full; the rest 10 to 5 of 29
    assert quotas(counts, 500, {}, 1.0) == counts
    assert (
        quotas(counts, 40, {"b": 0.0}, 1.0) == {"a": 39, "b": 0, "c": 1}
        or quotas(counts, 40, {"b": 0.0}, 1.0)["b"] == 0
    )


def test_places_come_equally_often() -> None:
    assert Counter(places(40, 4, [random.Random(i).random() for i in range(40)])) == dict.fromkeys(range(4), 10)


def test_an_rl_set_is_drawn_by_organ_and_kind(tmp_path: Path) -> None:
    options = make_choices(["one", "two"])
    samples = [
        Sample(id=f"q{i}", messages=user_prompt("Which?", 0), choices=options, answer="A",
               split="test" if i % 10 == 9 else "train",
               extra={"question": {"kind": "diagnosis" if i % 2 else "finding", "about": "x"}},
               origin=Origin(source="q", licence="CC0-1.0", case=f"c{i}", organ="colon" if i % 5 else "lung"))
        for i in range(200)
    ]  # fmt: skip
    made = curated(samples, [{"rl-set": {"size": 40, "temperature": 100, "weights": {"lung": 3}}}], tmp_path)
    train = [s for s in made if s.split == "train"]
    assert len(train) == 40 and len(made) - len(train) == 20
    organs = Counter(s.origin.organ for s in train)
    assert organs == {"lung": 30, "colon": 10}
