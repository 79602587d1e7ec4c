"""Relations that close a cycle."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray


def closing_edges(subject: NDArray[Any], object_: NDArray[Any]) -> list[tuple[int, list[int]]]:
    """A set of edges whose removal leaves no directed cycle, each with the cycle that it closed.

    Edges are seen in their given order of sources, so that of a cycle the edge which a depth-first walk meets last is
    given up. The chain begins and ends with the same node.
    """
    left = _on_cycles(subject, object_)
    out: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for k in left.tolist():
        out[int(subject[k])].append((k, int(object_[k])))
    found: list[tuple[int, list[int]]] = []
    done: set[int] = set()
    for start in list(out):
        if start not in done:
            _walk(start, out, done, found)
    return found


def _on_cycles(subject: NDArray[Any], object_: NDArray[Any]) -> NDArray[np.int64]:
    """Edges left when nodes without a way in or out are peeled off again and again; none for a sound hierarchy."""
    edges = np.arange(len(subject))
    num = int(max(subject.max(initial=-1), object_.max(initial=-1))) + 1
    while len(edges):
        has_out = np.zeros(num, dtype=bool)
        has_in = np.zeros(num, dtype=bool)
        has_out[subject[edges]] = True
        has_in[object_[edges]] = True
        keep = has_in[subject[edges]] & has_out[object_[edges]]
        if keep.all():
            break
        edges = edges[keep]
    return edges


def _walk(
    start: int, out: dict[int, list[tuple[int, int]]], done: set[int], found: list[tuple[int, list[int]]]
) -> None:
    """Depth-first walk without recursion; an edge to a node on the present path closes a cycle."""
    path = [start]
    on_path = {start}
    iterators = [iter(out.get(start, ()))]
    while path:
        step = next(iterators[-1], None)
        if step is None:
            iterators.pop()
            node = path.pop()
            on_path.discard(node)
            done.add(node)
            continue
        edge, node = step
        if node in on_path:
            found.append((edge, [*path[path.index(node) :], node]))
        elif node not in done:
            path.append(node)
            on_path.add(node)
            iterators.append(iter(out.get(node, ())))
