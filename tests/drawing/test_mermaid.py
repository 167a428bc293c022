"""The Mermaid text: read by a strict reader of the part of its grammar that is written, and back to what was drawn."""

from __future__ import annotations

import re

import pytest
import yaml

from flowcraft.drawing import Block, Box, Drawing, Line, RunTold, Told, mermaid
from tests.drawing.conftest import made

pytestmark = pytest.mark.unit

NODE = re.compile(r'(n\d+)(\[\[|\[|\(\[|\{\{)"([^"`<>&\\%]*(?:<br>[^"`<>&\\%]*)*)"(\]\]|\]|\]\)|\}\})')
CLOSING = {"[[": "]]", "[": "]", "([": "])", "{{": "}}"}
FRAME = re.compile(r'subgraph (n\d+)\["([^"`<>&\\%]*(?:<br>[^"`<>&\\%]*)*)"\]')
LINE = re.compile(r"(n\d+) (-->|-\.->) (n\d+)")
LOOK = re.compile(r"classDef (\w+) (?:[a-z-]+:[#\w ]+)(?:,[a-z-]+:[#\w ]+)*")
CLASS = re.compile(r"class (n\d+(?:,n\d+)*) (\w+)")


def shown(label):
    """Return the lines of a label as a page shows them."""
    return [re.sub(r"#(\d+);", lambda found: chr(int(found[1])), line) for line in label.split("<br>")]


class Chart:
    """A flowchart, read strictly: whatever is not of the grammar fails."""

    def __init__(self, text):
        _, head, body = re.fullmatch(r"(---)\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
        self.title = yaml.safe_load(head)["title"]
        self.labels, self.inside, self.lines, self.classes, self.looks = {}, {}, [], {}, set()
        first, *rest = body.splitlines()
        assert first == "flowchart TD"
        around = [""]
        for line in map(str.strip, rest):
            self.read(line, around)
        assert around == [""]

    def read(self, line, around):
        if line == "end":
            around.pop()
        elif found := FRAME.fullmatch(line):
            self.add(found[1], found[2], around)
            around.append(found[1])
        elif found := NODE.fullmatch(line):
            assert CLOSING[found[2]] == found[4]
            self.add(found[1], found[3], around)
        elif found := LINE.fullmatch(line):
            assert {found[1], found[3]} <= self.labels.keys()
            self.lines.append(found.groups())
        elif found := CLASS.fullmatch(line):
            assert found[2] in self.looks
            self.classes |= dict.fromkeys(found[1].split(","), found[2])
        elif found := LOOK.fullmatch(line):
            self.looks.add(found[1])
        else:
            pytest.fail(f"this is not of the grammar: {line!r}")

    def add(self, node, label, around):
        assert node not in self.labels
        self.labels[node] = shown(label)
        self.inside[node] = around[-1]

    def node(self, name):
        return next(node for node, label in self.labels.items() if label[0].split(" · ")[0] == name)


def test_boxes_frames_and_lines_are_those_of_the_drawing(review):
    chart = Chart(mermaid(review))

    names = ["inputs", "files", "style", "audit", "report", "draft", "check", "gate", "post", "outputs", "finally", "tidy"]
    assert [label[0].split(" · ")[0] for label in chart.labels.values()] == names
    assert chart.inside[chart.node("draft")] == chart.node("report")
    assert chart.inside[chart.node("tidy")] == chart.node("finally")
    assert chart.inside[chart.node("gate")] == ""
    assert (chart.node("gate"), "-.->", chart.node("post")) in chart.lines
    assert (chart.node("files"), "-->", chart.node("style")) in chart.lines
    assert len(chart.lines) == len(review.stages.lines) + 1
    assert chart.labels[chart.node("style")] == [
        "style · prompt",
        "each files.files, 4 at a time",
        "cascade",
        "on error: continue",
    ]


HARD = [
    'say "no"',
    "a & b",
    "#35;",
    "<b>x</b>",
    "`code`",
    "%%{init: {}}%%",
    "a\\nb",
    "x; y",
    "[a](b) {c} |d|",
    "日本語 ⚙",
    "--- end",
]


@pytest.mark.parametrize("text", HARD)
def test_every_text_comes_out_as_it_is(text):
    box = Box(id="a", name="a", kind="prompt", notes=(text,))

    chart = Chart(mermaid(Drawing(name=text, stages=Block(boxes=(box,)))))

    assert chart.title == text
    assert list(chart.labels.values()) == [["a · prompt", text]]


@pytest.mark.parametrize("name", ["end", "graph", "subgraph", "style", "class", "click", "default", "o", "x", "flowchart"])
def test_words_of_mermaid_are_names_like_others(name):
    boxes = (Box(id=name, name=name, kind="run"), Box(id="other", name="other", kind="run"))

    chart = Chart(mermaid(Drawing(name=name, stages=Block(boxes=boxes, lines=(Line(source=name, target="other"),)))))

    assert chart.lines == [(chart.node(name), "-->", chart.node("other"))]


def test_states_of_a_run_are_classes():
    told = {state: Told(state=state) for state in ("done", "failed", "not reached", "waiting", "skipped", "reused", "running")}
    boxes = tuple(Box(id=state, name=state.replace(" ", "_"), kind="run", told=found) for state, found in told.items())

    chart = Chart(mermaid(Drawing(name="x", stages=Block(boxes=boxes), run=RunTold(id="r1", state="running"))))

    assert chart.title == "x · run r1 · running"
    assert {chart.classes[chart.node(box.name)] for box in boxes} == {box.name for box in boxes}


def test_a_thousand_stages_are_written():
    chart = Chart(mermaid(made(1000, [(number, number + 1) for number in range(999)])))

    assert len(chart.labels) == 1000
    assert len(chart.lines) == 999
