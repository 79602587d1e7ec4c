"""Evidence on the report's page: what the exam measured, its maps, and nothing that breaks the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.report.synthetic_run import write_run

from eosin.report import build
from eosin.report.sections.evidence import evidence_lines


def _figure(value: float, width: float = 0.2) -> dict[str, Any]:
    return {"value": value, "ci95": [value - width, value + width]}


def _method(fall: float) -> dict[str, Any]:
    scale = {"falls": [_figure(fall), _figure(2 * fall)], "area": _figure(fall)}
    told = {**scale, "area_minus_random": _figure(fall - 0.25), "minus_random": [_figure(fall), _figure(fall)]}
    return {"n": 20, "logprob": told, "probability": told}


EVIDENCE: dict[str, Any] = {
    "n": 20, "num_without_slide": 3, "num_skipped": 2, "skipped": {"the reply states no answer": 2}, "of": "reply",
    "answer": "own", "methods": ["gradient"], "notes": {"rollout": "decoder only"}, "num_random": 4,
    "deletion": {"n": 20, "fractions": [0.05, 0.2], "gradient": _method(1.75), "random": _method(0.25)},
    "pointing": {"n": 15, "gradient": {
        "n": 15, "expected": 0.12,
        **{t: {"hits": 0.41, "ratio": _figure(3.42)} for t in ("lesion", "top_1", "top_5", "top_10")},
    }},
    "not_pointed": {"no truth": 5},
    "maps": [{"id": "slide-1", "picture": "slide-1.png", "geojson": "slide-1.geojson"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", num_cases=12)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A run whose last exam measured evidence."""
    place = tmp_path / "run"
    shutil.copytree(whole, place)
    put(place, EVIDENCE)
    (exam_of(place) / "evidence").mkdir()
    Image.new("RGB", (300, 150), (200, 90, 120)).save(exam_of(place) / "evidence" / "slide-1.png")
    return place


def exam_of(run: Path) -> Path:
    return next((run / "evals" / "rl").iterdir())


def put(run: Path, evidence: Any) -> None:
    file = exam_of(run) / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "evidence": evidence}))


def test_the_page_shows_figures_and_maps(run: Path) -> None:
    page = build(run).read_text("utf-8")
    assert "Is the evidence shown the evidence used?" in page
    assert "3.42 [3.22,\u00a03.62]" in page and "+1.50 [+1.30,\u00a0+1.70]" in page
    assert "2 items not measured: the reply states no answer." in page and "3 items of the exam show no slide." in page
    assert 'class="map" src="data:image/jpeg;base64,' in page and "slide-1" in page


def test_a_run_without_evidence_has_no_such_section(whole: Path, tmp_path: Path) -> None:
    page = build(whole, tmp_path / "page.html").read_text("utf-8")
    assert 'id="evidence"' not in page and "#evidence" not in page


def test_lines_for_the_terminal() -> None:
    lines = evidence_lines(EVIDENCE)
    assert lines[0].startswith("Evidence for the model's own reply on 20 items; 4 random draws")
    assert any("ratio 3.42" in x and "expected" in x for x in lines)
    assert any("minus random +1.50" in x for x in lines)
    assert evidence_lines({}) == []
    assert "weights" in evidence_lines({"n": 0, "reason": "the weights are not at hand"})[0]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for k, v in inside for p in _places(v, (*path, k)))]


def _put(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    copy = value.copy()
    copy[path[0]] = _put(value[path[0]], path[1:], junk)
    return copy


@pytest.mark.parametrize("junk", [None, 7, "x", [], {}, [None], {"a": 1}, True], ids=repr)
def test_junk_never_stops_the_figures(junk: Any, run: Path) -> None:
    from eosin.report.records.load import load
    from eosin.report.sections.evidence import evidence_sections

    loaded = load(run)
    exam = next(e for e in loaded.exams if "evidence" in e.summary)
    for path in _places(EVIDENCE):
        exam.summary["evidence"] = _put(EVIDENCE, path, junk)
        evidence_sections(loaded)
        if isinstance(exam.summary["evidence"], dict):
            evidence_lines(exam.summary["evidence"])


def test_a_map_outside_the_exam_is_not_shown(run: Path) -> None:
    Image.new("RGB", (64, 64)).save(run / "secret.png")
    put(run, {**EVIDENCE, "maps": [{"id": "a", "picture": "../../../../secret.png"}]})
    assert 'class="map"' not in build(run).read_text("utf-8")
