"""What the tests of drawings share: workflows from text, and drawings made of nothing but names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flowcraft.drawing import Block, Box, Drawing, Line, draw
from flowcraft.workflow import load_workflow

Drawn = Callable[..., Drawing]

REVIEW = """
flowcraft: 1
name: review
description: Look at a change, ask, post.
inputs: {diff: string, strict: boolean = false}
stages:
  files: {run: "json:loads", with: {s: "${{ inputs.diff }}"}, output: {files: [string]}}
  style: {each: files.files, parallel: 4, prompt: "Look at ${{ item }}", strategy: cascade, on_error: continue}
  audit: {when: inputs.strict, prompt: "Audit ${{ inputs.diff }} of ${{ files }}", retry: 2}
  report:
    until: report.check.score > 0.8
    max: 3
    stages:
      draft: {prompt: "Merge ${{ style }} ${{ audit }}", strategy: best_of_two, judge: {rubric: all}}
      check: {prompt: "Score ${{ draft }}", model: expensive, output: {score: number}}
  gate: {needs: [report], shell: "true"}
  post: {needs: [gate], shell: cat, with: {stdin: "${{ report.draft }}"}}
finally:
  tidy: {shell: "echo $state", with: {state: "${{ run.state }}"}}
outputs: {text: "${{ report.draft }}"}
"""


@pytest.fixture
def drawn(tmp_path: Path) -> Drawn:
    """Return the drawing of a workflow's text; other files by name."""

    def of(text: str, /, deep: bool = False, told=None, run=None, **files: str) -> Drawing:
        for name, other in files.items():
            (tmp_path / f"{name}.yaml").write_text(other, encoding="utf-8")
        path = tmp_path / "main.yaml"
        path.write_text(text, encoding="utf-8")
        return draw(load_workflow(path), deep=deep, told=told, run=run)

    return of


@pytest.fixture
def review(drawn: Drawn) -> Drawing:
    return drawn(REVIEW)


def made(count: int, lines: Sequence[tuple[int, int]]) -> Drawing:
    """Return a drawing of so many plain boxes."""
    boxes = tuple(Box(id=f"s{number}", name=f"s{number}", kind="run", what="steps:do") for number in range(count))
    block = Block(boxes=boxes, lines=tuple(Line(source=f"s{source}", target=f"s{target}") for source, target in lines))
    return Drawing(name="made", stages=block)
