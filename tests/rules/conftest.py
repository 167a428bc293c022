"""A folder with workflow files, loaded or run by public names; functions beside them; no model but offline."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.app import FlowCraft, RunResult
from flowcraft.errors import Problem, WorkflowError
from flowcraft.settings import Settings
from flowcraft.workflow import Workflow, load_workflow

STEPS = """
import asyncio, pathlib, time

LOG = pathlib.Path(__file__).with_name("log.txt")

def note(word=None):
    with LOG.open("a", encoding="utf-8") as file:
        file.write(f"{word} ")
    return word

def fail(word="failed"):
    note(word)
    raise ValueError(f"cannot {word}")

def fail_at(n, bad):
    note(n)
    if n == bad:
        raise ValueError(f"not {n}")
    return n

def echo(**given):
    return given

def fail_until(path):
    note("go")
    if not pathlib.Path(path).exists():
        raise ValueError("not yet")
    return "at last"
"""


class Place:
    """A folder of its own. Workflows are written without their first line, ``flowcraft: 1``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, bytes):
            path.write_bytes(text)
        else:
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def steps(self, text: str) -> None:
        """Add functions to those beside the workflow."""
        self.write("steps.py", STEPS + textwrap.dedent(text))

    def file(self, workflow: str) -> Path:
        return self.write("flow.yaml", "flowcraft: 1\n" + textwrap.dedent(workflow))

    def load(self, workflow: str) -> Workflow:
        return load_workflow(self.file(workflow))

    def problems(self, workflow: str) -> tuple[Problem, ...]:
        with pytest.raises(WorkflowError) as raised:
            self.load(workflow)
        return raised.value.problems

    def refused(self, workflow: str) -> str:
        """The message of the one problem."""
        (problem,) = self.problems(workflow)
        assert problem.line, problem
        return problem.message

    def warnings(self, workflow: str) -> list[str]:
        return [warning.message for warning in self.load(workflow).warnings]

    def open(self) -> FlowCraft:
        return FlowCraft(Settings(storage=f"sqlite:///{self.path}/flowcraft.db"))

    async def run(self, workflow: str, **inputs: Any) -> RunResult:
        async with self.open() as flow:
            return await flow.run(self.file(workflow), inputs)

    async def resume(self, run: str) -> RunResult:
        async with self.open() as flow:
            return await flow.resume(run)

    async def value(self, expression: str, **inputs: Any) -> Any:
        """What an expression gives in a run with inputs of any type."""
        names = "".join(f"  {name}: any = null\n" for name in {**inputs, "x": None})
        text = f'inputs:\n{names}stages: {{a: {{run: "steps:echo", with: {{v: "${{{{ {expression} }}}}"}}}}}}\n'
        result = await self.run(text, **inputs)
        assert result.state == "done", result.error
        return result.outputs["a"]["v"]

    def marks(self) -> list[str]:
        """What functions noted down, in order."""
        log = self.path / "log.txt"
        return log.read_text(encoding="utf-8").split() if log.exists() else []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    made = Place(tmp_path)
    made.steps("")
    yield made
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if not entry.startswith(str(tmp_path))]
