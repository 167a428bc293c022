"""Without the library crewai: what says so, and that nothing of it is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flowcraft.crewai import create_llm_for_crewai
from flowcraft.errors import PluginError

pytestmark = pytest.mark.integration


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
