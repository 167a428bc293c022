"""Where boxes lie: none on another, each below those that lead to it, lines from edge to edge around all others."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from flowcraft.drawing.layers import MOST_EDGES, layered
from flowcraft.drawing.layout import lay_out

pytestmark = pytest.mark.unit

GAP = (20.0, 40.0)


@some.composite
def graphs(draw):
    """Return sizes of boxes, and lines that go round in no circle."""
    count = draw(some.integers(1, 25))
    sizes = draw(some.lists(some.tuples(some.floats(40, 300), some.floats(20, 200)), min_size=count, max_size=count))
    pairs = [(one, other) for other in range(count) for one in range(other)]
    edges = draw(some.lists(some.sampled_from(pairs), unique=True, max_size=60)) if pairs else []
    return sizes, edges


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def areas(layout, sizes):
    return [(x, y, x + wide, y + high) for (x, y), (wide, high) in zip(layout.boxes, sizes, strict=True)]


@settings(deadline=None, max_examples=150)
@given(graphs())
def test_boxes_do_not_overlap_and_lie_on_the_sheet(graph):
    sizes, edges = graph
    layout = lay_out(sizes, edges, GAP)

    found = areas(layout, sizes)

    assert not [pair for pair in itertools.combinations(found, 2) if overlap(*pair)]
    for left, top, right, bottom in found:
        assert left >= -0.001
        assert top >= -0.001
        assert right <= layout.width + 0.001
        assert bottom <= layout.height + 0.001


@settings(deadline=None, max_examples=150)
@given(graphs())
def test_every_line_leads_down_from_its_box_to_its_box(graph):
    sizes, edges = graph
    layout = lay_out(sizes, edges, GAP)
    found = areas(layout, sizes)

    assert set(layout.lines) == set(range(len(edges)))
    for number, points in layout.lines.items():
        source, target = (found[end] for end in edges[number])
        assert points[0][1] == pytest.approx(source[3])
        assert source[0] < points[0][0] < source[2]
        assert points[-1][1] == pytest.approx(target[1])
        assert target[0] < points[-1][0] < target[2]
        assert [y for _, y in points] == sorted(y for _, y in points)


@settings(deadline=None, max_examples=150)
@given(graphs())
def test_no_line_runs_through_a_box(graph):
    """Between layers there are no boxes, and through a layer a line goes straight down, so that its points are enough."""
    sizes, edges = graph
    layout = lay_out(sizes, edges, GAP)
    found = areas(layout, sizes)

    for number, points in layout.lines.items():
        for (x, top), (_, bottom) in itertools.pairwise(points):
            for box, (left, upper, right, lower) in enumerate(found):
                inside = left < x < right and top < lower - 0.001 and bottom > upper + 0.001
                assert not inside or box in edges[number]


def test_a_row_is_a_straight_line():
    layout = lay_out([(100, 40), (60, 40), (140, 40)], [(0, 1), (1, 2)], GAP)

    middles = [x + wide / 2 for (x, _), wide in zip(layout.boxes, (100, 60, 140), strict=True)]

    assert middles == pytest.approx([70, 70, 70])


def test_lines_that_need_not_cross_do_not():
    """Three pairs in the opposite order."""
    found = layered(6, [(0, 5), (1, 4), (2, 3)])

    first, second = found.rows
    assert [next(edge[1] for edge in [(0, 5), (1, 4), (2, 3)] if edge[0] == node) for node in first] == second


def test_who_waits_for_nobody_stands_just_above_who_waits_for_it():
    """Stage 4 is mentioned by the last one alone."""
    found = layered(5, [(0, 1), (1, 2), (2, 3), (4, 3)])

    assert [sorted(node for node in row if node < 5) for row in found.rows] == [[0], [1], [2, 4], [3]]


def test_many_stages_side_by_side_stand_in_several_rows():
    found = layered(200, [])

    assert max(len(row) for row in found.rows) <= math.isqrt(400)
    assert sorted(node for row in found.rows for node in row) == list(range(200))


def test_where_all_lead_to_all_behind_them_only_the_way_is_drawn():
    edges = [(one, other) for other in range(30) for one in range(other)]
    many = layered(30, edges)
    too_many = layered(200, [(one, other) for other in range(200) for one in range(other)])

    assert len(many.kept) == len(edges)
    assert len(too_many.kept) == 199
    assert all(len(chain) == 2 for chain in too_many.chains)


def test_no_more_lines_are_drawn_than_one_can_look_at():
    """All of one half lead to all of the other: none of these lines follows from others."""
    found = layered(300, [(one, other) for one in range(150) for other in range(150, 300)])

    assert len(found.kept) == MOST_EDGES


@pytest.mark.parametrize(
    "edges",
    [
        [(number, number + 1) for number in range(999)],
        [(0, number) for number in range(1, 1000)],
        [(number, 999) for number in range(999)],
        [(max(0, number - step), number) for number in range(1, 1000) for step in (1, 7, 40)],
        [],
    ],
    ids=["in a row", "one to all", "all to one", "far", "alone"],
)
def test_a_thousand_stages_are_laid_out(edges):
    edges = list(dict.fromkeys(edges))
    layout = lay_out([(120.0, 50.0)] * 1000, edges, GAP)

    found = sorted(areas(layout, [(120.0, 50.0)] * 1000), key=lambda area: (area[1], area[0]))
    for one, other in itertools.pairwise(found):
        assert one[3] <= other[1] or one[2] <= other[0]


def test_no_boxes_are_no_sheet():
    layout = lay_out([], [], GAP)

    assert (layout.width, layout.height, layout.boxes, layout.lines) == (0.0, 0.0, [], {})
