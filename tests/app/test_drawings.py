"""What became of stages, from the pieces, events and attempts of a run."""

from __future__ import annotations

import itertools
import json

import pytest

from flowcraft.app.drawings import box_of, stages_told
from flowcraft.attempts import Attempt, Usage
from flowcraft.engine import AttemptRow, EventRow, Piece

pytestmark = pytest.mark.unit


class Happened:
    """What a run leaves, put together a line at a time."""

    def __init__(self):
        self.events, self.pieces, self.attempts = [], [], []
        self.sequence = itertools.count(1)

    def event(self, kind, stage, **data):
        data = {"kind": kind, "stage": stage, **data}
        self.events.append(EventRow(sequence=next(self.sequence), kind=kind, stage=stage, time=0.0, data=json.dumps(data)))
        return self

    def started(self, stage, elements=None):
        return self.event("stage.started", stage, elements=elements)

    def finished(self, stage, state="done", reason="", seconds=1.0, errors=0):
        return self.event("stage.finished", stage, state=state, reason=reason, seconds=seconds, errors=errors)

    def piece(self, path, state="done", origin=""):
        self.pieces.append(Piece(path=path, what="w", state=state, origin=origin))
        return self

    def attempt(self, path, model="m", outcome="ok", usd=0.1):
        usage = Usage(input=10, output=5)
        attempt = Attempt(model=model, outcome=outcome, usage=usage, usd=usd)
        self.attempts.append(AttemptRow(path=path, stage="", attempt=attempt))
        return self

    def told(self, run="done"):
        return stages_told(run, self.pieces, self.events, self.attempts)


@pytest.fixture
def happened():
    return Happened()


@pytest.mark.parametrize(
    ("path", "box"),
    [
        ("a", "a"),
        ("a[3]", "a"),
        ("report#2/draft~2", "report/draft"),
        ("epics[0]/attempt#3/code~1", "epics/attempt/code"),
        ("finally[1]/tidy", "finally/tidy"),
    ],
)
def test_a_path_of_a_run_belongs_to_a_box(path, box):
    assert box_of(path) == box


def test_a_stage_that_ended_tells_how(happened):
    told = happened.started("a").finished("a", seconds=2.5).piece("a").told()["a"]

    assert (told.state, told.seconds) == ("done", 2.5)


def test_a_skip_and_a_failure_tell_why(happened):
    told = happened.finished("a", "skipped", "when: x").started("b").finished("b", "failed", "it broke").told("failed")

    assert (told["a"].state, told["a"].reason) == ("skipped", "when: x")
    assert (told["b"].state, told["b"].reason) == ("failed", "it broke")


@pytest.mark.parametrize(
    ("run", "state"),
    [("running", "running"), ("interrupted", "stopped"), ("failed", "stopped"), ("cancelled", "stopped")],
)
def test_a_stage_that_began_and_did_not_end(happened, run, state):
    assert happened.started("a").told(run)["a"].state == state


def test_a_stage_of_which_nothing_is_known_is_not_told(happened):
    assert "b" not in happened.started("a").told()


def test_a_stage_that_was_gone_on_with_after_a_failure_counts_as_it_ended(happened):
    told = happened.started("a").finished("a", "failed", "once").started("a").finished("a").told()["a"]

    assert (told.state, told.reason, told.seconds, told.errors) == ("done", "", 2.0, 0)


def test_elements_are_counted(happened):
    happened.started("a", elements=4).piece("a[0]").piece("a[1]", "failed").piece("a[3]")

    told = happened.told("running")["a"]

    assert (told.state, told.elements, told.done) == ("running", 4, 3)
    assert happened.piece("a[2]").finished("a", errors=1).told()["a"].errors == 1


def test_tries_of_a_loop_count_and_its_stages_tell_of_the_last(happened):
    for number in (1, 2):
        happened.started(f"r#{number}/d").finished(f"r#{number}/d", seconds=1.0)
        happened.event("try.finished", "r", path="r", number=number, passed=number == 2)

    told = happened.finished("r").told()

    assert told["r"].tries == 2
    assert (told["r/d"].state, told["r/d"].seconds) == ("done", 2.0)


def test_elements_of_a_group_that_failed_are_told_beside_those_that_did_not(happened):
    happened.started("g[0]/a").finished("g[0]/a", "failed", "it broke").started("g[1]/a").finished("g[1]/a")

    told = happened.told()["g/a"]

    assert (told.state, told.errors) == ("done", 1)


def test_money_of_what_lies_in_a_group_is_the_groups_too(happened):
    happened.started("g").started("g#1/a").finished("g#1/a").finished("g")
    happened.attempt("g#1/a").attempt("g#1/a", model="n", outcome="ProviderTimeout", usd=None).attempt(
        "g#1/a", outcome="skipped"
    )
    happened.attempt("g#1/judge", model="umpire")

    told = happened.told()

    assert (told["g/a"].calls, told["g/a"].tokens, told["g/a"].usd, told["g/a"].model) == (2, 30, 0.1, "m")
    assert (told["g"].calls, told["g"].usd, told["g"].model) == (3, 0.2, "m")


def test_calls_of_a_tool_loop_belong_to_its_stage(happened):
    told = happened.started("a").finished("a").attempt("a/call[1]").attempt("a/call[2]").told()

    assert told["a"].calls == 2
    assert "a/call" not in told


def test_work_of_another_run_is_reused(happened):
    told = happened.piece("a", origin="fork:r0").piece("b").told()

    assert (told["a"].state, told["b"].state) == ("reused", "done")


def test_a_list_of_which_some_was_done_here_is_done(happened):
    happened.started("a", elements=2).piece("a[0]", origin="cache:r0").piece("a[1]").finished("a")

    assert happened.told()["a"].state == "done"


def test_a_piece_alone_tells_how_it_ended(happened):
    told = happened.piece("a", "skipped").piece("b", "failed").piece("c[0]").piece("c[1]", "failed").told()

    assert (told["a"].state, told["b"].state, told["c"].state) == ("skipped", "failed", "failed")


def test_a_gate_waits_and_so_does_what_is_around_it(happened):
    happened.started("g").started("g/gate").event("approval.asked", "g/gate", path="g/gate", gate="g.gate")

    told = happened.told("waiting")

    assert (told["g/gate"].state, told["g/gate"].reason) == ("waiting", "somebody must answer")
    assert told["g"].state == "waiting"


@pytest.mark.parametrize("end", ["approval.answered", "approval.timed_out", "approval.withdrawn"])
def test_a_gate_that_was_asked_and_answered_waits_no_more(happened, end):
    happened.started("gate").event("approval.asked", "gate", path="gate").event(end, "gate", path="gate")

    assert happened.told("running")["gate"].state == "running"
    assert happened.finished("gate").told("done")["gate"].state == "done"


def test_a_gate_of_a_run_that_is_over_stopped(happened):
    told = happened.started("gate").event("approval.asked", "gate", path="gate").told("cancelled")["gate"]

    assert told.state == "stopped"
