"""The picture of a terminal: no line wider than it is, steps in their order, groups framed, ASCII where nothing else is."""

from __future__ import annotations

import re

import pytest

from flowcraft.drawing import Block, Box, Drawing, Line, RunTold, Told, terminal
from flowcraft.drawing.terminal import steps_of
from flowcraft.drawing.words import cells
from tests.drawing.conftest import made

pytestmark = pytest.mark.unit


def text(drawing, width=80, **options):
    return ["".join(span.text for span in line).rstrip() for line in terminal(drawing, width, **options)]


REVIEW = """\
review
Look at a change, ask, post.

inputs  diff: string · strict: boolean = false

1 ● files   run     json:loads
2 ● style   prompt  Look at ${{ item }}
                    each files.files, 4 at a time · cascade · on error: continue
                    ← files
  ● audit   prompt  Audit ${{ inputs.diff }} of ${{ files }}
                    when inputs.strict · retry 2
                    ← files
3 ● report  stages  until report.check.score > 0.8, at most 3
  │                 ← style, audit
  │ 1 ● draft  prompt  Merge ${{ style }} ${{ audit }}
  │                    best_of_two · judge
  │ 2 ● check  prompt  Score ${{ draft }}
  │                    model expensive
  │                    ← draft
  ╰─
4 ● gate    shell   true
                    needs report
5 ● post    shell   cat
                    ← report · needs gate

finally, when all else has ended
1 ● tidy  shell  echo $state

outputs  text"""


def test_it_reads_like_this(review):
    assert "\n".join(text(review)) == REVIEW


@pytest.mark.parametrize("width", [40, 41, 57, 80, 200])
def test_no_line_is_wider_than_the_terminal(review, width):
    assert max(map(cells, text(review, width))) <= width


@pytest.mark.parametrize("width", [40, 80])
def test_long_and_wide_names_stay_in_the_terminal(width):
    wide = "日本語の名前" * 10
    box = Box(
        id="a", name="a_very_long_name_that_goes_on_and_on", kind="a_plugin_of_somebody", what=wide, notes=(wide, "x" * 90)
    )
    for number in range(20):
        box = Box(id=f"g{number}", name=f"group_{number}", kind="stages", notes=(wide,), inside=Block(boxes=(box,)))
    drawing = Drawing(name=wide, description=wide, stages=Block(boxes=(box,)), run=RunTold(id=wide, state="done", error=wide))

    lines = text(drawing, width)

    assert any(wide[:4] in line for line in lines)
    assert max(map(cells, lines)) <= width


def test_groups_so_deep_that_no_place_is_left_are_only_told_of():
    box = Box(id="a", name="innermost", kind="run", what="steps:do")
    for number in range(45):
        box = Box(id=f"g{number}", name=f"g{number}", kind="stages", inside=Block(boxes=(box,)))

    lines = text(Drawing(name="deep", stages=Block(boxes=(box,))))

    assert sum("innermost" in line for line in lines) == 1
    assert max(map(cells, lines)) <= 80
    assert any(line.startswith("… ") for line in lines)


def test_steps_go_by_what_leads_to_a_stage():
    drawing = made(5, [(0, 1), (1, 2), (0, 2), (3, 4)])

    assert steps_of(drawing.stages) == {"s0": 1, "s1": 2, "s2": 3, "s3": 1, "s4": 2}
    assert [line.split()[0] for line in text(drawing) if re.match(r"\d ", line)] == ["1", "2", "3"]


def test_sixty_stages_are_one_screen_each_a_line_or_two():
    lines = text(made(60, [(number, number + 3) for number in range(57)]))

    assert len(lines) <= 2 * 60 + 2
    assert sum(" run " in line for line in lines) == 60


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "no-such-encoding"])
def test_where_the_terminal_has_no_frames_ascii_stands_in(review, encoding):
    lines = text(review, encoding=encoding)

    assert "\n".join(lines).isascii()
    assert any(line.startswith("1 * files") for line in lines)
    assert any("<- style, audit" in line for line in lines)


STATES = {
    "done": "✓",
    "reused": "✓",
    "running": "▸",
    "waiting": "?",
    "skipped": "-",
    "failed": "✗",
    "stopped": "◦",
    "not reached": "·",
}


@pytest.mark.parametrize(("state", "sign"), STATES.items())
def test_every_state_has_a_sign_a_word_and_a_style(state, sign):
    told = Told(state=state, reason="why so", seconds=2.0)
    box = Box(id="a", name="a", kind="run", told=told)
    drawing = Drawing(name="x", stages=Block(boxes=(box,)), run=RunTold(id="r", state="running"))

    (line,) = [line for line in terminal(drawing) if any(span.text.strip() == "a" for span in line)]

    assert {span.text.strip(): span.style for span in line}[sign] == state
    assert line[-1].style == state
    assert line[-1].text.startswith(state)
    assert ("why so" in " ".join(text(drawing))) == (state != "done")


def test_a_failed_run_says_why():
    drawing = Drawing(
        name="x", run=RunTold(id="r1", state="failed", seconds=3.0, calls=2, tokens=10, usd=0.5, error="it broke")
    )

    assert text(drawing)[1:3] == ["run r1 · failed · 3.0 s · 2 calls · 10 tokens · 0.5000 USD", "it broke"]


def test_a_thousand_stages_are_written():
    lines = text(made(1000, [(number, number + 1) for number in range(999)]))

    assert sum(" run " in line for line in lines) == 1000


def test_lines_between_other_boxes_do_no_harm():
    drawing = Drawing(name="x", stages=Block(boxes=(Box(id="a", name="a", kind="run"),), lines=(Line(source="b", target="a"),)))

    assert "1 ● a  run  ← b" in text(drawing)
