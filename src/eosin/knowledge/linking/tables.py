"""The small tables that come with Eosin, read with every row checked. A pathologist can edit them as text.

    lexicon.tsv     names of findings, cells, tissues, organs, diagnoses
    markers.tsv     immunohistochemistry: compartment, what positivity and loss speak for and against
    stains.tsv      special stains and what they show
    grading.tsv     grading systems and their levels
    staging.tsv     codes of the TNM system
    evidence.tsv    what microscopic findings speak for and against
    visibility.tsv  which statements an image can carry at all
    abbreviations.tsv  abbreviations with more than one meaning
    noise.tsv       names in ontologies that are no use for reading reports
    context.tsv     words of negation, doubt, history and family
    references.tsv  the works that the rows cite

Every row but those of the lexicon names a reference. Research use only, not for diagnosis.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from eosin.core.errors import EosinError
from eosin.knowledge.graph.concepts import Concept, Relation, Synonym
from eosin.knowledge.linking.words import name_key

SOURCE = "tables"
KINDS = ("finding", "cell", "tissue", "organ", "stain", "marker", "diagnosis", "grade", "context", "outdated")
COMPARTMENTS = ("nuclear", "membranous", "cytoplasmic", "extracellular")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "references": ("key", "reference"),
    "markers": ("name", "synonyms", "compartment", "supports", "contradicts", "expected", "loss_supports", "reference"),
    "stains": ("name", "synonyms", "shows", "colour", "reference"),
    "grading": ("name", "synonyms", "applies_to", "levels", "names", "near", "reference"),
    "staging": ("code", "concept", "present", "absent", "unassessed", "reference"),
    "evidence": ("finding", "supports", "contradicts", "expected", "reference"),
    "visibility": ("name", "he_tile", "he_slide", "ihc", "patterns", "needs", "reference"),
    "abbreviations": ("short", "concept", "near", "reference"),
    "context": ("kind", "phrases", "reference"),
    "noise": ("kind", "words", "reference"),
}


@dataclass(frozen=True)
class Row:
    """A checked row: cells by column, and where it stands."""

    cells: Mapping[str, str]
    where: str

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def many(self, column: str, sign: str = "|") -> tuple[str, ...]:
        """The parts of a cell."""
        return tuple(p.strip() for p in self.cells[column].split(sign) if p.strip())


@dataclass(frozen=True)
class Level:
    """A level of a grading system: "2" of "Nottingham grade", what it means, and how it is written."""

    level: str
    meaning: str
    names: tuple[str, ...]


def table_text(name: str) -> str:
    """The text of a built-in table."""
    return files("eosin.knowledge").joinpath("tables", f"{name}.tsv").read_text("utf-8")


def read_table(name: str, text: str | None = None, where: str | Path | None = None) -> tuple[Row, ...]:
    """Rows of a table, by its columns.

    Args:
        name: markers, stains, ... (a key of COLUMNS).
        text: another text than the built-in one, of the same form.

    Raises:
        EosinError: with file and line, for a wrong header, a cell too many or too few, or an empty first cell.
    """
    columns = COLUMNS[name]
    place = str(where or f"{name}.tsv")
    rows: list[Row] = []
    header: list[str] | None = None
    for number, line in enumerate((table_text(name) if text is None else text).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [c.strip() for c in line.split("\t")]
        if header is None:
            header = cells
            if tuple(header) != columns:
                raise _wrong("The header of a table is wrong.", " ".join(columns), " ".join(header), place, number)
        elif len(cells) != len(columns) or not cells[0]:
            expected = f"{len(columns)} cells divided by tabs: {', '.join(columns)}"
            seen = f"{len(cells)} cells: {line[:80]}"
            raise _wrong("A row of a table cannot be read.", expected, seen, place, number)
        else:
            rows.append(Row(dict(zip(columns, cells, strict=True)), f"{place}:{number}"))
    return tuple(rows)


def _wrong(message: str, expected: str, found: str, place: str, number: int) -> EosinError:
    return EosinError(message, expected=expected, found=found, where=f"{place}:{number}")


def _refuse(row: Row, message: str, expected: str, found: str) -> EosinError:
    return EosinError(message, expected=expected, found=found, where=row.where)


@functools.cache
def references() -> Mapping[str, str]:
    """Key -> full reference."""
    return {row["key"]: row["reference"] for row in read_table("references")}


def cited(row: Row) -> str:
    """The full references of a row, joined.

    Raises:
        EosinError: no reference, or a key that references.tsv lacks.
    """
    keys = row.many("reference", ";")
    unknown = [k for k in keys if k not in references()]
    if not keys or unknown:
        found = ", ".join(unknown) or "no reference"
        raise _refuse(row, "A row of a table must name its reference.", "keys of references.tsv divided by ;", found)
    return "; ".join(references()[k] for k in keys)


def read_lexicon(text: str, where: str | Path = "lexicon", source: str = "lexicon") -> list[Concept]:
    """Concepts of a lexicon: kind, name, synonyms divided by "|", and optionally an id, divided by tabs.

    Without an id it is EOSIN: and the name. A lexicon may bring kinds of its own.
    """
    concepts = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [c.strip() for c in line.split("\t")]
        if len(cells) < 2 or not cells[1]:
            raise EosinError(
                "A line of the lexicon cannot be read.",
                expected="kind <tab> name <tab> synonyms divided by |",
                found=line[:80],
                where=f"{where}:{number}",
            )
        synonyms = [s.strip() for s in cells[2].split("|")] if len(cells) > 2 else []
        made = tuple(Synonym(s) for s in synonyms if s)
        id = cells[3] if len(cells) > 3 and cells[3] else own_id(cells[1])
        concepts.append(Concept(id, cells[1], made, cells[0], source=source))
    return concepts


def own_id(name: str) -> str:
    """The id of a concept that no ontology of ours has: EOSIN: and the name's words."""
    return "EOSIN:" + re.sub(r"[^a-z0-9+/.-]+", "_", name.casefold()).strip("_")


@functools.cache
def lexicon() -> tuple[Concept, ...]:
    """Findings, cells, tissues, organs, diagnoses, context and old names of lexicon.tsv."""
    return tuple(read_lexicon(table_text("lexicon"), "lexicon.tsv", SOURCE))


@functools.cache
def _by_key(everything: bool = False) -> Mapping[str, Concept]:
    found: dict[str, Concept] = {}
    listed = concepts() if everything else lexicon()
    for concept in listed:
        found.setdefault(name_key(concept.label), concept)
    for concept in listed:
        for synonym in concept.synonyms:
            found.setdefault(name_key(synonym.text), concept)
    return found


def named(name: str, row: Row, *, everything: bool = False) -> Concept:
    """The concept of a name that a row uses: of the lexicon, or of any table.

    Raises:
        EosinError: there is no such name.
    """
    concept = _by_key(everything).get(name_key(name))
    if concept is None:
        raise _refuse(row, "A row names something that the lexicon lacks.", "a name of lexicon.tsv", name)
    return concept


def levels_of(row: Row) -> tuple[Level, ...]:
    """Levels of a grading system.

    Raises:
        EosinError: a level without "level = meaning", or twice.
    """
    found: list[Level] = []
    for part in row.many("levels", ";"):
        level, sign, meaning = (p.strip() for p in part.partition("="))
        if not sign or not level or not meaning or level in {x.level for x in found}:
            raise _refuse(row, "A level of a grading system cannot be read.", "level = meaning, each once", part)
        found.append(Level(level, meaning, tuple(n.replace("{n}", level) for n in row.many("names"))))
    return tuple(found)


def _simple(rows: Iterable[Row], kind: str) -> Iterator[Concept]:
    for row in rows:
        cited(row)
        synonyms = tuple(Synonym(s) for s in row.many("synonyms"))
        meant = _definition(row, kind)
        yield Concept(own_id(row["name"]), row["name"], synonyms, kind, source=SOURCE, definition=meant)


def _definition(row: Row, kind: str) -> str:
    if kind == "marker":
        wrong = [c for c in row.many("compartment") if c not in COMPARTMENTS]
        if wrong or not row["compartment"]:
            found = ", ".join(wrong) or "none"
            raise _refuse(row, "A marker has an unknown compartment.", ", ".join(COMPARTMENTS), found)
        return f"Immunohistochemistry marker; {' and '.join(row.many('compartment'))} staining."
    return f"Special stain; {row['colour']}." if kind == "stain" else ""


def _grades() -> Iterator[Concept]:
    for row in read_table("grading"):
        cited(row)
        synonyms = tuple(Synonym(s) for s in row.many("synonyms"))
        yield Concept(own_id(row["name"]), row["name"], synonyms, "grade", source=SOURCE)
        for level in levels_of(row):
            label = level_label(row["name"], level.level)
            others = tuple(Synonym(n) for n in level.names if n != label and name_key(n) not in _by_key())
            yield Concept(own_id(label), label, others, "grade", source=SOURCE, definition=level.meaning)


def names_of_grade(row: Row) -> Iterator[tuple[str, str]]:
    """Every name of a grading system and of its levels, with the id of its concept."""
    for name in (row["name"], *row.many("synonyms")):
        yield name, own_id(row["name"])
    for level in levels_of(row):
        for name in level.names:
            yield name, own_id(level_label(row["name"], level.level))


def level_label(system: str, level: str) -> str:
    """Name of a level: "Nottingham grade 2"."""
    return f"{system} {level}"


@functools.cache
def concepts() -> tuple[Concept, ...]:
    """All concepts of the tables: lexicon, markers, stains, grading systems and levels.

    Raises:
        EosinError: two concepts with one id, or a row that cannot be read.
    """
    made = [
        *lexicon(), *_simple(read_table("markers"), "marker"), *_simple(read_table("stains"), "stain"), *_grades(),
    ]  # fmt: skip
    seen: dict[str, Concept] = {}
    for concept in made:
        if concept.id in seen:
            both = f"{concept.label}, {seen[concept.id].label}"
            raise EosinError("Two concepts of the tables have one id.", found=both)
        if concept.type not in KINDS:
            kinds = ", ".join(KINDS)
            raise EosinError("A concept of the tables has an unknown kind.", expected=kinds, found=concept.type)
        seen[concept.id] = concept
    return tuple(made)


@functools.cache
def relations() -> tuple[Relation, ...]:
    """All statements of the tables, in the words of relations.tsv, each with its reference as evidence.

    A marker is immunohistochemical_evidence for a diagnosis, or contradicts it; "expected" rows become expresses and
    has_phenotype, and a marker that is lost becomes lacks_expression, all from the diagnosis.
    """
    return (*_of_markers(), *_of_findings(), *_of_stains(), *_of_grades())


def _of_markers() -> Iterator[Relation]:
    for row in read_table("markers"):
        id, evidence = own_id(row["name"]), cited(row)
        for name in row.many("supports"):
            yield Relation(id, "immunohistochemical_evidence", named(name, row).id, SOURCE, 1.0, evidence)
        for name in row.many("contradicts"):
            yield Relation(id, "contradicts", named(name, row).id, SOURCE, 1.0, evidence)
        for name in row.many("expected"):
            yield Relation(named(name, row).id, "expresses", id, SOURCE, 1.0, evidence)
        for name in row.many("loss_supports"):
            yield Relation(named(name, row).id, "lacks_expression", id, SOURCE, 1.0, evidence)


def _of_findings() -> Iterator[Relation]:
    for row in read_table("evidence"):
        id, evidence = named(row["finding"], row).id, cited(row)
        for name in row.many("supports"):
            yield Relation(id, "morphologic_evidence", named(name, row).id, SOURCE, 1.0, evidence)
        for name in row.many("contradicts"):
            yield Relation(id, "contradicts", named(name, row).id, SOURCE, 1.0, evidence)
        for name in row.many("expected"):
            yield Relation(named(name, row).id, "has_phenotype", id, SOURCE, 1.0, evidence)


def _of_stains() -> Iterator[Relation]:
    for row in read_table("stains"):
        evidence = cited(row)
        for name in row.many("shows"):
            yield Relation(own_id(row["name"]), "shows", named(name, row).id, SOURCE, 1.0, evidence)


def _of_grades() -> Iterator[Relation]:
    for row in read_table("grading"):
        evidence = cited(row)
        for name in row.many("applies_to"):
            yield Relation(named(name, row).id, "graded_by", own_id(row["name"]), SOURCE, 1.0, evidence)
        for level in levels_of(row):
            id = own_id(level_label(row["name"], level.level))
            yield Relation(id, "level_of", own_id(row["name"]), SOURCE, 1.0, evidence)


def check_all() -> Mapping[str, int]:
    """Read every table whole and count its rows. Raises EosinError at the first row that is wrong."""
    counts = {"lexicon": len(lexicon()), "concepts": len(concepts()), "relations": len(relations())}
    for name in COLUMNS:
        rows: Sequence[Row] = read_table(name)
        for row in rows:
            if name != "references":
                cited(row)
        counts[name] = len(rows)
    return counts
