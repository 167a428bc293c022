"""Approvals: asked durably, answered once, by whoever is there first."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import textwrap
import time
from dataclasses import replace

import pytest

from flowcraft.errors import RunError, WorkflowError
from flowcraft.events import ApprovalAnswered, ApprovalAsked, ApprovalExpired

pytestmark = pytest.mark.integration

GATE = """
    stages:
      before: {run: "steps:note", with: {word: before}}
      gate: {approve: "Go on with ${{ before }}?", timeout: 1h}
      behind: {needs: [gate], run: "steps:note", with: {word: "behind-${{ gate.by }}"}}
"""


class Clock:
    """A time of day that a test sets."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def at_time(flow, clock):
    flow.engine.desk = replace(flow.engine.desk, now=clock)
    return flow


def written(project, workflow):
    return project.write("flow.yaml", "flowcraft: 1\n" + textwrap.dedent(workflow))


def rows(project, sql):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        return connection.execute(sql).fetchall()


def kinds(project, *classes):
    return [event for event in project.events if isinstance(event, classes)]


async def test_stage_waits_and_goes_on_with_the_answer(project):
    async with project.open() as flow:
        waiting = await project.run(GATE, flow)
        (asked,) = flow.approvals(waiting.run)
        answered = await flow.approve(waiting.run, "gate", choice="approve", comment="gut so – прекрасно", by="Ämilia")
        done = await flow.resume(waiting.run)

    assert (waiting.state, waiting.stages["gate"]["state"], waiting.stages["behind"]["state"]) == (
        "waiting",
        "waiting",
        "pending",
    )
    assert (asked.question, list(asked.choices), asked.open) == ("Go on with before?", ["approve", "reject"], True)
    assert asked.deadline - asked.asked == 3600
    assert answered.state == "answered"
    assert done.outputs == {"behind": "behind-Ämilia"}
    assert project.marks() == ["before", "behind-Ämilia"]
    result = json.loads(rows(project, "SELECT result FROM pieces WHERE path = 'gate'")[0][0])
    assert result == {"choice": "approve", "comment": "gut so – прекрасно", "by": "Ämilia", "at": result["at"]}
    assert result["at"].endswith("Z")


async def test_asked_is_a_row_and_an_event_and_answered_a_piece_and_an_event(project):
    async with project.open() as flow:
        run = (await project.run(GATE, flow)).run
        asked = rows(project, "SELECT state, gate, number FROM approvals")
        before = rows(project, "SELECT count(*) FROM pieces WHERE path = 'gate'")
        await flow.approve(run, choice="approve")
        await flow.resume(run)

    assert (asked, before) == ([("open", "gate", 1)], [(0,)])
    assert rows(project, "SELECT state FROM approvals") == [("taken",)]
    told = [kind for (kind,) in rows(project, "SELECT kind FROM events ORDER BY sequence") if kind.startswith("approval")]
    assert told == ["approval.asked", "approval.answered"]
    (event,) = kinds(project, ApprovalAnswered)
    assert (event.path, event.choice) == ("gate", "approve")


async def test_second_who_answers_is_told_who_answered_what_and_when(project):
    async with project.open() as flow:
        run = (await project.run(GATE, flow)).run
        await flow.approve(run, "gate", choice="approve", by="Ada", comment="fine")
        with pytest.raises(RunError) as second:
            await flow.approve(run, "gate", choice="reject", by="Bob")
        await flow.resume(run)
        with pytest.raises(RunError, match="gate was answered already: approve"):
            await flow.approve(run, "gate", choice="reject")

    assert "gate was answered already: approve (fine), by Ada at 20" in str(second.value)


async def test_of_many_answers_at_once_one_counts(project):
    async with project.open() as flow:
        run = (await project.run(GATE, flow)).run
        answers = [flow.approve(run, choice="approve" if number % 2 else "reject", by=str(number)) for number in range(20)]
        found = await asyncio.gather(*answers, return_exceptions=True)

    won = [one for one in found if not isinstance(one, Exception)]
    assert len(won) == 1
    assert {type(one) for one in found if one is not won[0]} <= {RunError, WorkflowError}
    assert rows(project, "SELECT by FROM approvals") == [(won[0].by,)]


async def test_what_does_not_depend_on_a_gate_goes_on(project):
    result = await project.run("""
        stages:
          gate: {approve: Go on?}
          other: {run: "steps:note", with: {word: other}}
          more: {run: "steps:note", with: {word: "${{ other }}-more"}}
          behind: {needs: [gate, more], run: "steps:note", with: {word: behind}}
    """)

    assert result.state == "waiting"
    assert project.marks() == ["other", "other-more"]


async def test_choices_of_ones_own_are_values_to_route_on(project):
    workflow = """
        stages:
          gate: {approve: Which way?, choices: {left: To the left, reject: Not at all, on: }}
          left: {when: gate.choice == 'left', run: "steps:note", with: {word: left}}
          none: {when: gate.choice == 'reject', run: "steps:note", with: {word: none}}
    """
    async with project.open() as flow:
        for choice in ("left", "reject"):
            result = await flow.run(written(project, workflow), answers={"gate": choice})
            assert result.state == "done"

    assert project.marks() == ["left", "none"]


async def test_default_choices_with_labels_are_default_choices_still(project):
    workflow = 'stages: {gate: {approve: Post?, choices: {reject: "No, never", approve: "Yes"}}}\n'
    async with project.open() as flow:
        result = await flow.run(written(project, workflow), answers={"gate": "reject"})

    assert (result.state, result.error.partition(" by ")[0]) == ("failed", "stage gate: rejected")


FORM = """
    types: {Place: {town: string, floor: integer | null}}
    stages:
      gate:
        approve: Publish?
        output: {version: string (the new one), copies: integer, place: Place, tags: "[string]", note: string | null}
      behind: {run: "json:dumps", with: {obj: "${{ gate }}", sort_keys: true}}
"""
FILLED = {"version": "1.2", "copies": 3, "place": {"town": "Köln"}, "tags": ["a"]}


async def test_form_is_checked_and_its_fields_are_in_the_value(project):
    async with project.open() as flow:
        run = (await project.run(FORM, flow)).run
        with pytest.raises(WorkflowError) as wrong:
            await flow.approve(run, choice="approve", values={"version": 1, "copies": "x", "colour": "red"})
        await flow.approve(run, choice="approve", values=FILLED, by="me")
        done = await flow.resume(run)

    told = str(wrong.value)
    assert "gate 'gate' asks for no field 'colour'" in told
    assert "field 'version' (string: the new one) of gate 'gate' must be text" in told
    assert "field 'copies'" in told
    assert "'place'" in told
    assert "'tags'" in told
    value = json.loads(done.outputs["behind"])
    assert {name: value[name] for name in FILLED} == {**FILLED, "place": {"town": "Köln", "floor": None}}
    assert (value["note"], value["choice"], value["by"]) == (None, "approve", "me")


async def test_rejection_needs_no_form(project):
    async with project.open() as flow:
        run = (await project.run(FORM, flow)).run
        await flow.approve(run, choice="reject", comment="not now", by="me")
        result = await flow.resume(run)

    assert (result.state, result.error) == ("failed", "stage gate: rejected by me: not now")


async def test_unknown_choice_and_unknown_gate_are_told_with_what_there_is(project):
    async with project.open() as flow:
        run = (await project.run(GATE, flow)).run
        with pytest.raises(WorkflowError, match=r"no choice 'aprove'; did you mean 'approve'"):
            await flow.approve(run, "gate", choice="aprove")
        with pytest.raises(WorkflowError, match=r"no gate 'gat' .*did you mean 'gate'"):
            await flow.approve(run, "gat", choice="approve")
        assert [one.state for one in flow.approvals(run)] == ["open"]


async def test_resume_with_nothing_answered_begins_no_segment(project):
    async with project.open() as flow:
        run = (await project.run(GATE, flow)).run
        again = await flow.resume(run)

    assert (again.state, [one.gate for one in again.waits]) == ("waiting", ["gate"])
    assert rows(project, "SELECT segment, epoch, state FROM runs") == [(1, 1, "waiting")]


PLACES = """
    stages:
      report: {stages: {gate: {approve: One?}}}
      rows:
        each: [a, b, c]
        approve: "${{ item }}?"
      tries: {until: tries.choice == 'good', max: 3, approve: "Try ${{ iteration }}?", choices: [good, bad]}
      part: {uses: ./part.yaml}
    outputs: {one: "${{ report.gate.choice }}", rows: "${{ rows }}", tries: "${{ tries.choice }}", part: "${{ part.ok }}"}
"""
PART = """
    flowcraft: 1
    stages: {gate: {approve: Part?}}
    outputs: {ok: "${{ gate.choice == 'approve' }}"}
"""


async def test_gates_stand_in_groups_lists_tries_and_other_files(project):
    project.write("part.yaml", PART)
    async with project.open() as flow:
        run = (await project.run(PLACES, flow)).run
        first = sorted(one.path for one in flow.approvals(run))
        for gate in ("report.gate", "rows[0]", "rows[2]", "part.gate"):
            await flow.approve(run, gate, choice="approve", by=gate)
        await flow.approve(run, "tries", choice="bad")
        second = await flow.resume(run)
        await flow.approve(run, "rows[1]", choice="approve", by="last")
        await flow.approve(run, "tries#2", choice="good")
        done = await flow.resume(run)

    assert first == ["part/gate", "report/gate", "rows[0]", "rows[1]", "rows[2]", "tries#1"]
    assert sorted(one.path for one in second.waits) == ["rows[1]", "tries#2"]
    assert done.state == "done"
    assert [row["by"] for row in done.outputs["rows"]] == ["rows[0]", "last", "rows[2]"]
    assert (done.outputs["one"], done.outputs["tries"], done.outputs["part"]) == ("approve", "good", True)
    assert done.stages["tries"]["tries"] == 2


async def test_element_that_waits_holds_up_none_of_the_others(project):
    result = await project.run("""
        stages:
          rows:
            each: [1, 2, 3]
            stages:
              work: {run: "steps:note", with: {word: "work${{ item }}"}}
              gate: {needs: [work], when: item != 3, approve: "${{ item }}?"}
              behind: {needs: [gate], run: "steps:note", with: {word: "behind${{ item }}"}}
    """)

    assert sorted(one.path for one in result.waits) == ["rows[0]/gate", "rows[1]/gate"]
    assert project.marks() == ["work1", "work2", "work3", "behind3"]


# -- beforehand


async def test_answers_beforehand_hold_each_time_the_gate_is_asked_and_are_kept_with_the_run(project):
    project.write("part.yaml", PART)
    answers = {"report.gate": "approve", "rows": "approve", "rows[1]": {"choice": "approve", "by": "Eve"}}
    async with project.open() as flow:
        first = await flow.run(written(project, PLACES), answers={**answers, "part.gate": "approve"})
    async with project.open() as flow:
        second = await flow.resume(first.run, answers={"tries": "bad"})
        third = await flow.resume(first.run, answers={"tries": "good"})

    assert [one.path for one in first.waits] == ["tries#1"]
    assert second.state == "failed"
    assert "'until' did not hold in 3 tries" in second.error
    assert len(rows(project, "SELECT path FROM approvals WHERE path LIKE 'tries#%' AND choice = 'bad'")) == 3
    assert third.state == "done"
    assert third.outputs["rows"][1]["by"] == "Eve" != third.outputs["rows"][0]["by"]


async def test_answer_beforehand_fills_the_form(project):
    async with project.open() as flow:
        with pytest.raises(WorkflowError, match=r"field 'version'.* is missing"):
            await flow.run(written(project, FORM), answers={"gate": "approve"})
        done = await flow.run(written(project, FORM), answers={"gate": {"choice": "approve", "values": FILLED}})

    assert json.loads(done.outputs["behind"])["version"] == "1.2"


async def test_unknown_gate_or_choice_given_beforehand_is_an_error_at_the_start(project):
    async with project.open() as flow:
        with pytest.raises(WorkflowError) as wrong:
            await flow.run(
                written(project, GATE), answers={"gat": "approve", "gate": "yes", "gate[1]": "approve", "before": "approve"}
            )

    told = str(wrong.value)
    assert "there is no gate 'gat' of the workflow; did you mean 'gate'" in told
    assert "gate 'gate' has no choice 'yes'; the choices are: approve, reject" in told
    assert "no gate 'gate[1]'" in told
    assert "no gate 'before'" in told
    assert not (project.path / "flowcraft.db").exists() or rows(project, "SELECT count(*) FROM runs") == [(0,)]


# -- time


async def test_deadline_is_fixed_when_first_asked_and_fires_after_a_restart(project):
    clock = Clock()
    async with at_time(project.open(), clock) as flow:
        run = (await project.run(GATE, flow)).run
        (asked,) = flow.approvals(run)
    clock.now += 3599
    async with at_time(project.open(), clock) as flow:
        assert (await flow.resume(run)).state == "waiting"
        assert flow.approvals(run) == [asked]
    clock.now += 1
    async with at_time(project.open(), clock) as flow:
        with pytest.raises(RunError, match="the time for gate was over"):
            await flow.approve(run, choice="approve")
        result = await flow.resume(run)

    assert (result.state, result.error) == ("failed", "stage gate: nobody answered within 3600 s")
    assert project.marks() == ["before"]
    assert [event.path for event in kinds(project, ApprovalExpired)] == ["gate"]


async def test_resume_behind_a_rejection_or_a_time_out_asks_anew_with_a_time_of_its_own(project):
    clock = Clock()
    async with at_time(project.open(), clock) as flow:
        run = (await project.run(GATE, flow)).run
        clock.now += 4000
        timed_out = await flow.resume(run)
        asked_anew = await flow.resume(run)
        (asked,) = flow.approvals(run)
        await flow.approve(run, choice="reject", by="me")
        rejected = await flow.resume(run)
        third = await flow.resume(run)
        await flow.approve(run, choice="approve", by="me")
        done = await flow.resume(run)

    assert [one.state for one in (timed_out, asked_anew, rejected, third)] == ["failed", "waiting", "failed", "waiting"]
    assert (asked.number, asked.deadline) == (2, clock.now + 3600)
    assert done.outputs == {"behind": "behind-me"}
    assert project.marks() == ["before", "behind-me"]


async def test_tries_of_a_gate_share_its_time(project):
    clock = Clock()
    async with at_time(project.open(), clock) as flow:
        run = (
            await project.run(
                "stages: {gate: {approve: Good?, choices: [yes, no], until: gate.choice == 'yes', max: 5, timeout: 1h}}", flow
            )
        ).run
        clock.now += 1800
        await flow.approve(run, choice="no")
        second = await flow.resume(run)

    assert [(one.path, one.deadline - clock.now) for one in second.waits] == [("gate#2", 1800)]


async def test_defaults_do_not_reach_an_approval(project):
    async with project.open() as flow:
        run = (await project.run("defaults: {timeout: 1s, retry: 3}\nstages: {gate: {approve: Go on?}}", flow)).run

    assert [one.deadline for one in flow.approvals(run)] == [None]


async def test_long_question_is_kept_whole_and_its_event_is_cut(project):
    long = "Ω" * 1_000_000
    async with project.open() as flow:
        run = (
            await project.run('inputs: {text: string}\nstages: {gate: {approve: "${{ inputs.text }}"}}', flow, text=long)
        ).run
        (asked,) = flow.approvals(run)

    (event,) = kinds(project, ApprovalAsked)
    assert asked.question == long
    assert len(event.question) < 2_100


async def test_answer_to_a_question_that_is_not_asked_any_more_does_not_count(project):
    """What was answered is what was asked: another question at its place is RunDiverged, said and stopped."""
    async with project.open() as flow:
        run = (await project.run(GATE, flow)).run
        await flow.approve(run, choice="approve")
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("UPDATE approvals SET what = 'another'")
    async with project.open() as flow:
        result = await flow.resume(run)

    assert result.state == "failed"
    assert "asks people for something else" in result.error
    assert project.marks() == ["before"]


async def test_secrets_stay_out_of_what_is_asked_and_said(project, monkeypatch):
    monkeypatch.setenv("TOKEN_FOR_TEST", "tok-123456789")
    workflow = """
        env: [TOKEN_FOR_TEST]
        inputs: {text: string}
        stages:
          gate: {approve: "${{ inputs.text }}", output: {field: string}}
          use: {when: "false", run: "steps:note", with: {word: "${{ env.TOKEN_FOR_TEST }}"}}
    """
    async with project.open() as flow:
        run = (await project.run(workflow, flow, text="use tok-123456789")).run
        values = {"field": "f tok-123456789"}
        await flow.approve(run, choice="approve", comment="c tok-123456789", by="b tok-123456789", values=values)
        await flow.resume(run)

    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        dump = "\n".join(connection.iterdump())
    assert "tok-123456789" not in dump
    assert "c ***" in dump
