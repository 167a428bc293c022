"""Gates fail closed: what was not approved lets nothing behind it run, whatever stands behind it and however it ended."""

from __future__ import annotations

import asyncio
import sqlite3
import textwrap
import time
from dataclasses import replace
from types import MappingProxyType

import pytest

from flowcraft.events import ApprovalAnswered, ApprovalAsked, ApprovalWithdrawn, StageStarted
from flowcraft.plugin import StageBody

pytestmark = pytest.mark.integration


def mark(word):
    with open("log.txt", "a", encoding="utf-8") as log:
        log.write(f"{word} ")
    return word


class Marking(StageBody):
    """Leaves a mark."""

    key = "marking"
    takes = frozenset()

    async def run(self, options, context):
        return mark("plugin")


BEHIND = {
    "run": '{needs: [gate], run: "steps:note", with: {word: behind}}',
    "prompt": "{needs: [gate], prompt: hello}",
    "shell": "{needs: [gate], shell: 'echo behind >> log.txt'}",
    "uses": "{needs: [gate], uses: ./part.yaml}",
    "stages": '{needs: [gate], stages: {inner: {run: "steps:note", with: {word: behind}}}}',
    "approve": "{needs: [gate], approve: And this?}",
    "marking": "{needs: [gate], marking: {}}",
    "run that mentions it": '{run: "steps:note", with: {word: "${{ gate.choice }}"}}',
    "each": '{needs: [gate], each: [1, 2], parallel: 2, run: "steps:note", with: {word: "${{ item }}"}}',
    "inside a group": "{stages: {inner: {when: gate.choice == 'approve', run: \"steps:note\", with: {word: behind}}}}",
    "with continue": '{needs: [gate], on_error: continue, run: "steps:note", with: {word: behind}}',
}
ENDS = ("open", "rejected", "timed out", "cancelled", "failed")
GATES = {
    "rejected": "{approve: Go on?}",
    "open": "{approve: Go on?}",
    "timed out": "{approve: Go on?, timeout: 1h}",
    "cancelled": "{approve: Go on?}",
    "failed": '{approve: "Go on? ${{ len(bad) }}"}',
}


def opened(project, **settings):
    project.write("part.yaml", 'flowcraft: 1\nstages: {x: {run: "steps:note", with: {word: behind}}}\n')
    flow = project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}, **settings)
    bodies = flow.plugins.bodies
    flow.plugins.bodies = lambda: MappingProxyType({**bodies(), "marking": Marking})
    return flow


def written(project, stages):
    text = "flowcraft: 1\nstages:\n" + textwrap.indent(textwrap.dedent(stages), "  ")
    return project.write("flow.yaml", text)


async def ended(flow, run, how):
    """Let the gate of a waiting run end so; return the run's result."""
    if how == "rejected":
        await flow.approve(run, "gate", choice="reject", by="me")
    elif how == "timed out":
        flow.engine.desk = replace(flow.engine.desk, now=lambda: time.time() + 3601)
    elif how == "cancelled":
        return await flow.cancel(run)
    return await flow.resume(run)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
async def test_nothing_behind_a_gate_runs_that_was_not_approved(project, behind, how):
    bad = 'bad: {run: "json:loads", with: {s: "7"}}\n' if how == "failed" else ""
    async with opened(project) as flow:
        first = await flow.run(written(project, f"{bad}gate: {GATES[how]}\nbehind: {behind}\n"))
        result = first if how == "failed" else await ended(flow, first.run, how)
        asked = {one.path for one in flow.engine.store.approvals(first.run)}

    state = {"open": "waiting", "cancelled": "cancelled"}.get(how, "failed")
    assert result.state == state
    assert project.marks() == []
    assert project.fake.requests == []
    assert asked <= {"gate"}
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        assert connection.execute("SELECT path FROM pieces WHERE path LIKE 'behind%'").fetchall() == []


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
async def test_what_is_behind_a_gate_runs_once_it_is_approved(project, behind):
    """The test above would pass for what never runs at all."""
    async with opened(project) as flow:
        first = await flow.run(written(project, f"gate: {{approve: Go on?}}\nbehind: {behind}\n"))
        await flow.approve(first.run, "gate", choice="approve")
        result = await flow.resume(first.run)
        asked = {one.path for one in flow.engine.store.approvals(first.run)}

    assert project.marks() or project.fake.requests or "behind" in asked
    assert result.state == ("waiting" if "behind" in asked else "done")


AROUND = {
    "group": "outer: {on_error: continue, stages: {gate: {approve: Go on?, timeout: 1h}}}",
    "nested": "outer: {on_error: continue, stages: {in_: {on_error: continue, stages: {gate: {approve: A, timeout: 1h}}}}}",
    "uses": "outer: {on_error: continue, uses: ./asks.yaml}",
    "each": "outer: {on_error: continue, each: [1], stages: {gate: {approve: Go on?, timeout: 1h}}}",
    "wide": "outer: {each: [1, 2], on_error: continue, parallel: 2, stages: {gate: {when: item < 2, approve: A, timeout: 1h}}}",
    "retry": "outer: {retry: {max: 3, backoff: 1ms}, stages: {gate: {approve: Go on?, timeout: 1h}}}",
    "until": "outer: {until: 'false', max: 3, on_error: continue, stages: {gate: {approve: Go on?, timeout: 1h}}}",
}


@pytest.mark.parametrize("how", ["rejected", "timed out", "cancelled"])
@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
async def test_nothing_around_a_gate_catches_its_end_or_repeats_it(project, around, how):
    project.write("asks.yaml", "flowcraft: 1\nstages: {gate: {approve: Go on?, timeout: 1h}}\n")
    behind = '\nbehind: {needs: [outer], run: "steps:note", with: {word: behind}}\n'
    async with opened(project) as flow:
        run = (await flow.run(written(project, around + behind))).run
        (asked,) = flow.approvals(run)
        if how == "rejected":
            await flow.approve(run, asked.path, choice="reject", by="me")
        result = await ended(flow, run, "" if how == "rejected" else how)
        every = flow.engine.store.approvals(run)

    assert result.state == ("cancelled" if how == "cancelled" else "failed")
    assert len(every) == 1
    assert project.marks() == []
    if how != "cancelled":
        heart = "rejected by me" if how == "rejected" else "nobody answered within 3600 s"
        assert result.error == f"stage {asked.path}: {heart}"


FAILING = {
    "question": 'gate: {approve: "Go on? ${{ len(bad) }}"}',
    "when": "gate: {when: len(bad) > 0, approve: Go on?}",
    "each": "gate: {each: bad, approve: Go on?}",
    "tries": "gate: {until: gate.choice == 'b', max: 1, choices: [a, b], approve: Go on?}",
}


@pytest.mark.parametrize("gate", FAILING.values(), ids=FAILING)
@pytest.mark.parametrize("around", ["", "retry: {max: 2, backoff: 1ms}, ", "each: [1], ", "until: 'false', max: 2, "])
async def test_gate_that_cannot_ask_or_whose_tries_are_used_up_is_not_caught_around_it(project, around, gate):
    text = f"""
bad: {{run: "json:loads", with: {{s: "7"}}}}
outer: {{{around}on_error: continue, stages: {{in_: {{on_error: continue, stages: {{{gate}}}}}}}}}
behind: {{needs: [outer], run: "steps:note", with: {{word: behind}}}}
"""
    async with opened(project) as flow:
        result = await flow.run(written(project, text), answers={"outer.in_.gate": "a"} if "choices" in gate else None)

    assert (result.state, result.stages["behind"]["state"]) == ("failed", "pending")
    assert "/in_/gate" in result.error
    assert project.marks() == []


async def test_budget_is_not_caught_around_a_gate(project):
    async with opened(project) as flow:
        path = project.write(
            "flow.yaml",
            textwrap.dedent("""
            flowcraft: 1
            budget: {calls: 1}
            stages:
              outer:
                on_error: continue
                stages:
                  one: {prompt: hello}
                  two: {needs: [one], prompt: again}
                  gate: {needs: [two], approve: Go on?}
              behind: {needs: [outer], run: "steps:note", with: {word: behind}}
        """),
        )
        result = await flow.run(path)

    assert result.state == "failed"
    assert "budget" in result.error
    assert project.marks() == []
    assert [one.path for one in flow.engine.store.approvals(result.run)] == []


async def test_skipped_gate_blocks_nothing(project):
    result = await project.run("""
        stages:
          gate: {when: "false", approve: Go on?}
          behind: {needs: [gate], run: "steps:note", with: {word: "behind${{ gate.choice }}"}}
    """)

    assert result.state == "done"
    assert project.marks() == ["behind"]


async def test_open_approvals_are_withdrawn_after_a_failure_before_finally_runs(project):
    project.steps("""
import sqlite3
def state():
    with sqlite3.connect("flowcraft.db") as connection:
        return [row[0] for row in connection.execute("SELECT state FROM approvals")]
def fail():
    raise ValueError("no")
""")
    async with project.open() as flow:
        result = await project.run(
            """
            stages:
              gate: {approve: Go on?}
              bad: {run: "steps:fail"}
            finally: {seen: {run: "steps:state"}}
        """,
            flow,
        )
        open_ones = flow.approvals(result.run)
        with pytest.raises(Exception, match="withdrawn"):
            await flow.approve(result.run, "gate", choice="approve")
        again = await flow.resume(result.run)

    assert (result.state, open_ones) == ("failed", [])
    assert [event.path for event in project.events if isinstance(event, ApprovalWithdrawn)] in (["gate"], ["gate", "gate"])
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        (seen,) = connection.execute("SELECT result FROM pieces WHERE path = 'finally[1]/seen'").fetchone()
    assert seen == '["withdrawn"]'
    assert again.state == "failed"


async def test_gate_in_a_group_that_failed_and_goes_on_is_withdrawn(project):
    async with project.open() as flow:
        result = await project.run(
            """
            stages:
              group:
                on_error: continue
                stages:
                  gate: {approve: Go on?}
                  bad: {run: "steps:fail"}
              behind: {needs: [group], run: "steps:note", with: {word: behind}}
        """,
            flow,
        )
        states = [one.state for one in flow.engine.store.approvals(result.run)]

    assert (result.state, states) == ("done", ["withdrawn"])
    assert project.marks() == ["failed", "behind"]


HELD = """
import asyncio, pathlib
async def held(fails):
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.001)
    if fails:
        raise ValueError("cannot")
"""


async def asked_in(flow, path, gate):
    """Begin a run, return it and its task once ``gate`` is asked."""
    asked = asyncio.Event()
    flow.subscribe(lambda event: asked.set() if isinstance(event, ApprovalAsked) and event.gate == gate else None)
    going = asyncio.ensure_future(flow.run(path))
    await asked.wait()
    return flow.approvals()[0].run, going


async def test_answer_in_a_group_that_fails_and_goes_on_is_no_reason_to_begin_again(project):
    project.steps(HELD)
    path = written(
        project,
        """
        group:
          on_error: continue
          stages: {gate: {approve: Go on?}, bad: {run: "steps:held", with: {fails: true}}}
        other: {needs: [group], approve: And this?}
        """,
    )
    async with project.open() as flow:
        run, going = await asked_in(flow, path, "group.gate")
        await flow.approve(run, "group.gate", choice="approve", by="me")
        (project.path / "go").touch()
        result = await going
        states = {one.gate: one.state for one in flow.engine.store.approvals(run)}
        due, segment = flow.engine.due(run), flow.engine.find(run).segment

    assert (result.state, states) == ("waiting", {"group.gate": "taken", "other": "open"})
    assert (list(due), segment) == ([], 1)
    assert [event.gate for event in project.events if isinstance(event, ApprovalAnswered)] == ["group.gate"]


async def test_answer_beforehand_that_comes_while_the_run_goes_on_counts_for_gates_that_ask_later(project):
    project.steps(HELD)
    path = written(
        project,
        """
        first: {approve: Go on?}
        held: {run: "steps:held", with: {fails: false}}
        late: {needs: [held], approve: And this?}
        """,
    )
    async with project.open() as flow, project.open() as other:
        run, going = await asked_in(flow, path, "first")
        other.runs.approvals.add_beforehand(other.engine.find(run), {"late": {"choice": "approve", "by": "me"}})
        (project.path / "go").touch()
        await going
        states = {one.gate: one.state for one in flow.engine.store.approvals(run)}

    assert states == {"first": "open", "late": "taken"}


async def test_waiting_run_is_no_end_so_that_finally_does_not_run(project):
    async with project.open() as flow:
        first = await project.run(
            """
            stages: {gate: {approve: Go on?}}
            finally: {last: {run: "steps:note", with: {word: "${{ run.state }}"}}}
        """,
            flow,
        )
        before = project.marks()
        await flow.approve(first.run, choice="approve")
        await flow.resume(first.run)

    assert (before, project.marks()) == ([], ["done"])


async def test_cancel_of_a_waiting_run_withdraws_what_it_asks(project):
    async with project.open() as flow:
        first = await project.run("stages: {gate: {approve: Go on?}}", flow)
        row = await flow.cancel(first.run)
        states = [one.state for one in flow.engine.store.approvals(first.run)]

    assert (row.state, states) == ("cancelled", ["withdrawn"])


async def test_cancel_of_a_waiting_run_begins_nothing_but_finally(project):
    async with project.open() as flow:
        first = await project.run(
            """
            stages: {outer: {stages: {gate: {approve: Go on?}}}}
            finally: {last: {run: "steps:note", with: {word: "${{ run.state }}"}}}
        """,
            flow,
        )
        project.events.clear()
        row = await flow.cancel(first.run)

    assert (row.state, project.marks()) == ("cancelled", ["cancelled"])
    assert [event.stage for event in project.events if isinstance(event, StageStarted)] == ["finally[1]/last"]


async def test_rejection_lets_what_runs_finish_and_starts_nothing_new(project):
    project.steps("""
import asyncio, pathlib
async def slow():
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.001)
    with open("log.txt", "a") as log:
        log.write("slow ")
""")
    async with project.open() as flow:
        text = """
            stages:
              gate: {approve: Go on?}
              slow: {run: "steps:slow"}
              after: {needs: [slow, gate], run: "steps:slow"}
        """
        path = project.write("flow.yaml", "flowcraft: 1\n" + textwrap.dedent(text))
        failed = asyncio.Event()
        flow.subscribe(lambda event: failed.set() if getattr(event, "state", "") == "failed" else None)
        going = asyncio.ensure_future(flow.run(path, answers={"gate": "reject"}))
        await failed.wait()
        (project.path / "go").touch()
        result = await going

    assert (result.state, result.stages["slow"]["state"], result.stages["after"]["state"]) == ("failed", "done", "pending")
    assert project.marks() == ["slow"]


async def test_rejected_element_of_a_list_is_named(project):
    async with project.open() as flow:
        run = (await project.run('stages: {rows: {each: [a, b], approve: "${{ item }}?"}}', flow)).run
        await flow.approve(run, "rows[1]", choice="reject", by="me", comment="no")
        result = await flow.resume(run)

    assert result.error == "stage rows[1]: rejected by me: no"
