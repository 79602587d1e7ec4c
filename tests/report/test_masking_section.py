"""What the page says of masking: counts as stage.json has them, nothing where no stage masks."""

from __future__ import annotations

from pathlib import Path

from tests.report.synthetic_run import write_run

from eosin.core.store import artifacts as store
from eosin.report.pages.run import build
from eosin.report.records.load import load
from eosin.report.sections.masking import mask_sections

FACTS = {
    "trajectory": {"num_samples": 40, "num_rows": 1120, "num_whole": 40, "samples_by_chain_length": {"2": 30, "5": 10},
                   "rows_by_chain_length": {"2": 840, "5": 280}},
    "pseudo_bags": {"settings": {"mode": "random"}, "num_measured": 12, "num_replies": 108, "num_chosen": 20,
                    "num_copies": 18, "num_changed": 7, "num_diagnosis_lost": 3, "lost": {"necro<b>sis": 5},
                    "set_aside": {"what is asked about was taken out": 2}},
    "lengths": {"num": 64, "cap": 512, "median": 200, "longest": 530, "cut_share": 0.03125, "counts": "reply"},
}  # fmt: skip


def test_the_counts_of_a_stage_stand_on_the_page(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", num_cases=6)
    assert mask_sections(load(root)) == []
    assert "Masking" not in build(root, tmp_path / "plain.html").read_text()
    name = load(root).stages[-1].name
    file = root / "stages" / name / "stage.json"
    store.write_json(file, {**store.read_json(file), **FACTS})
    [section] = mask_sections(load(root))
    facts = dict(section["facts"])
    assert section["name"] == name and section["lost"] == [("necro<b>sis", 5)]
    assert facts["slides measured"] == "12, random clusters (control), 108 replies"
    assert facts["masked copies"] == "18 of 20 chosen samples"
    assert facts["set aside: what is asked about was taken out"] == "2"
    assert facts["gold replies against the length cap"].startswith("3.1")
    assert section["chains"] == [{"steps": "2", "samples": "30", "rows": "840"},
                                 {"steps": "5", "samples": "10", "rows": "280"}]  # fmt: skip
    page = build(root, tmp_path / "page.html").read_text()
    assert 'id="masking"' in page and "necro&lt;b&gt;sis" in page and "necro<b>sis" not in page


def test_broken_figures_are_no_crash(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", num_cases=6)
    file = root / "stages" / load(root).stages[-1].name / "stage.json"
    odd = {"trajectory": {"num_rows": "many"}, "pseudo_bags": {"lost": [1], "set_aside": None}, "lengths": [3]}
    store.write_json(file, {**store.read_json(file), **odd})
    [section] = mask_sections(load(root))
    assert dict(section["facts"])["rows of trajectories"].startswith("not recorded of not recorded")
    assert 'id="masking"' in build(root, tmp_path / "page.html").read_text()
