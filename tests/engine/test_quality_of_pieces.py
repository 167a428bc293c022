"""What a stage asks for holds its strategy, judge and confidence: changed, they make another piece."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowcraft.engine.pieces.values import digest
from flowcraft.engine.stages.rendering import asked, render
from flowcraft.workflow import load_workflow

pytestmark = pytest.mark.unit

KEYS = [
    "on_error: fail",
    "strategy: single",
    "strategy: best_of_two",
    'strategy: best_of_two, judge: {rubric: "short ${{ inputs.x }}"}',
    "strategy: best_of_two, judge: {rubric: short b}",
    "strategy: best_of_two, judge: {rubric: short b, model: expensive}",
    "strategy: cascade",
    "confidence: 0.5",
    "confidence: 0.6",
]


def hashed(folder: Path, keys: str, x: str = "a") -> str:
    file = folder / "flow.yaml"
    file.write_text(f"flowcraft: 1\ninputs: {{x: string}}\nstages: {{s: {{prompt: hello, {keys}}}}}\n", "utf-8")
    stage = load_workflow(file).stages["s"]
    rendered = render(stage, {"inputs": {"x": x}}, {})
    return digest("", asked(stage, rendered, rendered.arguments))


def test_each_way_to_ask_is_another_piece(tmp_path):
    assert len({hashed(tmp_path, keys) for keys in KEYS}) == len(KEYS)


def test_it_is_the_rubric_with_its_values_that_counts(tmp_path):
    assert hashed(tmp_path, KEYS[3], "b") == hashed(tmp_path, KEYS[4])
    assert hashed(tmp_path, KEYS[3], "c") != hashed(tmp_path, KEYS[3], "b")
