"""Exams as tasks of other harnesses; results in the hub's form. lmms-eval itself is tried where it is installed."""

from __future__ import annotations

import ast
import base64
import csv
import io
import json
import runpy
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from exam_layouts import pathmmu
from PIL import Image
from typer.testing import CliRunner, Result

from eosin.cli.main import app
from eosin.core.errors import EosinError
from eosin.core.formats.cells import cells_up_to


def export(root: Path, to: str, out: Path, *more: str) -> Result:
    command = ["exams", "export", "pathmmu/PubMed", "--root", str(root), "--to", to, "--out", str(out), *more]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    return pathmmu(tmp_path / "set")


def test_the_lmms_eval_folder(root: Path, tmp_path: Path) -> None:
    done = export(root, "lmms-eval", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    (path,) = (tmp_path / "out").glob("*.yaml")

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: node.value)
    task = yaml.load(path.read_text(), Loader)  # noqa: S506
    assert task["task"] == path.stem == "eosin_pathmmu_pubmed_test_tiny"
    assert task["doc_to_visual"] == "utils.doc_to_visual"
    rows = pq.read_table(task["dataset_kwargs"]["data_files"]["test"]).to_pylist()
    assert [r["answer"] for r in rows] == ["B", "C"] and rows[0]["choices"][2] == "CD20(+) cells"
    assert rows[0]["prompt"].endswith("D. carcinoma\nReply with the letter of the right option only.")
    assert Image.open(io.BytesIO(rows[1]["images"][0]["bytes"])).format == "PNG"
    utils = runpy.run_path(str(tmp_path / "out" / "utils.py"))
    doc = {**rows[0], "images": [Image.new("RGBA", (8, 8))]}
    assert utils["doc_to_text"](doc) == rows[0]["prompt"] and utils["doc_to_visual"](doc)[0].mode == "RGB"
    for reply, right in (("B", 1), ("(B) adenoma", 1), ("adenoma.", 1), ("C", 0), ("B and C", 0), ("", 0),
                         ("<think>C</think><answer>B</answer>", 1)):  # fmt: skip
        assert utils["process_results"](doc, [reply]) == {"accuracy": float(right)}, reply


def test_the_hub_opens_the_parquet_with_pictures(root: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(root, "lmms-eval", tmp_path / "out")
    files = {"test": str(tmp_path / "out" / "data" / "test.parquet")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert loaded["test"][0]["images"][0].size == (32, 32) and loaded["test"][0]["choices"][1] == "adenoma"


def test_the_vlmevalkit_table(root: Path, tmp_path: Path) -> None:
    export(root, "vlmevalkit", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.tsv")
    with cells_up_to(10**7), path.open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert [(r["index"], r["answer"], r["B"], r["category"]) for r in rows] == [
        ("0", "B", "adenoma", "PubMed"), ("1", "C", "adenoma", "PubMed"),
    ]  # fmt: skip
    assert Image.open(io.BytesIO(base64.b64decode(rows[0]["image"]))).size == (32, 32)
    assert rows[0]["question"] == "What is seen, 1?"


def test_the_inspect_task(root: Path, tmp_path: Path) -> None:
    export(root, "inspect", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.py")
    names = {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}
    assert {"samples", "option", "eosin_pathmmu_pubmed_test_tiny", "read"} == names
    rows = [json.loads(x) for x in (tmp_path / "out" / "questions.jsonl").read_text().splitlines()]
    assert all((tmp_path / "out" / "images" / n).is_file() for r in rows for n in r["images"])
    assert rows[0]["group"] == "case:image a.jpg" and rows[0]["answer"] == "B"


def test_what_cannot_be_exported(root: Path, tmp_path: Path) -> None:
    assert "no such form" in str(export(root, "excel", tmp_path / "out").exception)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    assert "something at this place" in str(export(root, "inspect", tmp_path / "full").exception)
    (root / "images" / "b.png").write_bytes(b"\x89PNG broken")
    done = export(root, "inspect", tmp_path / "some")
    assert "1 questions for inspect" in done.stdout and "set aside 1: " in done.stdout


def test_results_in_the_hubs_form(tmp_path: Path) -> None:
    from tests.support.chat_server import by_reply, serving

    with serving(by_reply(lambda request: "A")) as server:
        command = ["evaluate", server.url, "phantom-ct", "--limit", "8", "--out", str(tmp_path / "e"), "--probes", "",
                   "--baselines", "none", "--model", "m"]  # fmt: skip
        done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.exception
    out = tmp_path / "results.json"
    exam = tmp_path / "e" / "phantom-ct"
    done = CliRunner().invoke(app, ["exams", "results", str(exam), "--model", "me/m", "--out", str(out)])
    assert done.exit_code == 0, done.exception
    (entry,) = json.loads(out.read_text())["model-index"]
    (result,) = entry["results"]
    summary = json.loads((exam / "exam" / "summary.json").read_text())
    assert entry["name"] == "me/m" and result["dataset"]["name"] == "phantom-ct"
    assert result["metrics"][0]["value"] == summary["accuracy"] and result["metrics"][0]["args"]["n"] == 8
    with pytest.raises(EosinError):
        raise CliRunner().invoke(app, ["exams", "results", str(tmp_path), "--model", "m"]).exception  # type: ignore[misc]
