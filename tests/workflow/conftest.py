"""Workflow files in a folder of their own."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from flowcraft.errors import Problem, WorkflowError
from flowcraft.workflow import Workflow, load_workflow


class Folder:
    """A folder with workflow files; ``load`` takes YAML without its first line."""

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

    def load(self, text: str, **options: Any) -> Workflow:
        return load_workflow(self.write("flow.yaml", "flowcraft: 1\n" + textwrap.dedent(text)), **options)

    def problems(self, text: str, **options: Any) -> tuple[Problem, ...]:
        with pytest.raises(WorkflowError) as raised:
            self.load(text, **options)
        return raised.value.problems

    def messages(self, text: str, **options: Any) -> list[str]:
        return [problem.message for problem in self.problems(text, **options)]

    def warnings(self, text: str) -> list[str]:
        return [problem.message for problem in self.load(text).warnings]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
