from __future__ import annotations

import pytest

from eosin.core.errors import EosinError
from eosin.knowledge.linking.linker import Linker
from eosin.knowledge.linking.quality import PARTS, Annotated, Tally, measure, sentences


def test_the_annotated_sentences_are_sound_and_many() -> None:
    found = sentences()
    assert len(found) >= 150
    assert len({s.id for s in found}) == len({s.text for s in found}) == len(found)
    assert {s.part for s in found} == set(PARTS)
    kinds = {(m["polarity"], m["certainty"], m["scope"]) for s in found for m in s.mentions}
    assert len(kinds) >= 6


def test_the_figures_asked_for_are_reached() -> None:
    quality = measure(Linker.builtin())
    for tally in (quality.parts["tune"], quality.parts["held"]):
        assert tally.f1 >= 0.95
        assert tally.share("concept") >= 0.95
        assert tally.share("polarity") >= 0.95
    for part in ("reports", "reports2"):
        assert quality.parts[part].f1 >= 0.97
        for name in ("concept", "polarity", "certainty", "scope"):
            assert quality.parts[part].share(name) >= 0.97, (part, name)
    for name in ("polarity", "certainty"):  # by other hands than the rules: how a mention is meant
        assert quality.parts["blind"].share(name) >= 0.97, name
    assert quality.all.found == sum(t.found for t in quality.parts.values())
    assert len(quality.lines()) == 2 + len(PARTS) + len(quality.all.misses)


def test_figures_by_hand() -> None:
    gold = {"start": 3, "end": 11, "text": "necrosis", "concept": "necrosis", "type": "finding", "polarity": "absent",
            "certainty": "certain", "scope": "patient"}  # fmt: skip
    right = Annotated("1", "tune", "No necrosis.", (gold,))
    wrong = Annotated("2", "tune", "A, necrosis and fat.", (gold,))
    tally = measure(Linker.builtin(), [right, wrong]).parts["tune"]
    assert (tally.gold, tally.said, tally.found, tally.polarity) == (2, 3, 2, 1)
    assert tally.f1 == pytest.approx(2 * 2 / 5)
    assert tally.share("polarity") == 0.5 and tally.share("concept") == 1.0
    assert [m.split(" ")[1] for m in tally.misses] == ["polarity:", "too"]
    assert Tally().f1 == 0.0 and Tally().precision == 0.0


def test_a_mention_out_of_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from eosin.knowledge.linking import quality

    class Folder:
        def joinpath(self, *parts: str) -> Folder:
            return self

        def read_text(self, encoding: str) -> str:
            return '{"id": "1", "part": "tune", "text": "abc", "mentions": [{"start": 0, "end": 1, "text": "b"}]}'

    monkeypatch.setattr(quality, "files", lambda name: Folder())
    with pytest.raises(EosinError, match="its place"):
        sentences()
