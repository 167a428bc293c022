"""A crew of three agents with tools, killed at random moments and resumed until it is done."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft.plugin import ToolCall
from flowcraft.testing import FaultServer, Reply
from flowcraft.testing.connection import ReceivedRequest

pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

pytestmark = [pytest.mark.crewai, pytest.mark.system]

RUNS = int(os.environ.get("FLOWCRAFT_CREWS_KILLED", "1"))
"""How many runs are killed, each three times; ten make the thirty moments."""

KILLS = 3

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


class Crew:
    """The crew's folder, its server, and what happened."""

    def __init__(self, path: Path, server: FaultServer) -> None:
        self.path = path
        self.server = server
        provider = {"type": "openai", "base_url": server.url, "api_key": "key"}
        page = {"storage": f"sqlite:///{path}/flowcraft.db", "providers": {"local": provider}}
        page["llm"] = {"default_model": "local:a", "retry_attempts": 0}
        (path / "settings.yaml").write_text(yaml.safe_dump(page), "utf-8")
        (path / "flow.yaml").write_text(FLOW, "utf-8")
        (path / "steps.py").write_text(STEPS, "utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "flowcraft", *arguments],
            cwd=self.path,
            env={**os.environ, "HOME": str(self.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

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


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_killed_crew_goes_on_where_it_was(tmp_path: Path, server: FaultServer, seed: int) -> None:
    server.script("a", answer)
    crew = Crew(tmp_path, server)
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(1, 19), KILLS))
    run, marks = "", []
    for moment in moments:
        process = crew.start(*(["runs", "resume", run] if run else ["run", "flow.yaml"]))
        until = time.monotonic() + 120
        while crew.happened < moment and process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.04)
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it was over before it was killed: {out} {err}"
        run = crew.rows("SELECT id FROM runs")[0][0]
        questions, notes = crew.saved()
        done = {*distinct(crew.asked)[:questions], *distinct(crew.noted)[:notes]}
        marks.append((len(crew.asked), len(crew.noted), done))
    process = crew.start("runs", "resume", run, "--json")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "Writer is done: Critic is done: noted: Critic delegated 1" in json.loads(out)["outputs"]["draft"]
    for asked, noted, done in marks:
        assert not done & {*crew.asked[asked:], *crew.noted[noted:]}, "what was saved was done again"
    assert (len(distinct(crew.asked)), len(distinct(crew.noted))) == (12, 7)
    again = len(crew.asked) + len(crew.noted) - 12 - 7
    assert again <= KILLS, "what was in flight is done at most once more for each kill"
