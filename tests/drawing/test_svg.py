"""The SVG: XML that any program reads, boxes beside each other, lines from box to box, nothing from elsewhere."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from flowcraft.drawing import Block, Box, Drawing, Line, RunTold, Told, svg
from tests.drawing.conftest import made

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"


def read(drawing):
    return ElementTree.fromstring(svg(drawing))


def area(box):
    """Return the rectangle of a box: left, top, right, bottom."""
    rect = next(part for part in box.findall(f"{SVG}rect") if part.get("class") in ("card", "frame", "end"))
    x, y, wide, high = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + wide, y + high


def inner(part):
    """Return the boxes directly in a box, or in the picture."""
    return [found for found in part.findall(f"{SVG}g") if "box" in found.get("class").split()]


def every_box(part):
    for box in inner(part):
        yield box
        yield from every_box(box)


def every_block(part):
    yield inner(part)
    for box in inner(part):
        yield from every_block(box)


def test_it_is_one_picture_with_a_name_and_a_description(review):
    root = read(review)

    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "review"
    assert root.find(f"{SVG}desc").text == "Workflow review with 9 stages"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"


def test_every_box_is_there_and_none_lies_on_another(review):
    root = read(review)
    last = next(part for part in root.findall(f"{SVG}g") if part.get("class") == "last")

    assert {box.get("data-id") for part in (root, last) for box in every_box(part)} == {box.id for box in review.boxes}
    for part in (root, last):
        for block in every_block(part):
            for one, other in itertools.combinations(map(area, block), 2):
                assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_what_is_in_a_group_lies_in_its_frame(review):
    frame = next(box for box in every_box(read(review)) if box.get("data-id") == "report")
    left, top, right, bottom = area(frame)

    assert len(inner(frame)) == 2
    for box in inner(frame):
        assert left < area(box)[0] and area(box)[2] < right  # noqa: PT018 - one side and the other
        assert top < area(box)[1] and area(box)[3] < bottom  # noqa: PT018 - one side and the other


def test_lines_begin_and_end_at_boxes(review):
    root = read(review)
    places = {box.get("data-id"): area(box) for box in every_box(root)}
    lines = [part for part in root.iter(f"{SVG}g") if part.get("class") in ("line", "line needs")]

    assert len(lines) == len(review.stages.lines) + 1
    for line in lines:
        wire, head = line.findall(f"{SVG}path")
        numbers = [float(number) for number in re.findall(r"-?[0-9.]+", wire.get("d"))]
        tip = [float(number) for number in re.findall(r"-?[0-9.]+", head.get("d"))][2:4]
        source, target = places[line.get("data-from")], places[line.get("data-to")]
        assert source[0] < numbers[0] < source[2]
        assert numbers[1] == pytest.approx(source[3], abs=0.2)
        assert target[0] < tip[0] < target[2]
        assert tip[1] == pytest.approx(target[1], abs=0.2)


def test_order_without_data_is_a_broken_line(review):
    root = read(review)

    broken = {(part.get("data-from"), part.get("data-to")) for part in root.iter() if part.get("class") == "line needs"}

    assert broken == {("report", "gate"), ("gate", "post")}
    assert "stroke-dasharray" in root.find(f"{SVG}style").text


def test_texts_stay_in_their_boxes():
    """As wide as they are said to be, which is rather too wide; what is longer is cut and told in full by its title."""
    long = "where " * 30
    drawing = Drawing(
        name="x",
        stages=Block(boxes=(Box(id="a", name="a", kind="run", what=long, notes=(f"when {long}", "retry 2", "cascade")),)),
    )
    (box,) = every_box(read(drawing))

    left, _, right, bottom = area(box)
    texts = box.findall(f"{SVG}text")
    assert right - left < 340
    assert all(float(text.get("y")) < bottom - 5 for text in texts)
    assert [text.text for text in texts if text.text.endswith("…")]
    assert "retry 2 · cascade" in [text.text for text in texts]
    assert long in box.find(f"{SVG}title").text


@pytest.mark.parametrize("text", ['<script>alert("1")</script>', "a & b ]]> '", "\x0b\ufffe\ud800x", "日本語 привет"])
def test_texts_are_escaped(text):
    box = Box(id=text, name=text, kind="prompt", what=text, notes=(text,), told=Told(state="failed", reason=text))
    drawing = Drawing(
        name=text,
        description=text,
        stages=Block(boxes=(box, Box(id="b", name="b", kind="run")), lines=(Line(source=text, target="b"),)),
        run=RunTold(id="r", state="failed", error=text),
    )

    written = svg(drawing)

    root = ElementTree.fromstring(written.encode())
    assert not list(root.iter(f"{SVG}script"))
    kept = text.replace("\x0b", "").replace("\ufffe", "").replace("\ud800", "")
    assert root.find(f"{SVG}title").text == kept
    assert kept in [part.text for part in root.iter(f"{SVG}text")]


def test_it_needs_nothing_from_elsewhere(review):
    written = svg(review)

    assert re.findall(r"https?://[^\"]+", written) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<(script|image|use|foreignObject|link)|@import|url\(|href| on\w+=", written)


def test_it_is_drawn_for_light_and_dark(review):
    style = read(review).find(f"{SVG}style").text

    light, dark = style.split("@media (prefers-color-scheme:dark)")
    assert set(re.findall(r"\.flowcraft (\.\w[\w-]*)\{fill", dark)) == set(
        re.findall(r"\.flowcraft (\.\w[\w-]*)\{fill:#", light)
    )
    assert "var(" not in style


def test_colours_can_be_read_on_their_grounds():
    """WCAG 2: a contrast of 4.5 for what is read."""
    from flowcraft.drawing.svg import _COLOURS, _KINDS, _STATES

    for shade in (0, 1):
        for name in ("text", "muted"):
            for ground in ("sheet", "card", "frame"):
                assert contrast(_COLOURS[name][shade], _COLOURS[ground][shade]) >= 4.5
        for name, both in {**_KINDS, **_STATES}.items():
            least = 3.0 if name in ("not-reached", "reused", "skipped") else 4.5
            assert contrast(both[shade], _COLOURS["card"][shade]) >= least, name


def contrast(one, other):
    def light(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((light(one), light(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_the_same_drawing_is_the_same_bytes(review):
    assert svg(review) == svg(review)


def test_states_of_a_run_are_classes_and_words():
    told = Told(state="not reached")
    drawing = Drawing(
        name="x",
        stages=Block(boxes=(Box(id="a", name="a", kind="run", told=told), Box(id="b", name="b", kind="odd"))),
        run=RunTold(id="r1", state="interrupted", seconds=2.0),
    )

    root = read(drawing)

    first, second = every_box(root)
    assert first.get("class") == "box k-run s-not-reached"
    assert second.get("class") == "box k-other"
    assert "not reached" in [part.text for part in first.findall(f"{SVG}text")]
    assert "run r1 · interrupted · 2.0 s" in [part.text for part in root.findall(f"{SVG}text")]


def test_lines_that_are_left_out_are_counted():
    root = read(made(200, [(one, other) for other in range(200) for one in range(other)]))

    assert f"{199 * 198 // 2} lines that follow from others, or would hide them, are left out" in [
        part.text for part in root.findall(f"{SVG}text")
    ]


def test_a_thousand_stages_are_drawn():
    root = read(made(1000, [(max(0, number - step), number) for number in range(1, 1000) for step in (1, 30)]))

    assert len(list(every_box(root))) == 1000


def test_frames_in_frames_in_frames_are_drawn():
    box = Box(id="a", name="a", kind="run")
    for number in range(45):
        box = Box(id=f"g{number}", name=f"g{number}", kind="stages", inside=Block(boxes=(box,)))

    assert len(list(every_box(read(Drawing(name="deep", stages=Block(boxes=(box,))))))) == 46
