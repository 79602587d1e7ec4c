"""Models x exams on one page: intervals, pairs corrected by Holm, groups, probes, calibration, failures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from exam_folders import logged_exam, made_exam, made_samples
from test_report_page import read

from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store
from eosin.evaluate.statistics.comparisons import holm
from eosin.report import compare
from eosin.report.records.exams import exam_folders, load_exams


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exams")
    many, few = made_samples(120), made_samples(36)
    return [
        made_exam(folder / "good", "runs/a/stages/rl/checkpoint", many, 0.1, file="tiles", sampled=4),
        made_exam(folder / "bad", "runs/a/stages/sft/checkpoint", many, 0.7, file="tiles", sampled=4),
        made_exam(folder / "same", "runs/b/stages/rl/checkpoint", many, 0.1, file="tiles"),
        made_exam(folder / "other", "runs/a/stages/rl/checkpoint", few, 0.1, file="other"),
    ]


def test_labels_and_rows(exams: list[Path]) -> None:
    found = load_exams([e / "exam" for e in exams])
    assert [(e.model, e.exam) for e in found] == [
        ("a/rl", "tiles"), ("a/sft", "tiles"), ("b/rl", "tiles"), ("a/rl", "other"),
    ]  # fmt: skip
    assert [len(e.rows) for e in found] == [120, 120, 120, 36]
    assert found[0].rows[0]["organ"] == "colon" and "reply" not in found[0].rows[0]


def test_the_page_holds_every_part(exams: list[Path], tmp_path: Path) -> None:
    page = compare(exams, tmp_path / "out")
    text = page.read_text("utf-8")
    read(page)  # well-formed, and nothing of the data is markup
    for wanted in ("By organ", "By subset", "Models against each other", "Probes", "Several replies a question",
                   "if calibrated", "Failures", "What does this &lt;tile&gt; show?", "data:image/jpeg",
                   "not told apart", "be told apart with 80 % power", "Research use only"):  # fmt: skip
        assert wanted in text, wanted
    assert "By stain" not in text  # one stain only
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    pairs = {(p["one"], p["other"]): p for p in table["paired"]}
    assert set(pairs) == {("a/rl", "a/sft"), ("a/rl", "b/rl"), ("a/sft", "b/rl")}
    worse = pairs["a/rl", "a/sft"]
    assert worse["difference"] > 0.25 and worse["p_holm"] < 0.01 and worse["ends"][0] > 0
    assert pairs["a/rl", "b/rl"]["p_holm"] > 0.05
    assert [p["p_holm"] for p in table["paired"]] == holm([p["p"] for p in table["paired"]])
    written = {r["model"]: r["accuracy"] for r in table["exams"]["tiles"]}
    assert written["a/rl"] == store.read_json(exams[0] / "exam" / "summary.json")["accuracy"]
    assert "| a/rl \u2212 a/sft |" in (tmp_path / "out" / "table.md").read_text("utf-8")


def test_questions_that_differ_are_not_compared(exams: list[Path], tmp_path: Path) -> None:
    changed = made_samples(120)
    turned = []
    for i, s in enumerate(changed):
        other = "ABC"[("ABC".index(s.answer or "A") + 1) % 3]
        turned.append(s.model_copy(update={"answer": other}) if i < 30 else s)
    (tmp_path / "x").mkdir()
    second = made_exam(tmp_path / "x" / "o", "runs/c/stages/rl/checkpoint", turned, 0.1, file="tiles")
    compare([exams[0], second], tmp_path / "out")
    [pair] = json.loads((tmp_path / "out" / "table.json").read_text())["paired"]
    assert pair["n"] == 90 and pair["num_other_questions"] == 30
    assert "30 ids stand for other questions" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_what_is_no_exam_is_named(exams: list[Path], tmp_path: Path) -> None:
    assert exam_folders(exams[0].parent) == sorted(e / "exam" for e in exams)
    assert exam_folders(tmp_path) == []
    with pytest.raises(EosinError, match="compared apart"):
        compare([exams[0], tmp_path], tmp_path / "out")
    with pytest.raises(EosinError, match="once each"):
        load_exams([exams[0] / "exam", exams[0] / "exam"])
    broken = logged_exam(tmp_path / "broken", "m", 3, 0)
    (broken / "predictions.jsonl").write_text('{"id": "q0"}\n[1]\n')
    with pytest.raises(EosinError, match="cannot be read"):
        compare([broken], tmp_path / "out")


@pytest.mark.slow
def test_many_questions_take_little_time_and_memory(tmp_path: Path) -> None:
    """20,000 logged questions here; benchmarks/exams.py measures 100,000."""
    folders = [str(logged_exam(tmp_path / f"m{k}", f"model{k}", 5000, k)) for k in range(4)]
    code = (
        "import resource, sys; from pathlib import Path; from eosin.report import compare\n"
        "compare([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]))\n"
        "status = Path('/proc/self/status')\n"  # ru_maxrss of a child begins at what its parent held
        "held = [int(r.split()[1]) * 1024 for r in status.read_text().splitlines() if r.startswith('VmHWM')] "
        "if status.exists() else [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]\n"
        "print(held[0], resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out"), *folders], capture_output=True, text=True, check=True
    )
    peak_bytes, user_s = map(float, done.stdout.split())
    assert peak_bytes < 1e9
    assert user_s < 60
    assert len(json.loads((tmp_path / "out" / "table.json").read_text())["paired"]) == 6
