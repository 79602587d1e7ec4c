"""Names in the style of reports that led to the wrong concept or to none, each with relatives of its kind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from eosin.knowledge.graph.build import build_graph
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.sources import parse_spec

LINKER = Linker.builtin()

CONCEPTS = [
    ("PD-L1 TPS 60%", "TPS", "PD-L1 tumour proportion score"),
    ("TPS of 1% in this lung adenocarcinoma", "TPS", "PD-L1 tumour proportion score"),
    ("Tumour proportion score 60%", "Tumour proportion score", "PD-L1 tumour proportion score"),
    ("Tumor proportion score: 5%", "Tumor proportion score", "PD-L1 tumour proportion score"),
    ("Voided urine, TPS category", "TPS", "Paris system"),
    ("Urinary cytology (TPS): HGUC", "TPS", "Paris system"),
    ("HGUC in voided urine", "HGUC", "Paris system HGUC"),
    ("Atypical urothelial cells are seen.", "Atypical urothelial cells", "Paris system atypical urothelial cells"),
    ("Atypical glands are seen.", "Atypical glands", "atypical glands"),
    ("Glandular atypia is seen.", "Glandular atypia", "atypical glands"),
    ("Oesophagitis", "Oesophagitis", "oesophagitis"),
    ("Ulcerated esophagitis", "esophagitis", "oesophagitis"),
    ("Reflux oesophagitis", "Reflux oesophagitis", "reflux oesophagitis"),
    ("Eosinophilic esophagitis", "Eosinophilic esophagitis", "eosinophilic oesophagitis"),
    ("Appendicitis", "Appendicitis", "appendicitis"),
    ("Acute appendicitis", "Acute appendicitis", "acute appendicitis"),
    ("Myeloma", "Myeloma", "multiple myeloma"),
    ("Plasmacytoma", "Plasmacytoma", "plasmacytoma"),
    ("Clear cell renal cell carcinoma, ISUP grade 2", "ISUP grade 2", "WHO/ISUP nucleolar grade 2"),
    ("Kidney, nephrectomy: ISUP grade 3", "ISUP grade 3", "WHO/ISUP nucleolar grade 3"),
    ("Papillary RCC, WHO/ISUP grade 1", "WHO/ISUP grade 1", "WHO/ISUP nucleolar grade 1"),
    ("Prostatic adenocarcinoma, ISUP grade 2", "ISUP grade 2", "ISUP grade group 2"),
    ("Gleason 4+3=7, ISUP grade 3", "ISUP grade 3", "ISUP grade group 3"),
    ("Prostate core, grade group 2", "grade group 2", "ISUP grade group 2"),
    ("Renal tumour, ISUP grade: see below", "ISUP grade", "WHO/ISUP nucleolar grade"),
    ("Gleason score 3+4=7", "Gleason score 3+4=7", "Gleason score 7"),
    ("Gleason 4 + 3 = 7 in two cores", "Gleason 4 + 3 = 7", "Gleason score 7"),
    ("Gleason score (4+4)", "Gleason score (4+4)", "Gleason score 8"),
    ("Gleason score: 9", "Gleason score: 9", "Gleason score 9"),
    ("Gleason score of 6", "Gleason score of 6", "Gleason score 6"),
    ("Gleason score 5 + 4 = 9", "Gleason score 5 + 4 = 9", "Gleason score 9"),
    ("Gleason 3+4=8", "Gleason", "Gleason score"),
    ("Gleason pattern 4", "Gleason pattern", "Gleason score"),
    ("EGFR mutation", "EGFR", "EGFR"),
    ("KRAS G12D", "KRAS", "KRAS"),
    ("BRAF V600E", "BRAF V600E", "BRAF"),
    ("NRAS exon 2", "NRAS", "NRAS"),
    ("ROS1 rearrangement", "ROS1", "ROS1"),
    ("ACUTE leukaemia (ALL)", "ALL", "lymphoblastic lymphoma"),
    ("History of ALL.", "ALL", "lymphoblastic lymphoma"),
]

SIGNED = [
    ("EGFR wild type", ["no EGFR"]),
    ("KRAS: wild-type. BRAF: mutated.", ["no KRAS", "BRAF"]),
    ("KRAS: no mutation detected", ["no KRAS"]),
    ("No EGFR mutation; KRAS G12C mutation detected.", ["no EGFR", "KRAS"]),
    ("BRAF V600E not detected", ["no BRAF"]),
    ("ALK not rearranged, ROS1 rearranged", ["no ALK", "ROS1"]),
    ("p53 shows a wild-type pattern.", ["p53"]),
    ("ALL margins are clear.", []),
    ("ALL nodes are negative.", []),
    ("ALL of the tissue was embedded.", []),
    ("ALL MARGINS CLEAR", []),
    ("Cytokeratin 7 and 20 are negative.", ["no CK7", "no CK20"]),
    ("CKs 7, 19 and 20 are positive.", ["CK7", "CK19", "CK20"]),
    ("CK7 and 20 negative", ["no CK7", "no CK20"]),
    ("CK7/20 negative", ["no CK7", "no CK20"]),
    ("Keratins 5/6, 7 and 14 are positive.", ["CK5/6", "CK7", "CK14"]),
    ("CD3, 5 and 20 are positive", ["CD3", "CD5", "CD20"]),
    ("CD3 and 20 positive.", ["CD3", "CD20"]),
    ("CD20, 5 cases", ["CD20"]),
    ("CD3 and 20 cells", ["CD3"]),
    ("CK7 and 20%", ["CK7"]),
    ("pT2 N0 M0", ["tumour stage", "no lymph node metastasis", "no distant metastasis"]),
    ("pT3N1bM0", ["tumour stage", "lymph node metastasis", "no distant metastasis"]),
    ("ypT1 ypN0 (0/14)", ["tumour stage", "no lymph node metastasis"]),
    ("pTis, pNX", ["tumour stage", "lymph node metastasis (unassessed)"]),
    ("pN1mi(sn)", ["lymph node metastasis"]),
    ("cM1a", []),
    ("cT2 cN1 cM1a", ["tumour stage", "lymph node metastasis", "distant metastasis"]),
    ("L0 V0 Pn0 R0", ["no lymphovascular invasion", "no lymphovascular invasion", "no perineural invasion",
                      "no residual tumour"]),
    ("L1, V1, Pn1, R1", ["lymphovascular invasion", "lymphovascular invasion", "perineural invasion",
                         "residual tumour"]),
    ("pT4a (12 mm). R1.", ["tumour stage", "residual tumour"]),
    ("R0 resection", ["no residual tumour"]),
    ("Resection status: R0", ["no residual tumour"]),
    ("Pn1", ["perineural invasion"]),
    ("MRI of L1, T2 weighted", []),
    ("The R1 of the model", []),
]  # fmt: skip

TYPING = [
    ("Invasive ductal carcinmoa", "invasive ductal carcinoma"),
    ("adenocarcinma", "adenocarcinoma"),
    ("lymphovasular invasion", "lymphovascular invasion"),
    ("perinueral invasion", "perineural invasion"),
    ("high-grade dysplaisa", "high-grade dysplasia"),
    ("chronic inflamation", "chronic inflammation"),
    ("melanoam", "melanoma"),
    ("squamous cell carcinnoma", "squamous cell carcinoma"),
    ("granulmatous inflammation", "granuloma"),
    ("metastsis", "metastasis"),
    ("haemorrage", "haemorrhage"),
    ("fibroadenomma", "fibroadenoma"),
]
REAL_WORDS = ["neurosis", "pupillary", "macrocalcification", "injection", "branchial", "stricture", "prostrate",
              "gastrin", "eosinophilia", "keratan", "chromic"]  # fmt: skip


def signs(text: str, linker: Linker = LINKER) -> list[str]:
    """Each mention as its label, with "no " in front and "?" or the scope behind."""
    return [
        ("" if m.present else "no ") + m.label + "?" * m.possible + (f" ({m.scope})" if m.scope != "patient" else "")
        for m in linker.link(text)
    ]


@pytest.mark.parametrize(("text", "words", "label"), CONCEPTS)
def test_a_name_leads_to_its_concept(text: str, words: str, label: str) -> None:
    assert [(m.label, m.alternatives) for m in LINKER.link(text) if m.text == words] == [(label, ())]


@pytest.mark.parametrize(("text", "expected"), SIGNED)
def test_codes_and_shared_names(text: str, expected: list[str]) -> None:
    assert signs(text) == expected


def test_a_grade_of_two_systems_is_ambiguous_where_no_organ_is_named() -> None:
    (mention,) = LINKER.link("ISUP grade 2")
    assert set(mention.alternatives) == {"EOSIN:isup_grade_group_2", "EOSIN:who/isup_nucleolar_grade_2"}


@pytest.mark.parametrize(("text", "label"), TYPING)
def test_a_typing_error_is_read_as_the_word_that_was_meant(text: str, label: str) -> None:
    mentions = LINKER.link(text)
    assert [(m.label, m.text) for m in mentions] == [(label, text)]


def test_a_typing_error_in_a_cue_denies_all_the_same() -> None:
    assert signs("No evidnce of carcinoma.") == ["no carcinoma"]
    assert signs("Negatvie for carcinoma.") == ["no carcinoma"]
    assert signs("Carcinoma is not identifed.") == ["no carcinoma"]
    assert signs("Supsicious for carcinoma.") == ["carcinoma?"]


@pytest.mark.parametrize("word", REAL_WORDS)
def test_a_real_word_is_no_typing_error(word: str) -> None:
    assert LINKER.link(word) == ()


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Linker:
    """The linker with a real graph behind the tables."""
    folder = shared_data / "ontologies"
    if not folder.is_dir():
        pytest.skip("no ontologies among the real data")
    specs = ["obo:doid/doid_NCIthesaurus_subset.obo", "oncotree:oncotree/oncotree_2025_10_03.json"]
    found = [parse_spec(f"{s.split(':')[0]}:{folder / s.split(':')[1]}") for s in specs]
    return Linker.of(build_graph(tmp_path_factory.mktemp("real") / "graph", found).graph)


def test_a_real_graph_keeps_signs_and_concepts(real: Linker) -> None:
    for text, words, label in CONCEPTS:
        found = [m.label for m in real.link(text) if m.text == words]
        assert found == [label], text
    for text, expected in SIGNED:
        assert signs(text, real) == expected, text


def test_a_word_without_end_costs_no_more_than_its_letters() -> None:
    seconds = []
    for num in (100_000, 400_000):
        started = time.process_time()
        assert LINKER.link("x" * num) == ()
        seconds.append(time.process_time() - started)
    assert seconds[1] < 2.0
