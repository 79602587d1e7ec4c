"""PrimeKG's csv: blocks, mirrored rows, shifted columns, and lines that no block can hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.knowledge import Graph
from eosin.knowledge.graph.build import Built, build_graph
from eosin.knowledge.sources import parse_spec, primekg

GENE = "0,1017,gene/protein,CDK2,NCBI"
DISEASE = "1,5061,disease,lung cancer,MONDO"
GROUP = "2,13924_12592,disease,osteogenesis imperfecta,MONDO_grouped"
SIGN = "3,2094,effect/phenotype,dyspnea,HPO"
DRUG = "4,DB00001,drug,Lepirudin,DrugBank"
HEADER = ",".join(primekg.COLUMNS)


def both(relation: str, x: str, y: str) -> list[str]:
    return [f"{relation},{relation},{x},{y}", f"{relation},{relation},{y},{x}"]


ROWS = [
    HEADER, *both("disease_protein", GENE, DISEASE), *both("disease_phenotype_positive", DISEASE, SIGN),
    *both("indication", DISEASE, DRUG), *both("disease_disease", GROUP, DISEASE),
]  # fmt: skip


def make(tmp_path: Path, rows: list[str], keep_going: bool = False) -> Built:
    path = tmp_path / "kg.csv"
    path.write_text("\n".join(rows) + "\n", errors="surrogateescape")
    out = tmp_path / f"g{len(list(tmp_path.glob('g*')))}"
    return build_graph(out, [parse_spec(f"primekg:{path}")], tables=False, keep_going=keep_going)


def relations(graph: Graph) -> set[tuple[str, str, str]]:
    return {(r.subject, r.predicate, r.object) for i in graph.ids() for r in graph.relations(i)}


def test_nodes_types_and_one_relation_for_both_directions(tmp_path: Path) -> None:
    graph = make(tmp_path, ROWS).graph
    assert list(graph.ids()) == [
        "DRUGBANK:DB00001",
        "HP:0002094",
        "MONDO:0005061",
        "MONDOGROUP:13924_12592",
        "NCBIGENE:1017",
    ]
    assert [graph.type_of(i) for i in graph.ids()] == ["drug", "finding", "diagnosis", "diagnosis", "gene"]
    assert graph.concept("MONDOGROUP:13924_12592").xrefs == ("MONDO:0013924", "MONDO:0012592")
    found = relations(graph)
    # disease_phenotype: from the disease; indication: from the drug, whichever row came first.
    assert ("MONDO:0005061", "has_phenotype", "HP:0002094") in found
    assert ("DRUGBANK:DB00001", "indication", "MONDO:0005061") in found and len(found) == 4
    counts = graph.sources[0].counts
    assert counts["relation rows"] == 8 and counts["relations mirrored"] == 4 and counts["relations"] == 4


@pytest.mark.parametrize("block", [200, 1 << 24])
def test_small_blocks_give_the_same_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(primekg, "_BLOCK_BYTES", max(block, 2 * max(map(len, ROWS))))
    assert len(relations(make(tmp_path, ROWS).graph)) == 4


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("disease_protein,disease_protein,0,1017", "shifted columns: 4 cells, expected 12"),
        (ROWS[1] + ",more", "shifted columns: 13 cells, expected 12"),
        (ROWS[1].replace(",1,5061,disease,", ",disease,1,5061,", 1), "shifted columns: y_index is no number: disease"),
        (ROWS[1].replace(",0,1017,", ",0,4711,", 1), "one index for two nodes: x_index 0: NCBIGENE:1017 and 4711"),
        (ROWS[1].replace(",0,1017,gene/protein", ",77,4711,gene", 1), "shifted columns: node 77 has type 'gene'"),
        (ROWS[1].replace(",0,1017,gene/protein,CDK2", ",78,4711,gene/protein,C\udcffDK2", 1), "not UTF-8"),
        ("", "shifted columns"),
        (f'x,"{"y" * 3_000_000}', "line too long"),
        ('x,"open quote', "shifted columns: 2 cells"),
    ],
)
def test_a_wrong_row_is_named_and_the_rest_kept(tmp_path: Path, row: str, reason: str) -> None:
    import re

    rows = [*ROWS[:5], row, *ROWS[5:]]
    with pytest.raises(EosinError) as caught:
        make(tmp_path, rows)
    assert re.search(rf"kg\.csv:6: ({reason})", str(caught.value)), str(caught.value)
    graph = make(tmp_path, rows, keep_going=True).graph
    assert len(relations(graph)) == 4 and graph.record["counts"]["refused"] == 1


def test_a_line_longer_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primekg, "_BLOCK_BYTES", 1000)
    rows = [*ROWS[:4], f"x,{'y' * 10_000_000}", "a,b", *ROWS[4:]]
    with pytest.raises(EosinError, match=r"kg\.csv:5: line too long: 10000003 bytes(.|\n)*kg\.csv:6: shifted columns"):
        make(tmp_path, rows)
    graph = make(tmp_path, rows, keep_going=True).graph
    assert len(relations(graph)) == 4 and graph.record["counts"]["refused"] == 2


def test_another_csv_is_refused_at_its_header(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match=r"kg\.csv:1: header is not that of PrimeKG"):
        make(tmp_path, ["a,b,c", "1,2,3"])
    with pytest.raises(EosinError, match="no edge in the file"):
        make(tmp_path, [HEADER])
