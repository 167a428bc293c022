"""Agents as a user runs them: an agent runner that is installed as a plugin, a real server of models, kills and resumes."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.plugin import ToolCall
from flowcraft.testing import FaultServer, Reply

pytestmark = pytest.mark.system

KEY = "sk-test-0123456789"
STEPS = '''
import os, pathlib, time

LOG = pathlib.Path(__file__).with_name("log.txt")

def note(word, name):
    handle = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{word} {name} {os.getpid()}\\n".encode())
    os.close(handle)
    if "HELD_AT" in os.environ and LOG.read_bytes().count(b"\\n") >= int(os.environ["HELD_AT"]):
        time.sleep(600)  # until it is killed

def look_up(name: str) -> str:
    """Look something up."""
    note("start", name)
    time.sleep(0.05)
    note("end", name)
    return f"thing of {name}"
'''
SERVER = (Path(__file__).parents[1] / "tools" / "server.py").read_text("utf-8")
WORKFLOW = """\
flowcraft: 1
inputs: {topic: string}
agents: agents.yaml
stages:
  team:
    crew:
      tasks: tasks.yaml
  end: {agent: third, prompt: "End: ${{ team }}"}
outputs: {report: "${{ end }}"}
"""
AGENTS = """\
first: {role: "First on {topic}", goal: Look things up, tools: ["steps:look_up"]}
second: {role: Second, goal: Look things up, tools: ["steps:look_up"]}
third: {role: Third, goal: Look things up, tools: ["steps:look_up"]}
"""
TASKS = """\
begin: {agent: first, description: "Begin with {topic}"}
middle: {agent: second, description: Go on., context: [begin]}
last: {agent: third, description: Sum up., context: [begin, middle]}
"""
CALLS = 3


def working(request: Any) -> Any:
    """Let each agent call its tool a few times, then answer with what it was told."""
    told = [message["content"] for message in request.body["messages"]]
    results = [message["content"] for message in request.body["messages"] if message["role"] == "tool"]
    name = f"{told[0].split()[0].lower()}-{told[1].split()[0].lower()}-{len(results)}"
    if len(results) == CALLS:
        return f"{told[1]} / {', '.join(results)}"
    return Reply(tool_calls=(ToolCall(id=f"call_{len(results)}", name="look_up", arguments=json.dumps({"name": name})),))


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key=KEY) as server:
        server.script("one", working)
        yield server


@pytest.fixture
def work(folder, server):
    site = folder.path / "site"
    info = site / "flowcraft_chorus-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "engine" / "chorus.py", site / "flowcraft_chorus.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flowcraft-chorus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flowcraft]\nchorus = flowcraft_chorus\n")
    provider = {"type": "openai", "base_url": server.url, "api_key": "${LOCAL_KEY}", "models": {"one": {}}}
    page = {
        "storage": f"sqlite:///{folder.database}",
        "llm": {"retry_attempts": 0, "default_model": "one"},
        "providers": {"local": provider},
        "agents": {"runner": "chorus"},
    }
    folder.write("settings.yaml", json.dumps(page))
    for name, text in {"steps.py": STEPS, "flow.yaml": WORKFLOW, "agents.yaml": AGENTS, "tasks.yaml": TASKS}.items():
        folder.write(name, text)
    folder.env |= {"LOCAL_KEY": KEY, "PYTHONPATH": str(site)}
    return folder


def asked(server: FaultServer) -> Counter[str]:
    """How often each question was asked."""
    return Counter(json.dumps(request.body["messages"]) for request in server.requests)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("marks", [1, 4, 8, 12, 15, 18, 21])
def test_killed_crew_repeats_at_most_what_was_in_flight(work, server, marks):
    whole = work.flowcraft("run", "flow.yaml", "-i", "topic=bees", "--json")
    assert whole.code == 0, whole.err
    questions, effects = sum(asked(server).values()), sum(work.starts().values())
    (first,) = work.runs()
    marks_of_all = len(work.lines())
    work.log.unlink()
    process = work.start("run", "flow.yaml", "-i", "topic=bees", "--json", HELD_AT=str(marks_of_all))
    work.wait_for(lambda: len(work.lines()) >= marks, process)
    work.kill(process)
    (run,) = {*work.runs()} - {first}
    before = work.saved(run)
    work.write("agents.yaml", "nobody: {}")  # a run keeps the files that it began with

    ended = work.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == whole.json["outputs"]
    assert before <= work.saved(run) == work.saved(first)
    assert sum(asked(server).values()) - 2 * questions <= 1
    assert sum(work.starts().values()) - effects <= 1
    assert ended.json["stages"]["team"]["calls"] >= 3 * (CALLS + 1)


def test_recorded_run_with_agents_replays_without_their_runner(work, server):
    ended = work.flowcraft("run", "flow.yaml", "-i", "topic=bees", "--record", "--json")
    assert ended.code == 0, ended.err
    questions = sum(asked(server).values())
    shutil.rmtree(work.path / "site")

    same = work.flowcraft("test", "flow.yaml")
    work.write("tasks.yaml", TASKS.replace("Sum up", "Add up"))
    changed = work.flowcraft("test", "flow.yaml")

    assert same.code == 0, same.out + same.err
    assert changed.code == 1
    assert "team" in changed.out + changed.err
    assert "Add up" in changed.out + changed.err
    assert sum(asked(server).values()) == questions


def test_without_its_runner_a_file_with_agents_is_refused_and_only_warned_of_by_validate(work):
    shutil.rmtree(work.path / "site")

    refused = work.flowcraft("run", "flow.yaml", "-i", "topic=bees")
    warned = work.flowcraft("validate", "flow.yaml")

    assert refused.code == 2
    assert "flow.yaml:6:5: no plugin offers the agent runner 'chorus'" in refused.err.replace("\n", " ") + refused.err
    assert warned.code == 0
    assert "no plugin offers the agent runner" in warned.out + warned.err


def test_crewai_is_named_with_the_command_that_installs_it(work):
    work.env.pop("PYTHONPATH")
    page = json.loads((work.path / "settings.yaml").read_text())
    work.write("settings.yaml", json.dumps({name: part for name, part in page.items() if name != "agents"}))

    refused = work.flowcraft("run", "flow.yaml", "-i", "topic=bees")

    assert refused.code == 2
    assert "flow.yaml:6:5: " in refused.err
    assert "pip install 'flowcraft[crewai]'" in refused.err


TOOLS = """\
flowcraft: 1
mcp: {library: {command: PYTHON, args: [server.py]}}
agents:
  reader: {role: Reader, goal: Read, tools: [TOOLS]}
stages:
  prompt: {prompt: "Read, read", tools: [TOOLS]}
  agent: {agent: reader, prompt: "Read", needs: [prompt]}
"""


def test_the_same_tools_serve_a_prompt_and_an_agent(work, server):
    tools = ["steps:look_up", "mcp:library/search", "shout"]
    names = ["look_up", "search", "shout"]

    def script(request: Any) -> Any:
        results = [message["content"] for message in request.body["messages"] if message["role"] == "tool"]
        if len(results) == len(names):
            return ", ".join(results)
        arguments = json.dumps({"words" if len(results) == 1 else "name": "x"})
        return Reply(tool_calls=(ToolCall(id=f"call_{len(results)}", name=names[len(results)], arguments=arguments),))

    server.script("one", script)
    plugin = work.path / "site" / "flowcraft_chorus.py"
    shout = '\n\ndef shout(name: str) -> str:\n    """Shout."""\n    return name.upper()\n\n\n@plugin.hookimpl\n'
    plugin.write_text(plugin.read_text() + shout + "def flowcraft_tools():\n    return [shout]\n")
    work.write("server.py", SERVER)
    work.write("tools.yaml", TOOLS.replace("PYTHON", sys.executable).replace("TOOLS", ", ".join(f'"{tool}"' for tool in tools)))

    ended = work.flowcraft("run", "tools.yaml", "--json")

    assert ended.code == 0, ended.err + ended.out
    assert ended.json["outputs"] == {"agent": "thing of x, found x, X"}
    told = [sorted(tool["function"]["name"] for tool in request.body["tools"]) for request in server.requests]
    assert told == [sorted(names)] * 8
