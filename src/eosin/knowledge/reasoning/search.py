"""Layers of cheapest walks from a concept, and where the layers of two concepts meet. Plain numpy over mapped columns.

The walk from one end is a layered Bellman-Ford: after h layers, `best[s]` is the cost of the cheapest walk of exactly
h steps to state s. State 2 v is concept v; state 2 v + 1 is a guarded concept v (a diagnosis) that was entered by a
step that speaks for or against it. From there no second such step is taken: that one marker speaks against a tumour and
another one too says nothing about either marker. A walk enters no concept of a degree above the hub limit, and neither
end a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eosin.knowledge.graph.graph import Graph

INFINITE = np.float32(np.inf)
Walk = tuple[float, tuple[int, ...], tuple[int, ...]]
"""Cost, concepts in walking order, rows of `edges`."""


@dataclass(frozen=True)
class Costs:
    """What a step and an intermediate concept cost.

    A step by predicate p costs 1 - ln w, with w the weight of p in the direction of reading times the weight of the
    relation. An intermediate concept of degree d costs hub_penalty * ln d: the damping of degrees of Himmelstein and
    Baranzini (PLoS Comput Biol 2015), written as a sum of logarithms.

    Attributes:
        step: cost of a step, (2, number of predicates); row 0 from subject to object, row 1 back. Infinite: forbidden.
        concept: cost of passing through a concept, by row; infinite for hubs.
        signed: whether a predicate speaks for or against something.
        guarded: concepts that no path passes by two signed steps.
        lowest: the cheapest step.
    """

    step: NDArray[np.float32]
    concept: NDArray[np.float32]
    signed: NDArray[np.bool_]
    guarded: NDArray[np.bool_]
    lowest: float


@dataclass
class Layer:
    """Steps of one layer: from state `tail` (of the layer before) to state `head`, and the cheapest walk through each.

    All are (S,) for S steps. `cost` holds the step and the passing of its head.
    """

    tail: NDArray[np.int32]
    head: NDArray[np.int32]
    edge: NDArray[np.int32]
    cost: NDArray[np.float32]
    total: NDArray[np.float32]


@dataclass
class Side:
    """Layers from one end. `reached` are the states of the last layer, `best` their costs.

    `reverse` is the side of the last concept: its steps are walked from the end and cost what they cost in reading.
    """

    graph: Graph
    costs: Costs
    start: int
    goal: int
    reverse: bool = False
    layers: list[Layer] = field(default_factory=list)
    best: NDArray[np.float32] = field(init=False)
    reached: NDArray[np.int64] = field(init=False)
    _walks: dict[tuple[int, int, int], list[Walk]] = field(default_factory=dict)
    _place: NDArray[np.int32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.best = np.full(2 * len(self.graph), INFINITE)
        self.best[2 * self.start] = 0
        self.reached = np.array([2 * self.start])
        self._place = np.full(2 * len(self.graph), -1, dtype=np.int32)

    def pending(self) -> int:
        """Number of relations that the next layer would look at."""
        return int(self._counts(self._open()).sum())

    def _open(self) -> NDArray[np.int64]:
        """States to go on from: not the goal."""
        return self.reached[self.reached >> 1 != self.goal]

    def _counts(self, states: NDArray[np.int64]) -> NDArray[np.int64]:
        pointers = self.graph.columns.array("pointers", "incidence")
        return pointers[(states >> 1) + 1] - pointers[states >> 1]

    def grow(self, max_relations: int) -> None:
        """Add a layer. Of more than `max_relations` relations, those of the cheapest states are looked at."""
        reached = self._open()
        counts = self._counts(reached)
        if counts.sum() > max_relations:
            order = np.argsort(self.best[reached], kind="stable")
            num = max(1, int(np.searchsorted(np.cumsum(counts[order]), max_relations, "right")))
            reached = reached[order[:num]]
            counts = self._counts(reached)
        begin = self.graph.columns.array("pointers", "incidence")[reached >> 1]
        tail = np.repeat(reached, counts).astype(np.int32)
        rows = np.arange(len(tail)) + np.repeat(begin - np.cumsum(counts) + counts, counts)
        self._add(tail, rows)

    def _add(self, tail: NDArray[np.int32], rows: NDArray[Any]) -> None:
        columns, costs = self.graph.columns, self.costs
        head = columns.array("incidence", "neighbour")[rows]
        keep = ((costs.concept[head] < INFINITE) | (head == self.goal)) & (head != self.start)
        tail, head, rows = tail[keep], head[keep], rows[keep]
        edge = columns.array("incidence", "edge")[rows]
        predicate = columns.array("edges", "predicate")[edge]
        back = ((columns.array("edges", "subject")[edge] != tail >> 1) ^ self.reverse).astype(np.intp)
        step = costs.step[back, predicate]
        weight = columns.array("edges", "weight")[edge]
        if (weight < 1).any():
            step = step - np.log(weight)
        signed = costs.signed[predicate]
        keep = (step < INFINITE) & ~(signed & (tail & 1 == 1))
        tail, head, edge, step, signed = tail[keep], head[keep], edge[keep], step[keep], signed[keep]
        at_goal = head == self.goal
        cost = step + np.where(at_goal, np.float32(0), costs.concept[head])
        state = 2 * head + (signed & costs.guarded[head] & ~at_goal)
        total = (self.best[tail] + cost).astype(np.float32)
        self.best = np.full(2 * len(self.graph), INFINITE)
        np.minimum.at(self.best, state, total)
        self.layers.append(Layer(tail, state, edge, cost.astype(np.float32), total))
        self.reached = np.flatnonzero(self.best < INFINITE)

    def walks(self, state: int, num: int, depth: int | None = None) -> list[Walk]:
        """The `num` cheapest walks of exactly `depth` steps that end in `state`, one for each sequence of concepts."""
        depth = len(self.layers) if depth is None else depth
        if depth == 0:
            return [(0.0, (self.start,), ())] if state == 2 * self.start else []
        key = (depth, state, num)
        if key not in self._walks:
            self._walks[key] = self._cheapest(state, num, depth)
        return self._walks[key]

    def _cheapest(self, state: int, num: int, depth: int) -> list[Walk]:
        layer = self.layers[depth - 1]
        rows = np.flatnonzero(layer.head == state)
        rows = rows[np.argsort(layer.total[rows], kind="stable")]
        found: dict[tuple[int, ...], Walk] = {}
        tails: set[int] = set()
        for row in rows.tolist():
            tail = int(layer.tail[row])
            if tail in tails:
                continue
            tails.add(tail)
            for cost, nodes, edges in self.walks(tail, num, depth - 1):
                if state >> 1 not in nodes:
                    walk = (cost + float(layer.cost[row]), (*nodes, state >> 1), (*edges, int(layer.edge[row])))
                    old = found.get(walk[1])
                    found[walk[1]] = walk if old is None else min(walk, old)
            if len(tails) >= num:
                break
        return sorted(found.values(), key=lambda w: w[:2])[:num]

    def two_best(self, states: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """For each of `states`: cost and last concept before it of the cheapest walk, and the cost of the cheapest that
        comes from another concept."""
        wanted, back = np.unique(states, return_inverse=True)
        best_tail = np.full(len(wanted), self.start, dtype=np.int64)
        second = np.full(len(wanted), INFINITE)
        if self.layers:
            layer = self.layers[-1]
            place = self._place
            place[wanted] = np.arange(len(wanted))
            rows = np.flatnonzero(place[layer.head] >= 0)
            rows = rows[np.lexsort((layer.total[rows], layer.head[rows]))]
            owner, tail, total = place[layer.head[rows]], layer.tail[rows] >> 1, layer.total[rows]
            _, first = np.unique(owner, return_index=True)
            best_tail[owner[first]] = tail[first]
            place[wanted] = -1
            other = tail != best_tail[owner]
            found, where = np.unique(owner[other], return_index=True)
            second[found] = total[other][where]
        return self.best[states], best_tail[back], second[back]


def meeting(a: Side, b: Side, limit: float, most: int) -> Iterator[tuple[float, int, int]]:
    """States where both sides meet, by the cost of the cheapest walk through them that does not turn on the spot.

    Args:
        limit: costs from here on are not wanted.
        most: look at no more pairs of states than this, cheapest first.

    Yields:
        cost, state on side a, state on side b.
    """
    if not b.layers:
        cost = float(a.best[2 * b.start])
        if cost < limit:
            yield cost, 2 * b.start, 2 * b.start
        return
    of_a, of_b = _pairs(a, b)
    low = a.best[of_a] + b.best[of_b] - a.costs.concept[of_a >> 1]
    keep = np.flatnonzero(low < limit)
    if len(keep) > most:
        keep = keep[np.argpartition(low[keep], most)[:most]]
    of_a, of_b = of_a[keep], of_b[keep]
    a_cost, a_tail, a_second = a.two_best(of_a)
    b_cost, b_tail, b_second = b.two_best(of_b)
    straight = np.where(a_tail != b_tail, a_cost + b_cost, INFINITE)
    cost = np.minimum(straight, np.minimum(a_cost + b_second, a_second + b_cost)) - a.costs.concept[of_a >> 1]
    for k in np.argsort(cost, kind="stable"):
        if cost[k] >= limit:
            return
        yield float(cost[k]), int(of_a[k]), int(of_b[k])


def _pairs(a: Side, b: Side) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of reached states of the same concept, not both entered by a signed step; without the two ends."""
    best_a, best_b = a.best.reshape(-1, 2) < INFINITE, b.best.reshape(-1, 2) < INFINITE
    pairs = []
    for flag_a, flag_b in ((0, 0), (0, 1), (1, 0)):
        nodes = np.flatnonzero(best_a[:, flag_a] & best_b[:, flag_b])
        nodes = nodes[(nodes != a.start) & (nodes != b.start)]
        pairs.append((2 * nodes + flag_a, 2 * nodes + flag_b))
    return np.concatenate([p for p, _ in pairs]), np.concatenate([p for _, p in pairs])
