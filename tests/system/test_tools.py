"""Prompts with tools as a user runs them: a real server of models, a real process, kills and resumes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft.plugin import ToolCall
from flowcraft.testing import FaultServer, Reply

pytestmark = pytest.mark.system

KEY = "sk-test-0123456789"
WORKFLOW = """\
flowcraft: 1
inputs: {count: integer = 10}
stages:
  research:
    prompt: "Look up ${{ inputs.count }} things"
    tools: [steps:look_up]
  report: {prompt: "Report: ${{ research }}"}
outputs: {report: "${{ report }}"}
"""
STEPS = '''
import os, pathlib, time

LOG = pathlib.Path(__file__).with_name("log.txt")

def note(word, name):
    handle = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{word} {name} {os.getpid()}\\n".encode())
    os.close(handle)

def look_up(number: int, seconds: float = 0.05) -> str:
    """Look something up.

    Args:
        number: Which one.
    """
    note("start", f"tool-{number}")
    time.sleep(seconds)
    note("end", f"tool-{number}")
    return f"thing {number}"
'''
TOOLS = 10


def call(number: int, **arguments: Any) -> ToolCall:
    return ToolCall(id=f"call_{number}", name="look_up", arguments=json.dumps({"number": number, **arguments}))


def one_after_the_other(request: Any) -> Any:
    """Call one tool a turn, TOOLS times, then answer with what came."""
    results = [message["content"] for message in request.body["messages"] if message["role"] == "tool"]
    if request.body["messages"][0]["content"].startswith("Report"):
        return request.body["messages"][0]["content"]
    return Reply(tool_calls=(call(len(results)),)) if len(results) < TOOLS else ", ".join(results)


def all_at_once(request: Any) -> Any:
    """Call TOOLS tools in one turn, the first of which ends last."""
    results = [message["content"] for message in request.body["messages"] if message["role"] == "tool"]
    if request.body["messages"][0]["content"].startswith("Report"):
        return request.body["messages"][0]["content"]
    calls = tuple(call(number, seconds=0.05 * (TOOLS - number)) for number in range(TOOLS))
    return ", ".join(results) if results else Reply(tool_calls=calls)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key=KEY) as server:
        server.script("one", one_after_the_other)
        yield server


@pytest.fixture
def work(folder, server):
    provider = {"type": "openai", "base_url": server.url, "api_key": "${LOCAL_KEY}", "models": {"one": {}}}
    page = {
        "storage": f"sqlite:///{folder.database}",
        "llm": {"retry_attempts": 0, "default_model": "one"},
        "providers": {"local": provider},
    }
    folder.write("settings.yaml", json.dumps(page))
    folder.write("steps.py", STEPS)
    folder.write("flow.yaml", WORKFLOW)
    folder.env["LOCAL_KEY"] = KEY
    return folder


WHOLE = {"report": "Report: " + ", ".join(f"thing {number}" for number in range(TOOLS))}


def asked(server: FaultServer) -> Counter[str]:
    """How often each question was asked."""
    return Counter(json.dumps(request.body["messages"]) for request in server.requests)


def test_model_is_told_of_a_function_and_of_what_it_returned(work, server):
    ended = work.flowcraft("run", "flow.yaml", "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == WHOLE
    assert ended.json["stages"]["research"]["calls"] == TOOLS + 1
    (tool,) = server.requests[0].body["tools"]
    assert tool["function"]["description"] == "Look something up."
    assert tool["function"]["parameters"]["properties"]["number"] == {"type": "integer", "description": "Which one."}
    assert set(work.starts().values()) == {1}


@pytest.mark.parametrize("marks", [1, 2, 5, 8, 11, 14, 17, 19, 20])
def test_killed_among_ten_calls_repeats_at_most_the_one_in_flight(work, server, marks):
    process = work.start("run", "flow.yaml", "--json")
    work.wait_for(lambda: len(work.lines()) >= marks, process)
    work.kill(process)
    (run,) = work.runs()
    saved, before = work.saved(run), work.starts()
    answered = {path for path in saved if path.startswith("research/call") and "tool" not in path}
    questions = asked(server)

    ended = work.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == WHOLE
    after = work.starts()
    assert sum(after.values()) - TOOLS <= 1
    for turn in range(1, TOOLS + 1):
        if f"research/call[{turn}]/tool[0]" in saved:
            assert after[f"tool-{turn - 1}"] == before[f"tool-{turn - 1}"]
    # Whatever was asked before the kill and answered is not asked again: at most the one question in flight is.
    again = [question for question, count in asked(server).items() if count > 1]
    assert len(again) <= 1
    assert sum(questions.values()) - len(answered) <= 1


@pytest.mark.parametrize("ends", [1, 5, 9])
def test_killed_among_calls_of_one_turn_repeats_only_those_that_were_not_saved(work, server, ends):
    server.script("one", all_at_once)
    process = work.start("run", "flow.yaml", "--json")
    work.wait_for(lambda: sum(line.startswith("end") for line in work.lines()) >= ends, process)
    work.kill(process)
    (run,) = work.runs()
    saved, started = {path for path in work.saved(run) if "/tool[" in path}, set(work.starts())

    ended = work.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == WHOLE
    unsaved = started - {f"tool-{path[:-1].rpartition('[')[2]}" for path in saved}
    assert {name for name, count in work.starts().items() if count > 1} == unsaved
    assert set(asked(server).values()) == {1}


def test_file_with_wrong_tools_is_refused_before_anything_is_asked(work, server):
    work.write("flow.yaml", WORKFLOW.replace("steps:look_up", "steps:look_upp, nobody"))

    ended = work.flowcraft("run", "flow.yaml")

    assert ended.code == 2
    assert "flow.yaml:6:13: module 'steps' has no 'look_upp'" in ended.err
    assert server.requests == []
