"""Reasoning that stands on the knowledge graph: what is written, and what each filter sets aside."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from eosin.core.nouns.reply import Grammar
from eosin.core.nouns.sample import Entity, Origin, Sample, make_choices, user_prompt
from eosin.curate.grounding import GroundingResult, GroundingSettings, ground_reasoning
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.reasoning.check import check

OPTIONS = (
    "normal mucosa", "tubular adenoma", "adenocarcinoma", "mucinous adenocarcinoma", "active colitis", "leiomyoma",
)  # fmt: skip
ALIASES = {"normal mucosa": "normal tissue"}
SETTINGS = GroundingSettings(aliases=ALIASES)
SEEN = {
    "normal mucosa": (["round glands", "goblet cells", "basal nuclei"], ["crowded glands", "mitoses"]),
    "tubular adenoma": (["crowded glands", "stratified nuclei", "mitoses"], ["desmoplastic stroma"]),
    "adenocarcinoma": (["irregular glands", "pleomorphic nuclei", "desmoplastic stroma", "necrosis"], ["mucin pools"]),
    "mucinous adenocarcinoma": (["mucin pools", "floating tumour cells", "pleomorphic nuclei"], []),
    "active colitis": (["dense inflammation", "distorted glands"], ["pleomorphic nuclei"]),
    "leiomyoma": (["interlacing fascicles", "spindle cells"], ["mitoses", "necrosis"]),
}


def entities(there: Sequence[str], missing: Sequence[str] = ()) -> tuple[Entity, ...]:
    return (*(Entity(name=n) for n in there), *(Entity(name=n, polarity="absent") for n in missing))


def case(diagnosis: str, found: tuple[Entity, ...] | None = None, **more: object) -> Sample:
    there, missing = SEEN[diagnosis]
    fields = {
        "id": f"case-{diagnosis}", "messages": user_prompt("What is the diagnosis?", 0),
        "choices": make_choices(OPTIONS), "answer": "ABCDEF"[OPTIONS.index(diagnosis)], "label": diagnosis,
        "entities": entities(there, missing) if found is None else found, "origin": Origin(source="t", case="1"),
        **more,
    }  # fmt: skip
    return Sample.model_validate(fields)


def only(result: GroundingResult) -> Sample:
    assert not result.samples.dropped
    [sample] = result.samples.kept
    return sample


def reason(result: GroundingResult) -> str:
    assert not result.samples.kept
    [dropped] = result.samples.dropped
    return dropped.reason


@pytest.mark.parametrize("diagnosis", OPTIONS)
def test_every_phantom_diagnosis_is_grounded(diagnosis: str) -> None:
    sample = only(ground_reasoning([case(diagnosis)], SETTINGS))
    assert 3 <= len(sample.reasoning) <= 6
    assert diagnosis in sample.reasoning[-1]
    graph = Graph.builtin()
    concept = next(e.concept for e in sample.entities if e.kind == "diagnosis")
    report = check(sample.reasoning, graph, Linker.builtin(), sees="he_slide", answer=graph.label_of(concept))
    assert report.counts["contradicted"] == 0 and report.counts["supported"] >= 3 and not report.flags
    assert all(g["path"] and g["sources"] and g["sign"] in (1, -1) for g in sample.extra["grounds"])


def test_what_is_written_is_what_was_seen() -> None:
    sample = only(ground_reasoning([case("adenocarcinoma")], SETTINGS))
    assert sample.findings == (
        "Irregular glands, pleomorphic nuclei, desmoplastic stroma and necrosis. No mucin pools."
    )
    linker = Linker.builtin()
    gold = {(e.concept, e.polarity) for e in sample.entities if e.kind != "diagnosis"}
    assert {m.signed for m in linker.link(sample.findings)} == gold
    kinds = {"finding", "cell"}
    said = {m.signed for s in sample.reasoning for m in linker.link(s) if m.type in kinds}
    assert said <= gold
    against = [s for s in sample.reasoning if "no mucin pools" in s]
    assert against and "Mucinous adenocarcinoma is ruled out" in against[0]  # the next-best one


def test_steps_survive_the_grammar() -> None:
    sample = only(ground_reasoning([case("leiomyoma")], SETTINGS))
    grammar = Grammar.of("info/think/answer", numbered_steps=True)
    assert grammar.split_steps(grammar.join_steps(sample.reasoning)) == sample.reasoning


def test_a_finding_against_the_diagnosis_is_not_hidden() -> None:
    found = entities(["interlacing fascicles", "spindle cells", "necrosis"])
    result = ground_reasoning([case("leiomyoma", found)], SETTINGS)
    assert reason(result) == "a step is contradicted"
    assert "ecrosis" in result.samples.dropped[0].detail


def test_without_a_path_nothing_is_written() -> None:
    assert reason(ground_reasoning([case("leiomyoma", entities(["haemorrhage"]))], SETTINGS)) == (
        "no path from a finding to the diagnosis"
    )
    assert (
        reason(ground_reasoning([case("leiomyoma", entities(["spots on the glass"]))], SETTINGS))
        == "no finding in the graph"
    )
    unknown = case("leiomyoma", label="an unheard-of tumour", choices=(), answer="an unheard-of tumour")
    assert reason(ground_reasoning([unknown], SETTINGS)) == "diagnosis not in the graph"


def test_reasoning_must_lead_to_the_answer() -> None:
    """Mitoses speak as much for an adenoma as for a carcinoma."""
    result = ground_reasoning([case("adenocarcinoma", entities(["mitoses"]))], SETTINGS)
    assert reason(result) == "the reasoning does not lead to the answer"
    assert result.steps[-1].step == "ground: reasoning sufficiency" and result.steps[-1].num_kept == 0


def test_an_injected_solver_sees_no_conclusion_and_no_answer() -> None:
    shown: list[tuple[str, ...]] = []

    def solver(sample: Sample, steps: tuple[str, ...]) -> str:
        shown.append(steps)
        return "leiomyoma"

    sample = only(ground_reasoning([case("leiomyoma")], SETTINGS, solver=solver))
    assert len(shown[0]) == len(sample.reasoning) - 1 and not any("leiomyoma" in s for s in shown[0])
    assert reason(ground_reasoning([case("leiomyoma")], SETTINGS, solver=lambda s, r: "A")) == (
        "the reasoning does not lead to the answer"
    )


def test_what_the_text_alone_answers_is_dropped() -> None:
    samples = [case("leiomyoma"), case("active colitis")]

    def knows_colitis(sample: Sample) -> str | None:
        assert sample.answer is None and not sample.entities and not sample.findings and not sample.extra
        return "active colitis"

    result = ground_reasoning(samples, SETTINGS, text_only=knows_colitis)
    assert [d.id for d in result.samples.dropped] == ["case-active colitis"]
    assert result.samples.dropped[0].reason == "answered without the slide"
    always_a = ground_reasoning(
        [case("normal mucosa")], SETTINGS, text_only=lambda s: "A"
    )  # right once, by place alone
    assert len(always_a.samples.kept) == 1


def test_a_teacher_may_say_it_better_but_not_say_more() -> None:
    def better(sample: Sample, steps: tuple[str, ...]) -> list[str]:
        return ["Spindle cells run in interlacing fascicles.", "Fascicles of spindle cells fit leiomyoma.",
                "So this is leiomyoma."]  # fmt: skip

    result = ground_reasoning([case("leiomyoma")], SETTINGS, teacher=better)
    assert only(result).reasoning[0] == "Spindle cells run in interlacing fascicles."
    assert result.teacher == {"used": 1}

    def refused(*steps: str) -> str:
        made = ground_reasoning([case("leiomyoma")], SETTINGS, teacher=lambda s, r: list(steps))
        assert only(made).reasoning == only(ground_reasoning([case("leiomyoma")], SETTINGS)).reasoning
        [why] = made.teacher
        return why

    assert refused("Spindle cells are seen.", "A granuloma is seen.", "This is leiomyoma.") == (
        "teacher refused: a statement without ground"
    )
    assert refused("Necrosis is seen.", "This is leiomyoma.") == "teacher refused: a step is contradicted"
    assert refused("This is leiomyoma.") == "teacher refused: number of steps"
    assert refused("Spindle cells are seen.", "<answer>leiomyoma") == "teacher refused: tags or lines inside a step"
    assert refused("Spindle cells are seen.", "That is all.") == "teacher refused: lost its conclusion"


def test_a_teacher_that_fails_leaves_the_template() -> None:
    def broken(sample: Sample, steps: tuple[str, ...]) -> list[str]:
        raise RuntimeError("no connection")

    result = ground_reasoning([case("leiomyoma")], SETTINGS, teacher=broken)
    assert result.teacher == {"teacher failed: RuntimeError": 1} and only(result).reasoning


def test_findings_are_read_from_a_report() -> None:
    report = "The nuclei are large and pleomorphic. Desmoplastic stroma surrounds irregular glands. There is no mucin."
    sample = only(ground_reasoning([case("adenocarcinoma", (), extra={"report": report})], SETTINGS))
    assert {(e.concept, e.polarity) for e in sample.entities} >= {
        ("EOSIN:irregular_glands", "present"), ("EOSIN:nuclear_pleomorphism", "present"), ("EOSIN:mucin", "absent"),
    }  # fmt: skip


def about(name: str, answer: str, **extra: object) -> Sample:
    return case(
        "leiomyoma", choices=make_choices(["yes", "no"]), answer="A" if answer == "yes" else "B", id=f"{name}-{answer}",
        extra={"question": "finding", "asked": name, "entities_complete": True, **extra},
    )  # fmt: skip


def test_questions_about_one_finding() -> None:
    there = only(ground_reasoning([about("spindle cells", "yes")], SETTINGS))
    assert there.reasoning[-1] == "So the answer is yes." and len(there.reasoning) == 3
    assert "No necrosis is seen anywhere." in only(ground_reasoning([about("necrosis", "no")], SETTINGS)).reasoning
    assert (
        "No crypt abscess is seen anywhere."
        in only(ground_reasoning([about("crypt abscess", "no")], SETTINGS)).reasoning
    )
    wrong = ground_reasoning([about("necrosis", "yes")], SETTINGS)
    assert reason(wrong) == "the answer does not follow from the findings"
    open_list = ground_reasoning([about("crypt abscess", "no", entities_complete=False)], SETTINGS)
    assert reason(open_list) == "the finding asked for is not known of this slide"


def test_free_questions_are_answered_with_the_findings() -> None:
    free = case("leiomyoma", choices=(), answer=None, extra={"question": "findings"})
    sample = only(ground_reasoning([free], SETTINGS))
    assert sample.answer == sample.findings and "nterlacing fascicles and spindle cells" in sample.answer


def test_every_sample_is_accounted_for() -> None:
    samples = [case(d) for d in OPTIONS] + [case("leiomyoma", entities(["haemorrhage"]), id="x")]
    samples.append(case("adenocarcinoma", entities(["mitoses"]), id="y"))
    result = ground_reasoning(samples, SETTINGS, text_only=lambda s: "tubular adenoma")
    assert result.samples.num_in == len(samples)
    num = len(samples)
    for step in result.steps:
        assert step.num_in == num and step.num_in == step.num_kept + sum(step.reasons.values())
        num = step.num_kept
    assert len(result.samples.kept) == num == 5


def test_the_same_seed_writes_the_same() -> None:
    samples = [case(d) for d in OPTIONS]
    assert (
        ground_reasoning(samples, SETTINGS).samples.kept
        == ground_reasoning(list(reversed(samples)), SETTINGS).samples.kept[::-1]
    )
    other = ground_reasoning(samples, GroundingSettings(aliases=ALIASES, seed=5)).samples.kept
    assert [s.reasoning for s in other] != [s.reasoning for s in ground_reasoning(samples, SETTINGS).samples.kept]
