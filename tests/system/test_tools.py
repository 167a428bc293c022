"""Prompts with tools as a user runs them: a real server of models, a real process, kills and resumes."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flowcraft.plugin import ToolCall
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = [pytest.mark.system, pytest.mark.no_cover]

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
    if "HELD_AT" in os.environ and LOG.read_bytes().count(b"\\n") >= int(os.environ["HELD_AT"]):
        time.sleep(600)  # until it is killed

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


def unless_last(script: Any) -> Any:
    """Leave the question behind all tools without an answer: who is to be killed among them does not end before."""

    def held(request: Any) -> Any:
        done = script(request)
        return done if isinstance(done, Reply) else Fault.hang()

    return held


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


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("marks", [1, 2, 5, 8, 11, 14, 17, 19, 20])
def test_killed_among_ten_calls_repeats_at_most_the_one_in_flight(work, server, marks):
    server.script("one", unless_last(one_after_the_other))
    process = work.start("run", "flow.yaml", "--json")
    work.wait_for(lambda: len(work.lines()) >= marks, process)
    work.kill(process)
    (run,) = work.runs()
    saved, before = work.saved(run), work.starts()
    answered = {path for path in saved if path.startswith("research/call") and "tool" not in path}
    questions = asked(server)
    server.script("one", one_after_the_other)

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


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("ends", [1, 5, 9])
def test_killed_among_calls_of_one_turn_repeats_only_those_that_were_not_saved(work, server, ends):
    server.script("one", all_at_once)
    process = work.start("run", "flow.yaml", "--json", HELD_AT=str(2 * TOOLS))
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


SERVER = (Path(__file__).parents[1] / "tools" / "server.py").read_text("utf-8")
LIBRARY = """\
flowcraft: 1
env: [LIBRARY_KEY]
mcp:
  library: {command: PYTHON, args: [server.py], env: {LOG: LOGFILE, KEY: "${{ env.LIBRARY_KEY }}"}}
stages:
  reading: {prompt: "Read", tools: TOOLS}
"""


@pytest.fixture
def library(work):
    def write(tools: str) -> None:
        text = LIBRARY.replace("PYTHON", sys.executable).replace("LOGFILE", str(work.log)).replace("TOOLS", tools)
        work.write("library.yaml", text)

    work.write("server.py", SERVER)
    work.env["LIBRARY_KEY"] = "key-of-the-library"
    work.env["SECRET_OF_OTHERS"] = "x"
    write("[mcp:library]")
    work.rewrite = write
    return work


def calls_of(name: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=(ToolCall(id="call_1", name=name, arguments=json.dumps(arguments)),))


def results(server: FaultServer) -> list[str]:
    return [message["content"] for message in server.requests[-1].body["messages"] if message["role"] == "tool"]


def test_server_is_started_for_the_run_and_gets_only_the_environment_that_it_may_have(library, server):
    server.script("one", calls_of("environment"), calls_of("search", words="gardens"), "Done")

    ended = library.flowcraft("run", "library.yaml", "--json")

    assert ended.code == 0, ended.err
    environment = json.loads(results(server)[0])
    assert environment["KEY"] == "***"
    assert environment["LIBRARY_KEY"] == "***"
    assert not {"SECRET_OF_OTHERS", "LOCAL_KEY"} & environment.keys()
    assert results(server)[1] == "found gardens"
    (served,) = [line for line in library.lines() if line.startswith("serving")]
    assert not psutil.pid_exists(int(served.split()[1]))


def test_killed_run_asks_the_server_again_only_for_what_was_not_saved(library, server):
    def script(request: Any) -> Any:
        told = [message for message in request.body["messages"] if message["role"] == "tool"]
        return calls_of("search", words=str(len(told))) if len(told) < TOOLS else "Done"

    server.script("one", unless_last(script))
    process = library.start("run", "library.yaml", "--json")
    library.wait_for(lambda: sum(line.startswith("search") for line in library.lines()) >= 5, process)
    library.kill(process)
    server.script("one", script)
    (run,) = library.runs()
    saved = library.saved(run)

    ended = library.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 0, ended.err
    assert "reading/tools[library]" in saved
    searched = Counter(line.split()[0] for line in library.lines() if line.startswith("search"))
    assert sum(searched.values()) - TOOLS <= 1
    for number in range(TOOLS):
        if f"reading/call[{number + 1}]/tool[0]" in saved:
            assert searched[f"search-{number}"] == 1


def test_fork_asks_anew_where_the_server_is_reached_otherwise(library, server):
    server.script("one", calls_of("search", words="gardens"), "Done", "Done anew")
    first = library.flowcraft("run", "library.yaml", "--json")
    assert first.code == 0, first.err
    text = (library.path / "library.yaml").read_text()
    library.write("same.yaml", text.replace("flowcraft: 1\n", "flowcraft: 1\nname: library\n"))
    library.write("other.yaml", text.replace("env: {LOG", "env: {MORE: much, LOG"))

    same, other = (
        library.flowcraft("runs", "fork", first.json["run"], "--file", f"{name}.yaml", "--json") for name in ("same", "other")
    )

    assert (same.code, other.code) == (0, 0), same.err + other.err
    assert same.json["outputs"] == {"reading": "Done"}
    assert other.json["outputs"] == {"reading": "Done anew"}
    assert [one.json["stages"]["reading"]["calls"] for one in (same, other)] == [0, 1]


def test_server_that_dies_fails_the_stage_with_what_it_said_last(library, server):
    server.script("one", calls_of("die"), "never")

    ended = library.flowcraft("run", "library.yaml", "--json")

    assert ended.code == 1
    assert "the MCP server 'library' has died" in ended.json["error"]
    assert "the roof fell in" in ended.json["error"]


@pytest.mark.parametrize(
    ("tools", "answer"),
    [
        ("[mcp:library]", "error: 'reserve' writes, which is refused since 'search' brought in what others wrote"),
        ("[mcp:library, mcp:library/reserve]", "reserved it"),
    ],
)
def test_tool_of_a_server_that_writes_is_allowed_where_the_file_names_it(library, server, tools, answer):
    library.rewrite(tools)
    server.script("one", calls_of("search", words="x"), calls_of("reserve", title="it"), "Done")

    ended = library.flowcraft("run", "library.yaml", "--json")

    assert ended.code == 0, ended.err
    assert results(server)[1] == answer


def test_tool_that_the_server_lacks_fails_the_stage_before_a_model_is_asked(library, server):
    library.rewrite("[mcp:library/serch]")

    ended = library.flowcraft("run", "library.yaml", "--json")

    assert ended.code == 1
    assert "the MCP server 'library' has no tool 'serch' (it has: " in ended.json["error"]
    assert server.requests == []
