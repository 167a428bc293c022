"""Workflow files with agents and crews, carried out by CrewAI: durable, paid for, quiet."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft.app import FlowCraft, RunResult
from flowcraft.plugin import ToolCall, Usage
from flowcraft.settings import Settings
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft.testing.connection import ReceivedRequest

pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

pytestmark = [
    pytest.mark.crewai,
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # CrewAI reads what it and pydantic have deprecated
]

AGENTS = """
flowcraft: 1
inputs: {topic: string = bees}
agents:
  researcher:
    role: "Researcher of {topic}"
    goal: Find facts
    backstory: Curious
    tools: ["steps:look"]
  writer: {role: Writer, goal: "Write of ${{ inputs.topic }}", backstory: Clear}
"""
STEPS = '''
def look(words: str) -> str:
    """Look something up."""
    return "found: " + words
'''


def look(words: str) -> Reply:
    return Reply(tool_calls=(ToolCall(id="c1", name="look", arguments=json.dumps({"words": words})),))


def spoken(request: ReceivedRequest) -> str:
    return json.dumps(request.body["messages"], ensure_ascii=False)


class Project:
    """A folder with a workflow of agents, on a server's models."""

    def __init__(self, path: Path, server: FaultServer) -> None:
        self.path = path
        self.page: dict[str, Any] = {
            "storage": f"sqlite:///{path}/flowcraft.db",
            "providers": {
                "local": {
                    "type": "openai",
                    "base_url": server.url,
                    "api_key": "key",
                    "models": {"a": {"capabilities": {"tools": True}}},
                }
            },
            "llm": {"default_model": "local:a", "retry_attempts": 0, "judge": {"model": "local:judge"}},
        }
        (path / "steps.py").write_text(STEPS, "utf-8")

    def write(self, stages: str) -> Path:
        file = self.path / "flow.yaml"
        file.write_text(AGENTS + textwrap.dedent(stages), "utf-8")
        (self.path / "settings.yaml").write_text(yaml.safe_dump(self.page), "utf-8")
        return file

    async def run(self, stages: str, **inputs: Any) -> RunResult:
        file = self.write(stages)
        async with FlowCraft(Settings(**self.page)) as flow:
            return await flow.run(file, inputs)

    async def resume(self, run: str) -> RunResult:
        async with FlowCraft(Settings(**self.page)) as flow:
            return await flow.resume(run)

    def rows(self, query: str) -> list[Any]:
        with sqlite3.connect(self.path / "flowcraft.db") as connection:
            return connection.execute(query).fetchall()

    @property
    def parts(self) -> list[str]:
        return [row[0] for row in self.rows("SELECT path FROM pieces ORDER BY rowid") if "call[" in row[0]]


@pytest.fixture
def project(tmp_path: Path, server: FaultServer) -> Project:
    return Project(tmp_path, server)


CREW = """
stages:
  draft:
    crew:
      tasks:
        - {agent: researcher, description: "Research {topic}", expected_output: facts}
        - {agent: writer, description: "Write of {topic}", expected_output: an essay}
"""


async def test_an_agent_does_a_prompt(server: FaultServer, project: Project) -> None:
    server.script("a", look("bees"), "bees are many")
    result = await project.run('stages: {draft: {prompt: "Tell of {topic}, ${{ inputs.topic }}", agent: researcher}}')
    assert (result.state, result.outputs) == ("done", {"draft": "bees are many"})
    assert "Tell of {topic}, bees" in spoken(server.requests[0]), "only texts of agents and tasks have names in braces"
    assert "Researcher of bees" in spoken(server.requests[0])
    calls = ["draft/researcher/call[1]", "draft/researcher/call[1]/tool[0]", "draft/researcher/call[2]"]
    assert project.parts == calls


async def test_a_crew_gives_its_last_task_with_the_type(server: FaultServer, project: Project) -> None:
    server.script("a", look("bees"), "bees are many", '{"title": "Bees", "points": 3}')
    result = await project.run(CREW + "    output: {title: string, points: integer}\n")
    assert result.outputs == {"draft": {"title": "Bees", "points": 3}}


async def test_each_element_and_each_go_has_a_crew_of_its_own(server: FaultServer, project: Project) -> None:
    def answer(request: ReceivedRequest) -> Reply:
        topic = next(word for word in ("bees", "ants") if f"Tell of {word}" in spoken(request))
        return Reply(f"of {topic}") if "found" in spoken(request) else look(topic)

    server.script("a", answer)
    stages = """
    stages:
      draft: {each: '["bees", "ants", "bees"]', parallel: 3, prompt: "Tell of ${{ item }}", agent: researcher}
    """
    result = await project.run(stages)
    assert result.outputs == {"draft": ["of bees", "of ants", "of bees"]}
    assert len(project.parts) == 9
    server.script("a", Fault.failure(500), "fine")
    result = await project.run("stages: {draft: {prompt: Tell, agent: writer, retry: {max: 1, backoff: 1ms}}}")
    assert result.outputs == {"draft": "fine"}
    assert "draft~2/writer/call[1]" in project.parts


async def test_an_exhausted_chain_is_tried_once_and_resume_goes_on_behind_what_is_done(
    server: FaultServer, project: Project
) -> None:
    server.script("a", look("bees"), "bees are many", Fault.rate_limit(600))
    result = await project.run(CREW)
    assert result.state == "failed"
    assert "RateLimited" in result.error
    assert server.count() == 3
    server.script("a", lambda request: Reply("an essay") if "Writer" in spoken(request) else Reply("facts"))
    assert (await project.resume(result.run)).outputs == {"draft": "an essay"}


async def test_usage_is_what_the_server_counted_judges_included(server: FaultServer, project: Project) -> None:
    def counted(reply: Reply | str, number: int) -> Reply:
        return replace(Reply(reply) if isinstance(reply, str) else reply, usage=Usage(input=100 * number, output=number))

    answers = [look("bees"), "bees are few", "an essay", look("bees"), "bees are many", "a better essay"]
    server.script("a", *(counted(answer, number) for number, answer in enumerate(answers, 1)))
    words = ['{"reason": "dull", "score": 0.2}', '{"reason": "good", "score": 0.9}']
    server.script("judge", *(counted(word, number) for number, word in enumerate(words, 7)))
    more = "    until: judge.score > 0.5\n    max: 2\n    judge: {rubric: Is it good?}\n"
    result = await project.run(CREW + more)
    assert (result.state, result.outputs) == ("done", {"draft": "a better essay"})
    assert server.count() == 8
    assert project.rows("SELECT count(*), sum(input), sum(output) FROM attempts") == [(8, 3600, 36)]
    assert result.tokens == 3636


async def test_the_budget_ends_a_crew_at_once(server: FaultServer, project: Project) -> None:
    server.script("a", look("bees"), "never asked")
    result = await project.run("budget: {calls: 1}\n" + CREW.lstrip())
    assert result.state == "failed"
    assert "budget" in result.error
    assert server.count() == 1


async def test_a_timeout_ends_a_crew_and_its_threads(server: FaultServer, project: Project) -> None:
    server.script("a", Fault.hang("headers"))
    result = await project.run("stages: {draft: {prompt: Tell, agent: writer, timeout: 3s}}")
    assert result.state == "failed"
    assert server.count() == 1


DELEGATE = "delegate_work_to_coworker"
LED = """
stages:
  draft:
    crew: {process: hierarchical, tasks: [{name: all, description: Do it all, expected_output: a text}]}
"""


def led(request: ReceivedRequest, worker: Any) -> Any:
    """Answer as a manager who hands work out once, and ``worker`` as the one that does it."""
    named = [tool["function"]["name"] for tool in request.body.get("tools", [])]
    if DELEGATE not in named:
        return worker
    if request.body["messages"][-1]["role"] == "tool":
        return "all done: " + request.body["messages"][-1]["content"]
    asked = json.dumps({"task": "Write it", "context": "none", "coworker": "Writer"})
    return Reply(tool_calls=(ToolCall(id="c1", name=DELEGATE, arguments=asked),))


async def test_a_timeout_ends_a_coworkers_work_and_resume_does_it_anew(server: FaultServer, project: Project) -> None:
    server.script("a", lambda request: led(request, Fault.hang("headers")))
    result = await project.run(LED + "    timeout: 4s\n")
    assert result.state == "failed"
    assert "timeout" in result.error or "4 s" in result.error
    assert server.count() == 2, "the manager is not told of it as of an answer"
    server.script("a", lambda request: led(request, "written"))
    again = await project.resume(result.run)
    assert again.outputs == {"draft": "all done: written"}
    assert project.parts[-1] == "draft~2/manager/call[2]"


async def test_a_failed_coworker_fails_the_stage_which_retry_does_anew(server: FaultServer, project: Project) -> None:
    answers = iter([Fault.failure(500), "written"])
    server.script("writer", lambda request: next(answers))
    server.script("a", lambda request: led(request, None))
    file = project.write(LED + "    retry: {max: 1, backoff: 1ms}\n")
    file.write_text(file.read_text("utf-8").replace("backstory: Clear", 'backstory: Clear, llm: "local:writer"'), "utf-8")
    async with FlowCraft(Settings(**project.page)) as flow:
        result = await flow.run(file, {})
    assert (result.state, result.outputs) == ("done", {"draft": "all done: written"})
    assert (server.count("a"), server.count("writer")) == (3, 2)


WAITING = STEPS.replace(
    "    return",
    """    import pathlib, time
    here = pathlib.Path(__file__).parent
    (here / "began").touch()
    until = time.monotonic() + 60
    while not (here / "go").exists() and time.monotonic() < until:
        time.sleep(0.01)
    (here / "ended").touch()
    return""",
)


def there(file: Path) -> None:
    """Wait until a file is there."""
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


async def test_a_run_that_is_cancelled_in_a_tool_call_ends_and_its_crew_does_nothing_behind_it(
    server: FaultServer, project: Project
) -> None:
    server.script("a", look("bees"), "never asked")
    (project.path / "steps.py").write_text(WAITING, "utf-8")
    file = project.write(CREW)
    started: list[str] = []
    async with FlowCraft(Settings(**project.page)) as flow:
        running = asyncio.create_task(flow.run(file, {}, on_start=started.append))
        await asyncio.to_thread(there, project.path / "began")
        await flow.cancel(started[0])
        result = await running
        (project.path / "go").touch()
        await asyncio.to_thread(there, project.path / "ended")
    assert result.state == "cancelled"
    assert server.count() == 1
    assert project.parts == ["draft/researcher/call[1]"]


def flowcraft(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-m", "flowcraft", *arguments],
        cwd=project.path,
        env={**kept, "HOME": str(project.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_the_command_line_says_nothing_of_crewais(server: FaultServer, project: Project) -> None:
    server.script("a", look("bees"), "bees are many", "an essay")
    project.write(CREW)
    done = flowcraft(project, "run", "flow.yaml")
    assert (done.returncode, done.stdout) == (0, "draft: an essay\n")
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("draft: ", "run "))]
    assert lines == []
    assert not list(project.path.glob(".local/**/*.db")), "what tasks gave is kept in the run alone"


def test_verbose_goes_to_the_log_of_the_run(server: FaultServer, project: Project) -> None:
    server.script("a", "an essay\n" + "on bees " * 40 + "to its end")
    file = project.write("stages: {draft: {prompt: Tell, agent: writer}}")
    file.write_text(file.read_text("utf-8").replace("backstory: Clear}", "backstory: Clear, verbose: true}"), "utf-8")
    done = flowcraft(project, "run", "flow.yaml", "--json")
    assert done.returncode == 0, done.stderr
    told = flowcraft(project, "runs", "logs", json.loads(done.stdout)["run"])
    assert "writer says: an essay on bees" in told.stdout
    assert "to its end" in told.stdout, "the log has what the line has no place for"
    assert "to its end" not in done.stderr
