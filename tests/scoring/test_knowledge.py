"""Rewards with a knowledge graph, and the part of process that compares findings with the diagnosis."""

from __future__ import annotations

from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.core.nouns.sample import Entity
from eosin.knowledge.graph.build import build_graph
from eosin.knowledge.sources import parse_spec
from eosin.scoring import ScoreItem, load_rewards

CHOICES = {"A": "leiomyoma", "B": "lymphoma"}


def item(think: str, answer: str = "A", **more: object) -> ScoreItem:
    reply = f"<think>{think}</think><answer>{answer}</answer>"
    return ScoreItem(id="1", reply=reply, choices=CHOICES, answer="A", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knowledge")
    table = folder / "own.tsv"
    table.write_text("id\tlabel\tsynonyms\ttype\nV:1\tviolet whirl body\twhirls of violet\tfinding\n", "utf-8")
    build_graph(folder / "graph", [parse_spec(f"tsv:{table}")])
    return folder / "graph"


def test_a_graph_adds_names(graph: Path) -> None:
    gold = (Entity(name="whirls of violet"), Entity(name="gland"))
    said = item("Violet whirl bodies in a gland.", entities=gold)
    assert load_rewards([{"name": "entities", "knowledge": str(graph)}]).score(said).total == 1.0
    assert (load_rewards("entities").score(said).total or 0.0) < 1.0


def test_the_label_names_the_graph(graph: Path) -> None:
    assert load_rewards({"name": "eosin", "knowledge": str(graph)}).label == "eosin+{knowledge=graph}"
    assert load_rewards("eosin", knowledge=graph).label == "eosin+{knowledge=graph}"
    assert load_rewards([{"name": "format", "weight": 1}], knowledge=graph).label.endswith("+{knowledge=graph}")
    assert load_rewards("eosin").label == "eosin"


def test_names_come_from_one_place(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="one place"):
        load_rewards([{"name": "entities", "knowledge": str(graph)}, {"name": "process", "knowledge": "other"}])
    with pytest.raises(EosinError):
        load_rewards({"name": "eosin", "knowledge": str(tmp_path / "none")})


def test_gold_by_concept_id() -> None:
    gold = (Entity(name="dead tissue of the usual kind", concept="MPATH:4"),)
    assert load_rewards("entities").score(item("There is necrosis.", entities=gold)).total == 1.0


def test_a_finding_against_the_own_diagnosis_costs() -> None:
    score = load_rewards("process").score
    fine = score(item("Interlacing fascicles. Not lymphoma because of the fascicles."))
    against = score(item("Interlacing fascicles and necrosis. Not lymphoma because of the fascicles."))
    assert fine.total == 1.0 and "against" not in fine.events["process"]
    assert against.total == pytest.approx(2 / 3)  # features 1, elimination 1, evidence 0
    assert against.events["process"]["against"] == ["necrosis"]


def test_gold_findings_doubts_and_denials_cost_nothing() -> None:
    score = load_rewards("process").score
    gold = (Entity(name="necrosis"), Entity(name="fascicular growth"))
    think = "Fascicles and necrosis. Not lymphoma because of the fascicles."
    assert score(item(think, entities=gold)).total == 1.0
    for said in ("Possible necrosis.", "No necrosis.", "History of necrosis."):
        assert score(item(f"Fascicles. {said} Not lymphoma because of the fascicles.")).total == 1.0


def test_naming_what_speaks_for_it_earns_nothing() -> None:
    score = load_rewards("process").score
    bare = score(item("Oedema. This is it.")).total
    assert bare == 0.5  # features 1, elimination 0
    assert score(item("Oedema and spindle cells. This is it.")).total == bare


def test_family_history_is_no_finding() -> None:
    gold = (Entity(name="gland"),)
    score = load_rewards("entities").score
    assert score(item("A gland. Family history of melanoma.", entities=gold)).total == 1.0
    assert (score(item("A gland. Melanoma.", entities=gold)).total or 0.0) < 1.0
