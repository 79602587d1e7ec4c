"""Paths against brute force, hub limits, the guard, sentences; and the differential."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from eosin.core.errors import EosinError
from eosin.knowledge import Concept, Graph, Relation, contrast, evidence_for, paths
from eosin.knowledge.graph.vocabulary import builtin_vocabulary
from eosin.knowledge.reasoning.paths import HUB_PENALTY

PREDICATES = ("is_a", "supports", "contradicts", "located_in", "part_of", "interacts_with")


def random_graph(seed: int, num: int, num_edges: int) -> tuple[Graph, list[Relation]]:
    """A graph with several predicates, directions, weights, parallel edges and typed concepts."""
    rng = np.random.default_rng(seed)
    kinds = ("diagnosis", "finding", "other")
    concepts = [Concept(f"A:{i:02d}", f"c{i}", type=kinds[int(rng.integers(3))]) for i in range(num)]
    relations = {}
    while len(relations) < num_edges:
        s, o = (int(x) for x in rng.choice(num, 2, replace=False))
        predicate = PREDICATES[int(rng.integers(len(PREDICATES)))]
        if predicate == "is_a" and s < o:
            s, o = o, s  # upward only, so that there is no cycle
        if predicate == "interacts_with" and s > o:
            s, o = o, s
        weight = float(np.float32(rng.choice([1.0, 1.0, 0.5])))
        relations[s, predicate, o] = Relation(f"A:{s:02d}", predicate, f"A:{o:02d}", weight=weight)
    return Graph.of(concepts, relations.values()), list(relations.values())


def brute(
    graph: Graph,
    relations: list[Relation],
    a: str,
    b: str,
    k: int,
    max_hops: int,
    hub_limit: int,
    guard: str | None,
    detours: bool = True,
) -> list[tuple[float, tuple[str, ...]]]:
    """The k cheapest sequences of concepts, by trying all."""
    vocabulary = builtin_vocabulary()
    steps: dict[str, list[tuple[str, float, bool]]] = {}
    for r in relations:
        p = vocabulary[r.predicate]
        for start, end, weight in ((r.subject, r.object, p.weight), (r.object, r.subject, p.inverse_weight)):
            cost = 1 - math.log(weight) - math.log(r.weight)
            steps.setdefault(start, []).append((end, cost, p.sign != 0))
    best: dict[tuple[str, ...], float] = {}

    def go(nodes: tuple[str, ...], cost: float, signed_in: bool) -> None:
        if nodes[-1] == b:
            best[nodes] = min(cost, best.get(nodes, math.inf))
            return
        if len(nodes) > max_hops:
            return
        if len(nodes) > 1:
            if graph.degree(nodes[-1]) > hub_limit:
                return
            cost += HUB_PENALTY * math.log(graph.degree(nodes[-1]))
        guarded = len(nodes) > 1 and guard is not None and graph.type_of(nodes[-1]) == guard
        for end, more, signed in steps.get(nodes[-1], ()):
            if end not in nodes and not (guarded and signed_in and signed):
                go((*nodes, end), cost + more, signed)

    go((a,), 0.0, False)
    found = sorted((cost, nodes) for nodes, cost in best.items())
    if not detours:
        kept: list[tuple[float, tuple[str, ...]]] = []
        for cost, nodes in found:
            if not any(len(q) > 2 and [n for n in nodes if n in q] == list(q) for _, q in kept):
                kept.append((cost, nodes))
        found = kept
    return found[:k]


@pytest.mark.parametrize("seed", range(12))
def test_paths_are_those_of_brute_force(seed: int) -> None:
    graph, relations = random_graph(seed, 14, 34)
    ids = list(graph.ids())
    rng = np.random.default_rng(seed)
    found_any = 0
    for _ in range(12):
        a, b = (ids[int(i)] for i in rng.choice(len(ids), 2, replace=False))
        guard = "diagnosis" if rng.random() < 0.7 else None
        detours = bool(rng.random() < 0.5)
        expected = brute(graph, relations, a, b, 4, 4, 9, guard, detours)
        found = paths(graph, a, b, 4, hub_limit=9, guard=guard, detours=detours)
        assert [p.cost for p in found] == pytest.approx([c for c, _ in expected], abs=2e-4)
        assert {p.concepts for p in found} <= {n for _, n in brute(graph, relations, a, b, 99, 4, 9, guard, True)}
        found_any += len(found)
        for p in found:
            assert p.concepts[0] == a and p.concepts[-1] == b and len(set(p.concepts)) == len(p.concepts)
            for before, after in itertools.pairwise(p.steps):
                assert before.end == after.start
    assert found_any > 12


def test_longer_paths_are_found_where_asked_for() -> None:
    concepts = [Concept(f"A:{i}", f"c{i}") for i in range(7)]
    graph = Graph.of(concepts, [Relation(f"A:{i}", "part_of", f"A:{i + 1}") for i in range(6)])
    assert paths(graph, "A:0", "A:6") == [] and paths(graph, "A:0", "A:6", max_hops=5) == []
    (only,) = paths(graph, "A:0", "A:6", max_hops=6)
    assert only.concepts == tuple(f"A:{i}" for i in range(7)) and len(only.steps) == 6
    (back,) = paths(graph, "A:6", "A:0", max_hops=8)
    assert [s.forward for s in back.steps] == [False] * 6


HUB = [
    Concept("F:1", "finding one", type="finding"), Concept("F:2", "finding two", type="finding"),
    Concept("D:1", "tumour", type="diagnosis"), Concept("H:1", "everything", type="other"),
    *(Concept(f"X:{i}", f"x{i}") for i in range(60)),
]  # fmt: skip
HUB_RELATIONS = [
    Relation("F:1", "associated_with", "H:1"), Relation("H:1", "associated_with", "D:1"),
    Relation("F:1", "is_a", "F:2"), Relation("F:2", "morphologic_evidence", "D:1"),
    *(Relation(f"X:{i}", "associated_with", "H:1") for i in range(60)),
]  # fmt: skip


def test_hubs_do_not_dominate() -> None:
    graph = Graph.of(HUB, HUB_RELATIONS)
    first, second = paths(graph, "F:1", "D:1")
    assert first.concepts == ("F:1", "F:2", "D:1") and second.concepts == ("F:1", "H:1", "D:1")
    assert second.cost - 2 * (1 - math.log(0.3)) == pytest.approx(HUB_PENALTY * math.log(62), abs=1e-3)
    assert [p.concepts for p in paths(graph, "F:1", "D:1", hub_limit=50)] == [first.concepts]
    # A hub may be an end itself.
    assert paths(graph, "F:1", "H:1", hub_limit=50)[0].concepts == ("F:1", "H:1")
    # Few relations may be looked at: the cheapest concepts first.
    assert paths(graph, "F:1", "D:1", max_relations=3)[0].concepts == first.concepts


def test_weights_and_choice_of_predicates() -> None:
    graph = Graph.of(HUB, HUB_RELATIONS)
    cheap_hub = paths(graph, "F:1", "D:1", 1, weights={"associated_with": 1.0, "is_a": 0.01}, hub_penalty=0.0)
    assert cheap_hub[0].concepts == ("F:1", "H:1", "D:1")
    assert [p.concepts[1] for p in paths(graph, "F:1", "D:1", weights={"associated_with": 0})] == ["F:2"]
    assert [p.concepts[1] for p in paths(graph, "F:1", "D:1", only=["associated_with"])] == ["H:1"]
    with pytest.raises(EosinError, match="no such relation"):
        paths(graph, "F:1", "D:1", only=["likes"])


def test_two_markers_of_one_tumour_are_not_tied_by_it() -> None:
    concepts = [Concept("M:1", "CK20", type="marker"), Concept("D:1", "breast carcinoma", type="diagnosis"),
                Concept("M:2", "villin", type="marker"),
                Concept("D:2", "colorectal carcinoma", type="diagnosis")]  # fmt: skip
    relations = [
        Relation("M:1", "contradicts", "D:1"),
        Relation("M:2", "contradicts", "D:1"),
        Relation("M:2", "supports", "D:2"),
    ]
    graph = Graph.of(concepts, relations)
    assert paths(graph, "M:1", "D:2") == []
    assert len(paths(graph, "M:1", "D:2", guard=None)) == 1
    # Through the marker the two tumours are tied: that is their differential.
    assert (
        paths(graph, "D:1", "D:2")[0].sentence(graph)
        == "Villin speaks against breast carcinoma and supports colorectal carcinoma."
    )


def test_sign_and_sentences() -> None:
    concepts = [Concept("M:1", "CK7", type="marker"), Concept("D:1", "adenocarcinoma", type="diagnosis"),
                Concept("D:2", "carcinoma", type="diagnosis"), Concept("O:1", "lung", type="organ")]  # fmt: skip
    relations = [
        Relation("M:1", "contradicts", "D:1"),
        Relation("D:1", "is_a", "D:2"),
        Relation("D:2", "located_in", "O:1"),
    ]
    graph = Graph.of(concepts, relations)
    (path,) = paths(graph, "M:1", "D:2")
    assert (
        path.sign == -1 and path.sentence(graph) == "CK7 speaks against adenocarcinoma, which is a kind of carcinoma."
    )
    (longer,) = paths(graph, "M:1", "O:1")
    text = "CK7 speaks against adenocarcinoma; adenocarcinoma is a kind of carcinoma; carcinoma is located in lung."
    assert longer.sentence(graph) == text
    (back,) = paths(graph, "O:1", "M:1")
    assert back.sentence(graph).startswith("Lung is a site of carcinoma; ") and back.sign == -1


def test_a_path_needs_two_concepts() -> None:
    graph = Graph.of(HUB, HUB_RELATIONS)
    with pytest.raises(EosinError, match="two different concepts"):
        paths(graph, "F:1", "F:1")
    with pytest.raises(EosinError, match="no such concept"):
        paths(graph, "F:1", "F:9")
    with pytest.raises(EosinError, match="at least 1"):
        paths(graph, "F:1", "F:2", 0)


def test_every_template_matches_known_predicates() -> None:
    from eosin.knowledge.reasoning.paths import _templates

    vocabulary = builtin_vocabulary()
    for steps, sentence in _templates().items():
        names = [s.strip("<>") for s in steps.split()]
        assert all(n in vocabulary.by_name for n in names), steps
        assert all(f"{{{i}}}" in sentence for i in range(len(names) + 1)), sentence


DIFFERENTIAL = [
    Concept("D:0", "carcinoma", type="diagnosis"), Concept("D:1", "mesothelioma", type="diagnosis"),
    Concept("D:2", "lung adenocarcinoma", type="diagnosis"), Concept("D:3", "cancer", type="diagnosis"),
    *(Concept(f"M:{n}", n, type="marker") for n in ("calretinin", "TTF1", "keratin", "p63", "EMA")),
    Concept("O:1", "pleura", type="organ"), Concept("O:2", "lung", type="organ"),
]  # fmt: skip
DIFFERENTIAL_RELATIONS = [
    Relation("D:2", "is_a", "D:0"), Relation("D:0", "is_a", "D:3"), Relation("D:1", "is_a", "D:3"),
    Relation("M:calretinin", "supports", "D:1"), Relation("M:calretinin", "contradicts", "D:2"),
    Relation("M:TTF1", "supports", "D:2", weight=0.5), Relation("M:keratin", "supports", "D:3"),
    Relation("M:p63", "supports", "D:0"), Relation("M:p63", "contradicts", "D:2"),
    Relation("D:1", "expresses", "M:EMA"),
    Relation("D:1", "located_in", "O:1"), Relation("D:2", "located_in", "O:2"),
]  # fmt: skip


def test_evidence_is_inherited_and_the_nearest_wins() -> None:
    graph = Graph.of(DIFFERENTIAL, DIFFERENTIAL_RELATIONS)
    found = {e.concept: (e.sign, e.strength, e.via) for e in evidence_for(graph, "D:2")}
    assert found == {
        "M:calretinin": (-1, 1.0, "D:2"), "M:TTF1": (1, 0.5, "D:2"), "M:p63": (-1, 1.0, "D:2"),
        "M:keratin": (1, 0.49, "D:3"),
    }  # fmt: skip


def test_the_differential_of_two_diagnoses() -> None:
    graph = Graph.of(DIFFERENTIAL, DIFFERENTIAL_RELATIONS)
    found = contrast(graph, "D:1", "D:2")
    assert [(d.concept, d.score) for d in found.for_a] == [("M:calretinin", 2.0), ("M:p63", 1.0), ("M:EMA", 0.9)]
    assert [(d.concept, d.score) for d in found.for_b] == [("M:TTF1", -0.5)]
    assert [d.concept for d in found.shared] == ["M:keratin"] and found.common == "D:3"
    assert found.sites == {"located_in": (("O:1",), ("O:2",))}
    turned = contrast(graph, "D:2", "D:1")
    assert [d.concept for d in turned.for_b] == [d.concept for d in found.for_a]
    lines = found.lines(graph)
    assert lines[0] == "calretinin speaks for mesothelioma and speaks against lung adenocarcinoma."
    assert "keratin speaks for both and does not tell them apart." in lines and lines[-1] == "Both are kinds of cancer."
    assert "mesothelioma is located in pleura, which is not said of lung adenocarcinoma." in lines
    with pytest.raises(EosinError, match="two different diagnoses"):
        contrast(graph, "D:1", "D:1")
