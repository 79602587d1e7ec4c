"""Each reader on small files of its format, and each kind of broken file: what is said, where, and what is kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.core.formats.cells import cells_up_to
from eosin.knowledge import Graph
from eosin.knowledge.graph.build import Built, build_graph
from eosin.knowledge.graph.curies import curie
from eosin.knowledge.sources import SourceSpec, licence_near, parse_spec
from eosin.knowledge.sources.base import Refused, lines_of

OBO = """format-version: 1.2
data-version: test/1.0
property_value: dcterms:license "CC0"

[Term]
id: T:0001
name: carcinoma \\{of a kind\\}
alt_id: T:0009
def: "A \\"bad\\" growth." [PMID:1]
synonym: "malignant epithelial tumour" EXACT [x]
synonym: "Ca" RELATED []
synonym: "cancer" []
xref: NCI:C2916 {source="y"} ! comment
is_a: T:0000 ! growth

[Term]
id: T:0000
name: growth ! with a mark
property_value: skos:exactMatch MONDO:0000007

[Term]
id: T:0002
name: gone
is_obsolete: true
replaced_by: T:0001

[Typedef]
id: sits_in
name: sits in
xref: RO:0001025

[Term]
id: T:0003
name: lung
relationship: part_of T:0000 {all_only="true"} ! growth
relationship: sits_in T:0000
relationship: own_word T:0001
"""


def make(tmp_path: Path, name: str, text: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def built(tmp_path: Path, *sources: str, keep_going: bool = False) -> Built:
    out = tmp_path / f"graph{len(list(tmp_path.glob('graph*')))}"
    return build_graph(out, [parse_spec(s) for s in sources], keep_going=keep_going, tables=False)


def line_of(text: str, part: str) -> int:
    """Line number of the first place of a part."""
    return text[: text.index(part)].count("\n") + 1


def faults(tmp_path: Path, *sources: str) -> str:
    """The message of a build that must fail."""
    with pytest.raises(EosinError) as caught:
        built(tmp_path, *sources)
    assert "--keep-going" in (caught.value.next_step or "")
    assert not list(tmp_path.glob("graph*")) and not list(tmp_path.glob(".graph*"))
    return str(caught.value)


def test_obo_term_by_term(tmp_path: Path) -> None:
    graph = built(tmp_path, f"obo:{make(tmp_path, 't.obo', OBO)}").graph
    found = graph.concept("T:0001")
    assert found.label == "carcinoma {of a kind}" and found.definition == 'A "bad" growth.'
    assert [(s.text, s.scope) for s in found.synonyms] == [
        ("malignant epithelial tumour", "exact"), ("Ca", "related"), ("cancer", "related"),
    ]  # fmt: skip
    assert found.xrefs == ("NCIT:C2916",)
    # Secondary, replaced and exactly matched ids lead to the concept that they stand for.
    assert [graph.canonical(i) for i in ("T:0009", "T:0002", "MONDO:0000007")] == ["T:0001", "T:0001", "T:0000"]
    assert graph.aliases("T:0001") == ["T:0002", "T:0009"] and graph.aliases("T:0003") == []
    predicates = [r.predicate for r in graph.relations("T:0003")]
    assert sorted(predicates) == ["located_in", "own_word", "part_of"]
    source = graph.sources[0]
    assert (source.version, source.licence) == ("test/1.0", "CC0") and len(source.digest) == 64


@pytest.mark.parametrize(
    ("line", "broken", "reason"),
    [
        (5, "id T:0001", "no tag in the line"),
        (9, 'def: "A bad growth. [PMID:1]', "definition without closing quote"),
        (10, 'synonym: "tumour EXACT [x]', "synonym without closing quote"),
        (14, "is_a: growth", "object is no CURIE"),
        (14, "is_a:", "tag without a value"),
        (14, "is_a: T:4711", "dangling relation: T:0001 is_a T:4711"),
        (14, "is_a: T:0001", "relation of a concept with itself"),
        (14, "id: T:0008", "second id in one stanza"),
        (14, "relationship: part_of", "relationship without predicate and object"),
    ],
)
def test_a_broken_obo_line_is_named_and_the_rest_kept(tmp_path: Path, line: int, broken: str, reason: str) -> None:
    lines = OBO.split("\n")
    lines[line - 1 + (1 if line == 5 else 0)] = broken
    number = line + (1 if line == 5 else 0)
    path = make(tmp_path, "t.obo", "\n".join(lines))
    message = faults(tmp_path, f"obo:{path}")
    assert f"{path}:{number}: {reason}" in message or (line == 5 and "t.obo:6" in message)
    kept = built(tmp_path, f"obo:{path}", keep_going=True)
    assert "T:0000" in kept.graph and "T:0003" in kept.graph
    refused = [json.loads(x) for x in (kept.path / "refused.jsonl").read_text().splitlines()]
    assert any(r["fault"] and r["line"] == number and r["file"] == f"{path}:{number}" for r in refused)


def test_duplicate_ids(tmp_path: Path) -> None:
    path = make(tmp_path, "t.obo", OBO + "\n[Term]\nid: T:0003\nname: other lung\n")
    assert f"{path}:{OBO.count(chr(10)) + 2}: duplicate id: T:0003 other lung" in faults(tmp_path, f"obo:{path}")
    graph = built(tmp_path, f"obo:{path}", keep_going=True).graph
    assert graph.label_of("T:0003") == "lung" and graph.find("other lung") == []


def test_a_cycle_of_is_a_is_told_and_cut(tmp_path: Path) -> None:
    text = "".join(f"[Term]\nid: T:{i}\nname: n{i}\nis_a: T:{(i + 1) % 3}\n\n" for i in range(3))
    path = make(tmp_path, "t.obo", text)
    message = faults(tmp_path, f"obo:{path}")
    assert "1 fault" in message and f"{path}:14: cycle of is_a: T:0 is_a T:1 is_a T:2 is_a T:0" in message
    graph = built(tmp_path, f"obo:{path}", keep_going=True).graph
    assert graph.num_relations == 2 and graph.ancestors("T:0") == {"T:1": 1, "T:2": 2}


def test_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    path = make(tmp_path, "t.obo", OBO.replace("lung", "l\xfcng").encode("latin-1"))
    assert f"{path}:{line_of(OBO, 'name: lung')}: not UTF-8: byte 8: name: l\\xfcng" in faults(tmp_path, f"obo:{path}")
    kept = built(tmp_path, f"obo:{path}", keep_going=True)
    assert "T:0001" in kept.graph
    utf16 = make(tmp_path, "u.obo", OBO.encode("utf-16"))
    assert "u.obo:1: not UTF-8" in faults(tmp_path, f"obo:{utf16}") if not list(tmp_path.glob("graph*")) else True


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = make(tmp_path, "t.obo", b"\xef\xbb\xbf" + OBO.replace("\n", "\r\n").encode())
    graph = built(tmp_path, f"obo:{path}").graph
    assert graph.label_of("T:0003") == "lung"


def test_truncated_obo(tmp_path: Path) -> None:
    cut = OBO[: OBO.index("malignant epithelial") + 8]
    path = make(tmp_path, "t.obo", cut)
    assert f"{path}:10: synonym without closing quote" in faults(tmp_path, f"obo:{path}")
    packed = make(tmp_path, "t.obo.gz", gzip.compress(OBO.encode())[:-100])
    assert "file is cut off or damaged" in faults(tmp_path, f"obo:{packed}")


def test_a_line_of_ten_megabytes_is_refused_unread(tmp_path: Path) -> None:
    text = OBO.replace("name: lung", f'name: lung\ndef: "{"x" * 10_000_000}" []')
    path = make(tmp_path, "t.obo", text)
    place = f"{path}:{line_of(OBO, 'name: lung') + 1}"
    assert f"{place}: line too long: 10000011 bytes, at most 1048576 are read" in faults(tmp_path, f"obo:{path}")
    assert built(tmp_path, f"obo:{path}", keep_going=True).graph.label_of("T:0003") == "lung"


def test_no_obo_at_all(tmp_path: Path) -> None:
    assert "no OBO stanza" in faults(tmp_path, f"obo:{make(tmp_path, 't.obo', 'hello')}")
    assert "no OBO stanza" in faults(tmp_path, f"obo:{make(tmp_path, 'e.obo', '')}")
    with pytest.raises(EosinError, match="no such source file"):
        built(tmp_path, f"obo:{tmp_path / 'nothing.obo'}")
    with pytest.raises(EosinError, match="must be a file"):
        built(tmp_path, f"obo:{tmp_path}")


def test_lines_of_never_holds_more_than_the_limit(tmp_path: Path) -> None:
    path = make(tmp_path, "t", b"ab\n" + b"c" * 50 + b"\nde\n" + b"f" * 20)
    found = list(lines_of(path, max_bytes=10))
    assert [n for n, _ in found] == [1, 2, 3, 4] and found[0][1] == "ab" and found[2][1] == "de"
    assert isinstance(found[1][1], Refused) and "51 bytes" in found[1][1].detail
    assert isinstance(found[3][1], Refused) and "20 bytes" in found[3][1].detail
    assert "zero byte" in str(list(lines_of(make(tmp_path, "z", b"a\x00b\n")))[0][1])


OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns:owl="http://www.w3.org/2002/07/owl#" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" xmlns:obo="http://purl.obolibrary.org/obo/"
 xmlns:oio="http://www.geneontology.org/formats/oboInOwl#">
<owl:Ontology rdf:about="http://x"><owl:versionIRI rdf:resource="http://x/2"/></owl:Ontology>
<owl:ObjectProperty rdf:about="http://purl.obolibrary.org/obo/RO_0001025"><rdfs:label>located in</rdfs:label>
</owl:ObjectProperty>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/T_1"><rdfs:label>lung</rdfs:label></owl:Class>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/T_2">
 <rdfs:label xml:lang="de">Geschwulst</rdfs:label><rdfs:label xml:lang="en">tumour</rdfs:label>
 <obo:IAO_0000115>A mass.</obo:IAO_0000115><oio:hasExactSynonym>neoplasm</oio:hasExactSynonym>
 <oio:hasDbXref>NCI:C1</oio:hasDbXref><oio:hasAlternativeId>T:9</oio:hasAlternativeId>
 <rdfs:subClassOf><owl:Restriction><owl:onProperty rdf:resource="http://purl.obolibrary.org/obo/RO_0001025"/>
  <owl:someValuesFrom rdf:resource="http://purl.obolibrary.org/obo/T_1"/></owl:Restriction></rdfs:subClassOf>
</owl:Class>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/T_3"><rdfs:label>lung tumour</rdfs:label>
 <rdfs:subClassOf rdf:resource="http://purl.obolibrary.org/obo/T_2"/></owl:Class>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/T_4"><owl:deprecated>true</owl:deprecated></owl:Class>
</rdf:RDF>
"""


def test_owl(tmp_path: Path) -> None:
    graph = built(tmp_path, f"owl:{make(tmp_path, 't.owl', OWL)}").graph
    found = graph.concept("T:9")
    assert (found.id, found.label, found.definition, found.xrefs) == ("T:2", "tumour", "A mass.", ("NCIT:C1",))
    assert [s.text for s in found.synonyms] == ["neoplasm"]
    assert [(r.predicate, r.object) for r in graph.relations("T:2")] == [("located_in", "T:1")]
    assert graph.ancestors("T:3") == {"T:2": 1} and graph.sources[0].version == "http://x/2"
    cut = make(tmp_path, "cut.owl", OWL[: OWL.index('<owl:Class rdf:about="http://purl.obolibrary.org/obo/T_3')])
    with pytest.raises(EosinError, match=rf"cut\.owl:{line_of(OWL, 'T_3')}: not well-formed XML"):
        built(tmp_path, f"owl:{cut}")
    assert "T:2" in built(tmp_path, f"owl:{cut}", keep_going=True).graph


def test_entities_of_other_files_are_not_read(tmp_path: Path) -> None:
    secret = make(tmp_path, "secret.txt", "do not read")
    text = OWL.replace("?>", f'?><!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>', 1).replace(
        ">lung<", ">l&e;<", 1
    )
    path = make(tmp_path, "t.owl", text)
    graph = built(tmp_path, f"owl:{path}", keep_going=True).graph
    assert all("do not read" not in name for name, _, _ in graph.names())


def test_pathoml_is_a_vocabulary(tmp_path: Path) -> None:
    text = OWL.replace('http://purl.obolibrary.org/obo/RO_0001025"><', 'http://p#hasSupportEvidence"><')
    path = make(tmp_path, "p.owl", text)
    table = make(tmp_path, "t.tsv", "id\tlabel\nT:1\ta\n")
    graph = built(tmp_path, f"tsv:{table}", f"pathoml:{path}").graph
    assert len(graph) == 1 and graph.sources[1].counts["set aside"] == 4
    swapped = graph.vocabulary.resolve("pathoml:hasSupportEvidence")
    assert swapped[0].name == "supports" and swapped[1] is True


def test_obographs(tmp_path: Path) -> None:
    nodes = [
        {"id": "http://purl.obolibrary.org/obo/T_1", "lbl": "lung", "type": "CLASS"},
        {"id": "http://purl.obolibrary.org/obo/T_2", "lbl": "tumour", "type": "CLASS", "meta": {
            "definition": {"val": "A mass."}, "xrefs": [{"val": "NCI:C1"}],
            "synonyms": [{"pred": "hasBroadSynonym", "val": "growth"}]}},
        {"id": "http://purl.obolibrary.org/obo/T_3", "lbl": "old", "meta": {"deprecated": True}},
        {"lbl": "without id", "type": "CLASS"},
    ]  # fmt: skip
    edges = [{"sub": nodes[1]["id"], "pred": "http://purl.obolibrary.org/obo/RO_0001025", "obj": nodes[0]["id"]},
             {"sub": nodes[1]["id"], "pred": "is_a"}]  # fmt: skip
    path = make(
        tmp_path, "g.json", json.dumps({"graphs": [{"nodes": nodes, "edges": edges, "meta": {"version": "7"}}]})
    )
    message = faults(tmp_path, f"obographs:{path}")
    assert "graphs[0].nodes[3]" in message and "graphs[0].edges[1]" in message
    graph = built(tmp_path, f"obographs:{path}", keep_going=True).graph
    assert graph.concept("T:2").synonyms[0].scope == "broad" and graph.sources[0].version == "7"
    assert [r.predicate for r in graph.relations("T:2")] == ["located_in"]
    (tmp_path / "x").mkdir()
    assert "x.json:1: not valid JSON" in faults(tmp_path / "x", f"obographs:{make(tmp_path, 'x.json', '{')}")


TREE = {
    "TISSUE": {"code": "TISSUE", "name": "Tissue", "level": 0, "children": {"LUNG": {
        "code": "LUNG", "name": "Lung", "level": 1, "externalReferences": {"NCI": ["C12468"]}, "children": {"NSCLC": {
            "code": "NSCLC", "name": "Non-Small Cell Lung Cancer", "level": 2, "history": ["OLD"],
            "externalReferences": {"UMLS": ["C0007131", "CL123"]}, "children": {"LUAD": {
                "code": "LUAD", "name": "Lung Adenocarcinoma", "level": 3, "children": {}}}}}}}},
}  # fmt: skip


def test_oncotree_json_and_table_say_the_same(tmp_path: Path) -> None:
    one = built(tmp_path, f"oncotree:{make(tmp_path, 'oncotree_2025_10_03.json', json.dumps(TREE))}").graph
    header = "level_1\tlevel_2\tlevel_3\tmetamaintype\tmetanci\tmetaumls"
    rows = ["Lung (LUNG)\t\t\t\tC12468\t", "Lung (LUNG)\tNon-Small Cell Lung Cancer (NSCLC)\t\t\t\tC0007131",
            "Lung (LUNG)\tNon-Small Cell Lung Cancer (NSCLC)\tLung Adenocarcinoma (LUAD)\t\t\t"]  # fmt: skip
    two = built(tmp_path, f"oncotree:{make(tmp_path, 'o.txt', chr(10).join([header, *rows]))}").graph
    for graph in (one, two):
        assert [graph.type_of(f"ONCOTREE:{c}") for c in ("LUNG", "NSCLC", "LUAD")] == [
            "organ",
            "diagnosis",
            "diagnosis",
        ]
        found = {(r.predicate, r.object) for r in graph.relations("ONCOTREE:LUAD")}
        assert found == {("is_a", "ONCOTREE:NSCLC"), ("located_in", "ONCOTREE:LUNG")}
        assert graph.concept("ONCOTREE:NSCLC").xrefs == ("UMLS:C0007131",)
    assert one.sources[0].version == "2025_10_03" and one.canonical("ONCOTREE:OLD") == "ONCOTREE:NSCLC"
    bad = make(tmp_path, "bad.txt", f"{header}\nLung\t\t\t\t\t\nLung (LUNG)\t\t\n")
    with pytest.raises(EosinError, match=r"bad\.txt:2: level without a code(.|\n)*bad\.txt:3: shifted columns"):
        built(tmp_path, f"oncotree:{bad}")


def test_tables_of_concepts_relations_and_annotations(tmp_path: Path) -> None:
    concepts = make(tmp_path, "c.tsv", '"id"\t"label"\t"subClassOf"\t"xrefs"\n"T:1"\t"top"\t""\t""\n'
                    '"T:2"\t"low"\t"top"\t"NCI:C1, UMLS:C2"\n"T:3"\t"lowest"\t"T:2|top"\t""\n')  # fmt: skip
    robot = make(tmp_path, "r.tsv", "?cls\t?pred\t?val\t?synType\n"
                 '<http://purl.obolibrary.org/obo/T_2>\t<http://www.geneontology.org/formats/oboInOwl#hasNarrowSynonym>\t"lowish"\t\n')  # fmt: skip  # noqa: E501
    edges = make(tmp_path, "e.csv", "subject,predicate,object,weight\nT:3,supports,T:1,0.5\n")
    anonymous = make(tmp_path, "a.tsv", "ID\tLABEL\tSubClass Of [ANON]\n"
                     "T:2\tlow\t'sits on' some top|'derives from' some 'nothing'|('a' some b) or c\n")  # fmt: skip
    made = built(tmp_path, f"tsv:{concepts}", f"tsv:{robot}", f"tsv:{edges}", f"tsv:{anonymous}")
    graph = made.graph
    assert graph.ancestors("T:3") == {"T:2": 1, "T:1": 1} and graph.ancestors("T:2") == {"T:1": 1}
    assert graph.concept("T:2").xrefs == ("NCIT:C1", "UMLS:C2") and graph.concept("T:2").synonyms[0].scope == "narrow"
    assert {(r.predicate, r.weight) for r in graph.relations("T:1", "in")} >= {("supports", 0.5), ("sits on", 1.0)}
    assert {r.reason for r in made.refusals} == {"label names no concept of this graph", "compound class expression"}


@pytest.mark.parametrize("bound", [1 << 17, 1 << 30])  # other packages move it for the whole process
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tlabel\nT:1\ta\tb\n", "2: shifted columns: 3 cells, the header has 2"),
        ("id\tlabel\nT:1\n", "2: shifted columns: 1 cells, the header has 2"),
        ("id\tlabel\nlung\tT:1\n", "2: id is no CURIE"),
        ("id\tlabel\ttype\nT:1\ta\tfruit\n", "2: unknown semantic type: fruit"),
        ("a\tb\nc\td\n", "1: header of no known table"),
        ("subject\tpredicate\tobject\nT:1\t\tT:2\n", "2: relation without two ids and a predicate"),
        ("subject\tpredicate\tobject\tweight\nT:1\tis_a\tT:2\theavy\n", "2: weight is not above 0"),
        ("", "1: empty file"),
        (f'id,label\nT:1,"{"x" * 200_000}\n', "2: shifted columns"),
    ],
)
def test_a_broken_table_is_named_by_line(tmp_path: Path, text: str, message: str, bound: int) -> None:
    path = make(tmp_path, "t.tsv", text)
    with cells_up_to(bound):
        assert f"{path}:{message}" in faults(tmp_path, f"tsv:{path}")


def test_kgx_and_sssom(tmp_path: Path) -> None:
    nodes = make(tmp_path, "x_nodes.tsv", "id\tname\tcategory\txref\tsynonym\n"
                 "MONDO:1\tlung carcinoma\tbiolink:Disease\tUMLS:C1\tlung ca|ca of lung\n"
                 "HP:1\tcough\tbiolink:PhenotypicFeature\t\t\n")  # fmt: skip
    edges = make(tmp_path, "x_edges.tsv", "subject\tpredicate\tobject\tprimary_knowledge_source\n"
                 "MONDO:1\tbiolink:has_phenotype\tHP:1\tinfores:x\n")  # fmt: skip
    other = make(tmp_path, "d.tsv", "id\tlabel\ttype\nDOID:7\tlung cancer\tdiagnosis\nDOID:8\tother\tdiagnosis\n")
    sssom = make(tmp_path, "m.sssom.tsv", "#license: CC0\n#mapping_set_version: 3\n"
                 "subject_id\tpredicate_id\tobject_id\tpredicate_modifier\tconfidence\n"
                 "MONDO:1\tskos:exactMatch\tDOID:7\t\t0.9\nMONDO:1\tskos:closeMatch\tDOID:8\t\t0.5\n"
                 "MONDO:1\tskos:exactMatch\tDOID:8\tNot\t\nMONDO:1\tskos:exactMatch\tDOID:8\t\t\n")  # fmt: skip
    made = built(tmp_path, f"kgx:{nodes}", f"kgx:{edges}", f"tsv:{other}", f"sssom:{sssom}")
    graph = made.graph
    assert graph.canonical("DOID:7") == "MONDO:1" and graph.type_of("MONDO:1") == "diagnosis"
    assert graph.find("lung cancer") == ["MONDO:1"]
    assert [(r.predicate, r.evidence) for r in graph.relations("HP:1", "in")] == [("has_phenotype", "infores:x")]
    # The second exact match would make one concept of two that DOID keeps apart.
    between = {(r.predicate, r.weight) for r in graph.relations("DOID:8", "both")}
    assert between == {("close_match", 0.5), ("same_as", 1.0)}
    assert (graph.sources[3].licence, graph.sources[3].version) == ("CC0", "3")


def test_umls(tmp_path: Path) -> None:
    def row(cui: str, name: str, *, lat: str = "ENG", ts: str = "P", sab: str = "NCI", code: str = "C1") -> str:
        cells = [cui, lat, ts, "L", "PF", "S", "Y", "A", "", "", "", sab, "PT", code, name, "0", "N", "256"]
        return "|".join(cells) + "|\n"

    text = row("C01", "Carcinoma") + row("C01", "Cancer", ts="S", sab="MSH", code="D1") + row("C01", "K", lat="GER")
    path = make(tmp_path, "MRCONSO.RRF", text + "C01|ENG|P\n")
    make(tmp_path, "MRSTY.RRF", "C01|T191|B2|Neoplastic Process|AT1||\n")
    assert f"{path}:4: shifted columns" in faults(tmp_path, f"umls:{path}")
    graph = built(tmp_path, f"umls:{path}", keep_going=True).graph
    found = graph.concept("UMLS:C01")
    assert (found.label, found.type, found.xrefs) == ("Carcinoma", "diagnosis", ("NCIT:C1", "MESH:D1"))
    assert [s.text for s in found.synonyms] == ["Cancer"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NCI:C3088", "NCIT:C3088"), ("SNOMEDCT_US_2025_09_01:39000009", "SNOMEDCT:39000009"),
        ("UMLS_CUI:C1", "UMLS:C1"), ("<http://purl.obolibrary.org/obo/CL_0000127>", "CL:0000127"),
        ("http://purl.obolibrary.org/obo/cl#lacks_part", "cl:lacks_part"), ("no curie", None), ("", None), (":x", None),
        ("http://www.w3.org/2004/02/skos/core#exactMatch", "skos:exactMatch"), ("Orphanet:5", "ORPHANET:5"),
    ],
)  # fmt: skip
def test_curies(text: str, expected: str | None) -> None:
    found = curie(text)
    assert (found or "").casefold() == (expected or "").casefold()


def test_licence_near(tmp_path: Path) -> None:
    assert licence_near(tmp_path / "x.obo") == ""
    make(tmp_path, "SOURCE.txt", "Something\nlicence CC BY 4.0 (LICENSE, copied)")
    assert licence_near(tmp_path / "x.obo") == "CC BY 4.0"


def test_wrong_specs_are_explained() -> None:
    for text in ("doid.obo", "obo:", "fruit:x", "tables:x"):
        with pytest.raises(EosinError, match="cannot be understood") as caught:
            parse_spec(text)
        assert "KIND:FILE" in (caught.value.expected or "") and caught.value.found == text


@pytest.fixture(scope="module")
def ontologies(shared_data: Path) -> Iterator[Path]:
    yield shared_data / "ontologies"


def test_counts_of_the_real_files(ontologies: Path, tmp_path: Path) -> None:
    """What SOURCE.txt beside each file says of it: terms, relations, synonyms."""
    graph = built(tmp_path, f"owl:{ontologies / 'fbbi/fbbi.owl'}", f"obo:{ontologies / 'mpath/mpath.obo'}",
                  f"oncotree:{ontologies / 'oncotree/oncotree_2025_10_03.json'}").graph  # fmt: skip
    fbbi, mpath, oncotree = graph.sources
    # 648 classes, 107 of them obsolete and 2 without a name; 841 terms of MPATH without its 49 obsolete ones.
    assert fbbi.counts["concepts"] == 648 - 107 - 2 and fbbi.licence.startswith("CC BY")
    assert mpath.counts["concepts"] == 841 and mpath.counts["relations"] == 946 + 3
    assert oncotree.counts["concepts"] == 898 - 1 and oncotree.version == "2025_10_03"
    assert (
        isinstance(graph, Graph) and graph.type_of("MPATH:268") == "diagnosis" and graph.type_of("MPATH:4") == "finding"
    )


def test_files_found_by_fuzzing_end_in_a_graph_or_a_named_fault(shared_data: Path, tmp_path: Path) -> None:
    files = [f for f in sorted((shared_data / "odd_files").iterdir()) if f.name.startswith("obo")]
    assert files
    for file in files:
        spec = SourceSpec(file.name.partition("-")[0], file, file.name)
        with pytest.raises(EosinError) as caught:
            build_graph(tmp_path / "all", [spec], tables=False)
        assert file.name in str(caught.value)
        try:
            assert build_graph(tmp_path / file.name, [spec], keep_going=True, tables=False).refusals
        except EosinError as exc:
            assert file.name in str(exc)
