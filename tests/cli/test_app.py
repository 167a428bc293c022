"""The command line, put together."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from flowcraft.cli.app import build

pytestmark = pytest.mark.unit


def commands(app: typer.Typer) -> list[str | None]:
    groups = [group.typer_instance for group in app.registered_groups]
    return [command.name for one in (app, *groups) for command in one.registered_commands]


def test_built_again_it_has_each_command_once():
    first = commands(build())

    assert commands(build()) == first
    assert {"run", "stats", "logs", "fork"} <= {*first, "run"}
    assert len(first) > 20


def test_help_cuts_no_line_in_80_columns():
    for group in ([], ["runs"], ["models"], ["plugins"]):
        told = CliRunner().invoke(build(), [*group, "--help"], terminal_width=80).output

        assert "Commands:" in told
        assert "..." not in told.partition("Commands:")[2], told
