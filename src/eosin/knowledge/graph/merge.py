"""Which ids mean the same: by equal id, by a declared exact match, by an identifying cross-reference. Never by name.

A merge that would put two concepts of one vocabulary into one is refused: a vocabulary keeps apart what it thinks
different. Cross-references join two concepts only where each is the other's single best partner, by the number of
shared references, where their types can be the same (not an organ and a diagnosis), and where no qualifier tells them
apart (not "benign pleural mesothelioma" and "pleural mesothelioma"). A refused exact match stays as a relation
`same_as`, a refused cross-reference as `close_match`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from eosin.knowledge.graph.curies import identifies, prefix_of
from eosin.knowledge.graph.drafts import Draft, Drafts
from eosin.knowledge.sources.base import MappingRow, RelationRow

_ALIKE = [{"finding", "diagnosis"}]
QUALIFIERS = (
    "benign", "mixed", "altered", "mutant", "wildtype", "high grade", "low grade", "well differentiated", "chronic",
    "in situ", "borderline", "syndrome",
)  # fmt: skip
"""Words that divide one diagnosis from another: a cross-reference does not join two of which one bears such a word in
its label and the other in no name: a syndrome is not the tumor that it brings. (Names may forbid a merge; they never
make one.)"""
MAX_BEARERS = 20
"""A cross-reference that more concepts bear ties nobody to anybody."""


@dataclass(frozen=True)
class Merge:
    """Why `merged` now stands under `canonical`."""

    canonical: str
    merged: str
    how: str
    source: str


@dataclass
class Groups:
    """A union-find over positions in `Drafts.drafts`; the root of a group is its first source's concept."""

    parent: list[int]
    prefixes: dict[int, set[str]] = field(default_factory=dict)
    merges: list[Merge] = field(default_factory=list)

    def root(self, i: int) -> int:
        """Root of the group of i, halving the way up."""
        parent = self.parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i


def merge(drafts: Drafts, type_of: Callable[[Draft], str], *, by_reference: bool = True) -> Groups:
    """Join ids that mean the same. Refusals and relations in place of refused merges go into `drafts`.

    Args:
        by_reference: whether cross-references may join; else they become `close_match`.
    """
    groups = Groups(list(range(len(drafts.drafts))))
    groups.prefixes = {i: {prefix_of(d.id)} for i, d in enumerate(drafts.drafts) if d.label is not None}
    for source, row in drafts.mappings:
        _declared(drafts, groups, source, row)
    _extend(drafts, groups)
    _by_references(drafts, groups, type_of, by_reference)
    return groups


def _extend(drafts: Drafts, groups: Groups) -> None:
    """Positions that mappings made after the groups were begun."""
    groups.parent.extend(range(len(groups.parent), len(drafts.drafts)))


def _declared(drafts: Drafts, groups: Groups, source: int, row: MappingRow) -> None:
    """One exact match or secondary id."""
    a, b = drafts.ordinal(row.a), drafts.ordinal(row.b)
    _extend(drafts, groups)
    if drafts.drafts[a].label is None and drafts.drafts[b].label is not None and not (row.secondary or row.predicate):
        a, b = b, a
    first, second = drafts.drafts[a], drafts.drafts[b]
    if first.label is None:
        drafts.refuse("mapping of unknown ids", f"{row.a} {row.how} {row.b}", source, row.line, fault=False)
        drafts.counts[source]["mappings unused"] += 1
        return
    if row.predicate:
        _relate(drafts, source, row, second.label is not None)
        return
    if row.secondary and second.label is not None:
        drafts.counts[source]["mappings unused"] += 1
        drafts.refuse("secondary id is a concept of its own", f"{row.b} of {row.a}", source, row.line, False)
        return
    ra, rb = groups.root(a), groups.root(b)
    if ra == rb:
        drafts.counts[source]["mappings known"] += 1
        return
    if groups.prefixes.get(ra, set()) & groups.prefixes.get(rb, set()):
        drafts.refuse(
            "would join two concepts of one vocabulary", f"{row.a} {row.how} {row.b}", source, row.line, False
        )
        drafts.add_relation(RelationRow(row.a, "same_as", row.b, evidence=row.how, line=row.line), source)
        drafts.counts[source]["mappings unused"] += 1
        drafts.counts[source]["relations added"] += 1
        return
    drafts.counts[source]["mappings used"] += 1
    _union(drafts, groups, ra, rb, row.how, source)


def _relate(drafts: Drafts, source: int, row: MappingRow, both: bool) -> None:
    """A mapping that is not exact: a relation, where both ids are concepts."""
    if both:
        relation = RelationRow(row.a, row.predicate, row.b, row.weight, row.how, row.line)
        drafts.add_relation(relation, source)
        drafts.counts[source]["mappings used"] += 1
        drafts.counts[source]["relations added"] += 1
    else:
        drafts.counts[source]["mappings unused"] += 1
        detail = f"{row.a} {row.predicate} {row.b}"
        drafts.refuse("mapping of unknown ids", detail, source, row.line, fault=False)


def _union(drafts: Drafts, groups: Groups, a: int, b: int, how: str, source: int) -> None:
    """Join two groups under the one whose concept came first; a named one goes before an unnamed one."""

    def rank(i: int) -> tuple[bool, int, int]:
        d = drafts.drafts[i]
        return d.label is None, d.source, i

    keep, gone = (a, b) if rank(a) <= rank(b) else (b, a)
    groups.parent[gone] = keep
    groups.prefixes[keep] = groups.prefixes.get(keep, set()) | groups.prefixes.pop(gone, set())
    groups.merges.append(Merge(drafts.drafts[keep].id, drafts.drafts[gone].id, how, drafts.source_names[source]))


def _bearers(drafts: Drafts, near: bool = False) -> dict[str, list[int]]:
    """Identifying cross-reference -> the named concepts that bear it, or that it names.

    `near` takes also the references of concepts that only point to a near meaning.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for i, draft in enumerate(drafts.drafts):
        if draft.label is not None:
            for xref, (exact, _) in draft.xrefs.items():
                if (exact or near) and identifies(xref):
                    found[xref].append(i)
    for xref, owners in found.items():
        target = drafts.position.get(xref)
        if target is not None and drafts.drafts[target].label is not None:
            owners.insert(0, target)
    return {x: owners for x, owners in found.items() if 1 < len(owners) <= MAX_BEARERS}


def _votes(drafts: Drafts, groups: Groups, near: bool = False) -> dict[tuple[int, int], list[str]]:
    """Pairs of groups of different vocabularies -> the cross-references that tie them."""
    votes: dict[tuple[int, int], list[str]] = defaultdict(list)
    for xref, owners in _bearers(drafts, near).items():
        roots = list(dict.fromkeys(groups.root(i) for i in owners))
        for k, a in enumerate(roots):
            for b in roots[k + 1 :]:
                if prefix_of(drafts.drafts[a].id) != prefix_of(drafts.drafts[b].id):
                    votes[min(a, b), max(a, b)].append(xref)
    return votes


def _only_best(drafts: Drafts, votes: dict[tuple[int, int], list[str]]) -> set[tuple[int, int]]:
    """Pairs in which each is the other's only best partner in that vocabulary. A tie joins nobody."""
    best: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    for (a, b), xrefs in votes.items():
        best[a, prefix_of(drafts.drafts[b].id)].append((len(xrefs), b))
        best[b, prefix_of(drafts.drafts[a].id)].append((len(xrefs), a))
    chosen: dict[tuple[int, str], int] = {}
    for key, candidates in best.items():
        top = max(c for c, _ in candidates)
        leaders = [i for c, i in candidates if c == top]
        if len(leaders) == 1:
            chosen[key] = leaders[0]
    return {
        (a, b) for a, b in votes
        if chosen.get((a, prefix_of(drafts.drafts[b].id))) == b and chosen.get((b, prefix_of(drafts.drafts[a].id))) == a
    }  # fmt: skip


def _by_references(drafts: Drafts, groups: Groups, type_of: Callable[[Draft], str], may_join: bool) -> None:
    """Join what cross-references tie; where they are ambiguous or tie unlike types, keep a relation instead."""
    votes = _votes(drafts, groups)
    mutual = _only_best(drafts, votes)
    for (a, b), xrefs in sorted(votes.items(), key=lambda item: (-len(item[1]), item[0])):
        first, second = drafts.drafts[a], drafts.drafts[b]
        source = max(first.source, second.source)
        counts = drafts.counts[source]
        ra, rb = groups.root(a), groups.root(b)
        how = "xref " + " ".join(sorted(xrefs))
        if ra == rb:
            continue
        if not may_join:
            counts["cross-references kept as close_match"] += 1
        elif not _alike(type_of(first), type_of(second)):
            counts["cross-references between types"] += 1
        elif _qualified(first, second) or _qualified(second, first):
            counts["cross-references with a qualifier"] += 1
        elif (a, b) not in mutual or groups.prefixes[ra] & groups.prefixes[rb]:
            counts["cross-references ambiguous"] += 1
        else:
            counts["cross-references merged"] += 1
            _union(drafts, groups, ra, rb, how, source)
            continue
        drafts.add_relation(RelationRow(second.id, "close_match", first.id, evidence=how), source)
        counts["relations added"] += 1
    _near_references(drafts, groups, votes)


def _near_references(drafts: Drafts, groups: Groups, votes: dict[tuple[int, int], list[str]]) -> None:
    """References that were given as near only: a relation between concepts of alike types."""
    for (a, b), xrefs in sorted(_votes(drafts, groups, near=True).items()):
        first, second = drafts.drafts[a], drafts.drafts[b]
        if (a, b) not in votes and groups.root(a) != groups.root(b):
            source = max(first.source, second.source)
            how = "xref " + " ".join(sorted(xrefs))
            drafts.add_relation(RelationRow(second.id, "close_match", first.id, evidence=how), source)
            drafts.counts[source]["relations added"] += 1


def _qualified(a: Draft, b: Draft) -> bool:
    """Whether the label of a bears a qualifier that no name of b bears."""
    label = _spaced(a.label or "")
    wanted = [q for q in QUALIFIERS if f" {q} " in label]
    names = [_spaced(name) for name in b.names]
    return any(not any(f" {q} " in name or f" {q}s " in name for name in names) for q in wanted)


def _spaced(name: str) -> str:
    """A name in lower case with single spaces for all signs, and one at each end."""
    return f" {' '.join(re.findall('[a-z0-9]+', name.casefold()))} "


def _alike(a: str, b: str) -> bool:
    return a == b or "other" in (a, b) or {a, b} in _ALIKE
