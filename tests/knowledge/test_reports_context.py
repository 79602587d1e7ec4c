"""Sentences in the style of reports whose sign or doubt was read wrongly once, each with relatives of its kind."""

from __future__ import annotations

import pytest

from eosin.knowledge.linking.linker import Linker

LINKER = Linker.builtin()


def said(text: str) -> list[str]:
    """Each mention as its words, with "no " in front where absent and "?" behind where possible."""
    return [("" if m.present else "no ") + m.text + "?" * m.possible for m in LINKER.link(text)]


ANSWERS = [
    ("Perineural invasion: No. Vascular invasion: Yes.", ["no Perineural invasion", "Vascular invasion"]),
    ("Perineural invasion: no. Vascular invasion: yes.", ["no Perineural invasion", "Vascular invasion"]),
    ("Perineural invasion: Yes. Vascular invasion: No.", ["Perineural invasion", "no Vascular invasion"]),
    ("Perineural invasion: no / Vascular invasion: yes", ["no Perineural invasion", "Vascular invasion"]),
    ("Perineural invasion no / vascular invasion yes", ["no Perineural invasion", "vascular invasion"]),
    ("Perineural invasion no, vascular invasion yes.", ["no Perineural invasion", "vascular invasion"]),
    ("Perineural invasion: no, vascular invasion: yes.", ["no Perineural invasion", "vascular invasion"]),
    ("Perineural invasion: N. Vascular invasion: Y.", ["no Perineural invasion", "Vascular invasion"]),
    ("Perineural invasion - No. Vascular invasion - Yes.", ["no Perineural invasion", "Vascular invasion"]),
    ("Perineural invasion = no; vascular invasion = yes", ["no Perineural invasion", "vascular invasion"]),
    ("Necrosis? No. Granulomas? Yes.", ["no Necrosis", "Granulomas"]),
    ("Necrosis\tNo\nGranuloma\tYes", ["no Necrosis", "Granuloma"]),
    ("| Necrosis | No |\n| Granuloma | Yes |", ["no Necrosis", "Granuloma"]),
    ("Necrosis ..... No\nGranuloma ..... Yes", ["no Necrosis", "Granuloma"]),
    ("Necrosis:\nNo\nGranuloma:\nYes", ["no Necrosis", "Granuloma"]),
    ("Necrosis (no), granuloma (yes)", ["no Necrosis", "granuloma"]),
    ("Dysplasia: No. 3 fragments with granuloma.", ["no Dysplasia", "granuloma"]),
    ("Block No. 3 shows necrosis.", ["necrosis"]),
    ("Specimen no. 12, adenoma.", ["adenoma"]),
    ("No. 4 shows granuloma.", ["granuloma"]),
    ("H. pylori: No. Intestinal metaplasia: Yes.", ["no H. pylori", "Intestinal metaplasia"]),
    ("Lesion A. No necrosis.", ["no necrosis"]),
]

LISTS_THAT_TURN = [
    ("No tumour, only fibrosis.", ["fibrosis"]),
    ("No malignancy, just inflammation.", ["no malignancy", "inflammation"]),
    ("No carcinoma, dysplasia only.", ["no carcinoma", "dysplasia"]),
    ("No malignancy, rather granulomatous inflammation.", ["no malignancy", "granulomatous inflammation"]),
    ("No carcinoma but dysplasia.", ["no carcinoma", "dysplasia"]),
    ("No carcinoma, merely gastritis.", ["no carcinoma", "gastritis"]),
    ("No carcinoma, simply fibrosis and oedema.", ["no carcinoma", "fibrosis", "oedema"]),
    ("No necrosis or atypia, only fibrosis and oedema.", ["no necrosis", "no atypia", "fibrosis", "oedema"]),
    ("No lymphoma, granulomas instead.", ["no lymphoma", "granulomas"]),
    ("No lymphoma, instead granulomas.", ["no lymphoma", "granulomas"]),
    ("No residual carcinoma; rather, fibrosis and necrosis.", ["no carcinoma", "fibrosis", "necrosis"]),
    ("Negative for carcinoma, gastritis only.", ["no carcinoma", "gastritis"]),
    ("No carcinoma is seen, just gastritis.", ["no carcinoma", "gastritis"]),
    ("No carcinoma, no dysplasia, inflammation alone.", ["no carcinoma", "no dysplasia", "inflammation"]),
    ("No carcinoma (only dysplasia).", ["no carcinoma", "dysplasia"]),
    ("Without necrosis, just oedema.", ["no necrosis", "oedema"]),
    ("No carcinoma, fibrosis rather than necrosis.", ["no carcinoma", "fibrosis", "no necrosis"]),
    ("Not only necrosis but also mucin.", ["necrosis", "mucin"]),
    ("No necrosis, atypia, or mitoses.", ["no necrosis", "no atypia", "no mitoses"]),
    ("Only fibrosis, no necrosis.", ["fibrosis", "no necrosis"]),
]

DENIALS = [
    ("NEG FOR MALIGNANCY", ["no MALIGNANCY"]),
    ("Neg. for malignancy.", ["no malignancy"]),
    ("neg for dysplasia and carcinoma", ["no dysplasia", "no carcinoma"]),
    ("Neg for H pylori", ["no H pylori"]),
    ("-ve for dysplasia", ["no dysplasia"]),
    ("PR neg.", ["no PR"]),
    ("ER pos, PR neg, HER2 neg.", ["ER", "no PR", "no HER2"]),
    ("PR -ve", ["no PR"]),
    ("PR \u2212ve, ER +ve", ["no PR", "ER"]),
    ("ER: -ve. PR: +ve.", ["no ER", "PR"]),
    ("Desmin (-ve) and S100 (+ve)", ["no Desmin", "S100"]),
    ("CD3, CD5 -ve; CD20 +ve", ["no CD3", "no CD5", "CD20"]),
    ("w/o dysplasia", ["no dysplasia"]),
    ("Tubular adenoma w/o high-grade dysplasia", ["Tubular adenoma", "no high-grade dysplasia"]),
    ("Gastritis w/out atrophy", ["Gastritis", "no atrophy"]),
    ("Nil necrosis.", ["no necrosis"]),
    ("Necrosis: nil", ["no Necrosis"]),
    ("Lymphovascular invasion (-)", ["no Lymphovascular invasion"]),
    ("Lymphovascular invasion: (-)", ["no Lymphovascular invasion"]),
    ("LVI (-), PNI (+)", ["no LVI", "PNI"]),
    ("LVI: -\nPNI: +", ["no LVI", "PNI"]),
    ("Perineural invasion [-]", ["no Perineural invasion"]),
    ("Necrosis (\u2013)", ["no Necrosis"]),
    ("Necrosis - granuloma - fibrosis", ["Necrosis", "granuloma", "fibrosis"]),
    ("Perineural invasion: N", ["no Perineural invasion"]),
    ("Perineural invasion: N; lymphovascular invasion: Y", ["no Perineural invasion", "lymphovascular invasion"]),
    ("Perineural invasion (N)", ["no Perineural invasion"]),
    ("Necrosis: NEG", ["no Necrosis"]),
    ("Necrosis: None\nGranuloma: present", ["no Necrosis", "Granuloma"]),
    ("Perineural invasion: n, necrosis: y", ["no Perineural invasion", "necrosis"]),
]

COUNTS = [
    ("0/12 lymph nodes with metastasis", ["lymph nodes", "no metastasis"]),
    ("0 of 12 lymph nodes with metastasis.", ["lymph nodes", "no metastasis"]),
    ("0 out of 12 lymph nodes contain metastatic carcinoma.", ["lymph nodes", "no metastatic carcinoma"]),
    ("None of 12 lymph nodes shows metastasis.", ["lymph nodes", "no metastasis"]),
    ("Metastatic carcinoma in 0/7 lymph nodes.", ["no Metastatic carcinoma", "lymph nodes"]),
    ("Metastasis: 0/14", ["no Metastasis"]),
    ("Lymph node metastasis (0/14)", ["no Lymph node metastasis"]),
    ("3/12 lymph nodes with metastasis", ["lymph nodes", "metastasis"]),
    ("10/12 lymph nodes with metastasis", ["lymph nodes", "metastasis"]),
    ("ER 0%", ["no ER"]),
    ("ER: 0 %, PR: 90%", ["no ER", "PR"]),
    ("ER (0%), PR (80%)", ["no ER", "PR"]),
    ("ER 0%, PR 0%, HER2 negative", ["no ER", "no PR", "no HER2"]),
    ("ER 100%, PR 80%", ["ER", "PR"]),
    ("0% of tumour cells express ER.", ["tumour cells", "no ER"]),
    ("Necrosis 0%", ["no Necrosis"]),
    ("PD-L1 0%", ["no PD-L1"]),
    ("0 mitoses per 10 HPF", ["no mitoses"]),
    ("Mitoses 0/10 HPF", ["no Mitoses"]),
    ("Tumour of 1.0 cm with necrosis", ["necrosis"]),
    ("Necrosis in 10% of the lesion", ["Necrosis"]),
]

LISTS_OF_MARKERS = [
    ("TTF-1, napsin A negative", ["no TTF-1", "no napsin A"]),
    ("TTF-1, napsin A and p40 negative", ["no TTF-1", "no napsin A", "no p40"]),
    ("CK7, CK20, CDX2 are negative.", ["no CK7", "no CK20", "no CDX2"]),
    ("CK7 positive, TTF-1, napsin A negative", ["CK7", "no TTF-1", "no napsin A"]),
    ("CK7, CK20 positive, TTF-1 negative", ["CK7", "CK20", "no TTF-1"]),
    ("Adenocarcinoma, TTF-1 negative", ["Adenocarcinoma", "no TTF-1"]),
    ("ER, PR, HER2: negative", ["no ER", "no PR", "no HER2"]),
    ("S100 / desmin / CD34 negative", ["no S100", "no desmin", "no CD34"]),
    ("S100, desmin & CD34 not expressed", ["no S100", "no desmin", "no CD34"]),
    ("CD117 positive; SMA, desmin, S100 negative.", ["CD117", "no SMA", "no desmin", "no S100"]),
]

HEADINGS = [
    ("Negative: TTF-1, napsin A.", ["no TTF-1", "no napsin A"]),
    ("Positive: CK7, CK20. Negative: TTF-1, p40.", ["CK7", "CK20", "no TTF-1", "no p40"]),
    ("Positive: CK7; negative: TTF-1, p40.", ["CK7", "no TTF-1", "no p40"]),
    ("Positive: CK7, negative: TTF-1, p40.", ["CK7", "no TTF-1", "no p40"]),
    ("Negative for: CK20, CDX2", ["no CK20", "no CDX2"]),
    ("Negative for the following: CK20, CDX2.", ["no CK20", "no CDX2"]),
    ("Negative markers: CK20, CDX2.", ["no CK20", "no CDX2"]),
    ("Absent: necrosis, granulomas.", ["no necrosis", "no granulomas"]),
    ("Not identified: necrosis, perineural invasion.", ["no necrosis", "no perineural invasion"]),
    ("The following are not seen: necrosis, granuloma.", ["no necrosis", "no granuloma"]),
    ("No evidence of: necrosis, granuloma.", ["no necrosis", "no granuloma"]),
    ("Neg: S100, desmin. Pos: CD34.", ["no S100", "no desmin", "CD34"]),
    ("TTF-1: negative, CK7: positive", ["no TTF-1", "CK7"]),
    ("Comment: necrosis is absent: granulomas are seen.", ["no necrosis", "granulomas"]),
]

BOXES = [
    ("[ ] Necrosis [x] Granuloma", ["no Necrosis", "Granuloma"]),
    ("[X] Necrosis [ ] Granuloma", ["Necrosis", "no Granuloma"]),
    ("[ ] Necrosis\n[x] Granuloma\n[ ] Fibrosis", ["no Necrosis", "Granuloma", "no Fibrosis"]),
    ("\u2610 Necrosis \u2612 Granuloma", ["no Necrosis", "Granuloma"]),
    ("\u2611 Necrosis \u2610 Granuloma", ["Necrosis", "no Granuloma"]),
    ("( ) Necrosis (x) Granuloma", ["no Necrosis", "Granuloma"]),
    ("Necrosis [ ]  Granuloma [x]", ["no Necrosis", "Granuloma"]),
    ("Perineural invasion: [ ] present [x] absent", ["no Perineural invasion"]),
    ("Perineural invasion: [x] present [ ] absent", ["Perineural invasion"]),
    ("Perineural invasion: [x] Not identified [ ] Present", ["no Perineural invasion"]),
    ("Perineural invasion: [ ] Not identified [x] Present", ["Perineural invasion"]),
    ("Perineural invasion: [ ] yes [x] no\nNecrosis: [x] yes [ ] no", ["no Perineural invasion", "Necrosis"]),
]

DOUBTS = [
    ("?carcinoma", ["carcinoma?"]),
    ("? carcinoma", ["carcinoma?"]),
    ("??lymphoma", ["lymphoma?"]),
    ("Ulcer, ?carcinoma.", ["Ulcer", "carcinoma?"]),
    ("Granuloma (?tuberculosis)", ["Granuloma", "tuberculosis?"]),
    ("Nodule ?lymphoma ?sarcoidosis", ["lymphoma?", "sarcoidosis?"]),
    ("Metastasis (?)", ["Metastasis?"]),
    ("Is this lymphoma?", ["lymphoma?"]),
    ("Lymphoma is difficult to exclude.", ["Lymphoma?"]),
    ("It is difficult to exclude lymphoma.", ["lymphoma?"]),
    ("Lymphoma is hard to exclude.", ["Lymphoma?"]),
    ("Lymphoma is difficult to rule out.", ["Lymphoma?"]),
    ("Unable to exclude lymphoma.", ["lymphoma?"]),
    ("Lymphoma cannot be confidently excluded.", ["Lymphoma?"]),
    ("We cannot definitively exclude lymphoma.", ["lymphoma?"]),
    ("Lymphoma is not definitely excluded.", ["Lymphoma?"]),
    ("Atypia bordering on DCIS.", ["Atypia", "DCIS?"]),
    ("Changes verging on carcinoma in situ", ["carcinoma in situ?"]),
    ("Necrosis, borderline for lymphoma.", ["Necrosis", "lymphoma?"]),
    ("EMA+/-", ["EMA?"]),
    ("EMA +/-, desmin -", ["EMA?", "no desmin"]),
    ("EMA (+/-)", ["EMA?"]),
    ("EMA \u00b1", ["EMA?"]),
    ("S100+, EMA+/-, CK20-", ["S100", "EMA?", "no CK20"]),
    ("CK7-/+", ["CK7?"]),
    ("Inflammation +/- fibrosis", ["Inflammation", "fibrosis?"]),
    ("HER2 equivocal (2+)", ["HER2?"]),
    ("HER2: equivocal (2+).", ["HER2?"]),
    ("HER2 is equivocal.", ["HER2?"]),
    ("Equivocal perineural invasion.", ["perineural invasion?"]),
    ("Perineural invasion: indeterminate", ["Perineural invasion?"]),
    ("HER2 borderline", ["HER2?"]),
    ("Consistent with but not diagnostic of lymphoma.", ["lymphoma?"]),
    ("Suspicious for, but not diagnostic of, carcinoma.", ["carcinoma?"]),
    ("Suspicious but not diagnostic of carcinoma.", ["carcinoma?"]),
    ("Suggestive of but not diagnostic for lymphoma.", ["lymphoma?"]),
    ("Features are compatible with, though not diagnostic of, sarcoidosis.", ["sarcoidosis?"]),
    ("Suggestive of but not specific for sarcoidosis.", ["sarcoidosis?"]),
    ("Suspicious but not conclusive for lymphoma.", ["lymphoma?"]),
    ("Consistent with sarcoidosis.", ["sarcoidosis"]),
    ("Inconsistent with sarcoidosis.", ["no sarcoidosis"]),
]

UNASSESSED = [
    ("Perineural invasion: N/A", "Perineural invasion"),
    ("Perineural invasion: Not applicable", "Perineural invasion"),
    ("Necrosis cannot be assessed.", "Necrosis"),
    ("Lymphovascular invasion: Cannot be determined", "Lymphovascular invasion"),
    ("HER2 not performed.", "HER2"),
    ("MDM2 is pending.", "MDM2"),
    ("Muscularis propria is not represented.", "Muscularis propria"),
]
PAST = [
    ("Previous biopsy: adenocarcinoma.", "adenocarcinoma", "history"),
    ("PMH: lymphoma", "lymphoma", "history"),
    ("PMHx DCIS 2015", "DCIS", "history"),
    ("Hx of lymphoma", "lymphoma", "history"),
    ("FHx of breast carcinoma", "breast carcinoma", "family"),
    ("Family hx: melanoma", "melanoma", "family"),
]
MORE = [
    ("TTF-1, napsin A, p40: all negative.", ["no TTF-1", "no napsin A", "no p40"]),
    ("CD30+, CD15+, CD45 neg, EBER neg.", ["CD30", "CD15", "no CD45", "no EBER"]),
    ("CD117 and DOG1 positive, S100 and desmin negative", ["CD117", "DOG1", "no S100", "no desmin"]),
    ("BRAF mutated, KRAS and NRAS wild type.", ["BRAF", "no KRAS", "no NRAS"]),
    ("Loss of MLH1 and PMS2 with intact MSH2 and MSH6.", ["no MLH1", "no PMS2", "MSH2", "MSH6"]),
    ("It shows loss of MLH1.", ["no MLH1"]),
    ("MLH1: loss of expression. MSH2: retained.", ["no MLH1", "MSH2"]),
    ("MLH1 loss, PMS2 loss, MSH2 intact.", ["no MLH1", "no PMS2", "MSH2"]),
    ("CD117 shows no staining.", ["no CD117"]),
    ("No staining for CD117.", ["no CD117"]),
    ("Fail to stain with TTF-1.", ["no TTF-1"]),
    ("ER <1%, PR: <1%", ["no ER", "no PR"]),
    ("PD-L1 TPS <1%", ["no PD-L1", "no TPS"]),
    ("Ki-67 <1%", ["Ki-67"]),
    ("Amyloid: Congo red negative.", ["no Amyloid", "Congo red"]),
    ("No seminal vesicle invasion.", ["seminal vesicle", "no invasion"]),
    ("Renal vein invasion not identified.", ["Renal", "no invasion"]),
    ("No atypia, no necrosis, mitoses 1/10 HPF.", ["no atypia", "no necrosis", "mitoses"]),
    ("No lymphovascular invasion, grade group 2.", ["no lymphovascular invasion", "grade group 2"]),
    ("Absence of granulomas does not exclude sarcoidosis.", ["no granulomas", "sarcoidosis?"]),
    ("Lymphoma should be considered.", ["Lymphoma?"]),
    ("Please exclude lymphoma.", ["lymphoma?"]),
    ("No carcinoma; lymphoma possible.", ["no carcinoma", "lymphoma?"]),
    ("Phyllodes tumour, borderline.", ["Phyllodes tumour"]),
]


@pytest.mark.parametrize(("text", "expected"), MORE)
def test_kinds_that_the_annotated_reports_showed(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(("text", "words"), UNASSESSED)
def test_what_was_not_looked_at_is_neither_present_nor_absent(text: str, words: str) -> None:
    assert [(m.text, m.scope) for m in LINKER.link(text)] == [(words, "unassessed")]


@pytest.mark.parametrize(("text", "words", "scope"), PAST)
def test_headings_and_short_forms_of_the_past(text: str, words: str, scope: str) -> None:
    assert [(m.text, m.scope) for m in LINKER.link(text)] == [(words, scope)]


@pytest.mark.parametrize(("text", "expected"), ANSWERS)
def test_an_answer_speaks_of_its_own_field(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(("text", "expected"), LISTS_THAT_TURN)
def test_a_denied_list_ends_where_the_text_turns(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(("text", "expected"), [*DENIALS, *COUNTS, *LISTS_OF_MARKERS, *HEADINGS, *BOXES])
def test_a_denial_is_seen(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize(("text", "expected"), DOUBTS)
def test_a_doubt_is_kept(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@pytest.mark.parametrize("between", ["; ", ". ", "\n"])
def test_fields_beside_each_other_have_boxes_of_their_own(between: str) -> None:
    text = f"Comedonecrosis: [ ] Absent [x] Present{between}Microcalcifications: [x] Absent [ ] Present"
    said = {m.text: m.polarity for m in Linker.builtin().link(text)}
    assert said == {"Comedonecrosis": "present", "Microcalcifications": "absent"}
