"""A crew of three agents with tools, killed at random moments and resumed until it is done."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft.plugin import ToolCall
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft.testing.connection import ReceivedRequest

pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

pytestmark = [pytest.mark.crewai, pytest.mark.system]

RUNS, KILLS = 5, 6
"""How many runs are killed, and how often each: at thirty moments."""

FLOW = """
flowcraft: 1
agents:
  researcher: {role: Researcher, goal: Find, backstory: Curious, tools: ["steps:note"]}
  critic: {role: Critic, goal: Doubt, backstory: Strict, tools: ["steps:note"]}
  writer: {role: Writer, goal: Write, backstory: Clear, allow_delegation: true}
stages:
  draft:
    crew:
      tasks:
        - {agent: researcher, description: Research bees, expected_output: facts}
        - {agent: critic, description: Criticize the facts, expected_output: faults}
        - {agent: writer, description: Write of bees, expected_output: an essay}
"""
STEPS = '''
import pathlib

LOG = pathlib.Path(__file__).with_name("log.txt")

def note(text: str) -> str:
    """Note something down."""
    with LOG.open("a") as file:
        file.write(text + "\\n")
    return "noted: " + text
'''
ROUNDS = {"Researcher": 3, "Critic": 2, "Writer": 1}


def answer(request: ReceivedRequest) -> Reply:
    """Answer as the agent that asks: some rounds with its tool, then a word that holds what the tools said."""
    messages = request.body["messages"]
    role = next(name for name in ROUNDS if f"You are {name}" in messages[0]["content"])
    told = [message["content"] for message in messages if message["role"] == "tool"]
    if len(told) == ROUNDS[role]:
        return Reply(f"{role} is done: {'; '.join(told)}", delay=0.02)
    kind = "delegated" if "Dig again" in json.dumps(messages) else "own"
    name, arguments = "note", {"text": f"{role} {kind} {len(told) + 1}"}
    if role == "Writer":
        name = "delegate_work_to_coworker"
        arguments = {"task": "Dig again", "context": "bees", "coworker": "Critic"}
    return Reply(tool_calls=(ToolCall(id=f"c{len(told)}", name=name, arguments=json.dumps(arguments)),), delay=0.02)


STARTER = """
import importlib, json, os, sys
from flowcraft.cli.app import run
from flowcraft.crewai.library import load_library

crewai = load_library()
for room in ("crewai.crews", "crewai.runner", "app.runs", "storage", "cli.run", "cli.runs"):
    importlib.import_module("flowcraft." + room)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(asked["folder"])
        os.environ["HOME"] = asked["folder"]
        null = os.open(os.devnull, os.O_RDONLY)
        file = os.open("told.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, target in enumerate((null, file, file)):
            os.dup2(target, number)
        crewai.__version__ = asked["version"] or crewai.__version__
        sys.argv[1:] = asked["arguments"]
        run(sys.argv[1:])
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Starts the command line again and again, each in a process of its own, without loading the libraries each time."""


class Starter:
    """The process that starts others, one after the other. ``child`` is the one that runs."""

    def __init__(self) -> None:
        self.child: int | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def start(self, **asked: Any) -> int:
        """Start the command line; return its process."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        self.child = int(self._line())
        return self.child

    def end(self) -> str:
        """Wait until the child has ended; return its exit code."""
        code, self.child = self._line(), None
        return code


@pytest.fixture(scope="module")
def starters() -> Iterator[Starter]:
    made = Starter()
    yield made
    made.process.communicate(timeout=60)


@pytest.fixture
def starter(starters: Starter) -> Iterator[Starter]:
    yield starters
    if starters.child is not None:
        os.kill(starters.child, signal.SIGKILL)
        starters.end()


class Crew:
    """The crew's folder, its server, who starts processes, and what happened."""

    def __init__(self, path: Path, server: FaultServer, starter: Starter) -> None:
        self.path = path
        self.server = server
        self.starter = starter
        provider = {"type": "openai", "base_url": server.url, "api_key": "key"}
        page = {"storage": f"sqlite:///{path}/flowcraft.db", "providers": {"local": provider}}
        page["llm"] = {"default_model": "local:a", "retry_attempts": 0}
        (path / "settings.yaml").write_text(yaml.safe_dump(page), "utf-8")
        (path / "flow.yaml").write_text(FLOW, "utf-8")
        (path / "steps.py").write_text(STEPS, "utf-8")

    def end(self) -> str:
        """Wait until the command line has ended; return its exit code."""
        return self.starter.end()

    def start(self, *arguments: str, version: str = "") -> int:
        """Start the command line; return its process."""
        return self.starter.start(folder=str(self.path), arguments=arguments, version=version)

    def kill(self, moment: int, pause: float, *arguments: str) -> str:
        """Start the command line, kill it when so much happened, something of it now, and ``pause`` seconds passed.

        Return the run.
        """
        moment = max(moment, self.happened + 1)
        process = self.start(*arguments)
        until = time.monotonic() + 300
        while self.happened < moment and self.goes_on(process):
            if time.monotonic() > until:
                os.kill(process, signal.SIGABRT)  # it tells where each of its threads is
                raise TimeoutError(f"process {process} came to a stand ({self.end()}): {self.told}")
            time.sleep(0.001)
        time.sleep(pause)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        assert int(self.end()) == -signal.SIGKILL, f"it was over before it was killed: {self.told}"
        run: str = self.rows("SELECT id FROM runs ORDER BY rowid DESC")[0][0]
        return run

    @staticmethod
    def goes_on(process: int) -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def told(self) -> str:
        return (self.path / "told.txt").read_text("utf-8")

    @property
    def asked(self) -> list[str]:
        return [json.dumps(request.body, sort_keys=True) for request in self.server.requests]

    @property
    def noted(self) -> list[str]:
        log = self.path / "log.txt"
        return log.read_text("utf-8").splitlines() if log.exists() else []

    @property
    def happened(self) -> int:
        return self.server.count() + len(self.noted)

    def rows(self, query: str) -> list[Any]:
        with sqlite3.connect(self.path / "flowcraft.db") as connection:
            return connection.execute(query).fetchall()

    def saved(self) -> tuple[int, int]:
        """How many questions and how many notes are saved."""
        paths = [row[0] for row in self.rows("SELECT path FROM pieces")]
        notes = sum("/tool[" in path for path in paths)
        return sum("/call[" in path for path in paths) - notes, notes


def distinct(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


@pytest.fixture
def crew(tmp_path: Path, server: FaultServer, starter: Starter) -> Crew:
    server.script("a", answer)
    return Crew(tmp_path, server, starter)


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_killed_crew_goes_on_where_it_was(crew: Crew, seed: int) -> None:
    chance = random.Random(seed)
    run, marks = "", []
    for moment in sorted(chance.sample(range(1, 17), KILLS)):
        run = crew.kill(moment, chance.random() * 0.04, *(["runs", "resume", run] if run else ["run", "flow.yaml"]))
        questions, notes = crew.saved()
        done = {*distinct(crew.asked)[:questions], *distinct(crew.noted)[:notes]}
        marks.append((len(crew.asked), len(crew.noted), done))
    crew.start("runs", "resume", run)
    assert crew.end() == "0", crew.told
    assert "Writer is done: Critic is done: noted: Critic delegated 1" in crew.told
    for asked, noted, done in marks:
        assert not done & {*crew.asked[asked:], *crew.noted[noted:]}, "what was saved was done again"
    assert (len(distinct(crew.asked)), len(distinct(crew.noted))) == (12, 7)
    again = len(crew.asked) + len(crew.noted) - 12 - 7
    assert again <= KILLS, "what was in flight is done at most once more for each kill"


def test_a_fork_of_a_crews_run_that_is_killed_goes_on_where_it_was(crew: Crew) -> None:
    crew.start("run", "flow.yaml")
    assert crew.end() == "0", crew.told
    ((run,),) = crew.rows("SELECT id FROM runs")
    asked, noted = len(crew.asked), crew.noted
    (crew.path / "edited.yaml").write_text(FLOW.replace("goal: Doubt", "goal: Doubt it all"), "utf-8")
    fork = crew.kill(crew.happened + 3, 0.01, "runs", "fork", run, "--file", "edited.yaml")
    assert fork != run
    crew.start("runs", "resume", fork)
    assert crew.end() == "0", crew.told
    assert "Writer is done: Critic is done: noted: Critic delegated 1" in crew.told
    again = crew.asked[asked:]
    assert all("Your personal goal is: Doubt it all" in question for question in again), "all else is taken over"
    assert len(distinct(again)) == 6
    assert len(again) <= 6 + 1
    assert crew.noted == noted, "tools are asked for the same, and not called again"


def test_an_interrupted_crew_ends_in_the_midst_of_a_call_and_goes_on_where_it_was(crew: Crew, server: FaultServer) -> None:
    server.script("a", lambda request: answer(request) if len(server.requests) < 7 else Fault.hang("headers"))
    process = crew.start("run", "flow.yaml")
    server.wait_until(lambda: server.count() == 7, timeout=300)
    os.kill(process, signal.SIGINT)
    assert crew.end() == "130", crew.told
    ((run,),) = crew.rows("SELECT id FROM runs WHERE state = 'interrupted'")
    noted = crew.noted
    server.script("a", answer)
    crew.start("runs", "resume", run)
    assert crew.end() == "0", crew.told
    assert crew.noted[: len(noted)] == noted
    assert len(crew.noted) == len(distinct(crew.noted)) == 7
    assert (len(crew.asked), len(distinct(crew.asked))) == (13, 12), "the call that it was in is the one that is asked again"


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 6])
def test_a_crew_whose_run_was_taken_over_asks_nothing_more(crew: Crew, stop: Any, moment: int) -> None:
    process = crew.start("run", "flow.yaml")
    until = time.monotonic() + 120
    while crew.happened < moment and time.monotonic() < until:
        time.sleep(0.001)
    stop(process, crew.path / "flowcraft.db")
    (run,) = crew.rows("SELECT id FROM runs")[0]
    questions, notes = crew.saved()
    done = {*distinct(crew.asked)[:questions], *distinct(crew.noted)[:notes]}
    asked, noted = len(crew.asked), len(crew.noted)

    command = [sys.executable, "-m", "flowcraft", "runs", "resume", run]
    other = subprocess.run(command, cwd=crew.path, capture_output=True, text=True, check=False, timeout=200)
    after = crew.happened
    pieces = crew.rows("SELECT path, result FROM pieces ORDER BY path")
    os.kill(process, signal.SIGCONT)

    assert crew.end() == "1", crew.told
    assert "another process owns run" in crew.told
    assert other.returncode == 0, other.stderr
    assert "Writer is done: Critic is done: noted: Critic delegated 1" in other.stdout
    assert not done & {*crew.asked[asked:], *crew.noted[noted:]}, "what was saved was done again"
    assert (len(distinct(crew.asked)), len(distinct(crew.noted))) == (12, 7)
    assert crew.happened - after <= 1, "nothing begins behind the end but what was on its way"
    assert crew.happened <= 12 + 7 + 2
    assert crew.rows("SELECT path, result FROM pieces ORDER BY path") == pieces
    assert crew.rows("SELECT state FROM runs") == [("done",)]


def test_a_crew_that_was_killed_is_not_gone_on_with_by_another_version_of_the_library(crew: Crew) -> None:
    run = crew.kill(4, 0, "run", "flow.yaml")
    asked = len(crew.asked)
    crew.start("runs", "resume", run, version="99.1")
    assert crew.end() == "1", crew.told
    told = " ".join(crew.told.split())
    assert "another version of the library crewai" in told
    assert "99.1" in told
    assert importlib.metadata.version("crewai") in told
    assert len(crew.asked) == asked, "nobody is asked behind that"
