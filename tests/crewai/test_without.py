"""Without the library crewai: what says so, and that nothing of it is loaded before it is needed."""

from __future__ import annotations

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
