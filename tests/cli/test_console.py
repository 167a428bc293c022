"""What is printed commands no terminal: texts of models and commands are shown, not carried out."""

from __future__ import annotations

import io

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flowcraft.cli.asking import show_waiting
from flowcraft.cli.console import stdout, visible
from flowcraft.engine import Approval

pytestmark = pytest.mark.unit

EVIL = "first\x1b[1A\x1b[2Klast \x1b[8mhidden\x1b[0m \x9b2J \u202egnp\u202c \x7f"
SEEN = "first␛[1A␛[2Klast ␛[8mhidden␛[0m \ufffd2J \ufffdgnp\ufffd ␡"


def printed(terminal, show):
    console = stdout(width=200)
    console.file = io.StringIO()
    console._force_terminal = terminal
    console._color_system = None
    show(console)
    return console.file.getvalue()


def table(text):
    made = Table(box=None, show_header=False)
    made.add_row(Text(text))
    return made


@pytest.mark.parametrize("make", [Text, str])
def test_text_that_commands_a_terminal_is_seen_on_it(make):
    assert printed(True, lambda console: console.print(make(EVIL))) == f"{SEEN}\n"


def test_cells_of_a_table_command_none():
    told = printed(True, lambda console: console.print(table(EVIL)))
    assert told.strip().startswith(SEEN[:20])  # the cell may be cut, since it was measured before
    assert "\x1b" not in told


def test_so_it_is_in_a_view_that_moves():
    def show(console):
        with Live(console=console, refresh_per_second=0.001) as live:
            live.update(table(EVIL), refresh=True)

    told = printed(True, show)
    assert SEEN[:20] in told
    assert "\x1b[8m" not in told


def test_programs_are_given_outputs_as_they_are():
    assert EVIL in printed(False, lambda console: console.print(Text(EVIL)))


@pytest.mark.parametrize("terminal", [True, False])
def test_question_is_seen_as_it_is_wherever_it_is_printed(terminal):
    asked = Approval(run="r", path="gate", gate="gate", question=f"Post {EVIL}?\nnext\x0bline")
    told = printed(terminal, lambda console: show_waiting(console, [asked]))
    assert f"  Post {SEEN}?\n  next" in told
    assert "\x1b" not in told


def test_lines_tabs_and_letters_of_all_languages_stay():
    text = "ä\t日本語\n✓ e\u0301 👩\u200d🔬"
    assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"
