from __future__ import annotations

import json

import pytest

from eosin.core.errors import EosinError
from eosin.knowledge.graph.concepts import Concept, Relation
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.reasoning.check import Facts, Report, check, split_steps

GRAPH = Graph.builtin()
LINKER = Linker.builtin()


def verdicts(report: Report) -> list[tuple[str, str, str]]:
    return [
        (("" if s.finding.present else "no ") + s.finding.label, s.diagnosis.label, s.verdict)
        for step in report.steps
        for s in step.statements
    ]


def run(trace: str, **more: object) -> Report:
    return check(trace, GRAPH, LINKER, **more)  # type: ignore[arg-type]


def test_findings_are_compared_with_the_diagnosis_that_the_trace_ends_on() -> None:
    report = run("1. Cribriform glands.\n2. Desmoplastic reaction.\n3. This is adenocarcinoma.")
    assert verdicts(report) == [
        ("cribriform pattern", "adenocarcinoma", "supported"), ("desmoplasia", "adenocarcinoma", "supported"),
    ]  # fmt: skip
    assert report.flags == ()
    assert report.diagnosis is not None and report.diagnosis.label == "adenocarcinoma"


def test_evidence_is_a_sentence_with_its_reference() -> None:
    statement = run("Necrosis. Leiomyoma.").steps[0].statements[0]
    assert statement.verdict == "contradicted"
    assert statement.evidence == ("necrosis speaks against leiomyoma.",)
    assert "WHO Classification" in statement.sources[0]


def test_a_diagnosis_that_stated_findings_contradict_is_flagged() -> None:
    report = run("Stromal invasion and desmoplasia. This is a tubular adenoma.")
    assert [f for f in report.flags if "stromal invasion speaks against the diagnosis tubular adenoma" in f]
    assert run("Stromal invasion. This is an adenocarcinoma.").flags == ()


def test_what_is_ruled_out_is_judged_the_other_way_round() -> None:
    report = run("Tubular adenoma is excluded by stromal invasion. This is adenocarcinoma.")
    assert verdicts(report) == [("stromal invasion", "tubular adenoma", "supported")]
    report = run("Tubular adenoma is excluded by pseudostratification. This is adenocarcinoma.")
    assert verdicts(report) == [("pseudostratification", "tubular adenoma", "contradicted")]


def test_absence() -> None:
    assert verdicts(run("CD117 is negative. This is gastrointestinal stromal tumour.")) == [
        ("no CD117", "gastrointestinal stromal tumour", "contradicted")
    ]
    assert verdicts(run("E-cadherin is lost. This is invasive lobular carcinoma.")) == [
        ("no E-cadherin", "invasive lobular carcinoma", "supported")
    ]
    assert verdicts(run("There is no stromal invasion. This is a tubular adenoma.")) == [
        ("no stromal invasion", "tubular adenoma", "supported")
    ]


def test_what_nobody_wrote_down_is_unknown() -> None:
    assert verdicts(run("Elastosis. Meningioma.")) == [("elastosis", "meningioma", "unknown")]


def test_doubtful_and_past_findings_are_no_statements() -> None:
    assert verdicts(run("Possible necrosis. History of melanoma. Leiomyoma.")) == []


def test_a_statement_about_a_class_holds_for_its_kinds() -> None:
    graph = Graph.of(
        [Concept("X:1", "whirl", type="finding"), Concept("X:2", "umbral tumour", type="diagnosis"),
         Concept("X:3", "small umbral tumour", type="diagnosis"), Concept("X:4", "sub-whirl", type="finding")],
        [Relation("X:1", "morphologic_evidence", "X:2"), Relation("X:3", "is_a", "X:2"),
         Relation("X:4", "is_a", "X:1")],
    )  # fmt: skip
    linker = Linker.of(graph, with_tables=False)
    report = check("A whirl. This is a small umbral tumour.", graph, linker)
    statement = report.steps[0].statements[0]
    assert (statement.verdict, statement.strength) == ("supported", 0.7)
    assert statement.evidence[-1] == "small umbral tumour is a kind of umbral tumour."
    by_path = check("A sub-whirl. This is a umbral tumour.", graph, linker).steps[0].statements[0]
    assert by_path.verdict == "supported" and len(by_path.evidence) == 2
    assert check("A sub-whirl. This is a umbral tumour.", graph, linker, max_hops=1).counts["unknown"] == 1


def test_a_finding_stated_both_ways_is_flagged() -> None:
    assert any("both as present and as absent" in f for f in run("There is necrosis. There is no necrosis.").flags)


def test_the_answer_may_stand_outside_the_trace() -> None:
    report = run("Necrosis is seen.", answer="leiomyoma")
    assert verdicts(report) == [("necrosis", "leiomyoma", "contradicted")]


def test_what_cannot_be_seen_is_flagged_unless_the_context_says_it() -> None:
    trace = "The patient is a 60-year-old man with lymph node metastasis. Adenocarcinoma."
    kinds = [u.kind for s in run(trace).steps for u in s.unseen]
    assert kinds == ["patient age or sex", "lymph node status"]
    assert run(trace, context="60-year-old man; lymph node metastasis on imaging").counts["unseen"] == 0


def test_json_and_text() -> None:
    report = run("Necrosis. pT2 N1. Leiomyoma.")
    row = json.loads(json.dumps(report.record()))
    assert row["counts"] == {"supported": 0, "contradicted": 1, "unknown": 0, "unseen": 1}
    assert row["steps"][0]["statements"][0]["verdict"] == "contradicted"
    assert "flag:" in report.text() and "cannot be seen" in report.text()


def test_steps_are_cut_and_numbers_dropped() -> None:
    steps = split_steps("1. One thing. Another.\n\n2) Third\nStep 3: fourth")
    assert steps == ["One thing.", "Another.", "Third", "fourth"]
    assert split_steps(["1. a", " ", "b"]) == ["a", "b"]
    assert check("", GRAPH, LINKER).steps == ()


def test_wrong_settings() -> None:
    with pytest.raises(EosinError, match="kind of image"):
        run("Necrosis.", sees="xray")
    with pytest.raises(EosinError, match="too long"):
        run("necrosis. " * 30_000)


def test_facts_for_scoring() -> None:
    facts = Facts.builtin()
    necrosis, leiomyoma = LINKER.concept_of("necrosis"), LINKER.concept_of("leiomyoma")
    assert necrosis and leiomyoma
    assert facts.sign_of(necrosis, "present", leiomyoma) == -1
    assert facts.sign_of(necrosis, "absent", leiomyoma) == 1
    assert facts.sign_of("X:none", "present", leiomyoma) == 0
    tubular = LINKER.concept_of("tubular adenoma")
    perineural = LINKER.concept_of("perineural invasion")
    assert tubular and perineural
    assert facts.sign_of(perineural, "present", tubular) == -1  # a tubular adenoma is an adenoma by its name


def test_a_whole_reply_is_cut_into_its_steps_without_tags_and_numbers() -> None:
    text = "<think>1. The glands are crowded.\n2. No necrosis is seen. 3. Mitoses: 12.</think><answer>A</answer>"
    assert split_steps(text) == ["The glands are crowded.", "No necrosis is seen.", "Mitoses: 12.", "A"]
