"""Reports to grounded questions: by the linker, by a model whose words are looked up, and sifted by a real probe."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.support.audited import changed, clean_samples
from tests.support.chat_server import by_reply, serving
from tests.support.scripted_teacher import asked, reply

from eosin.chain.curation.run import curate
from eosin.core.errors import EosinError
from eosin.core.formats import read_samples
from eosin.core.nouns.sample import Sample
from eosin.core.settings.curation.recipe import CurationRecipe
from eosin.curate.reports.extract import by_linker
from eosin.curate.reports.probe import Probe, fit_probe
from eosin.curate.reports.sections import diagnosis_part, sections, seen_part
from eosin.engines.base import Request
from eosin.knowledge.linking.linker import Linker
from eosin.phantom.tiles.report import case_report
from eosin.phantom.tiles.tile import cases, render_tile

MICRO = {
    "adenocarcinoma": "Irregular gland formation with stromal invasion and desmoplasia is seen. There is no granuloma.",
    "tubular adenoma": "Gland formation with low-grade dysplasia is seen. There is no stromal invasion.",
    "Crohn disease": "Granulomas are present in the mucosa. No dysplasia is seen.",
    "squamous cell carcinoma": "Keratin pearls and stromal invasion are seen. There are intercellular bridges.",
}  # fmt: skip


def table(path: Path, n: int = 24) -> Path:
    names = list(MICRO)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["case_id", "report"])
        for i in range(n):
            name = names[i % len(names)]
            text = f"Gross description:\n4 cm.\nMicroscopic description:\n{MICRO[name]}\nFinal diagnosis:\n{name}."
            writer.writerow([f"TCGA-A{i % 10}-{1000 + i}-01Z-00-DX1", text])
        writer.writerow(["TCGA-A0-9000-01Z-00-DX1", ""])
        writer.writerow(["TCGA-A0-9001-01Z-00-DX1", "Diagnosis: see the note of the clinic."])
        writer.writerow(["TCGA-A0-1000-01Z-00-DX1", "A second report with the same id. Diagnosis: adenocarcinoma."])
        writer.writerow(["TCGA-A0-9002-01Z-00-DX1", "Diagnosis:\nadenocarcinoma."])
    return path


def grounded(path: Path, folder: Path, **settings: Any) -> tuple[list[Sample], dict[str, Any], dict[str, int]]:
    recipe = CurationRecipe.model_validate({
        "data": {"source": "reports", "path": str(path), "licence": "CC0-1.0"}, "steps": [{"ground": settings}],
    })  # fmt: skip
    made = curate(recipe, folder / "out")
    ledger = json.loads((folder / "out" / "ledger.json").read_text())
    return list(read_samples(folder / "out").kept), ledger["steps"][-1]["facts"], made.manifest["drop_reasons"]


def test_sections_of_a_report() -> None:
    report = "Specimen: colon\nMicroscopic description:\nGlands.\nFINAL DIAGNOSIS:\nAdenoma.\nComment: none"
    assert sections(report) == {"gross": "colon", "microscopy": "Glands.", "diagnosis": "Adenoma.", "other": "none"}
    assert (seen_part(report), diagnosis_part(report)) == ("Glands.", "Adenoma.")
    assert seen_part("Only glands are seen.") == "Only glands are seen."
    spanish = "DESCRIPCI\u00d3N MICROSC\u00d3PICA:\nGl\u00e1ndulas.\n\nDIAGN\u00d3STICO:\nAdenoma.\n"
    assert (seen_part(spanish), diagnosis_part(spanish)) == ("Gl\u00e1ndulas.", "Adenoma.")


def test_polarity_and_what_is_left_open() -> None:
    read = by_linker("Microscopy: Glands. No necrosis. Possible perineural invasion.\nDiagnosis: adenocarcinoma.",
                     Linker.builtin(), "en")  # fmt: skip
    signed = {(e.name, e.polarity) for e in read.entities}
    assert read.diagnosis == "adenocarcinoma" and ("necrosis", "absent") in signed
    assert not any("perineural" in name for name, _ in signed)
    assert by_linker("Microscopy: glands.\nDiagnosis: no evidence of malignancy.", Linker.builtin(), "en").reason


def test_a_tcga_table_end_to_end(tmp_path: Path) -> None:
    made, facts, told = grounded(table(tmp_path / "reports.csv"), tmp_path, text_only="none")
    reasons = {k.split(": ", 1)[-1]: n for k, n in told.items()}
    assert len(made) >= 12, reasons
    assert reasons["empty report"] == 1 and reasons["duplicate id"] == 1
    assert reasons["no diagnosis in the report"] == 1 and reasons["no finding in the report"] == 1
    first = made[0]
    assert first.origin.patient and first.origin.patient.startswith("TCGA-A") and first.origin.slide
    assert first.reasoning and first.answer_text in MICRO and len(first.choices) == 4
    assert "report" not in first.extra and first.extra["grounds"]
    lost = facts["lost_at_each_step"]
    assert lost["reports"] == 26 and lost["questions"] == lost["ground: write: in"]
    assert lost["ground: reasoning sufficiency: out"] == len(made)


def test_the_probe_drops_what_the_text_gives_away_and_nothing_else(tmp_path: Path) -> None:
    clean = [changed(s, split=None) for s in clean_samples(100)]
    told = [changed(s, id=f"told/{s.id}", messages=[{"role": "user", "parts": [{"type": "text", "text":
            f"The colour code is {(s.label or '')[:5]}. Which diagnosis fits?"}]}]) for s in clean[:50]]  # fmt: skip
    assert fit_probe([*clean, *told], tmp_path) == 5
    probe = Probe(tmp_path)
    shares = [sum(probe(s) == s.answer for s in part) / len(part) for part in (clean, told)]
    assert shares[0] < 0.45 and shares[1] > 0.9


def test_the_phantom_s_reports_end_to_end(tmp_path: Path) -> None:
    """Reports that the phantom writes of its own cases: most can be grounded, and the diagnosis is the case's."""
    folder = tmp_path / "reports"
    folder.mkdir()
    truth = {}
    for case in cases(12, 5):
        tile = render_tile(case, 0, size_px=64)
        (folder / f"{case.id}.txt").write_text(case_report(case, [tile]))
        truth[case.id] = case.diagnosis
    made, facts, told = grounded(folder, tmp_path, text_only="none", options=3)
    assert facts["lost_at_each_step"]["reports"] == 12 and sum(told.values()) + len(made) == 12
    assert len(made) >= 8, told
    named = {dx: {m.label for m in Linker.builtin().link(dx)} for dx in truth.values()}
    assert all(s.answer_text in named[truth[s.origin.slide or ""]] for s in made)


def reader(request: Request) -> Any:
    """Reads Spanish reports by a small dictionary; rewrites steps by a prefix."""
    _, _, facts = asked(request)
    if "steps" in facts:
        return {"ref": facts["ref"], "steps": [*facts["steps"][:-1], f"All in all: {facts['steps'][-1]}"]}
    report = facts["report"]
    words = {"Adenocarcinoma": "adenocarcinoma", "Carcinoma ductal infiltrante": "invasive ductal carcinoma",
             "Melanoma": "melanoma", "HSIL": "HSIL"}  # fmt: skip
    quote = next((w for w in words if w in report), "nada de esto")
    findings = [
        ("invasi\u00f3n linfovascular", "lymphovascular invasion", True), ("necrosis", "necrosis", False),
        ("invasi\u00f3n perineural", "perineural invasion", False), ("infiltra", "stromal invasion", True),
        ("glandular", "gland formation", True),
    ]  # fmt: skip
    said = [{"name": n, "present": p, "quote": w} for w, n, p in findings if w in report]
    said.append({"name": "granuloma", "present": True, "quote": "unas palabras que no est\u00e1n"})
    return {"ref": facts["ref"], "diagnosis": {"name": words.get(quote, "x"), "quote": quote}, "findings": said}


def test_spanish_reports_by_a_model_that_is_held_to_their_words(tmp_path: Path, shared_data: Path) -> None:
    spanish = shared_data / "reports" / "synthetic_es"
    with serving(by_reply(reply(reader))) as server:
        teacher = {"url": server.url, "model": "tiny", "retries": 0}
        made, facts, reasons = grounded(spanish, tmp_path, teacher=teacher, extractor="model", options=3)
    assert facts["lost_statements"]["not in the words of the report"] >= 4
    assert sum(reasons.values()) + len(made) == 5 and made, reasons
    assert all(s.reasoning and s.answer_text for s in made)
    with pytest.raises(EosinError, match="left no sample"):  # the linker reads English
        grounded(spanish, tmp_path / "other")


def test_a_writer_model_is_held_to_the_statements(tmp_path: Path) -> None:
    def writer(request: Request) -> Any:
        _, _, facts = asked(request)
        if facts["ref"][-1] in "02468":
            return {"ref": facts["ref"], "steps": ["Granulomas and necrosis are seen.", *facts["steps"][1:]]}
        return reader(request)

    with serving(by_reply(reply(writer))) as server:
        teacher = {"url": server.url, "model": "tiny", "retries": 0}
        made, facts, _ = grounded(
            table(tmp_path / "r.csv"), tmp_path, teacher=teacher, writer="model", text_only="none"
        )
    told = Counter(facts["rewritings"])
    assert told["used"] >= 3 and told["used"] == sum(s.reasoning[-1].startswith("All in all") for s in made)
    assert any(k.startswith("teacher refused") for k in told)
    assert facts["teachers"]["tiny"]["calls"] == sum(told.values())


def test_a_step_without_its_teacher_and_a_table_without_its_columns_say_so(tmp_path: Path) -> None:
    with pytest.raises(EosinError, match="needs a teacher"):
        grounded(table(tmp_path / "r.csv"), tmp_path, extractor="model")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(EosinError, match="other columns"):
        grounded(tmp_path / "bad.csv", tmp_path / "x")
