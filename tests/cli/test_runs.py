"""The list of runs, as wide as the terminal is."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner

from flowcraft.cli.app import build

pytestmark = pytest.mark.integration

NAME = "some_workflow_with_a_long_name"


def call(*arguments: str, **env: str) -> str:
    ended = CliRunner().invoke(build(), arguments, env=env)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["run", "workflow", "state", "started", "time", "calls", "USD"]),
        (58, ["run", "workflow", "state", "time", "calls", "USD"]),
        (40, ["run", "workflow", "state"]),
    ],
)
def test_list_leaves_out_what_a_narrow_terminal_has_no_room_for(tmp_path: Path, monkeypatch, width, titles) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{NAME}.yaml").write_text("flowcraft: 1\nstages: {a: {prompt: hello}}\n")
    call("run", f"{NAME}.yaml")

    shown = call("runs", "list", COLUMNS=str(width), FORCE_COLOR="1", TERM="xterm")
    head, row = Text.from_ansi(shown).plain.splitlines()

    assert head.split() == titles
    assert len(row) <= width
    assert "  some_w" in row
    assert NAME in call("runs", "list", COLUMNS="40")  # a pipe has room for all
