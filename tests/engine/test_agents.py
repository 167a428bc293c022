"""Agents and crews, carried out by the agent runner of an installed plugin: each question and tool call a piece of the run."""

from __future__ import annotations

import importlib
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from flowcraft.app import RunResult
from flowcraft.plugin import ChatResponse, ToolCall
from flowcraft.testing import FakeProvider

pytestmark = pytest.mark.integration

TOOLS = '''
import pathlib
LOG = pathlib.Path(__file__).with_name("log.txt")

def note(word: str) -> str:
    """Note a word down."""
    with LOG.open("a") as file:
        file.write(f"{word} ")
    return f"noted {word}"

async def add(first: int, second: int) -> int:
    return first + second
'''
AGENTS = """
agents:
  writer: {role: "Writer on {topic}", goal: Write well, backstory: Wrote for years, tools: [steps:note]}
  critic: {role: Critic, goal: "Find faults in ${{ inputs.topic }}"}
"""


def install(site: Path) -> None:
    """Install the example runner as a distribution of its own."""
    site.mkdir()
    shutil.copy(Path(__file__).with_name("chorus.py"), site / "flowcraft_chorus.py")
    info = site / "flowcraft_chorus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flowcraft-chorus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flowcraft]\nchorus = flowcraft_chorus\n")
    importlib.invalidate_caches()


class Troupe:
    """A folder with a plugin that carries agents out, and a scripted model."""

    def __init__(self, project):
        self.project = project
        project.steps(TOOLS)

    def open(self, *steps, **settings):
        self.project.fake = FakeProvider(*steps)
        given = {"llm": {"default_model": "fake:one"}, "providers": {"fake": {}}, "agents": {"runner": "chorus"}, **settings}
        return self.project.open(**given)

    async def run(self, workflow: str, *steps, **inputs) -> RunResult:
        async with self.open(*steps) as flow:
            return await self.project.run(workflow, flow, **inputs)

    def paths(self) -> list[str]:
        database = sqlite3.connect(self.project.path / "flowcraft.db")
        try:
            return [path for (path,) in database.execute("SELECT path FROM pieces ORDER BY rowid")]
        finally:
            database.close()

    def asked(self) -> list[str]:
        """All that the model was told, one text for each question."""
        return ["\n".join(message.text for message in request.messages) for request in self.project.fake.requests]


@pytest.fixture
def troupe(project, tmp_path, monkeypatch):
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield Troupe(project)
    sys.modules.pop("flowcraft_chorus", None)


def calling(name: str, **arguments) -> ChatResponse:
    call = ToolCall(id="1", name=name, arguments=json.dumps(arguments))
    return ChatResponse(parts=(call,), finish_reason="tool_calls")


async def test_agent_does_what_the_prompt_says(troupe):
    workflow = f"inputs: {{topic: string}}{AGENTS}stages: {{a: {{agent: writer, prompt: 'Write on ${{{{ inputs.topic }}}}'}}}}"

    result = await troupe.run(workflow, calling("note", word="bees"), "All on bees", topic="bees")

    assert result.state == "done", result.error
    assert result.outputs == {"a": "All on bees"}
    assert troupe.asked()[0] == "Writer on bees. Write well\nWrite on bees"
    assert troupe.paths() == ["a/writer/a[1]", "a/writer/a[1]/tool[0]", "a/writer/a[2]", "a"]
    assert troupe.project.marks() == ["bees"]
