from __future__ import annotations

import pytest

from eosin.core.errors import EosinError
from eosin.knowledge.graph.vocabulary import builtin_vocabulary
from eosin.knowledge.linking import tables


def test_every_table_is_read_whole_and_large_enough() -> None:
    counts = tables.check_all()
    assert counts["markers"] >= 60
    assert counts["stains"] >= 30
    assert counts["grading"] >= 20
    assert counts["lexicon"] >= 500
    assert counts["evidence"] >= 80 and counts["visibility"] >= 15


def test_ids_are_curies_and_unique() -> None:
    ids = [c.id for c in tables.concepts()]
    assert len(set(ids)) == len(ids)
    assert all(":" in i and " " not in i for i in ids)
    assert {i.partition(":")[0] for i in ids} <= {"EOSIN", "DOID", "MPATH", "MC", "CL", "UBERON", "ONCOTREE"}


def test_relations_speak_the_vocabulary_and_name_known_concepts() -> None:
    known = {c.id for c in tables.concepts()}
    names = builtin_vocabulary().by_name
    for r in tables.relations():
        assert r.predicate in names
        assert r.subject in known and r.object in known
        assert r.evidence


def test_no_marker_supports_and_contradicts_the_same() -> None:
    for name, columns in (("markers", ("supports", "contradicts")), ("evidence", ("supports", "contradicts"))):
        for row in tables.read_table(name):
            both = set(row.many(columns[0])) & set(row.many(columns[1]))
            assert not both, f"{row.where}: {both}"
    for name in ("markers", "evidence"):
        for row in tables.read_table(name):
            assert not set(row.many("expected")) & set(row.many("contradicts")), row.where


def test_levels_of_a_grading_system() -> None:
    row = next(r for r in tables.read_table("grading") if r["name"] == "Nottingham grade")
    assert [level.level for level in tables.levels_of(row)] == ["1", "2", "3"]
    assert "Nottingham grade 2" in tables.levels_of(row)[1].names


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("stains", "name\tsynonyms\n", "header"),
        ("stains", "name\tsynonyms\tshows\tcolour\treference\nPAS\tx\n", "cannot be read"),
        ("stains", "name\tsynonyms\tshows\tcolour\treference\n\tx\ty\tz\tPO\n", "cannot be read"),
    ],
)
def test_a_faulty_table_names_file_and_line(name: str, text: str, message: str) -> None:
    with pytest.raises(EosinError, match=message) as caught:
        tables.read_table(name, text, "mine.tsv")
    assert str(caught.value.where).startswith("mine.tsv:")


def test_a_row_without_a_reference_is_refused() -> None:
    header = "name\tsynonyms\tshows\tcolour\treference\n"
    for reference in ("", "NOBODY"):
        row = tables.read_table("stains", f"{header}PAS\t\tmucin\tred\t{reference}\n", "mine.tsv")[0]
        with pytest.raises(EosinError, match="reference"):
            tables.cited(row)


def test_a_row_that_names_what_the_lexicon_lacks_is_refused() -> None:
    row = tables.read_table("stains", "name\tsynonyms\tshows\tcolour\treference\nPAS\t\tunicorn\tred\tPO\n")[0]
    with pytest.raises(EosinError, match="lexicon lacks"):
        tables.named("unicorn", row)


def test_a_level_twice_is_refused() -> None:
    header = "name\tsynonyms\tapplies_to\tlevels\tnames\tnear\treference\n"
    for levels in ("1 = a;1 = b", "1", "= a"):
        row = tables.read_table("grading", f"{header}X\t\t\t{levels}\tX {{n}}\t\tPO\n")[0]
        with pytest.raises(EosinError, match="level"):
            tables.levels_of(row)
