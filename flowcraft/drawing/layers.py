"""Nodes of a graph in layers: each below all that lead to it, and in an order with few crossings of lines.

Sugiyama's method, in the steps that it is known by; a node is a number, a line a pair of them.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Edge = tuple[int, int]

MOST_EDGES = 4_000
"""Lines of one block that are drawn."""
_MOST_BENDS = 20_000
"""Layers that lines pass through, over all lines, before those that follow from others are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """Nodes in layers, from above. Where a line passes through a layer, a node of its own stands for it (``count`` and up).

    ``chains`` are the nodes of each line from its source to its target; ``kept`` are the numbers of the lines that are drawn.
    """

    count: int
    rows: list[list[int]]
    chains: list[list[int]]
    kept: list[int]
    above: list[list[int]]
    below: list[list[int]]


def layered(count: int, edges: Sequence[Edge]) -> Layers:
    """Return ``count`` nodes in layers. The lines must go round in no circle."""
    kept = list(range(len(edges)))
    ranks = _ranks(count, edges)
    if sum(ranks[target] - ranks[source] for source, target in edges) > _MOST_BENDS or len(edges) > MOST_EDGES:
        kept = _reduced(count, edges, ranks)[:MOST_EDGES]
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for node, rank in enumerate(ranks):
        rows[rank].append(node)
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    chains = []
    for number in kept:
        source, target = edges[number]
        chain = [source]
        for rank in range(ranks[source] + 1, ranks[target]):
            chain.append(len(above))
            rows[rank].append(len(above))
            above.append([])
            below.append([])
        chain.append(target)
        for upper, lower in itertools.pairwise(chain):
            below[upper].append(lower)
            above[lower].append(upper)
        chains.append(chain)
    found = Layers(count=count, rows=rows, chains=chains, kept=kept, above=above, below=below)
    _untangle(found)
    return found


def _ranks(count: int, edges: Sequence[Edge]) -> list[int]:
    """Return the layer of each node: as high as those before it allow, and no layer much wider than the picture is high."""
    most = max(6, math.isqrt(2 * count))
    waits, follow = [0] * count, [[] for _ in range(count)]  # type: tuple[list[int], list[list[int]]]
    for source, target in edges:
        waits[target] += 1
        follow[source].append(target)
    first = [wait == 0 for wait in waits]
    ready = [node for node in range(count) if first[node]]
    ranks, filled = [0] * count, [0] * (count + 1)
    for node in ready:
        while filled[ranks[node]] >= most:
            ranks[node] += 1
        filled[ranks[node]] += 1
        for other in follow[node]:
            ranks[other] = max(ranks[other], ranks[node] + 1)
            waits[other] -= 1
            if waits[other] == 0:
                ready.append(other)
    for node in reversed(ready):  # who waits for nobody stands just above who waits for it
        lowest = min((ranks[other] for other in follow[node]), default=0) - 1
        if first[node] and lowest > ranks[node] and filled[lowest] < most:
            filled[ranks[node]] -= 1
            filled[lowest] += 1
            ranks[node] = lowest
    used = sorted(set(ranks))
    return [bisect.bisect_left(used, rank) for rank in ranks]


def _reduced(count: int, edges: Sequence[Edge], ranks: Sequence[int]) -> list[int]:
    """Return the numbers of the lines that do not follow from others."""
    follow: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        follow[source].append(target)
    reach = [0] * count
    direct: set[Edge] = set()
    for node in sorted(range(count), key=ranks.__getitem__, reverse=True):
        for other in sorted(set(follow[node]), key=ranks.__getitem__):
            if not reach[node] >> other & 1:
                direct.add((node, other))
                reach[node] |= 1 << other | reach[other]
    return [number for number, edge in enumerate(edges) if edge in direct]


def _untangle(layers: Layers) -> None:
    """Bring the nodes of each layer into an order with few crossings: by the middle of their neighbours, up and down."""
    size = len(layers.above)
    sweeps = 24 if size < 1_000 else 8 if size < 8_000 else 3
    best, fewest = [list(row) for row in layers.rows], _crossings(layers)
    for sweep in range(sweeps):
        if fewest == 0:
            break
        down = sweep % 2 == 0
        near = layers.above if down else layers.below
        rows = layers.rows if down else layers.rows[::-1]
        for before, row in itertools.pairwise(rows):
            place = {node: number for number, node in enumerate(before)}
            middle = {}
            for number, node in enumerate(row):
                places = [place[other] for other in near[node]]
                middle[node] = sum(places) / len(places) if places else number * len(before) / len(row)
            row.sort(key=middle.__getitem__)
        crossings = _crossings(layers)
        if crossings < fewest:
            best, fewest = [list(row) for row in layers.rows], crossings
    for row, ordered in zip(layers.rows, best, strict=True):
        row[:] = ordered


def _crossings(layers: Layers) -> int:
    """Return how many pairs of lines cross."""
    crossings = 0
    for upper, lower in zip(layers.rows, layers.rows[1:], strict=False):
        place = {node: number for number, node in enumerate(lower)}
        ends: list[int] = []
        for node in upper:
            own = sorted(place[other] for other in layers.below[node])
            crossings += sum(len(ends) - bisect.bisect_right(ends, end) for end in own)
            for end in own:
                bisect.insort(ends, end)
    return crossings
