"""From a workflow to its drawing: which boxes there are, what they say, and which lines lead where."""

from __future__ import annotations

import pytest

from flowcraft.drawing import Box, Drawing, RunTold, Told
from flowcraft.drawing.artist import MOST_BOXES
from flowcraft.drawing.words import cells, clock, cut, limit, one_line, wrapped

pytestmark = pytest.mark.unit


def box(drawing: Drawing, found: str) -> Box:
    return next(box for box in drawing.boxes if box.id == found)


def lines(block, *, data: bool) -> set[tuple[str, str]]:
    return {(line.source, line.target) for line in block.lines if line.data is data}


def test_every_stage_is_a_box_behind_those_around_it(review):
    assert [found.id for found in review.boxes] == [
        "(inputs)",
        "files",
        "style",
        "audit",
        "report",
        "report/draft",
        "report/check",
        "gate",
        "post",
        "(outputs)",
        "finally/tidy",
    ]


def test_boxes_say_what_they_do_and_when(review):
    assert box(review, "files").what == "json:loads"
    assert box(review, "style").what == "Look at ${{ item }}"
    assert box(review, "style").notes == ("each files.files, 4 at a time", "cascade", "on error: continue")
    assert box(review, "style").many
    assert box(review, "audit").notes == ("when inputs.strict", "retry 2")
    assert box(review, "report").notes == ("until report.check.score > 0.8, at most 3",)
    assert box(review, "report/draft").notes == ("best_of_two", "judge")
    assert box(review, "report/check").notes == ("model expensive",)
    assert box(review, "(inputs)").notes == ("diff: string", "strict: boolean = false")
    assert box(review, "(outputs)").notes == ("text",)


def test_lines_of_data_and_of_mere_order_differ(review):
    assert lines(review.stages, data=True) == {
        ("(inputs)", "files"),
        ("files", "style"),
        ("files", "audit"),
        ("style", "report"),
        ("audit", "report"),
        ("report", "post"),
        ("report", "(outputs)"),
    }
    assert lines(review.stages, data=False) == {("report", "gate"), ("gate", "post")}


def test_a_line_inside_a_group_stays_in_it(review):
    inside = box(review, "report").inside

    assert lines(inside, data=True) == {("report/draft", "report/check")}


def test_the_inputs_lead_to_who_has_them_first(drawn):
    """Whoever comes behind somebody that has the inputs has them too, and needs no line of its own."""
    drawing = drawn(
        """
        flowcraft: 1
        inputs: {a: string}
        stages:
          first: {prompt: "${{ inputs.a }}"}
          second: {prompt: "${{ first }} ${{ inputs.a }}"}
          alone: {prompt: hello}
          other: {prompt: "${{ alone }} ${{ inputs.a }}"}
        """
    )

    assert {line.target for line in drawing.stages.lines if line.source == "(inputs)"} == {"first", "other"}


def test_without_outputs_the_last_stages_are_those(drawn):
    drawing = drawn("{flowcraft: 1, stages: {a: {prompt: hello}, b: {prompt: '${{ a }}'}, c: {prompt: hi}}}")

    assert box(drawing, "(outputs)").notes == ("b", "c")
    assert "(inputs)" not in {found.id for found in drawing.boxes}


def test_a_stage_that_mentions_itself_has_no_line_to_itself(drawn):
    drawing = drawn("{flowcraft: 1, stages: {a: {prompt: 'Last time ${{ a }}', until: len(a) > 3, max: 2}}}")

    assert lines(drawing.stages, data=True) == {("a", "(outputs)")}


def test_a_name_that_is_mentioned_and_needed_is_a_line_of_data(drawn):
    drawing = drawn("{flowcraft: 1, stages: {a: {prompt: x}, b: {needs: [a], prompt: '${{ a }}'}}}")

    assert ("a", "b") in lines(drawing.stages, data=True)


def test_what_asks_how_a_stage_ended_takes_data_of_it(drawn):
    drawing = drawn("{flowcraft: 1, stages: {a: {prompt: x}, b: {when: 'run.stages.a.tries > 1', needs: [a], prompt: y}}}")

    assert ("a", "b") in lines(drawing.stages, data=True)


PART = "{flowcraft: 1, inputs: {x: string}, stages: {one: {prompt: '${{ inputs.x }}'}, two: {prompt: '${{ one }}'}}}"
USER = "{flowcraft: 1, stages: {p: {uses: ./part.yaml, with: {x: hello}}, q: {prompt: '${{ p }}'}}}"


def test_a_workflow_that_is_used_is_one_box(drawn):
    drawing = drawn(USER, part=PART)

    assert box(drawing, "p").what == "./part.yaml"
    assert box(drawing, "p").inside is None


def test_deep_unfolds_workflows_that_are_used(drawn):
    drawing = drawn(USER, deep=True, part=PART)

    inside = box(drawing, "p").inside
    assert [found.id for found in inside.boxes] == ["p/one", "p/two"]
    assert lines(inside, data=True) == {("p/one", "p/two")}


def test_a_workflow_that_uses_itself_is_unfolded_once(drawn):
    text = "{flowcraft: 1, inputs: {n: integer}, stages: {a: {when: inputs.n > 0, uses: ./main.yaml, with: {n: 0}}}}"

    drawing = drawn(text, deep=True)

    assert box(drawing, "a").inside is None


def test_deep_ends_before_the_sheet_is_full(drawn):
    """Ten parts, each of which uses the next ten times, would be ten thousand millions of boxes."""
    uses = "{{flowcraft: 1, stages: {{{0}}}}}"
    files = {
        f"p{depth}": uses.format(", ".join(f"s{number}: {{uses: ./p{depth + 1}.yaml}}" for number in range(10)))
        for depth in range(1, 9)
    }
    files["p9"] = "{flowcraft: 1, stages: {end: {prompt: x}}}"

    drawing = drawn("{flowcraft: 1, stages: {s: {uses: ./p1.yaml}}}", deep=True, **files)

    assert 1_000 < len(list(drawing.boxes)) <= MOST_BOXES + 10


def test_groups_nest(drawn):
    deep = "{prompt: x}"
    for number in range(20):
        deep = f"{{stages: {{g{number}: {deep}}}}}"

    drawing = drawn(f"{{flowcraft: 1, stages: {{top: {deep}}}}}")

    assert len(list(drawing.boxes)) == 22  # with the outputs


def test_a_run_is_laid_over_it(drawn):
    told = {"a": Told(state="done", seconds=2.0, calls=2, tokens=30, usd=0.01, model="m")}
    run = RunTold(id="r1", state="failed", seconds=3.0)

    drawing = drawn("{flowcraft: 1, stages: {a: {prompt: x}, b: {prompt: '${{ a }}'}}}", told=told, run=run)

    assert box(drawing, "a").told == told["a"]
    assert box(drawing, "b").told.state == "not reached"
    assert box(drawing, "(outputs)").told is None
    assert drawing.summary == "Workflow main with 2 stages; run r1: failed (1 done, 1 not reached)"


def test_figures_are_told_in_words():
    told = Told(state="done", seconds=75.2, tries=2, elements=5, done=5, errors=1, calls=1, tokens=9, usd=0.0123, model="m")

    assert told.facts == ("5 elements", "1 failed", "2 tries", "1 m 15 s", "1 call", "9 tokens", "0.0123 USD", "m")
    assert Told(state="running", elements=5, done=2).facts == ("2 of 5",)
    assert Told().facts == ()
    assert Told(state="reused", seconds=0.0).facts == ()


def test_how_long_a_run_takes_is_told_when_it_stands_still():
    assert RunTold(id="r", state="running", seconds=3.0, calls=1, tokens=5, usd=0.0).facts == (
        "running",
        "1 call",
        "5 tokens",
        "0.00 USD",
    )
    assert RunTold(id="r", state="waiting", seconds=3.0).facts == ("waiting", "3.0 s")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb\tc", "a b c"), ("a\x1b[31mb\x00", "a[31mb"), ("\u202eabc", "abc"), ("x" * 300, "x" * 199 + "…"), ("\ud800a", "a")],
)
def test_only_what_can_be_seen_is_drawn(text, shown):
    assert one_line(text) == shown


def test_widths_are_those_of_a_terminal():
    assert cells("a中e\u0301") == 4
    assert cut("中中中", 5) == "中中…"
    assert cut("abc", 3) == "abc"
    assert wrapped(["aa", "bb", "cccccc"], 5) == ["aa", "bb", "cccc…"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 m 00 s"), (3700, "1 h 01 m")]
)
def test_times_are_told_as_people_say_them(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.5, "500ms"), (90, "90s"), (300, "5m"), (86_400, "24h"), (604_800, "7d")])
def test_limits_are_told_as_the_language_writes_them(seconds, shown):
    assert limit(seconds) == shown
