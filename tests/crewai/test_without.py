"""Without the library crewai: what says so, and that nothing of it is loaded before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowcraft import FlowCraft
from flowcraft.crewai import create_llm_for_crewai
from flowcraft.errors import PluginError, WorkflowError

pytestmark = pytest.mark.integration

FLOW = """flowcraft: 1
agents:
  writer: {role: Writer, goal: Write, backstory: Clear}
stages: {work: {prompt: hello, agent: writer}}
"""


def test_without_the_extra_the_install_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft.crewai.library.find_spec", lambda name: None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "crewai"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(PluginError, match=r"crewai, which is not installed.*pip install 'flowcraft\[crewai\]'"):
        create_llm_for_crewai()


def test_importing_our_room_loads_nothing_of_the_library() -> None:
    program = "import sys, flowcraft.crewai.library, flowcraft.crewai.translate; print('crewai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_there_is_no_other_name() -> None:
    with pytest.raises(ImportError, match="nothing"):
        from flowcraft.crewai import nothing  # type: ignore[attr-defined]  # noqa: F401


async def test_a_workflow_with_an_agent_says_so_where_it_stands_and_begins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowcraft.crewai.library.find_spec", lambda name: None)
    (tmp_path / "settings.yaml").write_text(f"storage: sqlite:///{tmp_path}/runs.db\n", "utf-8")
    (tmp_path / "flow.yaml").write_text(FLOW, "utf-8")
    async with FlowCraft(tmp_path / "settings.yaml") as flow:
        with pytest.raises(
            WorkflowError, match=r"flow\.yaml:4:32: .*crewai is not installed.*pip install 'flowcraft\[crewai\]'"
        ):
            await flow.run(tmp_path / "flow.yaml", {})


class Stand:
    """A folder with a workflow, and a library crewai in the place of the one that may be installed."""

    def __init__(self, path: Path, library: str) -> None:
        self.path = path
        self.write("site/crewai/__init__.py", f"import pathlib, sys, time\npathlib.Path('imported').touch()\n{library}\n")
        self.write("settings.yaml", "storage: sqlite:///runs.db\nllm: {default_model: offline}\n")

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def flowcraft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "flowcraft", *arguments],
            cwd=self.path,
            env={**os.environ, "HOME": str(self.path), "PYTHONPATH": str(self.path / "site")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    @property
    def imported(self) -> bool:
        return (self.path / "imported").exists()


BESIDE = (
    FLOW.replace("stages: {work: {prompt: hello, agent: writer}}", "")
    + """stages:
  first: {run: "steps:first"}
  second: {run: "steps:second", needs: [first]}
  work: {prompt: hello, agent: writer}
"""
)
STEPS = """
import pathlib, time

def first():
    until = time.monotonic() + 60
    while not pathlib.Path("imported").exists() and time.monotonic() < until:
        time.sleep(0.01)
    return pathlib.Path("imported").exists()

def second():
    pathlib.Path("go").touch()
    return True
"""
WAITS = """
until = time.monotonic() + 60
while not pathlib.Path("go").exists() and time.monotonic() < until:
    time.sleep(0.01)
pathlib.Path("went").write_text(str(pathlib.Path("go").exists()))
"""


@pytest.mark.parametrize(
    ("library", "told"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("__version__ = '0.1'", "ImportError: cannot import name"),
    ],
)
def test_a_library_that_does_not_load_is_one_clear_error_and_holds_nothing_else_up(
    tmp_path: Path, library: str, told: str
) -> None:
    stand = Stand(tmp_path, WAITS + library)
    stand.write("flow.yaml", BESIDE)
    stand.write("steps.py", STEPS)

    done = stand.flowcraft("run", "flow.yaml")

    (line,) = [line for line in done.stderr.splitlines() if line.startswith("work: failed: ")]
    assert line.startswith(f"work: failed: the library crewai cannot be imported ({told}")
    assert line.endswith("install it anew with: pip install 'flowcraft[crewai]'")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert (tmp_path / "went").read_text() == "True", "other stages were carried out while the library loaded"


def test_it_is_loaded_for_runs_of_agents_alone(tmp_path: Path) -> None:
    stand = Stand(tmp_path, "")
    stand.write("flow.yaml", FLOW)
    stand.write("plain.yaml", "flowcraft: 1\nstages: {work: {prompt: hello}}\n")
    commands = [["run", "plain.yaml"], *([name, "flow.yaml"] for name in ("validate", "plan", "graph"))]

    assert [stand.flowcraft(*command).returncode for command in commands] == [0] * 4
    assert not stand.imported
    stand.flowcraft("run", "flow.yaml")
    assert stand.imported
