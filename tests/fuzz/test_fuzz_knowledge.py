"""Whatever stands in a source file, building a graph ends in a graph or in an EosinError that names the file."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eosin.core.errors import EosinError
from eosin.knowledge.graph.build import build_graph
from eosin.knowledge.sources import READERS, SourceSpec
from tests.fuzz.budget import fuzz_settings

OBO = """format-version: 1.2
data-version: 2026-01-01
property_value: http://purl.org/dc/terms/license "CC BY 4.0" xsd:string

[Term]
id: X:0000001
name: necrosis
def: "Death of \\"cells\\"." [PMID:1]
synonym: "dead tissue" EXACT [] {a="b"}
xref: MESH:D009336 "note" ! comment
is_a: X:0000002 {source="y"} ! tissue
relationship: part_of X:0000003 ! organ
property_value: skos:exactMatch Y:1

[Term]
id: X:0000002
name: tissue
alt_id: X:0000009
is_obsolete: false
replaced_by: X:0000001

[Typedef]
id: part_of
name: part of
xref: BFO:0000050
"""
GRAPHS: dict[str, Any] = {"graphs": [{
    "meta": {"version": "1"},
    "nodes": [
        {"id": "http://purl.obolibrary.org/obo/X_0000001", "lbl": "necrosis", "type": "CLASS", "meta": {
            "definition": {"val": "death"}, "synonyms": [{"pred": "hasExactSynonym", "val": "dead tissue"}],
            "xrefs": [{"val": "MESH:1"}], "basicPropertyValues": [{"pred": "skos:exactMatch", "val": "Y:1"}]}},
        {"id": "X:0000002", "lbl": "tissue", "meta": {"deprecated": True}},
        {"id": "http://purl.obolibrary.org/obo/BFO_0000050", "lbl": "part of", "type": "PROPERTY"},
    ],
    "edges": [{"sub": "X:0000001", "pred": "is_a", "obj": "X:0000002"}],
    "equivalentNodesSets": [{"nodeIds": ["X:0000001", "Z:1"]}],
}]}  # fmt: skip
ONCOTREE: dict[str, Any] = {"TISSUE": {"code": "TISSUE", "name": "Tissue", "level": 0, "children": {"LUNG": {
    "code": "LUNG", "name": "Lung", "level": 1, "externalReferences": {"NCI": ["C1"], "UMLS": ["C2"]}, "children": {
        "NSCLC": {"code": "NSCLC", "name": "Non-small cell", "level": 2, "history": ["OLD"], "children": []},
    }}}}}  # fmt: skip
OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#"
 xmlns:owl="http://www.w3.org/2002/07/owl#">
<owl:Ontology rdf:about="x"><owl:versionInfo>1</owl:versionInfo></owl:Ontology>
<owl:ObjectProperty rdf:about="http://purl.obolibrary.org/obo/BFO_0000050">
<rdfs:label>part of</rdfs:label></owl:ObjectProperty>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/X_0000001"><rdfs:label xml:lang="en">necrosis</rdfs:label>
<rdfs:subClassOf><owl:Restriction><owl:onProperty rdf:resource="http://purl.obolibrary.org/obo/BFO_0000050"/>
<owl:someValuesFrom rdf:resource="http://purl.obolibrary.org/obo/X_0000002"/></owl:Restriction></rdfs:subClassOf></owl:Class>
</rdf:RDF>
"""
TABLES = {
    "tsv": "id\tlabel\tsynonyms\ttype\tparents\nX:1\tnecrosis\tdead|gone\tfinding\t\nX:2\ttissue\t\torgan\tX:1\n",
    "kgx": "subject\tpredicate\tobject\nX:1\tis_a\tX:2\n",
    "sssom": "#mapping_set_version: 1\nsubject_id\tpredicate_id\tobject_id\tconfidence\n"
    "X:1\tskos:exactMatch\tY:1\t0.9\n",
    "umls": "C1|ENG|P|L|PF|S|Y|A|||X|NCI|PT|C2|necrosis|0|N||\n",
    "primekg": "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source\n"
    "disease_disease,parent-child,0,1,disease,a,MONDO,1,2,disease,b,MONDO\n",
}  # fmt: skip
ODD: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("\ud800"),
              st.sampled_from(["X:0000001", "", "a\nb", "a\x00b", "X:", ":", "\u2028"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


def build(path: Path, kind: str, data: bytes) -> None:
    """A graph, or an EosinError; with and without the good part of a faulty file kept."""
    path.write_bytes(data)
    for keep_going in (True, False):
        out = path.parent / "graph"
        try:
            build_graph(out, [SourceSpec(kind, path, path.name)], keep_going=keep_going, tables=False)
        except EosinError as exc:
            str(exc).encode("utf-8")
        shutil.rmtree(out, ignore_errors=True)


PIECES = [b"\t", b"\n", b'"', b"\\", b"{", b"]", b"\x00", b"\xff\xfe", b": ", b"|", b","]


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """A file with some of its bytes changed, taken out, put in, or repeated."""
    data = bytearray(text.encode("utf-8"))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.integers(0, 4))
        if what == 0 and data:
            data[at] = draw(st.integers(0, 255))
        elif what == 1:
            del data[at : at + draw(st.integers(1, 40))]
        elif what == 2:
            data[at:at] = draw(
                st.sampled_from([b"\t", b"\n", b'"', b"\\", b"{", b"]", b"\x00", b"\xff\xfe", b": ", b"|", b","])
            )
        elif what == 3:
            data[at:at] = data[at : at + draw(st.integers(1, 60))]
        else:
            del data[at:]
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, document: Any) -> bytes:
    """A JSON document in which some values are of another kind."""
    value = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(places(value)))
        holder[key] = draw(ODD)
    return json.dumps(value).encode("ascii")


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a document that holds a value."""
    inside = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [(value, k) for k, _ in inside] + [p for _, v in inside for p in places(v)] or [({}, "x")]


TEXTS = {
    "obo": OBO,
    "owl": OWL,
    "obographs": json.dumps(GRAPHS),
    "oncotree": json.dumps(ONCOTREE),
    "pathoml": OWL,
    **TABLES,
}


def test_every_reader_is_tried() -> None:
    assert set(TEXTS) == set(READERS) - {"tables"}


def _suffix(kind: str) -> str:
    return ".json" if kind in ("obographs", "oncotree") else ".txt"


def _tried(kind: str) -> Callable[..., None]:
    @fuzz_settings(12)
    @given(data=damaged(TEXTS[kind]), packed=st.booleans())
    def run(tmp: Path, data: bytes, packed: bool) -> None:
        name = f"file{_suffix(kind)}" + (".gz" if packed else "")
        build(tmp / name, kind, gzip.compress(data, 1) if packed else data)

    return run


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_damaged_bytes(tmp_path: Path, kind: str) -> None:
    _tried(kind)(tmp_path)


@pytest.mark.parametrize(("kind", "document"), [("obographs", GRAPHS), ("oncotree", ONCOTREE)])
def test_json_of_other_kinds(tmp_path: Path, kind: str, document: Any) -> None:
    @fuzz_settings(20)
    @given(data=changed(document))
    def run(data: bytes) -> None:
        build(tmp_path / "file.json", kind, data)

    run()


@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_a_file_that_unpacks_into_gigabytes_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 MB of gzip that are 1.5 GB of one line, one string or one element."""
    monkeypatch.setattr("eosin.knowledge.sources.json_forms.MAX_DOCUMENT_BYTES", 8 << 20)
    monkeypatch.setattr("eosin.knowledge.sources.owl.MAX_ELEMENT_CHARS", 1 << 20)
    path = tmp_path / f"bomb{_suffix(kind)}.gz"
    start, block = TEXTS[kind].partition("necrosis")[0], b"x" * (1 << 20)
    with gzip.open(path, "wb", compresslevel=1) as handle:
        handle.write(start.encode("utf-8"))
        for _ in range(40):
            handle.write(block)
    with pytest.raises(EosinError):
        build_graph(tmp_path / "graph", [SourceSpec(kind, path, path.name)], tables=False)
