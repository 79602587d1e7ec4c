"""Concepts, names, relations and look-ups, in memory and mapped from disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import open_artifact
from eosin.knowledge import Concept, Graph, Relation, Synonym, paths
from eosin.knowledge.graph.build import build_graph
from eosin.knowledge.graph.columns import SortedStrings, name_key
from eosin.knowledge.sources import parse_spec

CONCEPTS = [
    Concept("A:1", "carcinoma", (Synonym("Ca", "related"),), "diagnosis"),
    Concept(
        "A:2", "adenocarcinoma", (Synonym("gland cancer"),), "diagnosis", "A carcinoma with glands.", ("NCIT:C2852",)
    ),
    Concept("M:1", "CK7", type="marker"),
    Concept("X:é", "Überzug", type="finding"),
]
RELATIONS = [
    Relation("A:2", "is_a", "A:1"),
    Relation("M:1", "supports", "A:2", weight=0.5, evidence="a book"),
    Relation("A:2", "pathoml:hasOpposeEvidence", "X:é"),
]


@pytest.fixture
def graph() -> Graph:
    return Graph.of(CONCEPTS, RELATIONS)


def test_concepts_come_back_whole(graph: Graph) -> None:
    assert len(graph) == 4 and list(graph.ids()) == ["A:1", "A:2", "M:1", "X:é"]
    found = graph.concept("A:2")
    assert (found.label, found.type, found.definition) == ("adenocarcinoma", "diagnosis", "A carcinoma with glands.")
    assert found.synonyms == (Synonym("gland cancer", "exact"),) and found.xrefs == ("NCIT:C2852",)
    assert graph.concept("X:é").label == "Überzug"
    assert "A:2" in graph and "A:3" not in graph and 7 not in graph


def test_names_are_a_table_and_a_stream(graph: Graph) -> None:
    expected = [("carcinoma", "label", 0), ("Ca", "related", 0), ("adenocarcinoma", "label", 1),
                ("gland cancer", "exact", 1), ("CK7", "label", 2), ("Überzug", "label", 3)]  # fmt: skip
    assert list(graph.names()) == expected
    table = graph.names_table()
    assert table.column("text").to_pylist() == [n for n, _, _ in expected]
    assert table.column("concept").to_pylist() == [0, 0, 1, 1, 2, 3]


def test_relations_by_direction_weight_and_swapped_alias(graph: Graph) -> None:
    supports = Relation("M:1", "supports", "A:2", "memory", 0.5, "a book")
    assert graph.relations("M:1") == [supports] and graph.relations("M:1", "in") == []
    assert supports in graph.relations("A:2", "in")
    # PathoML says it of the diagnosis: hasOpposeEvidence is contradicts read from the other end.
    assert Relation("X:é", "contradicts", "A:2", "memory") in graph.relations("X:é")
    assert {r.predicate for r in graph.relations("A:2", "both")} == {"is_a", "supports", "contradicts"}
    assert [r.predicate for r in graph.relations("A:2", "both", ["is_a"])] == ["is_a"]
    assert graph.degree("A:2") == 3 and graph.degrees().tolist() == [1, 3, 1, 1]


def test_find_and_search(graph: Graph) -> None:
    assert graph.find("GLAND   cancer") == ["A:2"] and graph.find("gland") == []
    assert [(h.concept.id, h.how) for h in graph.search("carc")] == [("A:1", "prefix"), ("A:2", "words")]
    assert [(h.concept.id, h.how) for h in graph.search("A:2")] == [("A:2", "id")]
    assert [h.concept.id for h in graph.search("cancer gland")] == ["A:2"]
    assert graph.search("nothing of the kind") == [] and graph.search("  ") == []
    assert len(graph.search("a", limit=1)) == 1


def test_ancestors_count_the_fewest_steps() -> None:
    concepts = [Concept(f"A:{i}", f"c{i}") for i in range(4)]
    edges = [("A:0", "A:1"), ("A:1", "A:2"), ("A:0", "A:2"), ("A:2", "A:3")]
    graph = Graph.of(concepts, [Relation(s, "is_a", o) for s, o in edges])
    assert graph.ancestors("A:0") == {"A:1": 1, "A:2": 1, "A:3": 2}
    assert graph.ancestors("A:0", max_depth=1) == {"A:1": 1, "A:2": 1}
    assert graph.ancestors("A:3") == {}


def test_unknown_concepts_are_named(graph: Graph) -> None:
    with pytest.raises(EosinError, match="no such concept") as caught:
        graph.concept("A:9")
    assert caught.value.found == "A:9"


def test_of_refuses_what_is_wrong() -> None:
    with pytest.raises(EosinError, match="dangling relation: A:1 is_a A:9"):
        Graph.of([Concept("A:1", "x")], [Relation("A:1", "is_a", "A:9")])
    with pytest.raises(EosinError, match="duplicate id"):
        Graph.of([Concept("A:1", "x"), Concept("A:1", "y")])
    with pytest.raises(EosinError, match="cycle of is_a"):
        both = [Concept("A:1", "x"), Concept("A:2", "y")]
        Graph.of(both, [Relation("A:1", "is_a", "A:2"), Relation("A:2", "is_a", "A:1")])


def test_a_graph_without_relations_works() -> None:
    graph = Graph.of([Concept("A:1", "alone")])
    assert graph.relations("A:1", "both") == [] and graph.num_relations == 0 and graph.degree("A:1") == 0


def test_the_folder_gives_the_same_graph(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("id\tlabel\tsynonyms\ttype\nA:2\tb\tx|y\tfinding\nA:1\ta\t\tdiagnosis\n")
    edges = tmp_path / "e.tsv"
    edges.write_text("subject\tpredicate\tobject\tweight\tevidence\nA:2\tsupports\tA:1\t0.25\ta book\n")
    specs = [parse_spec(f"tsv:{table}"), parse_spec(f"tsv:{edges}")]
    built = build_graph(tmp_path / "g", specs, tables=False).graph
    again = Graph.open(tmp_path / "g")
    for graph in (built, again):
        assert list(graph.names()) == [("a", "label", 0), ("b", "label", 1), ("x", "exact", 1), ("y", "exact", 1)]
        assert graph.relations("A:1", "in") == [Relation("A:2", "supports", "A:1", "e.tsv", 0.25, "a book")]
        assert graph.type_of("A:2") == "finding" and graph.record["counts"]["names"] == 4
    # Mapped, not read: the bytes of the columns lie in the file's mapping, and no Arrow memory was allocated.
    before = pa.total_allocated_bytes()
    opened = [Graph.open(tmp_path / "g") for _ in range(3)]
    assert pa.total_allocated_bytes() - before < 4096 and len(opened[0]) == 2


def test_opening_and_looking_up_loads_no_pandas(tmp_path: Path) -> None:
    """Loading pandas would take a hundred times as long as opening a graph."""
    build_graph(tmp_path / "g", [])
    code = f"""
import sys
from pathlib import Path
from eosin.knowledge import Graph, contrast, paths
g = Graph.open(Path({str(tmp_path / "g")!r}))
a, b, c = (g.find(n)[0] for n in ("CK20", "colorectal adenocarcinoma", "mesothelioma"))
print(len(g.relations(a, "both")) > 3, len(g.search("carc")) > 3, g.concept(a).label, len(paths(g, a, b)) > 0)
print(len(contrast(g, b, c).for_a) > 0, "pandas" in sys.modules, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True", "CK20", "True", "True", "False", "False"], done.stderr


def test_a_graph_of_version_1_opens() -> None:
    """The folder was written on 2026-11-21. It must open for good."""
    folder = Path(__file__).parent / "golden" / "graph_v1"
    open_artifact(folder, "knowledge", verify=True)
    graph = Graph.open(folder)
    assert list(graph.ids()) == ["DOID:1", "DOID:2", "X:1"] and graph.canonical("MONDO:1") == "DOID:1"
    assert graph.find("ca") == ["DOID:1"] and graph.concept("DOID:1").xrefs == ("NCIT:C1",)
    assert graph.relations("X:1") == [Relation("X:1", "supports", "DOID:2", "edges.tsv", 0.5, "a book")]
    assert [r.predicate for r in graph.relations("DOID:1", "both")] == ["same_as", "is_a"]
    (path,) = paths(graph, "X:1", "DOID:1", 1)
    assert path.sentence(graph) == "Gland supports adenocarcinoma; adenocarcinoma is the same as carcinoma."


def test_a_graph_of_a_later_version_is_refused(tmp_path: Path) -> None:
    build_graph(tmp_path / "g", [])
    manifest = tmp_path / "g" / "manifest.json"
    rows = json.loads(manifest.read_text())
    rows["graph"]["version"] = 99
    manifest.write_text(json.dumps(rows))
    with pytest.raises(EosinError, match="written by a later Eosin"):
        Graph.open(tmp_path / "g")


def test_a_damaged_folder_says_so(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("id\tlabel\nA:1\ta\n")
    build_graph(tmp_path / "g", [parse_spec(f"tsv:{table}")], tables=False)
    (tmp_path / "g" / "edges.arrow").write_bytes(b"junk")
    with pytest.raises(EosinError, match="missing or damaged"):
        Graph.open(tmp_path / "g")
    (tmp_path / "g" / "edges.arrow").unlink()
    with pytest.raises(EosinError, match="missing or damaged"):
        Graph.open(tmp_path / "g")
    with pytest.raises(EosinError, match="no whole artifact"):
        Graph.open(tmp_path / "nothing")


def test_sorted_strings_finds_every_string_and_no_other() -> None:
    texts = sorted({f"{p}:{i}" for p in ("A", "Ab", "é", "") for i in range(50)})
    for kind in (pa.string(), pa.large_string()):
        found = SortedStrings(pa.array(texts, kind))
        assert [found.find(t) for t in texts] == list(range(len(texts)))
        assert found.find("A") == -1 and found.find("zzz") == -1 and found.find("") == -1
    assert SortedStrings(pa.array([], pa.string())).find("A") == -1


def test_the_key_of_a_name_does_not_change() -> None:
    # It is stored on disk: another value would leave old graphs without their names.
    assert name_key("Signet  Ring") == name_key("signet ring") == 0x96566FE1561C1AB3
    assert name_key("a") != name_key("b")
