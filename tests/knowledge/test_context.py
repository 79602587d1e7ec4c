from __future__ import annotations

import pytest

from eosin.core.errors import EosinError
from eosin.knowledge.linking.cues import Rules, rules
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.tables import read_table

LINKER = Linker.builtin()


def said(text: str) -> list[str]:
    """Each mention as "label", with "no " in front, and "?", " (history)" or " (family)" behind."""
    return [
        ("" if m.present else "no ") + m.label + "?" * m.possible + (f" ({m.scope})" if m.scope != "patient" else "")
        for m in LINKER.link(text)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No evidence of necrosis.", ["no necrosis"]),
        ("Cannot exclude lymphoma.", ["lymphoma?"]),
        ("Lymphoma cannot be excluded.", ["lymphoma?"]),
        ("No features to suggest lymphoma.", ["no lymphoma"]),
        ("No necrosis, possible granuloma.", ["no necrosis", "granuloma?"]),
        ("Rule out sarcoidosis.", ["sarcoidosis?"]),
        ("The findings rule out sarcoidosis.", ["no sarcoidosis"]),
        ("History of melanoma.", ["melanoma (history)"]),
        ("No history of melanoma.", ["no melanoma (history)"]),
        ("History of melanoma, now with necrosis.", ["melanoma (history)", "necrosis"]),
        ("Family history of lymphoma. Necrosis.", ["lymphoma (family)", "necrosis"]),
        ("Her mother had melanoma.", ["melanoma (family)"]),
        ("Daughter cells with necrosis.", ["necrosis"]),
        ("The natural history of melanoma.", ["melanoma"]),
        ("No necrosis in the adenocarcinoma.", ["no necrosis", "adenocarcinoma"]),
        ("No dysplasia of the colon.", ["no dysplasia", "colon"]),
        ("No glands are left.", ["no gland"]),
        ("No in situ hybridization was done.", ["no in situ hybridization"]),
        ("Perineural invasion: not identified.", ["no perineural invasion"]),
        ("Perineural invasion: No\nNecrosis: present", ["no perineural invasion", "necrosis"]),
        ("Mitoses: 0/10 HPF", ["no mitosis"]),
        ("Mitoses counted in these fields: 0.", ["no mitosis"]),
        ("Mitoses: 10/10 HPF", ["mitosis"]),
        ("Clinical history: melanoma. Diagnosis: lymphoma.", ["melanoma (history)", "lymphoma"]),
        ("Diagnosis: melanoma.", ["melanoma"]),
        ("Absence of basal cells supports prostatic adenocarcinoma.", ["no basal cell", "prostatic adenocarcinoma"]),
        ("Loss of E-cadherin expression.", ["no E-cadherin"]),
        ("Congo red is negative for amyloid.", ["Congo red", "no amyloid"]),
        ("Schwannoma is favoured over leiomyoma.", ["schwannoma?", "no leiomyoma"]),
        ("We consider only necrosis here.", ["necrosis"]),
        ("Consider lymphoma.", ["lymphoma?"]),
        (
            "No necrosis or atypia, granuloma or history of melanoma.",
            ["no necrosis", "no nuclear atypia", "no granuloma", "no melanoma (history)"],
        ),
        ("Possible granuloma and no mitosis.", ["granuloma?", "no mitosis"]),
        ("Differential diagnosis: lymphoma, melanoma.", ["lymphoma?", "melanoma?"]),
        ("Adenoma, necrosis: absent.", ["adenoma", "no necrosis"]),
        ("CK7 is positive; desmin is not.", ["CK7", "no desmin"]),
        ("Lymphoma is not entirely excluded.", ["lymphoma?"]),
        ("Lymphoma cannot be distinguished from melanoma.", ["lymphoma?", "melanoma?"]),
        ("There is possible necrosis.", ["necrosis?"]),
        ("There is questionable granuloma, necrosis is possible.", ["granuloma?", "necrosis?"]),
        ("Not only necrosis but also mucin.", ["necrosis", "mucin"]),
        ("No H. pylori or dysplasia.", ["no Helicobacter pylori", "no dysplasia"]),
        ("Necrosis is absent, but granulomas are seen.", ["no necrosis", "granuloma"]),
        ("Neither necrosis nor granuloma is evident.", ["no necrosis", "no granuloma"]),
        ("Non-malignant glands.", ["no malignancy", "gland"]),
        ("", []),
        ("no", []),
        ("no no no necrosis", ["no necrosis"]),
    ],
)
def test_what_a_sentence_says(text: str, expected: list[str]) -> None:
    assert said(text) == expected


def test_a_cue_inside_a_name_is_no_cue() -> None:
    assert said("Triple-negative breast carcinoma with necrosis") == ["triple-negative breast carcinoma", "necrosis"]


def test_no_cue_reaches_beyond_its_words() -> None:
    assert said("No " + "word " * 40 + "necrosis") == ["necrosis"]


def test_every_cue_of_the_table_has_a_kind_and_a_reference() -> None:
    table = rules()
    assert len(table.phrases) > 150
    assert all(table.single.values())
    bad = "kind\tphrases\treference\nabsent-sideways\tno\tNEGEX\n"
    with pytest.raises(EosinError, match="row of cues") as caught:
        Rules.of(read_table("context", bad, "mine.tsv"))
    assert caught.value.where == "mine.tsv:2"


def test_rules_of_ones_own() -> None:
    own = "kind\tphrases\treference\nabsent-before\tnary a\tEOSIN\n"
    table = Rules.of(read_table("context", own))
    assert table.phrases == {("nary", "a"): ("absent-before",)}
