"""Where boxes and lines lie: in layers from above, close to those they belong to, lines straight where that is possible."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flowcraft.drawing.layers import Layers, layered

Name = TypeVar("Name", bound=Hashable)
Point = tuple[float, float]
Size = tuple[float, float]

_THIN = 10.0
"""How wide the way of a line through a layer is."""
_PORT = 22.0
"""How far apart lines leave a box at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where all lies in a rectangle of ``width`` and ``height`` that begins at 0, 0.

    ``boxes`` are the left upper corners, in the order of the sizes given; ``lines`` the points of each line that is drawn, by
    its number: from the lower edge of a box to the upper edge of another, in pairs that lie straight below each other or have a
    curve between them.
    """

    width: float
    height: float
    boxes: list[Point]
    lines: Mapping[int, list[Point]]


def lay_out(sizes: Sequence[Size], edges: Sequence[tuple[int, int]], gap: Size) -> Layout:
    """Return where boxes of these sizes lie; ``gap`` is the least space between two side by side, and one above the other."""
    layers = layered(len(sizes), edges)
    widths = [size[0] for size in sizes] + [_THIN] * (len(layers.above) - len(sizes))
    centres = _centres(layers, widths, gap[0])
    left = min((centres[node] - widths[node] / 2 for row in layers.rows for node in row), default=0.0)
    centres = [centre - left for centre in centres]
    tops, heights, place = _heights(layers, sizes, centres, gap[1])
    boxes = []
    for node, (wide, high) in enumerate(sizes):
        row = place[node]
        boxes.append((centres[node] - wide / 2, tops[row] + (heights[row] - high) / 2))
    return Layout(
        width=max((centres[node] + widths[node] / 2 for row in layers.rows for node in row), default=0.0),
        height=tops[-1] + heights[-1] if tops else 0.0,
        boxes=boxes,
        lines=_lines(layers, sizes, centres, boxes, (tops, heights, place)),
    )


def _centres(layers: Layers, widths: Sequence[float], gap: float) -> list[float]:
    """Return the middle of each node: near the middle of its neighbours, so far from those beside it as their widths ask."""
    centres = [0.0] * len(widths)
    apart: list[list[float]] = []
    for row in layers.rows:
        spaces = [
            (widths[one] + widths[other]) / 2 + (gap if one < layers.count or other < layers.count else gap / 2)
            for one, other in itertools.pairwise(row)
        ]
        apart.append(spaces)
        whole = sum(spaces)
        place = -whole / 2
        for node, space in zip(row, [*spaces, 0.0], strict=True):
            centres[node] = place
            place += space
    passes = 30 if len(widths) < 2_000 else 8
    for number in range(passes):
        down = number % 2 == 0
        both = number >= passes - passes // 3
        for rank in range(len(layers.rows)) if down else range(len(layers.rows) - 1, -1, -1):
            _settle(layers, layers.rows[rank], apart[rank], centres, (both or down, both or not down))
    return centres


def _settle(layers: Layers, row: Sequence[int], apart: Sequence[float], centres: list[float], look: tuple[bool, bool]) -> None:
    """Move the nodes of a layer close to their neighbours; ``look`` says whether to those above, and to those below."""
    wanted, weights = [], []
    for node in row:
        near = (layers.above[node] if look[0] else []) + (layers.below[node] if look[1] else [])
        pulls = [_weight(layers, node, other) for other in near]
        total = sum(pulls)
        drawn = sum(centres[other] * pull for other, pull in zip(near, pulls, strict=True))
        wanted.append(drawn / total if near else centres[node])
        weights.append(total or 0.05)
    for node, centre in zip(row, _spread(wanted, weights, apart), strict=True):
        centres[node] = centre


def _weight(layers: Layers, one: int, other: int) -> float:
    """Return how much two nodes want to lie above each other: a line that passes through layers is to be straight."""
    return (1.0, 3.0, 12.0)[(one >= layers.count) + (other >= layers.count)]


def _spread(wanted: Sequence[float], weights: Sequence[float], apart: Sequence[float]) -> list[float]:
    """Return places next to those wanted, in least squares, each so far behind the one before as ``apart`` asks.

    Pool adjacent violators: what stands too close is moved as one.
    """
    offsets = [0.0]
    for space in apart:
        offsets.append(offsets[-1] + space)
    pools: list[tuple[float, float, int]] = []
    for place, weight, offset in zip(wanted, weights, offsets, strict=False):
        mean, total, count = place - offset, weight, 1
        while pools and pools[-1][0] >= mean:
            before, heavy, many = pools.pop()
            mean = (before * heavy + mean * total) / (heavy + total)
            total, count = total + heavy, count + many
        pools.append((mean, total, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]


def _heights(
    layers: Layers, sizes: Sequence[Size], centres: Sequence[float], gap: float
) -> tuple[list[float], list[float], dict[int, int]]:
    """Return the upper edge and the height of each layer, and the layer of each node; far lines get more room to bend."""
    place = {node: rank for rank, row in enumerate(layers.rows) for node in row}
    tops: list[float] = []
    heights: list[float] = []
    top = 0.0
    for row in layers.rows:
        heights.append(max((sizes[node][1] for node in row if node < layers.count), default=0.0))
        tops.append(top)
        far = max((abs(centres[node] - centres[other]) for node in row for other in layers.below[node]), default=0.0)
        top += heights[-1] + gap + min(far * 0.08, gap)
    return tops, heights, place


def _lines(
    layers: Layers,
    sizes: Sequence[Size],
    centres: Sequence[float],
    boxes: Sequence[Point],
    rows: tuple[list[float], list[float], dict[int, int]],
) -> dict[int, list[Point]]:
    """Return the points of each line; those of one box leave and reach it side by side, in the order of their other ends."""
    tops, heights, place = rows
    leaves: dict[int, list[tuple[float, int]]] = {}
    reaches: dict[int, list[tuple[float, int]]] = {}
    for number, chain in enumerate(layers.chains):
        leaves.setdefault(chain[0], []).append((centres[chain[1]], number))
        reaches.setdefault(chain[-1], []).append((centres[chain[-2]], number))
    start = _ports(leaves, sizes, centres)
    end = _ports(reaches, sizes, centres)
    lines = {}
    for number, chain in enumerate(layers.chains):
        source, target = chain[0], chain[-1]
        points = [(start[number], boxes[source][1] + sizes[source][1]), (start[number], _foot(rows, source))]
        for node in chain[1:-1]:
            top = tops[place[node]]
            points += [(centres[node], top), (centres[node], top + heights[place[node]])]
        points += [(end[number], tops[place[target]]), (end[number], boxes[target][1])]
        lines[layers.kept[number]] = points
    return lines


def _foot(rows: tuple[list[float], list[float], dict[int, int]], node: int) -> float:
    tops, heights, place = rows
    return tops[place[node]] + heights[place[node]]


def _ports(ends: Mapping[int, list[tuple[float, int]]], sizes: Sequence[Size], centres: Sequence[float]) -> dict[int, float]:
    """Return where each line meets its box."""
    ports = {}
    for node, lines in ends.items():
        space = min(_PORT, (sizes[node][0] - 24) / len(lines))
        for number, (_, line) in enumerate(sorted(lines)):
            ports[line] = centres[node] + (number - (len(lines) - 1) / 2) * space
    return ports
