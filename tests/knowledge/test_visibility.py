from __future__ import annotations

import pytest

from eosin.core.errors import EosinError
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.visibility import Sees, check_sees, kinds, unseen

LINKER = Linker.builtin()


def names(text: str, sees: Sees = "he_tile", context: str = "", hints: bool = False) -> list[str]:
    return [u.kind for u in unseen(text, sees, context=context, mentions=LINKER.link(text), hints=hints)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Irregular glands with necrosis.", []),
        ("Two lymph nodes are examined, 2/12 lymph nodes are positive.", ["lymph node status"]),
        ("pT3 N1 disease", ["tumour stage"]),
        ("Stage II disease", ["tumour stage"]),
        ("The margins are clear.", ["resection margin"]),
        ("A 3.5 cm mass.", ["gross size"]),
        ("A 45-year-old woman", ["patient age or sex"]),
        ("with a history of smoking", ["clinical history"]),
        ("Survival is poor", ["treatment or outcome"]),
        ("KRAS mutation", ["molecular result"]),
        ("Elevated PSA", ["laboratory value"]),
        ("CT shows a mass", ["imaging"]),
        ("The act shows glands", []),
        ("The cells lie in stages", []),
        ("Her mother had melanoma", ["clinical history"]),
        ("jaundice", ["symptom"]),
    ],
)
def test_what_a_tile_cannot_show(text: str, expected: list[str]) -> None:
    assert names(text) == expected


def test_it_depends_on_the_image() -> None:
    text = "Immunohistochemistry shows CK7."
    assert names(text, "ihc") == [] and names(text, "he_tile") == ["immunohistochemistry result"]
    assert names("The resection margin", "he_slide") == []
    assert names("The resection margin", "he_tile") == ["resection margin"]
    assert "resection margin" in names("The resection margin", "he_slide", hints=True)


def test_context_makes_it_sayable() -> None:
    assert names("A 45-year-old woman with necrosis", context="Female, 45-year-old") == []
    assert names("A 3 cm mass", context="45-year-old") == ["gross size"]


def test_places_and_needs() -> None:
    text = "A gland and pT2 tumour."
    found = unseen(text, "he_tile")
    assert [text[u.start : u.end] for u in found] == ["pT2"] == [u.text for u in found]
    assert "nodes" in found[0].needs and found[0].shown == "no"


def test_the_table() -> None:
    assert len(kinds()) >= 15
    assert all(k.reference for k in kinds())
    with pytest.raises(EosinError, match="kind of image"):
        check_sees("mri")
