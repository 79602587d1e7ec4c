"""The verbs of `eosin knowledge`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from eosin.cli.material.knowledge import app
from eosin.core.errors import EosinError

NAMES = "id\tlabel\tsynonyms\ttype\tdefinition\nDOID:1\tcarcinoma\tCa\tdiagnosis\tA tumour.\nDOID:2\tadenocarcinoma\t\tdiagnosis\t\nDOID:3\tsquamous cell carcinoma\tSCC\tdiagnosis\t\nX:1\tSCC\t\tmarker\t\nX:2\tkeratin pearl\tsquamous pearl\tfinding\t\n"  # noqa: E501
EDGES = "subject\tpredicate\tobject\tevidence\nDOID:2\tis_a\tDOID:1\t\nDOID:3\tis_a\tDOID:1\t\nX:2\tsupports\tDOID:3\ta book\nX:2\tcontradicts\tDOID:2\ta book\n"  # noqa: E501


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=text, catch_exceptions=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "n.tsv").write_text(NAMES)
    (tmp_path / "e.tsv").write_text(EDGES)
    return tmp_path


@pytest.fixture
def graph(folder: Path) -> str:
    done = run("build", str(folder / "g"), "-s", f"tsv:{folder / 'n.tsv'}", "--source", f"tsv:{folder / 'e.tsv'}",
               "--without-tables", "--licence", "n.tsv=CC0 1.0")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "5 concepts, 8 names, 4 relations" in done.output
    return str(folder / "g")


def test_stats(graph: str) -> None:
    shown = run("stats", graph).output
    assert "n.tsv" in shown and "CC0 1.0" in shown and "not stated" in shown and "diagnosis 3" in shown
    row = json.loads(run("stats", graph, "--json").output)
    assert row["counts"]["concepts"] == 5 and row["types"]["diagnosis"] == 3
    assert row["relation kinds"] == {"is_a": 2, "supports": 1, "contradicts": 1} and row["refused"] == {}


def test_show_a_concept_a_part_and_nothing(graph: str) -> None:
    shown = run("show", "carcinoma", "-g", graph).output
    assert "DOID:1" in shown and "A tumour." in shown and "exact: Ca" in shown
    assert "adenocarcinoma is a kind of carcinoma  (e.tsv)" in shown
    assert "keratin pearl supports squamous cell carcinoma  (e.tsv; a book)" in run("show", "X:2", "-g", graph).output
    both = run("show", "scc", "-g", graph).output
    assert "X:1" in both and "DOID:3" in both
    assert run("show", "pearl", "-g", graph).output == "X:2  keratin pearl  (finding)\n"
    row = json.loads(run("show", "DOID:2", "-g", graph, "--json").output)
    assert row["label"] == "adenocarcinoma" and len(row["relations"]) == 2
    failed = run("show", "quux", "-g", graph)
    assert isinstance(failed.exception, EosinError) and "No concept bears this name" in str(failed.exception)


def test_paths_by_name_and_id(graph: str) -> None:
    shown = run("paths", "keratin pearl", "DOID:1", "-g", graph, "-k", "2").output
    assert "Keratin pearl supports squamous cell carcinoma, which is a kind of carcinoma." in shown
    rows = [json.loads(x) for x in run("paths", "X:2", "carcinoma", "-g", graph, "--json").output.splitlines()]
    assert {r["sign"] for r in rows} == {1, -1} and rows[0]["steps"][0]["evidence"] == "a book"
    ambiguous = run("paths", "SCC", "DOID:1", "-g", graph)
    # SCC is the label of the marker, and only a synonym of the diagnosis: the label is meant.
    assert "no path of at most 4 steps between SCC and carcinoma" in ambiguous.output
    failed = run("paths", "pearl", "DOID:1", "-g", graph)
    assert isinstance(failed.exception, EosinError) and "X:2 (keratin pearl)" in str(failed.exception)


def test_contrast(graph: str) -> None:
    shown = run("contrast", "DOID:3", "adenocarcinoma", "-g", graph).output.splitlines()
    assert shown[0] == "keratin pearl speaks for squamous cell carcinoma and speaks against adenocarcinoma."
    assert shown[-1] == "Both are kinds of carcinoma."
    row = json.loads(run("contrast", "DOID:3", "DOID:2", "-g", graph, "--json").output)
    assert [r["concept"] for r in row["for_a"]] == ["X:2"] and row["for_b"] == [] and row["common"] == "DOID:1"


def test_the_built_in_tables_answer_without_a_graph() -> None:
    shown = run("contrast", "malignant mesothelioma", "lung adenocarcinoma").output
    assert "calretinin speaks for" in shown
    assert "CK20 is immunohistochemical evidence for colorectal adenocarcinoma." in run(
        "paths", "CK20", "colorectal adenocarcinoma"
    ).output  # fmt: skip


def test_link_prints_one_line_of_json_each(folder: Path, graph: str) -> None:
    done = run("link", "--json", text="No necrosis is seen.\n\nPossible adenocarcinoma.\n")
    rows = [json.loads(x) for x in done.output.splitlines()]
    assert [r["text"] for r in rows] == ["No necrosis is seen.", "", "Possible adenocarcinoma."]
    (first,), (last,) = rows[0]["mentions"], rows[2]["mentions"]
    assert first["text"] == "necrosis" and first["polarity"] == "absent" and rows[1]["mentions"] == []
    assert last["certainty"] == "possible" and last["type"] == "diagnosis"
    assert {"start", "end", "text", "concept", "label", "type", "polarity", "certainty", "scope"} <= set(first)
    text = folder / "t.txt"
    text.write_text("keratin pearl and adenocarcinoma\n")
    linked = json.loads(run("link", str(text), "-g", graph, "--json", "--types", "diagnosis").output.splitlines()[0])
    assert [m["label"] for m in linked["mentions"]] == ["adenocarcinoma"]
    failed = run("link", "--types", "fruit", text="x")
    assert isinstance(failed.exception, EosinError) and "no such semantic type" in str(failed.exception)
    assert run("link", text="No necrosis.\n").output.strip() == "No necrosis."


def test_check_flags_what_the_findings_contradict(folder: Path, graph: str) -> None:
    trace = folder / "trace.txt"
    trace.write_text("1. There are keratin pearls.\n2. This is adenocarcinoma.\n")
    row = json.loads(run("check", str(trace), "-g", graph, "--json").output)
    assert row["diagnosis"]["concept"] == "DOID:2" and row["counts"]["contradicted"] >= 1 and row["flags"]
    assert run("check", str(trace), "-g", graph, "--strict").exit_code == 1
    good = run("check", "-g", graph, "--strict", text="There are keratin pearls. This is squamous cell carcinoma.\n")
    assert good.exit_code == 0 and "supported" in good.output and "a book" in good.output
    failed = run("check", str(trace), "--sees", "x-ray")
    assert isinstance(failed.exception, EosinError) and "he_tile" in str(failed.exception)


def test_quality_measures_the_linker() -> None:
    row = json.loads(run("quality", "--json").output)
    assert 0.9 < row["all"]["span_f1"] <= 1 and row["all"]["gold"] > 150


def test_a_broken_source_stops_the_build_and_keep_going_keeps_the_rest(folder: Path) -> None:
    (folder / "bad.tsv").write_text("id\tlabel\nA:1\ta\nA:2\n")
    failed = run("build", str(folder / "g"), "-s", f"tsv:{folder / 'bad.tsv'}")
    assert isinstance(failed.exception, EosinError) and f"{folder / 'bad.tsv'}:3: shifted" in str(failed.exception)
    assert not (folder / "g").exists()
    done = run("build", str(folder / "g"), "-s", f"tsv:{folder / 'bad.tsv'}", "--keep-going")
    assert done.exit_code == 0 and "refused for a fault: 1" in done.output
    refused = [json.loads(x) for x in (folder / "g" / "refused.jsonl").read_text().splitlines()]
    assert any(r["file"] == f"{folder / 'bad.tsv'}:3" and r["reason"] == "shifted columns" for r in refused)
    assert "refused:" in run("stats", str(folder / "g")).output


def test_wrong_arguments_are_explained(folder: Path) -> None:
    for arguments, message in (
        (["build", str(folder / "g"), "-s", "fruit:x"], "cannot be understood"),
        (["build", str(folder / "g"), "-s", f"tsv:{folder / 'n.tsv'}", "--licence", "x=CC0"], "names no source"),
        (["stats", str(folder)], "no whole artifact"),
        (["link", str(folder / "nothing.txt")], "cannot be read"),
    ):
        failed = run(*arguments)
        assert isinstance(failed.exception, EosinError) and message in str(failed.exception), failed.output
