"""The package on the page about plugins is a package: it installs, is found, and answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)

CHAT = """
import asyncio
from flowcraft.discovery import discover
from flowcraft.plugin import ChatRequest, Message

plugins = discover()
state = {state.name: state.state for state in plugins.states()}["echo"]
provider = plugins.provider_class("echo")()
reply = asyncio.run(provider.chat("any", ChatRequest(messages=(Message.user("Ist da wer? 有人吗"),))))
print(state, reply.text, reply.model, sep="|")
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The page's files in a folder, with the metadata that an installation writes."""
    for name, text in FILE.findall(PAGE.read_text("utf-8")):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    requires = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{requires}"
    (info / "METADATA").write_text(metadata, "utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups), "utf-8")
    return tmp_path


def python(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(package), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_package_is_found_and_answers(package: Path) -> None:
    result = python(package, "-c", CHAT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "not imported|Ist da wer? 有人吗|any"


def test_the_packages_own_test_passes(package: Path) -> None:
    result = python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout
