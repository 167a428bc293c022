"""``flowcraft plugins`` as a user runs it, over plugins that fail in every way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., None]
KEPT = ("PATH", "HOME", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
GOOD = """
from flowcraft.plugin import Provider, hookimpl
{first}
class Good(Provider):
    name = "{name}"
@hookimpl
def flowcraft_providers():
    return {{"{name}": Good}}
"""


WORKS = {"ready", "slow"}
"""What any plugin that works may be: on a full machine the smallest takes more than a second now and then."""


def flowcraft(folder: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    env = {name: os.environ[name] for name in KEPT if name in os.environ} | {"PYTHONPATH": str(folder / "site")}
    command = [sys.executable, "-m", "flowcraft", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.slow
def test_one_that_sleeps_a_minute_at_import_and_all_other_bad_ones_hide_nobody(install: Install, tmp_path: Path) -> None:
    install("asleep-plugin", "import time\ntime.sleep(60)\n", providers=["asleep"])
    install("lazy-plugin", GOOD.format(first="import time\ntime.sleep(2)", name="lazy"), providers=["lazy"])
    install("raising-plugin", "raise RuntimeError('no luck')\n", providers=["raising"])
    install("leaving-plugin", "import sys\nsys.exit(7)\n", others=["leaving"])
    install(
        "hook-plugin",
        "from flowcraft.plugin import hookimpl\n@hookimpl\ndef flowcraft_providers(): 1 / 0\n",
        providers=["hook"],
    )
    install("old-plugin", providers=["old"], requires="flowcraft>=99")
    install("good-plugin", GOOD.format(first="", name="good"), providers=["good"])
    done = flowcraft(tmp_path, "plugins", "--json", timeout=50)
    assert done.returncode == 0, done.stderr
    states = {state["name"]: state for state in json.loads(done.stdout)}
    good = states["good"]["state"]
    assert {name: state["state"] for name, state in states.items() if state["distribution"].endswith("-plugin")} == {
        "asleep": "broken",
        "lazy": "slow",
        "raising": "broken",
        "leaving": "broken",
        "hook": "broken",
        "old": "other version",
        "good": good,
    }
    assert states["asleep"]["error"] == "not done after 10 s"
    assert {good, states["offline"]["state"], states["bodies"]["state"]} <= WORKS


@pytest.mark.system
def test_a_broken_plugins_traceback_is_one_command_away(install: Install, tmp_path: Path) -> None:
    install("raising-plugin", "raise RuntimeError('kein Glück 🍀')\n", providers=["raising"])
    shown = flowcraft(tmp_path, "plugins", "show", "raising")
    assert shown.returncode == 1
    assert "raising of raising-plugin 1.0 (flowcraft.providers): broken" in shown.stdout
    assert "raising_plugin.py" in shown.stdout
    assert "RuntimeError: kein Glück 🍀" in shown.stdout
    assert flowcraft(tmp_path, "plugins", "show", "raising-plugin", "--json").returncode == 1


@pytest.mark.system
def test_the_list_is_readable_and_a_wrong_name_gets_the_nearest(install: Install, tmp_path: Path) -> None:
    install("good-plugin", GOOD.format(first="", name="good"), providers=["good"])
    listed = flowcraft(tmp_path, "plugins")
    assert listed.returncode == 0
    assert any(
        line.split()[:4] == ["good", "good-plugin", "1.0", "providers"] and line.split()[4] in WORKS
        for line in listed.stdout.splitlines()
    )
    wrong = flowcraft(tmp_path, "plugins", "show", "offlin")
    assert (wrong.returncode, wrong.stderr.strip()) == (
        2,
        "flowcraft: no plugin 'offlin' is installed; did you mean 'offline'?",
    )
    assert flowcraft(tmp_path, "plugins", "show", "offline").returncode == 0
