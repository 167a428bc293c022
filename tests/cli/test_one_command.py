"""Only the command that is called is loaded; of the others the command line knows name and help."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from flowcraft.cli.app import COMMANDS, GROUPS, build

pytestmark = pytest.mark.unit


def told(app: typer.Typer, *arguments: str) -> str:
    return CliRunner().invoke(app, [*arguments, "--help"], terminal_width=400, max_content_width=400).stdout


def test_the_list_of_commands_says_what_the_commands_say_themselves():
    assert told(build("")) == told(build())
    assert "Go on with all runs" in told(build(""))


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_a_command_that_is_called_is_the_same_as_in_the_whole(name: str):
    assert told(build(name), name) == told(build(), name)
    assert "Usage: " in told(build(name), name)
