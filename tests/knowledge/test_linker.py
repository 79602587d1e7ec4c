from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eosin.knowledge.graph.concepts import Concept, Synonym
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.linking import tables
from eosin.knowledge.linking.linker import Linker, coloured, to_json
from eosin.knowledge.linking.words import fold, name_key, read_words, words_of

LINKER = Linker.builtin()


def linked(text: str, linker: Linker = LINKER) -> list[tuple[str, str]]:
    return [(m.text, m.label) for m in linker.link(text)]


def labels(text: str, linker: Linker = LINKER) -> list[str]:
    return [label for _, label in linked(text, linker)]


def concept(id: str, label: str, *synonyms: str, type: str = "finding") -> Concept:
    return Concept(id, label, tuple(Synonym(s) for s in synonyms), type)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p16 is positive", ["p16"]),
        ("p160 is positive", []),
        ("CD3 and CD30, not CD340", ["CD3", "CD30"]),
        ("The pigmentsitu of insitu things", []),
        ("in situations", []),
        ("Ki-67, Ki67, KI 67 and MIB-1", ["Ki-67"] * 4),
        ("α-SMA and alpha SMA and β-catenin", ["smooth muscle actin", "smooth muscle actin", "beta-catenin"]),
        ("tumours, tumor cells, Tumour Cell", ["tumour cell", "tumour cell"]),
        ("oedema edema haemorrhage hemorrhage", ["oedema"] * 2 + ["haemorrhage"] * 2),
        ("granulomata, granulomas, granuloma", ["granuloma"] * 3),
        ("Crohn's disease and Crohn disease", ["Crohn disease"] * 2),
        ("signet-ring cell carcinoma, signet ring cell carcinomas", ["signet-ring cell carcinoma"] * 2),
        ("multi-nucleated giant cells", ["multinucleated giant cell"]),
        ("squamous cell carcinoma in situ", ["squamous cell carcinoma in situ"]),
        ("There is fat. Necrosis too.", ["adipose tissue", "necrosis"]),
        ("H. pylori is seen", ["Helicobacter pylori"]),
        ("GIST is not the gist of it", ["gastrointestinal stromal tumour"]),
        ("Non-Hodgkin lymphoma", ["non-Hodgkin lymphoma"]),
        ("Nottingham grade 2", ["Nottingham grade 2"]),
        ("\ufb01brosis", ["fibrosis"]),
    ],
)
def test_names(text: str, expected: list[str]) -> None:
    assert labels(text) == expected


def test_capitals_of_a_whole_line_are_no_abbreviations() -> None:
    linker = Linker.of([concept("1", "acute lymphoblastic leukaemia", "ALL")])
    assert labels("ALL was diagnosed", linker) == ["acute lymphoblastic leukaemia"]
    assert labels("ALL MARGINS ARE CLEAR", linker) == []
    assert labels("all of it", linker) == []


def test_places_are_those_of_the_text() -> None:
    text = "No  high-grade\ndysplasia, Crohn\u2019s disease."
    for m in LINKER.link(text):
        assert text[m.start : m.end] == m.text
    assert linked(text)[0][0] == "high-grade\ndysplasia"


def test_a_longer_name_that_begins_inside_a_shorter_one_wins() -> None:
    linker = Linker.of([concept("1", "small B cell"), concept("2", "B cell lymphoma of bone"), concept("3", "small")])
    assert labels("small B cell lymphoma of bone", linker) == ["small", "B cell lymphoma of bone"]


def test_types_are_filtered() -> None:
    linker = Linker.of(Graph.builtin(), types={"marker"})
    assert labels("Necrosis and CK7", linker) == ["CK7"]


def test_a_label_wins_over_a_synonym_and_two_synonyms_are_reported() -> None:
    linker = Linker.of([concept("1", "ductal carcinoma", "ER", "xx"), concept("2", "emergency room", "ER"),
                        concept("3", "xx")])  # fmt: skip
    assert linker.concept_of("xx") == "3"
    mention = linker.link("ER")[0]
    assert mention.alternatives == ("1", "2") == linker.meanings_of("ER")
    assert json.loads(to_json("ER", [mention]))["mentions"][0]["alternatives"] == ["1", "2"]


def test_neighbours_decide_between_meanings() -> None:
    assert labels("The kidney shows AML with fat.") == ["kidney", "angiomyolipoma", "adipose tissue"]
    assert labels("Bone marrow with AML and blasts.")[:2] == ["bone marrow", "acute myeloid leukaemia"]
    unsure = LINKER.link("AML.")[0]
    meant = [LINKER.concept_of(n) for n in ("angiomyolipoma", "acute myeloid leukaemia")]
    assert set(unsure.alternatives) == set(meant)


def test_a_label_in_the_text_decides_between_meanings() -> None:
    linker = Linker.of([concept("1", "renal oncocytic tumour", "ROT"), concept("2", "red old thing", "ROT")])
    assert linker.link("ROT with oncocytic cells")[0].concept == "1"
    assert linker.link("ROT")[0].alternatives == ("1", "2")


def test_an_abbreviation_that_the_text_explains_holds_in_the_text() -> None:
    linker = Linker.of([concept("1", "solid papillary thing"), concept("2", "spotted ptarmigan", "SPT")])
    assert labels("A solid papillary thing (SPT). The SPT is large.", linker) == ["solid papillary thing"] * 3
    assert labels("The SPT is large.", linker) == ["spotted ptarmigan"]


def test_an_encoder_decides_last() -> None:
    def encode(texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if "bird" in t else [0.0, 1.0] for t in texts])

    concepts = [concept("1", "bird nest", "BN"), concept("2", "bone node", "BN")]
    assert Linker.of(concepts, encode=encode).link("BN of a bird")[0].concept == "1"
    assert Linker.of(concepts).link("BN")[0].alternatives


def test_a_graph_adds_names_behind_the_tables() -> None:
    graph = Graph.of([concept("X:1", "necrosis"), concept("X:2", "violet whirl body", "whirls of violet")])
    linker = Linker.of(graph)
    assert linker.concept_of("necrosis") == LINKER.concept_of("necrosis")
    assert linker.concept_of("violet whirl bodies") == "X:2"
    assert Linker.of(graph, with_tables=False).concept_of("necrosis") == "X:1"


def test_noise_of_an_ontology_is_left_out() -> None:
    raw = [f"Left, carcinoma number {i}" for i in range(30)]
    names = ["metastatic carcinoma", "Thymoma", "carcinoma (m), lobe", "Left carcinoma", *raw]
    graph = Graph.of([concept("MC:4", "carcinoma", *names), concept("MC:5", "carcinoma, squamous cell"),
                      concept("MC:6", "tissue"), concept("MC:7", "x"), concept("MC:8", "whirl present")])  # fmt: skip
    linker = Linker.of(graph, with_tables=False)
    assert linker.concept_of("metastatic carcinoma") == "MC:4"
    assert linker.concept_of("squamous cell carcinoma") == "MC:5"
    for name in ("Thymoma", "carcinoma (m), lobe", "Left carcinoma", "tissue", "x", "whirl present"):
        assert linker.concept_of(name) is None, name


def test_equal_labels_of_two_ontologies_are_one_meaning() -> None:
    graph = Graph.of([concept("MC:1", "blue whirl"), concept("DOID:1", "blue whirl", type="diagnosis")])
    assert Linker.of(graph).meanings_of("blue whirl") == ("DOID:1",)


def test_json_and_colours() -> None:
    text = "No necrosis [CK7+]."
    row = json.loads(to_json(text, LINKER.link(text)))
    assert row["text"] == text
    assert row["mentions"][0] == {
        "start": 3, "end": 11, "text": "necrosis", "concept": "MPATH:4", "label": "necrosis", "type": "finding",
        "polarity": "absent", "certainty": "certain", "scope": "patient",
    }  # fmt: skip
    shown = coloured(text, LINKER.link(text))
    assert shown.plain == text
    assert [str(s.style) for s in shown.spans] == ["cyan strike", "yellow"]


def test_adjectives_behind_their_noun() -> None:
    text = "The glands are irregular and not crowded. The nuclei are basal."
    said = [(m.text, m.label, m.polarity) for m in LINKER.link(text)]
    assert ("irregular", "irregular glands", "present") in said
    assert ("crowded", "back-to-back glands", "absent") in said
    assert ("basal", "basal nuclei", "present") in said
    assert labels("The glands are seen. Crowded rooms.") == ["gland"]


def test_signs_behind_markers() -> None:
    said = {m.label: m.polarity for m in LINKER.link("CK7+, CK20-, CD3 (-), CD20(+), p63\u2212 and CD5 - see note")}
    assert said == {"CK7": "present", "CK20": "absent", "CD3": "absent", "CD20": "present", "p63": "absent",
                    "CD5": "present"}  # fmt: skip


@given(st.text(alphabet="abc CDp16-.,()\n'αé3", max_size=80))
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_linked(text: str) -> None:
    mentions = LINKER.link(text)
    assert all(text[m.start : m.end] == m.text for m in mentions)
    assert all(a.end <= b.start for a, b in zip(mentions, mentions[1:], strict=False))


@given(st.lists(st.sampled_from([c.label for c in tables.lexicon() if c.type == "finding"]), max_size=5))
@settings(max_examples=60, deadline=None)
def test_every_listed_name_is_found(names: list[str]) -> None:
    text = ". ".join(names)
    assert labels(text) == names


def test_a_very_long_line() -> None:
    text = "no necrosis, " * 20_000  # a quarter of a million characters
    mentions = LINKER.link(text)
    assert len(mentions) == 20_000
    assert all(m.polarity == "absent" for m in mentions)


def test_words() -> None:
    assert words_of("Tumours' nuclei, CD20+; Barrett's oesophagus") == [
        "tumor", "nucleus", "cd", "20", "barrett", "esophagus",
    ]  # fmt: skip
    assert name_key("Micro-abscess") == name_key("microabscesses") == "microabscess"
    words = read_words("Pseudo-stratified CK5/6")
    assert [words.text[s:e] for s, e in zip(words.starts, words.ends, strict=True)] == [
        "Pseudo-stratified", "CK", "5", "6",
    ]  # fmt: skip
    assert [fold(w) for w in ("fibroses", "purposes", "vertebrae", "carcinomata", "streptococci", "tissue")] == [
        "fibrosis", "purpose", "vertebra", "carcinoma", "streptococcus", "tissue",
    ]  # fmt: skip
