"""What a person sees of a run: rows made of events, live or line by line."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from flowcraft.attempts import Attempt, Usage
from flowcraft.cli.progress import LineView, LiveView, Progress, money, table
from flowcraft.cli.run import readable
from flowcraft.events import CallFinished, ElementFinished, GoFailed, RunStarted, Said, StageFinished, StageStarted

pytestmark = pytest.mark.unit

CALL = Attempt(model="small", provider="here", usage=Usage(input=1200, output=34), usd=0.0012)
STORY = [
    RunStarted(workflow="digest", stages=("read", "notes", "merge")),
    StageStarted(stage="read"),
    StageFinished(stage="read", seconds=0.2),
    StageStarted(stage="notes", elements=2),
    CallFinished(stage="notes", path="notes[0]", attempt=Attempt(model="big", outcome="RateLimited")),
    CallFinished(stage="notes", path="notes[0]", attempt=CALL),
    CallFinished(stage="notes", path="notes[0]", attempt=Attempt(model="big", outcome="skipped")),
    ElementFinished(stage="notes", path="notes[0]", index=0, done=1, elements=2),
    GoFailed(stage="notes", path="notes[1]", go=1, error="no answer", pause=1.5),
    Said(stage="notes", message="something to know"),
    ElementFinished(stage="notes", path="notes[1]", index=1, state="failed", done=2, elements=2),
    StageFinished(stage="notes", seconds=3.21, errors=1),
    StageFinished(stage="merge", state="skipped", reason="when: false"),
]


def shown(renderable, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_table_shows_state_model_calls_tokens_money_and_time():
    progress = Progress()
    for event in STORY[:10]:
        progress(event)

    lines = shown(table(progress)).splitlines()

    assert [line.split()[:2] for line in lines[1:]] == [["✓", "read"], ["▸", "notes"], ["·", "merge"]]
    for told in ("1/2", "small", " 2 ", "1 234", "0.0012"):
        assert told in lines[2]


def test_pipe_gets_a_line_for_each_stage_that_begins_or_ends():
    console = Console(file=io.StringIO(), width=200)
    view = LineView(console)
    with view:
        for event in STORY:
            view(event)

    assert console.file.getvalue().splitlines() == [
        "read: started",
        "read: done (0.2 s)",
        "notes: started (2 elements)",
        "notes[1]: go 1 failed: no answer; again in 1.5 s",
        "something to know",
        "notes: done (3.2 s, small, 1234 tokens, 0.0012 USD, 1 of 2 failed)",
        "merge: skipped: when: false",
    ]


def test_terminal_gets_the_table_and_what_is_said_above_it():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with LiveView(console) as view:
        for event in STORY:
            view(event)

    text = console.file.getvalue()
    assert "something to know" in text
    assert "1 of 2 failed" in text
    assert "skipped" in text


def test_stages_of_a_part_stand_below_it():
    progress = Progress()
    progress(StageStarted(stage="part"))
    progress(StageStarted(stage="part/inner"))

    assert "    inner" in shown(table(progress))


@pytest.mark.parametrize(("usd", "told"), [(None, "-"), (0, "0.00"), (0.00123, "0.0012"), (12.345, "12.35")])
def test_money_has_as_many_digits_as_small_sums_need(usd, told):
    assert money(usd) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Привет\n世界", "Привет\n世界"),
        ({"a": "one line", "b": "two\nlines", "c": None}, "a: one line\nb:\n  two\n  lines\nc: -"),
        (["x", {"y": True, "z": [1]}], "- x\n- y: yes\n  z:\n  - 1"),
        ([], "(none)"),
        ({"a": {}, "b": {"c": [[1, 2]]}}, "a: (none)\nb:\n  c:\n  - - 1\n    - 2"),
        (3, "3"),
    ],
)
def test_values_are_printed_for_people(value, told):
    assert readable(value) == told


def test_long_lines_keep_their_indentation():
    value = {"points": ["one two three four five six"], "summary": "one two three four five six"}

    assert readable(value, 20).splitlines() == [
        "points:",
        "- one two three four",
        "  five six",
        "summary: one two",
        "  three four five",
        "  six",
    ]


def test_stages_of_a_group_stand_below_it_and_its_judge_counts_for_it():
    progress = Progress()
    for event in [
        RunStarted(workflow="review", stages=("report", "post")),
        StageStarted(stage="report"),
        StageStarted(stage="report#1/draft"),
        CallFinished(stage="draft", path="report#1/draft", attempt=CALL),
        StageFinished(stage="report#1/draft", seconds=0.1),
        CallFinished(stage="report", path="report#1/judge", attempt=Attempt(model="wise", usage=Usage(input=5))),
        StageStarted(stage="report#2/check"),
        StageStarted(stage="finally[1]/log"),
    ]:
        progress(event)

    lines = [line.split() for line in shown(table(progress)).splitlines()[1:]]

    assert [line[1] for line in lines] == ["report", "draft", "check", "post", "log"]
    assert lines[0][2:5] == ["running", "1", "5"]
    assert "wise" not in lines[0]


def test_line_of_a_stage_in_a_list_of_groups_counts_its_own_calls_alone():
    console = Console(file=io.StringIO(), width=200)
    view = LineView(console)
    for event in [
        StageStarted(stage="epics", elements=2),
        StageStarted(stage="epics[0]/code"),
        StageStarted(stage="epics[1]/code"),
        CallFinished(stage="code", path="epics[0]/code#1", attempt=CALL),
        CallFinished(stage="code", path="epics[1]/code#1", attempt=CALL),
        CallFinished(stage="code", path="epics[1]/code#1/judge", attempt=Attempt(model="wise", usage=Usage(input=6))),
        StageFinished(stage="epics[0]/code", seconds=0.1),
        StageFinished(stage="epics[1]/code", seconds=0.2),
    ]:
        view(event)

    assert console.file.getvalue().splitlines()[-2:] == [
        "epics[0]/code: done (0.1 s, small, 1234 tokens, 0.0012 USD)",
        "epics[1]/code: done (0.2 s, small, 1240 tokens, 0.0012 USD)",
    ]


def test_list_of_one_element_is_no_list_of_elements():
    console = Console(file=io.StringIO(), width=200)

    LineView(console)(StageStarted(run="r", stage="notes", elements=1))

    assert console.file.getvalue() == "notes: started (1 element)\n"


def test_list_of_which_elements_failed_says_how_many():
    progress = Progress()
    for event in STORY:
        progress(event)

    assert "1 of 2 failed" in shown(table(progress))


def test_pipe_gets_the_first_and_the_last_line_of_a_failure_and_the_end_tells_all_of_it():
    console = Console(file=io.StringIO(), width=200)

    LineView(console)(StageFinished(stage="notes", state="failed", reason="no model answered:\n  1. small\n  2. big"))

    assert console.file.getvalue() == "notes: failed: no model answered: ... 2. big\n"


def test_terminal_shows_no_table_of_a_run_that_never_begins():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)

    with LiveView(console):
        pass

    assert "stage" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["stage", "state", "model", "calls", "tokens", "USD", "time"]),
        (50, ["stage", "state", "model", "USD", "time"]),
        (30, ["stage", "state"]),
    ],
)
def test_narrow_terminal_gets_fewer_figures_and_each_stage(width, titles):
    progress = Progress()
    for event in STORY:
        progress(event)

    head, *rows = shown(table(progress, width), width).splitlines()

    assert head.split() == titles
    assert [row.split()[:2] for row in rows] == [["✓", "read"], ["✓", "notes"], ["-", "merge"]]
    assert "1 of 2 failed" in rows[1]
