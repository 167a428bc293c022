"""How the command line begins, before any of its commands is loaded."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from flowcraft.cli import main

pytestmark = pytest.mark.unit


def test_ctrl_c_while_commands_load_is_told_without_a_traceback(monkeypatch, capsys):
    def loading(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["flowcraft", "runs", "list"])
    monkeypatch.setitem(sys.modules, "flowcraft.cli.app", SimpleNamespace(run=loading))

    with pytest.raises(SystemExit) as left:
        main()

    assert (left.value.code, capsys.readouterr().err) == (130, "flowcraft: interrupted\n")
    assert left.value.__cause__ is None
