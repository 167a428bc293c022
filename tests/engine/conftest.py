"""Workflows carried out in a folder of their own, over a real database, with a scripted provider where a model is asked."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.app import FlowCraft, RunResult
from flowcraft.events import Event
from flowcraft.settings import Settings
from flowcraft.testing import FakeProvider


class Project:
    """A folder with a workflow, the functions beside it, a database, and what was seen of its runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[Event] = []
        self.flows: list[FlowCraft] = []
        self.fake = FakeProvider()

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def steps(self, text: str) -> None:
        self.write("steps.py", text)

    def open(self, **settings: Any) -> FlowCraft:
        given: dict[str, Any] = {"storage": f"sqlite:///{self.path}/flowcraft.db", **settings}
        flow = FlowCraft(Settings(**given))
        fake = self.fake

        class Scripted(FakeProvider):
            def __init__(self, config: Any = None, *, section: str = "", timeouts: Any = None) -> None:
                super().__init__(section=section, timeouts=timeouts)
                self.__dict__.update(
                    {name: value for name, value in vars(fake).items() if name[0] != "_" and name != "section"}
                )
                self._scripts = fake._scripts
                self._waiting = fake._waiting

        if "providers" in settings:
            flow.register_provider("fake", Scripted)
        flow.subscribe(self.events.append)
        self.flows.append(flow)
        return flow

    async def run(self, workflow: str, flow: FlowCraft | None = None, /, **inputs: Any) -> RunResult:
        """Run ``workflow``, YAML without its first line; close everything behind it unless ``flow`` is given."""
        path = self.write("flow.yaml", "flowcraft: 1\n" + textwrap.dedent(workflow))
        if flow is not None:
            return await flow.run(path, inputs)
        async with self.open() as opened:
            return await opened.run(path, inputs)

    async def ask(self, workflow: str, *steps: Any, **inputs: Any) -> RunResult:
        """Run ``workflow`` with a scripted model."""
        self.fake = FakeProvider(*steps)
        flow = self.open(llm={"default_model": "fake:one"}, providers={"fake": {}})
        async with flow:
            return await self.run(workflow, flow, **inputs)

    async def resume(self, run: str) -> RunResult:
        async with self.open() as flow:
            return await flow.resume(run)

    def forget(self) -> None:
        """Forget the modules of this folder, as a new process would."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(self.path)):
                del sys.modules[name]

    def marks(self) -> list[str]:
        """What functions noted down, in order."""
        log = self.path / "log.txt"
        return log.read_text(encoding="utf-8").split() if log.exists() else []


NOTE = """
import pathlib
LOG = pathlib.Path(__file__).with_name("log.txt")

def note(word):
    with LOG.open("a", encoding="utf-8") as file:
        file.write(f"{word} ")
    return word

def fail(word="failed"):
    note(word)
    raise ValueError(f"cannot {word}")

def fail_until(path):
    note("try")
    if not pathlib.Path(path).exists():
        raise ValueError("not yet")
    return "at last"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    made.steps(NOTE)
    yield made
    made.forget()
    sys.path[:] = [place for place in sys.path if not place.startswith(str(tmp_path))]
