"""Paths between two concepts that carry evidence: cheapest first, hubs damped, told as sentences.

A path is a chain of relations without a repeated concept. Its cost is the sum over its steps and intermediate concepts
(`search.Costs`): steps that speak for or against a diagnosis are cheap, taxonomy is dearer, and a concept that
everything is tied to is dear. The search goes out from both ends, always on the side with fewer relations, and stops
when no longer path can be among the k cheapest. It is exact up to four steps; beyond, a walk whose halves share a
concept may push a sound path out of the k.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from eosin.core.errors import EosinError
from eosin.knowledge.graph.concepts import Relation
from eosin.knowledge.graph.graph import Graph
from eosin.knowledge.reasoning.search import INFINITE, Costs, Side, Walk, meeting

HUB_PENALTY = 0.4
"""Cost of passing a concept, per natural logarithm of its degree."""
HUB_LIMIT = 2000
"""No path passes through a concept with more relations."""
MAX_RELATIONS = 1_000_000
"""Relations looked at in one layer of one side; of more, those of the cheapest concepts."""
_MEETINGS = 4096
_SLACK = 6
_MOST_WALKS = 60
_EQUAL = 1e-4


@dataclass(frozen=True)
class Step:
    """One relation of a path, read forward (subject to object) or backward."""

    relation: Relation
    forward: bool

    @property
    def start(self) -> str:
        return self.relation.subject if self.forward else self.relation.object

    @property
    def end(self) -> str:
        return self.relation.object if self.forward else self.relation.subject


@dataclass(frozen=True)
class Path:
    """A chain of relations from one concept to another.

    Attributes:
        steps: at least one.
        cost: lower is better; see `search.Costs`.
        sign: product of the signs of the steps that speak for (1) or against (-1) something; 0 where none does.
    """

    steps: tuple[Step, ...]
    cost: float
    sign: int

    @property
    def concepts(self) -> tuple[str, ...]:
        """All concepts on the way, from the first to the last."""
        return (self.steps[0].start, *(s.end for s in self.steps))

    def sentence(self, graph: Graph) -> str:
        """The path in plain words, with the labels of the concepts."""
        return sentence_of(self, graph)


def paths(
    graph: Graph,
    a: str,
    b: str,
    k: int = 3,
    *,
    max_hops: int = 4,
    hub_limit: int | None = HUB_LIMIT,
    hub_penalty: float = HUB_PENALTY,
    weights: Mapping[str, float] | None = None,
    only: Sequence[str] | None = None,
    guard: str | None = "diagnosis",
    detours: bool = False,
    max_relations: int = MAX_RELATIONS,
) -> list[Path]:
    """The k cheapest paths between two concepts, cheapest first.

    Args:
        k: how many at most.
        max_hops: the longest path, in steps.
        hub_limit: no path passes through a concept of a higher degree; None for no limit. The two ends are exempt.
        hub_penalty: cost per ln(degree) of an intermediate concept.
        weights: predicate -> weight in place of the vocabulary's, 0 to forbid it.
        only: use these predicates and no other.
        guard: no path passes through a concept of this type by two steps that both speak for or against it; what
            tells two markers about one tumour is no evidence that ties the markers. None: no such rule.
        detours: keep also a path that passes all concepts of a cheaper one (of at least two steps) and others as well.
        max_relations: bound on the relations looked at in each layer.

    Raises:
        EosinError: an unknown concept or predicate, or a and b are the same concept.
    """
    start, goal = graph.index(a), graph.index(b)
    if start == goal:
        raise EosinError("A path needs two different concepts.", found=f"{a} and {b} are the same concept here")
    if k < 1 or max_hops < 1:
        raise EosinError("k and max_hops must be at least 1.", found=f"k={k}, max_hops={max_hops}")
    costs = make_costs(graph, hub_limit, hub_penalty, weights, only, guard)
    wanted = k if detours else 2 * k
    while True:
        sides = (Side(graph, costs, start, goal), Side(graph, costs, goal, start, reverse=True))
        walks = _search(*sides, wanted, max_hops, max_relations)
        kept = walks if detours else _without_detours(walks)
        if len(kept) >= k or len(walks) < wanted or wanted > _MOST_WALKS:
            return [_path(graph, walk) for walk in kept[:k]]
        wanted *= 3


def _without_detours(walks: Sequence[Walk]) -> list[Walk]:
    """Walks, cheapest first, without those that pass all the concepts of a cheaper one and others as well."""
    kept: list[Walk] = []
    for walk in walks:
        if not any(len(other[1]) > 2 and _passes(walk[1], other[1]) for other in kept):
            kept.append(walk)
    return kept


def _passes(nodes: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether `others` stand in `nodes` in their order."""
    rest = iter(nodes)
    return all(other in rest for other in others)


def make_costs(
    graph: Graph,
    hub_limit: int | None = HUB_LIMIT,
    hub_penalty: float = HUB_PENALTY,
    weights: Mapping[str, float] | None = None,
    only: Sequence[str] | None = None,
    guard: str | None = "diagnosis",
) -> Costs:
    """Costs of steps and concepts in this graph."""
    known = set(graph.predicates)
    for name in (*(weights or {}), *(only or ())):
        if name not in known:
            raise EosinError("The graph has no such relation.", expected=", ".join(sorted(known)), found=name)
    step = np.full((2, len(graph.predicates)), INFINITE)
    for i, name in enumerate(graph.predicates):
        predicate = graph.vocabulary[name]
        pair = (predicate.weight, predicate.inverse_weight)
        if weights and name in weights:
            pair = (weights[name], weights[name])
        if only is None or name in only:
            step[:, i] = [1 - np.log(w) if w > 0 else INFINITE for w in pair]
    concept = np.float32(hub_penalty) * graph.log_degrees
    if hub_limit is not None:
        concept[graph.degrees() > hub_limit] = INFINITE
    signed = np.array([graph.vocabulary[p].sign != 0 for p in graph.predicates], dtype=bool)
    guarded = graph.of_type(guard) if guard else np.zeros(len(graph), dtype=bool)
    return Costs(step, concept, signed, guarded, float(step.min(initial=INFINITE)))


def _search(a: Side, b: Side, k: int, max_hops: int, max_relations: int) -> list[Walk]:
    """Grow the cheaper side until no longer path can be better than the k-th found."""
    found: dict[tuple[int, ...], Walk] = {}
    limit = float("inf")
    for _ in range(max_hops):
        if not a.layers or a.pending() <= b.pending():
            a.grow(max_relations)
        else:
            b.grow(max_relations)
        if not len(a.reached) or not len(b.reached):
            break
        for walk in _join(a, b, k, limit):
            old = found.get(walk[1])
            if old is None or walk[0] < old[0]:
                found[walk[1]] = walk
        best = heapq.nsmallest(k, found.values(), key=lambda w: w[:2])
        limit = best[-1][0] if len(best) == k else limit
        ahead = float(a.best[a.reached].min() + b.best[b.reached].min()) + a.costs.lowest
        if ahead >= limit:
            break
    return heapq.nsmallest(k, found.values(), key=lambda w: w[:2])


def _join(a: Side, b: Side, k: int, limit: float) -> list[Walk]:
    """The cheapest walks through the concepts where both sides meet."""
    walks: dict[tuple[int, ...], Walk] = {}
    dearest: list[float] = []  # negative costs of the k cheapest so far: the dearest of them first
    num = k + _SLACK
    for looked, (cheapest, of_a, of_b) in enumerate(meeting(a, b, limit, _MEETINGS)):
        if looked >= 2 * num or cheapest >= limit:
            break
        middle = float(a.costs.concept[of_a >> 1]) if b.layers else 0.0
        for walk in _through(a.walks(of_a, num), b.walks(of_b, num), middle, limit):
            if walk[1] not in walks or walk[0] < walks[walk[1]][0]:
                heapq.heappush(dearest, -walk[0])
                walks[walk[1]] = walk
            if len(dearest) > num:
                heapq.heappop(dearest)
                limit = min(limit, -dearest[0] + _EQUAL)
    return heapq.nsmallest(num, walks.values(), key=lambda w: w[:2])


def _through(of_a: Sequence[Walk], of_b: Sequence[Walk], middle: float, limit: float) -> Iterator[Walk]:
    """Whole walks from two halves, without those that repeat a concept, cheaper than `limit`."""
    for cost_a, nodes_a, edges_a in of_a:
        before = set(nodes_a[:-1])
        for cost_b, nodes_b, edges_b in of_b:
            cost = cost_a + cost_b - middle
            if cost >= limit:
                break
            if before.isdisjoint(nodes_b[:-1]):
                yield cost, (*nodes_a, *reversed(nodes_b[:-1])), (*edges_a, *reversed(edges_b))


def _path(graph: Graph, walk: Walk) -> Path:
    cost, nodes, edges = walk
    steps = []
    sign = 0
    for node, edge in zip(nodes, edges, strict=False):
        relation = graph.relation_at(edge)
        steps.append(Step(relation, relation.subject == graph.id_at(node)))
        own = graph.vocabulary[relation.predicate].sign
        sign = own * (sign or 1) if own else sign
    return Path(tuple(steps), round(cost, 4), sign)


@functools.cache
def _templates() -> Mapping[str, str]:
    lines = files("eosin.knowledge").joinpath("templates.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")][1:]
    return {row[0]: row[1] for row in rows}


def sentence_of(path: Path, graph: Graph) -> str:
    """A path in plain words: by a template of templates.tsv for the whole path, else step by step."""
    labels = [graph.label_of(c) for c in path.concepts]
    pattern = " ".join(f"{s.relation.predicate}>" if s.forward else f"<{s.relation.predicate}" for s in path.steps)
    whole = _templates().get(pattern)
    text = whole.format(*labels) if whole else "; ".join(step_sentence(s, graph) for s in path.steps)
    return f"{text[:1].upper()}{text[1:]}."


def step_sentence(step: Step, graph: Graph) -> str:
    """One relation in plain words, read in the direction of the step."""
    predicate = graph.vocabulary[step.relation.predicate]
    pattern = predicate.sentence if step.forward else predicate.inverse
    return pattern.format(s=graph.label_of(step.relation.subject), o=graph.label_of(step.relation.object))
