"""Merging, types, accounting, and the folder: whole or absent, never overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eosin.core.errors import EosinError
from eosin.core.store.artifacts import open_artifact
from eosin.knowledge import Graph
from eosin.knowledge.graph.build import Built, build_graph
from eosin.knowledge.graph.vocabulary import builtin_vocabulary, read_vocabulary
from eosin.knowledge.sources import parse_spec


def built(tmp_path: Path, *tables: str, keep_going: bool = False) -> Built:
    """A graph of tables given as text: concepts, relations or mappings by their header."""
    specs = []
    for i, text in enumerate(tables):
        path = tmp_path / f"s{i}.tsv"
        path.write_text(text.replace("  ", "\t"))
        kind = "sssom" if text.startswith("subject_id") else "tsv"
        specs.append(parse_spec(f"{kind}:{path}"))
    return build_graph(tmp_path / "g", specs, tables=False, keep_going=keep_going)


def merges(made: Built) -> list[tuple[str, str, str]]:
    rows = [json.loads(line) for line in (made.path / "merges.jsonl").read_text().splitlines()]
    return [(r["canonical"], r["merged"], r["how"]) for r in rows]


def test_equal_names_never_merge(tmp_path: Path) -> None:
    made = built(tmp_path, "id  label\nDOID:1  cold\n", "id  label\nHP:1  cold\n")
    assert merges(made) == [] and len(made.graph) == 2
    assert sorted(made.graph.find("cold")) == ["DOID:1", "HP:1"]


def test_an_equal_id_merges_and_keeps_all_names(tmp_path: Path) -> None:
    made = built(
        tmp_path, "id  label  synonyms  type\nDOID:1  lung cancer  x  diagnosis\n",
        "id  label  synonyms  definition\nDOID:1  carcinoma of lung  X|y  A text.\n",
    )  # fmt: skip
    found = made.graph.concept("DOID:1")
    assert (found.label, found.definition, found.source) == ("lung cancer", "A text.", "s0.tsv")
    assert [(s.text, s.scope) for s in found.synonyms] == [
        ("x", "exact"),
        ("carcinoma of lung", "exact"),
        ("y", "exact"),
    ]


def test_a_shared_identifying_reference_merges(tmp_path: Path) -> None:
    made = built(
        tmp_path, "id  label  type  xrefs\nDOID:1  lung cancer  diagnosis  NCI:C1|ICD10:C34\n"
        "DOID:2  skin cancer  diagnosis  ICD10:C44\n",
        "id  label  type  xrefs\nONCOTREE:L  Lung Cancer, NOS  diagnosis  NCIT:C1\n"
        "ONCOTREE:S  Skin  diagnosis  ICD10:C44\n",
        "subject  predicate  object\nONCOTREE:L  is_a  ONCOTREE:S\n",
    )  # fmt: skip
    graph = made.graph
    # NCIt codes identify; ICD-10 classes do not.
    assert merges(made) == [("DOID:1", "ONCOTREE:L", "xref NCIT:C1")]
    assert graph.canonical("ONCOTREE:L") == "DOID:1" and graph.find("lung cancer, nos") == ["DOID:1"]
    assert [(r.predicate, r.object) for r in graph.relations("DOID:1")] == [("is_a", "ONCOTREE:S")]
    assert graph.concept("ONCOTREE:L") == graph.concept("DOID:1")


def test_exact_only_keeps_references_as_relations(tmp_path: Path) -> None:
    for name, row in (
        ("a", "DOID:1\tlung cancer\tdiagnosis\tNCI:C1"),
        ("b", "ONCOTREE:L\tLung Cancer\tdiagnosis\tNCI:C1"),
    ):
        (tmp_path / f"{name}.tsv").write_text(f"id\tlabel\ttype\txrefs\n{row}\n")
    specs = [parse_spec(f"tsv:{tmp_path / 'a.tsv'}"), parse_spec(f"tsv:{tmp_path / 'b.tsv'}")]
    made = build_graph(tmp_path / "g", specs, tables=False, by_reference=False)
    assert merges(made) == [] and len(made.graph) == 2
    assert [r.evidence for r in made.graph.relations("DOID:1", "in", ["close_match"])] == ["xref NCIT:C1"]


def test_ambiguous_references_merge_nobody(tmp_path: Path) -> None:
    one = "id  label  type  xrefs\nDOID:1  a  diagnosis  NCI:C1|NCI:C2\n"
    two = "id  label  type  xrefs\nONCOTREE:A  x  diagnosis  NCI:C1\nONCOTREE:B  y  diagnosis  NCI:C2\n"
    made = built(tmp_path, one, two)
    assert merges(made) == [] and len(made.graph) == 3
    assert {r.predicate for r in made.graph.relations("DOID:1", "both")} == {"close_match"}
    assert made.graph.sources[1].counts["cross-references ambiguous"] == 2


def test_more_shared_references_win(tmp_path: Path) -> None:
    one = "id  label  type  xrefs\nDOID:1  a  diagnosis  NCI:C1|NCI:C2|UMLS:C9\n"
    two = "id  label  type  xrefs\nONCOTREE:A  x  diagnosis  NCI:C1\nONCOTREE:B  y  diagnosis  NCI:C2|UMLS:C9\n"
    made = built(tmp_path, one, two)
    assert merges(made) == [("DOID:1", "ONCOTREE:B", "xref NCIT:C2 UMLS:C9")]


def test_a_qualifier_forbids_a_merge(tmp_path: Path) -> None:
    """A reference in the real files ties the benign pleural mesothelioma to the malignant one."""
    made = built(
        tmp_path, "id  label  synonyms  type  xrefs\nDOID:1  benign pleural mesothelioma    diagnosis  NCI:C1\n"
        "DOID:2  high grade glioma    diagnosis  NCI:C2\nDOID:3  chronic myeloid leukemia    diagnosis  NCI:C3\n",
        "id  label  synonyms  type  xrefs\nONCOTREE:P  Pleural Mesothelioma    diagnosis  NCI:C1\n"
        "ONCOTREE:G  Glioma, High-Grade    diagnosis  NCI:C2\n"
        "ONCOTREE:C  CML  chronic myeloid leukaemia  diagnosis  NCI:C3\n",
    )  # fmt: skip
    assert {(c, m) for c, m, _ in merges(made)} == {("DOID:2", "ONCOTREE:G"), ("DOID:3", "ONCOTREE:C")}
    assert [(r.predicate, r.subject) for r in made.graph.relations("DOID:1", "in")] == [("close_match", "ONCOTREE:P")]
    assert made.graph.sources[1].counts["cross-references with a qualifier"] == 1


def test_a_syndrome_is_not_the_tumor_that_it_brings(tmp_path: Path) -> None:
    """A reference in the real files ties Cowden syndrome to the gangliocytoma; a plural is the same word."""
    made = built(
        tmp_path, "id  label  synonyms  type  xrefs\nDOID:1  Cowden syndrome 1    diagnosis  NCI:C1\n"
        "DOID:2  myelodysplastic syndrome    diagnosis  NCI:C2\n",
        "id  label  synonyms  type  xrefs\nONCOTREE:L  Dysplastic Gangliocytoma    diagnosis  NCI:C1\n"
        "ONCOTREE:M  Myelodysplastic Syndromes    diagnosis  NCI:C2\n",
    )  # fmt: skip
    assert {(c, m) for c, m, _ in merges(made)} == {("DOID:2", "ONCOTREE:M")}
    assert [(r.predicate, r.subject) for r in made.graph.relations("DOID:1", "in")] == [("close_match", "ONCOTREE:L")]


def test_an_organ_and_a_diagnosis_never_merge(tmp_path: Path) -> None:
    made = built(tmp_path, "id  label  type  xrefs\nUBERON:1  lung  organ  NCI:C1\n",
                 "id  label  type  xrefs\nDOID:1  lung  diagnosis  NCI:C1\n")  # fmt: skip
    assert merges(made) == [] and made.graph.sources[1].counts["cross-references between types"] == 1


def test_exact_mappings_chain_but_never_join_one_vocabulary(tmp_path: Path) -> None:
    made = built(
        tmp_path, "id  label\nDOID:1  a\nDOID:2  b\nMONDO:1  c\nHP:1  d\n",
        "subject_id  predicate_id  object_id\nDOID:1  skos:exactMatch  MONDO:1\nMONDO:1  skos:exactMatch  HP:1\n"
        "HP:1  skos:exactMatch  DOID:2\nDOID:9  skos:exactMatch  DOID:8\nHP:1  skos:exactMatch  EFO:1\n",
    )  # fmt: skip
    graph = made.graph
    assert len(graph) == 2 and graph.canonical("HP:1") == graph.canonical("EFO:1") == "DOID:1"
    assert [(r.predicate, r.object) for r in graph.relations("DOID:1", "both")] == [("same_as", "DOID:2")]
    assert {r.reason for r in made.refusals} == {"would join two concepts of one vocabulary", "mapping of unknown ids"}
    assert not any(r.fault for r in made.refusals)


def test_types_come_from_the_row_the_root_or_the_prefix(tmp_path: Path) -> None:
    rows = [
        "id  label  parents  type", "MC:0000001  change    ", "MC:0000002  neoplasia  MC:0000001  ",
        "MC:5  carcinoma  MC:0000002  ", "MC:6  grade x  MC:0000002  grade", "CL:1  cell    ", "ZZ:1  thing    ",
    ]  # fmt: skip
    made = built(tmp_path, "\n".join(rows) + "\n")
    expected = {
        "MC:0000001": "finding", "MC:0000002": "diagnosis", "MC:5": "diagnosis", "MC:6": "grade", "CL:1": "cell",
        "ZZ:1": "other",
    }  # fmt: skip
    assert {i: made.graph.type_of(i) for i in made.graph.ids()} == expected


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    made = built(
        tmp_path, "id  label  synonyms  parents  xrefs\nDOID:1  a  x|y|X    NCI:C1\nDOID:2  b    DOID:1|DOID:9|a  \n"
        "DOID:2  b    DOID:1  \nbad  c      \n",
        "subject  predicate  object\nDOID:1  supports  DOID:2\nDOID:1  supports  DOID:2\nDOID:1  supports  DOID:7\n"
        "_:b  is_a  DOID:1\nDOID:2  is_a\n",
        "id  label  xrefs\nONCOTREE:A  q  NCI:C1\nONCOTREE:B  r  NCI:C1\n",
        "subject_id  predicate_id  object_id\nDOID:1  skos:exactMatch  DOID:2\nDOID:1  skos:exactMatch  EFO:3\n"
        "x:1  skos:exactMatch  x:2\n",
        keep_going=True,
    )  # fmt: skip
    for source in made.graph.sources:
        assert_accounts(source.counts)
    totals = made.graph.record["counts"]
    assert totals["relations"] == sum(s.counts.get("relations", 0) for s in made.graph.sources)
    assert totals["names"] == sum(s.counts.get("names", 0) for s in made.graph.sources)
    refused = [json.loads(line) for line in (made.path / "refused.jsonl").read_text().splitlines()]
    assert totals["refused"] == sum(r["num"] for r in refused if r["fault"]) == 4
    assert totals["set aside"] == sum(r["num"] for r in refused if not r["fault"])


def assert_accounts(counts: dict[str, int]) -> None:
    """The three sums that every source must satisfy."""
    get = dict(counts).get
    relations_in = (
        get("relation rows", 0) + get("label relation rows", 0) + get("relations added", 0)
        - get("label relations unresolved", 0)
    )  # fmt: skip
    relations_out = sum(get(c, 0) for c in ("relations", "relations known", "relations mirrored", "relations dropped"))
    assert relations_in == relations_out
    names_out = sum(get(c, 0) for c in ("names", "names known", "names set aside", "names without a concept"))
    assert get("names read", 0) == names_out
    mappings_out = sum(get(c, 0) for c in ("mappings used", "mappings known", "mappings unused"))
    assert get("mapping rows", 0) == mappings_out


def test_the_first_source_wins_and_repeated_files_get_names_of_their_own(tmp_path: Path) -> None:
    one, two = tmp_path / "a", tmp_path / "b"
    for folder, label in ((one, "first"), (two, "second")):
        folder.mkdir()
        (folder / "t.tsv").write_text(f"id\tlabel\nA:1\t{label}\n")
    specs = [parse_spec(f"tsv:{two / 't.tsv'}"), parse_spec(f"tsv:{one / 't.tsv'}")]
    graph = build_graph(tmp_path / "g", specs, tables=False).graph
    assert graph.label_of("A:1") == "second" and [s.name for s in graph.sources] == ["t.tsv", "t.tsv (2)"]


def test_nothing_is_overwritten_and_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("id\tlabel\nA:1\ta\n")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(EosinError, match="never overwrites"):
        build_graph(mine, [parse_spec(f"tsv:{table}")])
    assert (mine / "thesis.txt").read_text() == "years of work"
    table.write_text("id\tlabel\nA:1\n")
    with pytest.raises(EosinError, match="shifted columns"):
        build_graph(tmp_path / "g", [parse_spec(f"tsv:{table}")])
    with pytest.raises(EosinError, match="hold no concept"):
        build_graph(tmp_path / "g", [parse_spec(f"tsv:{table}")], keep_going=True, tables=False)
    assert {p.name for p in tmp_path.iterdir()} == {"t.tsv", "mine"}
    with pytest.raises(EosinError, match="at least one source"):
        build_graph(tmp_path / "g", [], tables=False)


def test_the_artifact_verifies_and_records_its_sources(tmp_path: Path) -> None:
    made = built(tmp_path, "id  label\nA:1  a\n")
    manifest = open_artifact(made.path, "knowledge", verify=True).manifest
    assert manifest["counts"]["concepts"] == 1 and manifest["record"]["sources"] == ["s0.tsv"]
    source = manifest["graph"]["sources"][0]
    assert source["kind"] == "tsv" and len(source["digest"]) == 64 and source["counts"]["concepts"] == 1


def test_the_built_in_tables_are_a_source(tmp_path: Path) -> None:
    graph = build_graph(tmp_path / "g", []).graph
    assert [s.kind for s in graph.sources] == ["tables"] and graph.record["counts"]["refused"] == 0
    assert [list(Graph.builtin().names()), Graph.builtin().num_relations] == [list(graph.names()), graph.num_relations]
    # The curated mappings let an ontology's id find our concept though the ontology is not loaded.
    assert graph.label_of("DOID:1790") == "mesothelioma"


def test_a_vocabulary_of_the_users_own(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("subject\tpredicate\tobject\nA:1\tlikes\tA:2\n")
    names = tmp_path / "n.tsv"
    names.write_text("id\tlabel\nA:1\ta\nA:2\tb\n")
    header = "name\tweight\tinverse_weight\tsign\tsymmetric\tsentence\tinverse\taliases\tnote\n"
    own = read_vocabulary(header + "fond_of\t1\t1\t1\t\t{s} likes {o}\t{o} is liked by {s}\tlikes\t\n"
                          "is_a\t1\t1\t0\t\t{s} is {o}\t{s} is {o}\t\t\n")  # fmt: skip
    specs = [parse_spec(f"tsv:{names}"), parse_spec(f"tsv:{table}")]
    graph = build_graph(tmp_path / "g", specs, tables=False, vocabulary=own).graph
    assert [r.predicate for r in graph.relations("A:1")] == ["fond_of"]
    assert Graph.open(tmp_path / "g").vocabulary["fond_of"].sentence == "{s} likes {o}"


@pytest.mark.parametrize(
    "row",
    [
        "x\t2\t1\t0\t\t{s} {o}\t{s} {o}\t\t",
        "x\t1\t1\t5\t\t{s} {o}\t{s} {o}\t\t",
        "x\t1\t1",
        "x\t1\t1\t0\t\ts\t{s} {o}\t\t",
    ],
)
def test_a_broken_vocabulary_names_the_line(row: str) -> None:
    header = "name\tweight\tinverse_weight\tsign\tsymmetric\tsentence\tinverse\taliases\tnote\n"
    with pytest.raises(EosinError, match="cannot be read") as caught:
        read_vocabulary(header + row + "\n", "mine.tsv")
    assert caught.value.where == "mine.tsv:2"


def test_the_vocabulary_keeps_pathoml() -> None:
    vocabulary = builtin_vocabulary()
    expected = {
        "hasSupportEvidence": ("supports", True), "hasOpposeEvidence": ("contradicts", True),
        "has_Immunohistochemical_Evidence": ("immunohistochemical_evidence", True),
        "has_Morphologic_Evidence": ("morphologic_evidence", True), "express": ("expresses", False),
        "unexpressed_in": ("lacks_expression", True), "cellOf": ("part_of", False), "hasCell": ("part_of", True),
    }  # fmt: skip
    for name, (predicate, swapped) in expected.items():
        found = vocabulary.resolve(f"pathoml:{name}")
        assert (found[0].name, found[1]) == (predicate, swapped)
    signs = {p.name: p.sign for p in vocabulary.by_name.values()}
    assert signs["supports"] == 1 and signs["contradicts"] == -1 and signs["is_a"] == 0


ONTOLOGIES = (
    "obo:doid/doid_NCIthesaurus_subset.obo", "oncotree:oncotree/oncotree_2025_10_03.json",
    "obo:uberon/uberon_efo-slim.obo",
    "obo:mpath/mpath.obo", "owl:fbbi/fbbi.owl", "tsv:cl/cl_synonyms.tsv", "tsv:cl/cl_edges.tsv",
)  # fmt: skip


def test_real_ontologies_build_without_a_fault(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ontologies"
    if not folder.is_dir():
        pytest.skip("no ontologies among the real data")
    specs = [parse_spec(f"{s.split(':')[0]}:{folder / s.split(':')[1]}") for s in ONTOLOGIES]
    graph = build_graph(tmp_path / "g", specs).graph
    assert graph.record["counts"]["refused"] == 0 and len(graph) > 9000
    for source in graph.sources:
        assert_accounts(dict(source.counts))
    # DOID and OncoTree meet by NCIt code; both name the angiosarcoma.
    assert graph.canonical("ONCOTREE:ANGS") == "DOID:0001816"
    assert {r.predicate for r in graph.relations("DOID:0001816")} >= {"is_a"}
    assert graph.sources[1].counts["cross-references merged"] > 200


def test_the_list_of_refusals_stays_small_and_its_numbers_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eosin.knowledge.graph import refusals

    monkeypatch.setattr(refusals, "MAX_LISTED", 3)
    rows = "".join(f"_:b{i}\tis_a\tA:1\n" for i in range(10))
    names, edges = tmp_path / "n.tsv", tmp_path / "e.tsv"
    names.write_text("id\tlabel\nA:1\ta\n")
    edges.write_text("subject\tpredicate\tobject\n" + rows)
    specs = [parse_spec(f"tsv:{names}"), parse_spec(f"tsv:{edges}")]
    made = build_graph(tmp_path / "g", specs, tables=False)
    assert [r.num for r in made.refusals] == [1, 1, 1, 7] and "7 more rows" in made.refusals[-1].detail
    assert made.graph.record["counts"]["set aside"] == 10 == made.graph.sources[1].counts["set aside"]
    monkeypatch.setattr(refusals, "MAX_FAULTS", 5)
    edges.write_text("subject\tpredicate\tobject\n" + "bad\tis_a\tA:1\n" * 6)
    with pytest.raises(EosinError, match="more than 5 faults") as caught:
        build_graph(tmp_path / "h", specs, tables=False, keep_going=True)
    assert caught.value.where == "e.tsv:7" and not (tmp_path / "h").exists()
