from __future__ import annotations

from make_samples import sample

from eosin.core.nouns.sample import Entity
from eosin.curate import clean, link_entities
from eosin.knowledge.graph.concepts import Concept
from eosin.knowledge.linking.linker import Linker


def test_names_become_concepts_and_what_has_one_keeps_it() -> None:
    named = Entity(name="gland", concept="X:1")
    given = (Entity(name="necroses", polarity="absent"), Entity(name="violet whirl"), named)
    linked = link_entities([sample("a", entities=given)])
    assert [(e.name, e.concept, e.polarity) for e in linked.samples[0].entities] == [
        ("necroses", "MPATH:4", "absent"), ("violet whirl", None, "present"), ("gland", "X:1", "present"),
    ]  # fmt: skip
    assert (linked.num_entities, linked.num_linked, linked.num_made) == (3, 2, 0)


def test_a_linker_of_ones_own() -> None:
    linker = Linker.of([Concept("V:1", "violet whirl", type="finding")])
    linked = link_entities([sample("a", entities=(Entity(name="violet whirls"),))], linker)
    assert linked.samples[0].entities[0].concept == "V:1"


def test_entities_from_gold_findings() -> None:
    text = "There is necrosis, possible granuloma and no mitosis. Family history of melanoma. Necrosis again."
    linked = link_entities([sample("a", findings=text), sample("b")], from_text=True)
    assert [(e.name, e.polarity, e.certainty) for e in linked.samples[0].entities] == [
        ("necrosis", "present", "certain"), ("granuloma", "present", "possible"), ("mitosis", "absent", "certain"),
    ]  # fmt: skip
    assert linked.samples[1].entities == () and linked.num_made == 3
    assert link_entities([sample("a", findings=text)]).samples[0].entities == ()


def test_cleaned_samples_carry_concepts() -> None:
    cleaned = clean([sample("a", case="1", entities=(Entity(name="necrosis"),))])
    assert [e.concept for s in cleaned.samples for e in s.entities] == ["MPATH:4"]
