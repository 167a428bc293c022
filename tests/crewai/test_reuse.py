"""What runs with CrewAI's agents did is used again: caches, forks, recordings, and what plans and diffs tell of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft.app import FlowCraft, RunResult
from flowcraft.app.replay import replay
from flowcraft.plugin import ToolCall
from flowcraft.settings import Settings
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft.testing.connection import ReceivedRequest

pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

pytestmark = [
    pytest.mark.crewai,
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # CrewAI reads what it and pydantic have deprecated
]

DELEGATE = "delegate_work_to_coworker"
FLOW = """
flowcraft: 1
inputs: {topic: string = bees}
agents:
  researcher: {role: "Researcher of {topic}", goal: Find, backstory: Curious, tools: ["steps:look"]}
  writer: {role: Writer, goal: Write, backstory: Clear}
stages:
  facts: {agent: researcher, prompt: "Find facts of ${{ inputs.topic }}"}
  report:
    crew:
      process: hierarchical
      tasks:
        - {agent: writer, name: plan, description: "Plan: ${{ facts }}"}
        - {name: all, description: "Report of {topic}", expected_output: a report}
    output: {title: string, points: integer}
"""
STEPS = '''
import pathlib

def look(words: str) -> str:
    """Look something up."""
    with pathlib.Path(__file__).with_name("looked.txt").open("a") as file:
        file.write(words + "\\n")
    return "found: " + words
'''
VALUE = {"title": "Bees", "points": 3}


def call(name: str, **arguments: str) -> Reply:
    return Reply(tool_calls=(ToolCall(id="c1", name=name, arguments=json.dumps(arguments)),))


def answer(request: ReceivedRequest) -> Reply:
    """Answer as the manager, who hands each task out once, as the researcher, who looks once, or as the writer."""
    messages = request.body["messages"]
    named = {tool["function"]["name"] for tool in request.body.get("tools", [])}
    told = [message["content"] for message in messages if message["role"] == "tool"]
    if "look" in named:
        return Reply("facts, " + told[-1]) if told else call("look", words="bees")
    if DELEGATE not in named:
        return Reply("written")
    if not told:
        return call(DELEGATE, task="Write it", context="none", coworker="Writer")
    return Reply(json.dumps(VALUE) if "Report of" in json.dumps(messages) else "planned")


CALLS = ["facts/researcher/call[1]", "facts/researcher/call[2]"] + [
    f"report/{part}" for part in ("manager/call[1]", "writer/call[1]", "manager/call[2]", "manager/call[3]", "writer/call[2]")
]
CALLS.append("report/manager/call[4]")
"""What is asked of models, in order."""


class Folder:
    """A folder with a workflow of agents on a server's model; what was asked and looked up since it was last read."""

    def __init__(self, path: Path, server: FaultServer) -> None:
        self.path, self.server, self._read = path, server, 0
        self.page: dict[str, Any] = {
            "storage": f"sqlite:///{path}/flowcraft.db",
            "providers": {"local": {"type": "openai", "base_url": server.url, "api_key": "sk-local-0123456789"}},
            "llm": {"default_model": "local:a", "retry_attempts": 0},
        }
        (path / "settings.yaml").write_text(yaml.safe_dump(self.page), "utf-8")
        self.write("steps.py", STEPS)
        self.write("flow.yaml", FLOW)

    def write(self, name: str, text: str) -> Path:
        (self.path / name).write_text(text, "utf-8")
        return self.path / name

    def open(self) -> FlowCraft:
        return FlowCraft(Settings(**self.page))

    async def run(self, **inputs: Any) -> RunResult:
        async with self.open() as flow:
            return await flow.run(self.path / "flow.yaml", inputs)

    async def fork(self, run: str, **changes: Any) -> RunResult:
        async with self.open() as flow:
            return await flow.fork(run, **changes)

    def asked(self) -> int:
        """How many questions reached the server since this was asked last."""
        before, self._read = self._read, self.server.count()
        return self._read - before

    @property
    def looked(self) -> int:
        return len((self.path / "looked.txt").read_text("utf-8").splitlines())

    async def origins(self, run: str) -> dict[str, str]:
        """Whose work the calls of a run's agents are: ``fork`` or nothing, by their paths."""
        async with self.open() as flow:
            found = {piece.path: piece.origin.partition(":")[0] for piece in flow.engine.store.pieces(run)}
        return {path: found[path] for path in CALLS if path in found}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with FaultServer(api_key="sk-local-0123456789") as server:
        server.script("a", answer)
        yield Folder(tmp_path, server)


async def test_what_agents_gave_is_taken_from_the_cache_while_they_and_their_tools_are_the_same(folder: Folder) -> None:
    cached = FLOW.replace("prompt:", "cache: 1h, prompt:").replace("    output:", "    cache: 1h\n    output:")
    folder.write("flow.yaml", cached)
    first = await folder.run()
    assert (first.outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 8, 1)
    again = await folder.run()
    assert (again.outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 0, 1)
    assert {stage["origin"] for stage in again.stages.values()} == {"cache"}
    folder.write("flow.yaml", cached.replace("goal: Write,", "goal: Write well,"))
    assert ((await folder.run()).outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 6, 1), "the crew is another"
    folder.write("flow.yaml", cached)
    assert (await folder.run(topic="ants")).state == "done"
    assert (folder.asked(), folder.looked) == (8, 2), "both ask for something else"
    folder.write("steps.py", STEPS.replace("Look something up.", "Look."))
    assert (await folder.run()).stages["facts"]["origin"] is None
    assert folder.asked() == 8, "one of the agents of both has another tool"


async def test_fork_takes_over_the_calls_of_agents_up_to_the_first_that_asks_for_something_else(folder: Folder) -> None:
    first = await folder.run()
    folder.asked()
    edited = folder.write("edited.yaml", FLOW.replace("goal: Write,", "goal: Write well,"))
    forked = await folder.fork(first.run, file=edited)
    assert (forked.outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 2, 1)
    assert await folder.origins(forked.run) == {part: "" if "writer" in part else "fork" for part in CALLS[2:]}
    edited = folder.write("edited.yaml", FLOW.replace("goal: Find,", "goal: Find all,"))
    forked = await folder.fork(first.run, file=edited)
    assert (forked.outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 2, 1)
    assert await folder.origins(forked.run) == {part: "" if "researcher" in part else "fork" for part in CALLS}
    anew = await folder.fork(first.run, stage="report")
    assert (anew.outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 6, 1)
    assert anew.stages["facts"]["origin"] == f"fork:{first.run}"


async def test_fork_of_a_run_whose_crew_failed_does_the_crew_anew(folder: Folder) -> None:
    folder.server.script("a", lambda request: Fault.failure(500) if len(folder.server.requests) > 5 else answer(request))
    failed = await folder.run()
    assert (failed.state, folder.asked()) == ("failed", 6)
    folder.server.script("a", answer)
    forked = await folder.fork(failed.run)
    assert (forked.outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 6, 1)


async def test_fork_of_a_run_that_was_interrupted_in_its_crew_asks_only_for_the_rest(folder: Folder) -> None:
    folder.server.script("a", lambda request: answer(request) if folder.server.count() < 7 else Fault.hang("headers"))
    running = asyncio.create_task(folder.run())
    await folder.server.until(lambda: folder.server.count() == 7)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    folder.asked()
    folder.server.script("a", answer)
    async with folder.open() as flow:
        (left,) = flow.engine.store.list()
    assert left.state == "interrupted"
    forked = await folder.fork(left.id)
    assert (forked.outputs, folder.asked(), folder.looked) == ({"report": VALUE}, 2, 1)


async def test_fork_in_which_an_agent_asks_less_than_before_is_no_divergence(folder: Folder) -> None:
    first = await folder.run()
    folder.asked()
    folder.server.script("a", lambda request: Reply("at once") if "At once" in json.dumps(request.body) else answer(request))
    edited = folder.write("edited.yaml", FLOW.replace("Find facts of", "At once:").replace("${{ facts }}", "nothing"))
    forked = await folder.fork(first.run, file=edited)
    assert forked.state == "done", forked.error
    assert [one["origin"] for one in forked.stages.values()] == [None, None]


def test_recorded_run_is_replayed_without_a_model_and_without_the_library(folder: Folder) -> None:
    asyncio.run(recorded(folder))
    folder.server.stop()
    (folder.path / "flowcraft.db").unlink()
    program = """
import sys
from flowcraft.testing import replay
found = replay("flow.yaml")
assert found.outputs == {"report": {"title": "Bees", "points": 3}}, found.outputs
assert "crewai" not in sys.modules
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder.path, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert folder.looked == 1


async def recorded(folder: Folder) -> RunResult:
    result = await folder.run()
    async with folder.open() as flow:
        flow.export(result.run, folder.path / "flow.recorded.sqlite")
    folder.asked()
    return result


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("goal: Write,", "goal: Write well,", '"goal": "Write well"'),
        ('description: "Report of', 'description: "Essay of', "Essay of bees"),
        ("tools: [", "allow_delegation: true, tools: [", '"allow_delegation": true'),
        ("process: hierarchical", "manager: local:b\n      process: hierarchical", "local:b"),
    ],
)
async def test_replay_names_what_differs_in_an_agent_or_a_task(folder: Folder, before: str, after: str, told: str) -> None:
    await recorded(folder)
    file = folder.write("flow.yaml", FLOW.replace(before, after))
    found = await replay(file)
    assert not found.same
    assert told in str(found)
    assert folder.asked() == 0


async def test_recording_of_a_crew_that_failed_is_replayed_up_to_where_it_failed(folder: Folder) -> None:
    folder.server.script("a", lambda request: Fault.failure(500) if len(folder.server.requests) > 5 else answer(request))
    await recorded(folder)
    found = await replay(folder.path / "flow.yaml")
    assert (found.same, found.state, folder.asked()) == (True, "failed", 0), str(found)


async def test_difference_of_two_runs_shows_what_agents_were_asked_otherwise(folder: Folder) -> None:
    first = await folder.run()
    folder.write("flow.yaml", FLOW.replace("goal: Write,", "goal: Write well,"))
    second = await folder.run()
    async with folder.open() as flow:
        exported = flow.export(second.run, folder.path / "second.sqlite")
        for other in (second.run, exported):
            found = flow.diff(first.run, other)
            asked = {change.path: change.diff for stage in found.stages for change in stage.asked}
            assert sorted(asked) == ["report", "report/writer/call[1]", "report/writer/call[2]"]
            assert "+Your personal goal is: Write well" in asked["report/writer/call[1]"]
            assert len(asked["report/writer/call[1]"].splitlines()) < 20, "the rest of what it was told is not shown again"
    assert b"sk-local-0123456789" not in exported.read_bytes()


async def test_plan_tells_what_agents_may_take_and_then_what_they_took(folder: Folder) -> None:
    async with folder.open() as flow:
        plan = flow.plan(folder.path / "flow.yaml")
        assert [(stage.calls.low, stage.calls.high) for stage in plan.stages] == [(1, 25), (3, 75)]
        await flow.run(folder.path / "flow.yaml")
        folder.asked()
        plan = flow.plan(folder.path / "flow.yaml")
    assert [(stage.calls.low, stage.calls.high) for stage in plan.stages] == [(2, 2), (6, 6)]
    assert folder.asked() == 0
