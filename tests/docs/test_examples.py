"""What the documentation shows works."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft.workflow import load_workflow

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
OURS = {"flowcraft", "flowcraft_anthropic", "flowcraft_openai"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def examples(language: str) -> list[object]:
    return list(_examples(language))


def _examples(language: str) -> Iterator[object]:
    for path in PAGES:
        text = path.read_text("utf-8")
        for match in BLOCK.finditer(text):
            if match[2] == language:
                line = text.count("\n", 0, match.start()) + 1
                code = "".join(row.removeprefix(match[1]) for row in match[3].splitlines(keepends=True))
                yield pytest.param(code, id=f"{path.relative_to(ROOT).as_posix()}:{line}")


def whole_scripts() -> list[object]:
    return [example for example in examples("python") if "asyncio.run(" in example.values[0]]


def whole_workflows() -> list[object]:
    return [example for example in examples("yaml") if re.search(r"^flowcraft: 1$", example.values[0], re.MULTILINE)]


def test_there_are_examples() -> None:
    assert whole_scripts()
    assert whole_workflows()


@pytest.mark.parametrize("code", examples("python"))
def test_python_example_can_be_pasted_into_a_file_and_imports_what_exists(code: str) -> None:
    compile(code, "<example>", "exec", dont_inherit=True)
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            module = importlib.import_module(node.module or "")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], node.module


def bare_environment(folder: Path) -> dict[str, str]:
    """An environment without keys: what a newcomer has."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT", "TMPDIR") if name in os.environ}
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {**kept, **coverage, "HOME": str(folder), "PYTHONWARNINGS": "error"}


@pytest.mark.parametrize("code", whole_scripts())
def test_python_script_runs_without_a_key(code: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(code, "utf-8")
    command = [sys.executable, str(script)]
    result = subprocess.run(
        command, cwd=tmp_path, env=bare_environment(tmp_path), capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr


BESIDE = {
    "config/agents.yaml": 'a: {role: "On {topic}", goal: "Write in {current_year}"}\n',
    "config/tasks.yaml": "t: {agent: a, description: Write, expected_output: A page}\n",
}
"""Files that examples say stand beside them."""


@pytest.mark.parametrize("code", whole_workflows())
def test_workflow_example_loads(code: str, tmp_path: Path) -> None:
    for name, text in BESIDE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    file = tmp_path / "example.yaml"
    file.write_text(code, "utf-8")
    assert load_workflow(file).stages


@pytest.mark.parametrize("code", examples("toml"))
def test_toml_example_is_toml(code: str) -> None:
    assert tomllib.loads(code)


def test_the_plugin_of_the_readme_answers(tmp_path: Path) -> None:
    """Installed as its two blocks say, it is found by its entry point and answers a workflow."""
    blocks = {match[2]: match[3] for match in BLOCK.finditer((ROOT / "README.md").read_text("utf-8")) if "echo" in match[3]}
    (tmp_path / "flowcraft_echo").mkdir()
    (tmp_path / "flowcraft_echo" / "__init__.py").write_text(blocks["python"], "utf-8")
    metadata = tmp_path / "flowcraft_echo-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: flowcraft-echo\nVersion: 1.0\nRequires-Dist: flowcraft\n")
    group, points = next(iter(tomllib.loads(blocks["toml"])["project"]["entry-points"].items()))
    lines = [f"{name} = {target}" for name, target in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    (tmp_path / "hello.yaml").write_text("flowcraft: 1\nstages: {hello: {prompt: Привет}}\n", "utf-8")

    command = [sys.executable, "-m", "flowcraft", "run", "hello.yaml", "--model", "echo:any", "--json"]
    environment = {**bare_environment(tmp_path), "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)

    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["outputs"] == {"hello": "Привет"}
    assert not document["offline"]
