"""Imports run down the floors of docs/architecture.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
UPWARD = """
[importlinter]
root_package = house
[importlinter:contract:floors]
name = floors
type = layers
layers =
  house.high
  house.low
"""


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command as main; main()"
    plugins = sorted(str(path) for path in folder.glob("plugins/*") if path.is_dir())
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *plugins])}
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_imports_run_downward() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_import_upward_is_found(tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    for name, text in {"__init__": "", "low": "import house.high", "high": ""}.items():
        (tmp_path / "house" / f"{name}.py").write_text(text)
    (tmp_path / ".importlinter").write_text(UPWARD)
    result = lint(tmp_path)
    assert result.returncode == 1
    assert "house.low -> house.high" in result.stdout
