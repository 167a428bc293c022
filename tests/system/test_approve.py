"""Approvals on the command line, across processes, kills and restarts; what waiting runs cost."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow]

GATE = """
flowcraft: 1
env: [TOKEN]
stages:
  before: {run: "steps:work", with: {name: before, seconds: 0}}
  gate: {approve: "Go on with ${{ before }}?", timeout: 24h, output: {copies: integer (how many), note: string | null}}
  behind: {run: "steps:work", with: {name: "behind-${{ gate.copies }}", seconds: 0}}
  secret: {when: "false", run: "steps:work", with: {name: "${{ env.TOKEN }}"}}
outputs: {behind: "${{ behind }}", by: "${{ gate.by }}"}
"""


@pytest.fixture
def gate(folder, steps):
    folder.write("steps.py", steps)
    folder.write("gate.yaml", GATE)
    folder.env["TOKEN"] = "tok-123456789"
    return folder


def states(folder):
    with sqlite3.connect(folder.database) as connection:
        return connection.execute("SELECT state, segment FROM runs").fetchall()


def test_waiting_ends_with_3_says_how_to_answer_and_an_answer_goes_on(gate):
    waits = gate.flowcraft("run", "gate.yaml")
    shown = gate.flowcraft("runs", "show", waits.run)
    listed = gate.flowcraft("runs", "list")
    again = gate.flowcraft("runs", "resume", waits.run)
    done = gate.flowcraft("runs", "approve", waits.run, "--choice", "approve", "--set", "copies=2", "--by", "Ада")
    second = gate.flowcraft("runs", "approve", waits.run, "gate", "--choice", "reject")

    how = f"flowcraft runs approve {waits.run} gate --choice CHOICE --set copies=VALUE --set note=VALUE"
    assert (waits.code, again.code, done.code, second.code) == (3, 3, 0, 1)
    assert how in waits.err
    assert how in again.err
    assert how in shown.out
    assert "gate waits for an answer since 20" in shown.out
    assert ", until 20" in shown.out
    assert "waiting" in listed.out
    assert "gate" in listed.out
    assert states(gate) == [("done", 2)]
    assert done.out == "behind: <behind-2>\nby: Ада\n"
    assert "gate was answered already: approve, by Ада at 20" in second.err


def test_wrong_answers_are_told_and_leave_the_run_waiting(gate):
    run = gate.flowcraft("run", "gate.yaml").run
    wrong = {
        "no choice 'yes'; the choices are: approve, reject": ("--choice", "yes"),
        "'x' is no whole number": ("--choice", "approve", "--set", "copies=x"),
        "field 'copies' (integer: how many) of gate 'gate' is missing": ("--choice", "approve"),
        "asks for no field 'cop'; did you mean 'copies'": ("--choice", "approve", "--set", "cop=1"),
        "there is no gate 'gat'": ("gat", "--choice", "approve"),
    }
    for message, arguments in wrong.items():
        ended = gate.flowcraft("runs", "approve", run, *arguments)
        assert (ended.code, message in ended.err) == (2, True), ended

    assert states(gate) == [("waiting", 1)]


def test_answers_beforehand_are_checked_at_the_start_and_kept_for_resume(gate):
    unknown = gate.flowcraft("run", "gate.yaml", "--answer", "gat=approve")
    wrong = gate.flowcraft("run", "gate.yaml", "--answer", "gate=ja", "--answer", "gate.copies=1")
    done = gate.flowcraft("run", "gate.yaml", "--answer", "gate=approve", "--answer", "gate.copies=3", "--json")
    waits = gate.flowcraft("run", "gate.yaml")
    resumed = gate.flowcraft("runs", "resume", waits.run, "--answer", "gate=approve", "--answer", "gate.copies=4")

    assert (unknown.code, wrong.code, done.code, resumed.code) == (2, 2, 0, 0)
    assert "did you mean 'gate'" in unknown.err
    assert "no choice 'ja'" in wrong.err
    assert done.json["outputs"]["behind"] == "<behind-3>"
    assert "<behind-4>" in resumed.out


def test_what_is_answered_twice_is_an_error_and_a_list_takes_all_that_is_said(gate):
    gate.write("list.yaml", 'flowcraft: 1\nstages: {gate: {approve: Who?, output: {names: "[string]", n: integer}}}\n')
    twice = gate.flowcraft("run", "gate.yaml", "--answer", "gate=approve", "--answer", "gate=reject")
    field = gate.flowcraft("run", "gate.yaml", "--answer", "gate.copies=1", "--answer", "gate.copies=2")
    given = ["gate=approve", "gate.n=1", "gate.names=Ada", "gate.names=Bo"]
    both = gate.flowcraft("run", "list.yaml", "--json", *(part for one in given for part in ("--answer", one)))
    waits = gate.flowcraft("run", "list.yaml")
    said = ["n=1", "names=Ada", "names=Bo"]
    set_ = gate.flowcraft(
        "runs", "approve", waits.run, "--choice", "approve", "--json", *(part for one in said for part in ("--set", one))
    )

    assert (twice.code, "the choice of gate 'gate' is given more than once" in twice.err) == (2, True)
    assert (field.code, "field 'copies' of gate 'gate': it is given more than once" in field.err) == (2, True)
    assert [one.json["outputs"]["gate"]["names"] for one in (both, set_)] == [["Ada", "Bo"], ["Ada", "Bo"]]


def test_only_answering_leaves_going_on_to_another_command(gate):
    run = gate.flowcraft("run", "gate.yaml").run
    answered = gate.flowcraft("runs", "approve", run, "--choice", "approve", "--set", "copies=1", "--no-resume")
    before = states(gate)
    done = gate.flowcraft("runs", "resume", run)

    assert (answered.code, before, done.code) == (0, [("waiting", 1)], 0)


def test_secrets_stay_out_of_question_and_comment(gate):
    gate.write("gate.yaml", GATE.replace("Go on with ${{ before }}?", "Use tok-123456789 now?"))
    run = gate.flowcraft("run", "gate.yaml").run
    gate.flowcraft("runs", "approve", run, "--choice", "approve", "--set", "copies=1", "--comment", "it is tok-123456789")
    shown = gate.flowcraft("runs", "show", run)

    with sqlite3.connect(gate.database) as connection:
        kept = connection.execute("SELECT question, comment FROM approvals").fetchone()
    assert kept == ("Use *** now?", "it is ***")
    assert "tok-123456789" not in shown.out


BOTH = """
flowcraft: 1
stages:
  gate: {approve: Go on?}
  slow: {run: "slow:until_there", with: {path: now}}
  behind: {needs: [gate, slow], run: "steps:work", with: {name: behind, seconds: 0}}
"""
SLOW = """
import pathlib, time
def until_there(path):
    while not pathlib.Path(path).exists():
        time.sleep(0.005)
"""


def asked(folder):
    if not folder.database.exists():
        return False
    try:
        with sqlite3.connect(folder.database) as connection:
            return connection.execute("SELECT count(*) FROM approvals WHERE state = 'open'").fetchone()[0] > 0
    except sqlite3.OperationalError:
        return False


def test_answer_that_comes_while_the_owner_does_other_work_is_taken_by_the_owner(folder, steps):
    """Two processes: the one that answers leaves the run to the other, which looks once more before it leaves it waiting."""
    folder.write("steps.py", steps)
    folder.write("slow.py", SLOW)
    folder.write("both.yaml", BOTH)
    owner = folder.start("run", "both.yaml")
    folder.wait_for(lambda: asked(folder), owner)
    run = folder.runs()[0]
    answered = folder.flowcraft("runs", "approve", run, "gate", "--choice", "approve")
    folder.write("now", "")
    ended = folder.finish(owner)

    assert answered.code == 0
    assert "goes on with it" in answered.err
    assert ended.code == 0, ended
    assert folder.starts()["behind"] == 1


@pytest.mark.no_cover
def test_answer_and_end_of_the_segment_at_once_lose_nothing_and_repeat_nothing(folder, steps):
    """The answer is given at moments around the one in which the owner leaves the run waiting."""
    folder.write("steps.py", steps)
    folder.write("slow.py", SLOW)
    folder.write("both.yaml", BOTH)
    for number in range(8):
        (folder.path / "now").unlink(missing_ok=True)
        owner = folder.fork("run", "both.yaml")
        folder.wait_for(lambda number=number: len(folder.runs()) > number and asked(folder), owner)
        run = folder.runs()[-1]
        answering = folder.fork("runs", "approve", run, "gate", "--choice", "approve")
        time.sleep(0.03 * number)  # it takes a fifth of a second; so does the owner
        folder.write("now", "")
        folder.finish(owner)
        folder.finish(answering)
        with sqlite3.connect(folder.database) as connection:
            state, paths = connection.execute(
                "SELECT state, (SELECT count(*) FROM pieces WHERE run = runs.id AND path = 'behind') FROM runs WHERE id = ?",
                (run,),
            ).fetchone()
        assert (state, paths) == ("done", 1)

    assert folder.starts()["behind"] == 8


def test_kill_while_a_gate_is_open_loses_neither_question_nor_answer(folder, steps):
    folder.write("steps.py", steps)
    folder.write("slow.py", SLOW)
    folder.write("both.yaml", BOTH)
    owner = folder.start("run", "both.yaml")
    folder.wait_for(lambda: asked(folder), owner)
    folder.kill(owner)
    run = folder.runs()[0]
    folder.write("now", "")
    answered = folder.flowcraft("runs", "approve", run, "gate", "--choice", "approve", "--no-resume")
    resumed = folder.flowcraft("runs", "resume", run)

    assert (answered.code, resumed.code) == (0, 0), resumed
    assert folder.starts()["behind"] == 1
    with sqlite3.connect(folder.database) as connection:
        kinds = [row[0] for row in connection.execute("SELECT kind FROM events WHERE kind LIKE 'approval%'")]
    assert kinds == ["approval.asked", "approval.answered"]


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, folder, *arguments):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flowcraft", *arguments],
            cwd=folder.path,
            env={**folder.env, "TERM": "dumb", "COLUMNS": "200"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""

    def until(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"{text!r} did not come: {self.seen}"
            self._read()

    def _read(self):
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        self.seen += data.decode("utf-8", "replace")
        return data

    def say(self, line):
        os.write(self.master, (line + "\n").encode())

    def end(self):
        while self._read():
            pass
        code = self.process.wait(60)
        os.close(self.master)
        return code


def test_who_sits_at_the_terminal_is_asked_and_wrong_answers_are_asked_for_again(gate):
    terminal = Terminal(gate, "run", "gate.yaml")
    terminal.until("choice: ")
    terminal.say("maybe")
    terminal.until("write one of: approve, reject, or its number")
    terminal.say("1")
    terminal.until("copies (integer: how many): ")
    terminal.say("many")
    terminal.until("is no whole number")
    terminal.say("5")
    terminal.until("note (string | null; may be left empty): ")
    terminal.say("")
    terminal.until("comment (may be left empty): ")
    terminal.say("schön")
    code = terminal.end()

    assert code == 0, terminal.seen
    assert "Go on with <before>?" in terminal.seen
    with sqlite3.connect(gate.database) as connection:
        assert connection.execute("SELECT choice, comment, form FROM approvals").fetchone() == (
            "approve",
            "schön",
            '{"copies":5,"note":null}',
        )


@pytest.mark.parametrize("how", ["\x04", "\x03"])
def test_going_away_from_the_terminal_leaves_the_run_waiting(gate, how):
    terminal = Terminal(gate, "run", "gate.yaml")
    terminal.until("choice: ")
    if how == "\x03":
        os.killpg(terminal.process.pid, signal.SIGINT)
    else:
        os.write(terminal.master, how.encode())
    code = terminal.end()

    assert code == 3, terminal.seen
    assert "answer it: flowcraft runs approve" in terminal.seen
    assert states(gate) == [("waiting", 1)]


TWO = """
flowcraft: 1
stages:
  one: {approve: First?}
  two: {approve: Second?}
  behind: {needs: [one, two], run: "steps:work", with: {name: behind, seconds: 0}}
"""


def test_going_away_behind_one_answer_goes_on_with_that_and_asks_no_more(gate):
    gate.write("two.yaml", TWO)
    terminal = Terminal(gate, "run", "two.yaml")
    terminal.until("choice: ")
    terminal.say("approve")
    terminal.until("comment (may be left empty): ")
    terminal.say("")
    while terminal.seen.count("choice: ") < 2:
        assert terminal._read(), terminal.seen
    os.write(terminal.master, b"\x04")
    code = terminal.end()

    assert code == 3, terminal.seen
    assert terminal.seen.count("choice: ") == 2
    with sqlite3.connect(gate.database) as connection:
        found = connection.execute("SELECT state FROM approvals ORDER BY state").fetchall()
    assert found == [("open",), ("taken",)]


def test_who_sits_at_the_terminal_sees_the_end_that_somebody_faster_brought_about(gate):
    gate.write("one.yaml", TWO.replace("  two: {approve: Second?}\n", "").replace(", two]", "]"))
    terminal = Terminal(gate, "run", "one.yaml")
    terminal.until("choice: ")
    (run,) = gate.flowcraft("runs", "list", "--json").json
    assert gate.flowcraft("runs", "approve", run["run"], "--choice", "approve", "--by", "Ada").code == 0
    terminal.say("reject")
    terminal.until("comment (may be left empty): ")
    terminal.say("")
    code = terminal.end()

    assert code == 0, terminal.seen
    assert "one was answered already: approve, by Ada at " in terminal.seen
    assert "waits for an answer since" not in terminal.seen.partition("answered already")[2]
    assert states(gate) == [("done", 2)]


def test_what_is_said_of_no_choice_is_an_error(gate):
    run = gate.flowcraft("run", "gate.yaml").run
    for said in (["--comment", "fine"], ["--set", "copies=1"], ["--by", "Ada"]):
        told = gate.flowcraft("runs", "approve", run, *said)
        assert (told.code, "add --choice CHOICE" in told.err) == (2, True), told
    assert states(gate) == [("waiting", 1)]


WAITING = textwrap.dedent("""
    import asyncio, json, resource, sys, threading, time
    from flowcraft import FlowCraft
    from flowcraft.engine import lease

    lease.BEAT_SECONDS = 0.2  # it pauses after ten of them

    async def main(count):
        async with FlowCraft() as flow:
            workflow = flow.load("gate.yaml")
            for number in range(max(count, 1)):
                result = await flow.run(workflow, answers=None if count else {"gate": {"choice": "reject"}})
            attending = asyncio.ensure_future(flow.attend(every=1.0))
            await asyncio.sleep(5)
            before, tasks = time.process_time(), len(asyncio.all_tasks())
            threads = sorted(thread.name.partition("_")[0] for thread in threading.enumerate())
            await asyncio.sleep(10)
            spent = time.process_time() - before
            attending.cancel()
            waiting = len(flow.approvals())
        print(json.dumps({"cpu": spent, "tasks": tasks, "threads": threads, "waiting": waiting}))

    asyncio.run(main(int(sys.argv[1])))
""")


@pytest.mark.no_cover
def test_a_hundred_waiting_runs_cost_no_coroutine_no_thread_and_no_measurable_cpu(gate, new_folder, steps):
    """Compared with a process that has carried one run out and holds none that waits."""
    idle = new_folder("idle")
    figures = []
    processes = []
    for folder, count in ((idle, "0"), (gate, "100")):
        folder.write("steps.py", steps)
        folder.write("gate.yaml", GATE)
        folder.write("wait.py", WAITING)
        env = {**folder.env, "TOKEN": "tok-123456789"}
        command = [sys.executable, "wait.py", count]
        processes.append(
            subprocess.Popen(command, cwd=folder.path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        figures.append(json.loads(out.splitlines()[-1]))
    none, hundred = figures

    assert (none["waiting"], hundred["waiting"]) == (0, 100)
    assert hundred["tasks"] == none["tasks"]
    # The loop's own executor keeps its threads, as many as it ever needed at once: eight at most on four cores.
    beside = [[thread for thread in one["threads"] if thread != "asyncio"] for one in (none, hundred)]
    assert len(beside[1]) <= len(beside[0]) + 1, (none, hundred)
    assert hundred["cpu"] <= max(none["cpu"] * 2, none["cpu"] + 0.1), (none, hundred)
