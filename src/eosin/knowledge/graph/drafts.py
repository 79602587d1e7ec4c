"""Collects the rows of all sources, before anything is merged. Every row is counted once, whatever becomes of it."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.knowledge.graph.columns import fold
from eosin.knowledge.graph.concepts import SCOPES, Refusal
from eosin.knowledge.graph.refusals import Refusals
from eosin.knowledge.graph.vocabulary import Predicate, Vocabulary, unknown_predicate
from eosin.knowledge.sources.base import (
    ConceptRow,
    Header,
    LabelRelationRow,
    MappingRow,
    OwnPredicate,
    Refused,
    RelationColumns,
    RelationRow,
    Row,
    shorten,
)

MAX_NAME_CHARS = 500
SCOPE_CODE = {scope: i for i, scope in enumerate(SCOPES)}


@dataclass(slots=True)
class Draft:
    """What is known of one id so far. `label` is None until a source names it."""

    id: str
    label: str | None = None
    declared: bool = False  # a source has a term of this id, though it may give no name
    source: int = -1
    line: int = 0
    type: str | None = None
    definition: str | None = None
    names: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # folded -> text, scope code, source
    xrefs: dict[str, tuple[bool, int]] = field(default_factory=dict)  # CURIE -> identifies, source


class Drafts:
    """All ids, names, relations and mappings as the sources gave them.

    Relations are columns from the start: subject, object and predicate are positions in `drafts` and `predicates`.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.drafts: list[Draft] = []
        self.position: dict[str, int] = {}
        self.predicates: list[Predicate] = list(vocabulary.by_name.values())
        self._predicate_of: dict[str, tuple[int, bool]] = {}
        self._own: dict[str, OwnPredicate] = {}
        self.mappings: list[tuple[int, MappingRow]] = []
        self.by_label: list[tuple[int, LabelRelationRow]] = []
        self.refusals = Refusals()
        self.counts: list[Counter[str]] = []
        self.source_names: list[str] = []
        self.headers: list[Header] = []
        self.evidence: dict[str, int] = {}
        self._buffers: dict[str, array[Any]] = {c: array(t) for c, t in _COLUMNS.items()}
        self._chunks: list[dict[str, NDArray[np.generic]]] = []
        self._whole: set[str] = set()
        self._rows_of = array("i")
        self._rows_by = array("h")

    # --- taking rows -------------------------------------------------------------------------------------------------
    def take(self, name: str, rows: Iterable[Row]) -> Counter[str]:
        """Take all rows of one source. Gives its counts."""
        self.source_names.append(name)
        self.counts.append(Counter())
        self.headers.append(Header())
        self._whole = set()
        handlers: dict[type, Callable[[Any], None]] = {
            ConceptRow: self._concept, RelationRow: self._relation, LabelRelationRow: self._label_relation,
            MappingRow: self._mapping, Refused: self._refused, RelationColumns: self._bulk, Header: self._header,
        }  # fmt: skip
        for row in rows:
            handlers[type(row)](row)
        return self.counts[-1]

    @property
    def source(self) -> int:
        return len(self.source_names) - 1

    def ordinal(self, identifier: str) -> int:
        """Position of an id; made on first use."""
        found = self.position.get(identifier)
        if found is None:
            found = self.position[identifier] = len(self.drafts)
            self.drafts.append(Draft(identifier))
        return found

    def refuse(self, reason: str, detail: str, source: int, line: int, fault: bool = True, num: int = 1) -> None:
        """Put something on the list of what was not taken over."""
        self.refusals.add(Refusal(reason, shorten(detail), self.source_names[source], line, fault, num))
        self.counts[source]["refused" if fault else "set aside"] += num

    def _header(self, row: Header) -> None:
        old = self.headers[-1]
        self.headers[-1] = Header(row.version or old.version, row.licence or old.licence)
        for predicate in row.predicates:
            self._own.setdefault(predicate.name, predicate)

    def _refused(self, row: Refused) -> None:
        self.counts[-1]["rows read"] += row.num
        self.refuse(row.reason, row.detail, self.source, row.line, row.fault, row.num)

    def _concept(self, row: ConceptRow) -> None:
        counts = self.counts[-1]
        counts["rows read"] += 1
        if row.whole and row.id in self._whole:
            return self.refuse("duplicate id", f"{row.id} {row.label}", self.source, row.line)
        if row.whole:
            self._whole.add(row.id)
        draft = self.drafts[self.ordinal(row.id)]
        counts["concept rows"] += 1
        self._rows_of.append(self.position[row.id])
        self._rows_by.append(self.source)
        draft.declared |= row.whole
        if row.label is not None:
            self._label(draft, row)
        if draft.type is None:
            draft.type = row.type
        if draft.definition is None and row.definition:
            draft.definition = row.definition
        for text, scope in row.names:
            self._name(draft, text, SCOPE_CODE[scope], row.line)
        for xref in row.xrefs:
            if xref != row.id:
                draft.xrefs.setdefault(xref, (row.identifies, self.source))
        return None

    def _label(self, draft: Draft, row: ConceptRow) -> None:
        assert row.label is not None
        if draft.label is None:
            draft.label, draft.source, draft.line = row.label, self.source, row.line
            self._name(draft, row.label, 0, row.line)
        elif fold(draft.label) != fold(row.label):
            self._name(draft, row.label, 1, row.line)

    def _name(self, draft: Draft, text: str, code: int, line: int) -> None:
        text = " ".join(text.split())
        counts = self.counts[-1]
        counts["names read"] += 1
        if not text or len(text) > MAX_NAME_CHARS:
            reason = "name too long" if text else "empty name"
            self.refusals.add(Refusal(reason, shorten(f"{draft.id}: {text}"), self.source_names[-1], line, False))
            counts["names set aside"] += 1
            return
        key = fold(text)
        old = draft.names.get(key)
        if old is None:
            draft.names[key] = (text, code, self.source)
        else:
            counts["names known"] += 1
            if code < old[1]:
                draft.names[key] = (old[0], code, old[2])

    def _mapping(self, row: MappingRow) -> None:
        counts = self.counts[-1]
        counts["rows read"] += 1
        counts["mapping rows"] += 1
        self.mappings.append((self.source, row))

    def _label_relation(self, row: LabelRelationRow) -> None:
        self.counts[-1]["rows read"] += 1
        self.counts[-1]["label relation rows"] += 1
        self.by_label.append((self.source, row))

    def _relation(self, row: RelationRow) -> None:
        self.counts[-1]["rows read"] += 1
        self.counts[-1]["relation rows"] += 1
        self.add_relation(row, self.source)

    def add_relation(self, row: RelationRow, source: int) -> None:
        """Append one relation to the columns."""
        predicate, swapped = self.predicate(row.predicate)
        subject, object_ = self.ordinal(row.subject), self.ordinal(row.object)
        if swapped:
            subject, object_ = object_, subject
        evidence = self.evidence.setdefault(row.evidence, len(self.evidence)) if row.evidence else -1
        values = (subject, object_, predicate, source, row.weight, evidence, row.line)
        for column, value in zip(_COLUMNS, values, strict=True):
            self._buffers[column].append(value)

    def predicate(self, name: str) -> tuple[int, bool]:
        """Position of a predicate by the source's name for it, and whether subject and object change places."""
        if name not in self._predicate_of:
            known, swapped = self._resolve(name)
            names = [p.name for p in self.predicates]
            if known.name not in names:
                self.predicates.append(known)
                names.append(known.name)
            self._predicate_of[name] = (names.index(known.name), swapped)
        return self._predicate_of[name]

    def _resolve(self, name: str) -> tuple[Predicate, bool]:
        """By the vocabulary; else by what the source says about its predicate; else a new one."""
        own = self._own.get(name)
        for candidate in (name, *(own.also if own else ()), *([own.words] if own and own.words else ())):
            known, swapped = self.vocabulary.resolve(candidate)
            if known.name in self.vocabulary.by_name:
                return known, swapped
        return unknown_predicate(name, own.words if own else None), False

    def _bulk(self, row: RelationColumns) -> None:
        ordinals = np.fromiter((self.ordinal(i) for i in row.ids), dtype=np.int32, count=len(row.ids))
        subject, object_ = ordinals[row.subject], ordinals[row.object]
        resolved = [self.predicate(p) for p in row.predicates]
        codes = np.array([p for p, _ in resolved], dtype=np.int16)
        swap = np.array([s for _, s in resolved], dtype=bool)[row.predicate]
        num = len(subject)
        counts = self.counts[-1]
        counts["rows read"] += num + row.mirrored
        counts["relation rows"] += num + row.mirrored
        counts["relations mirrored"] += row.mirrored
        self._chunks.append({
            "subject": np.where(swap, object_, subject).astype(np.int32),
            "object": np.where(swap, subject, object_).astype(np.int32),
            "predicate": codes[row.predicate], "source": np.full(num, self.source, np.int16),
            "weight": np.ones(num, np.float32), "evidence": np.full(num, -1, np.int32),
            "line": row.lines.astype(np.int32),
        })  # fmt: skip

    def count_concepts(self) -> None:
        """Count, for every source, the concepts it was the first to name, and its rows about ids that nobody names."""
        for draft in self.drafts:
            if draft.label is not None:
                self.counts[draft.source]["concepts"] += 1
            else:
                for _, _, source in draft.names.values():
                    self.counts[source]["names without a concept"] += 1
        named = np.fromiter((d.label is not None for d in self.drafts), dtype=bool, count=len(self.drafts))
        rows_by = np.frombuffer(self._rows_by, dtype=np.int16) if self._rows_by else np.zeros(0, np.int16)
        rows_of = np.frombuffer(self._rows_of, dtype=np.int32) if self._rows_of else np.zeros(0, np.int32)
        for source, num in enumerate(np.bincount(rows_by[~named[rows_of]], minlength=len(self.counts))):
            if num:
                self.counts[source]["concept rows without a name"] += int(num)

    # --- giving columns ----------------------------------------------------------------------------------------------
    def relation_columns(self) -> dict[str, NDArray[np.generic]]:
        """All relations: single rows first, then the bulks."""
        single = {c: np.frombuffer(b, dtype=_DTYPES[c]).copy() if len(b) else np.zeros(0, _DTYPES[c])
                  for c, b in self._buffers.items()}  # fmt: skip
        return {c: np.concatenate([single[c], *(chunk[c] for chunk in self._chunks)]) for c in _COLUMNS}


_COLUMNS = {"subject": "i", "object": "i", "predicate": "h", "source": "h", "weight": "f", "evidence": "i", "line": "i"}
_DTYPES = {"subject": np.int32, "object": np.int32, "predicate": np.int16, "source": np.int16, "weight": np.float32,
           "evidence": np.int32, "line": np.int32}  # fmt: skip
