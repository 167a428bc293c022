"""The files that are made from the code are those that the code makes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated", ROOT / "scripts" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_made_from_the_code_are_up_to_date(generated: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generated.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_file_is_named_and_left_as_it_is(
    generated: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(generated, "FILES", {"page.md": lambda: "new\n"})
    (tmp_path / "page.md").write_text("old\n")
    assert generated.main(["--check"]) == 1
    assert capsys.readouterr().out == "page.md is stale: run `make generated`\n"
    assert (tmp_path / "page.md").read_text() == "old\n"

    assert generated.main([]) == 0
    assert (tmp_path / "page.md").read_text() == "new\n"


def test_the_command_reference_shows_arguments_options_and_defaults() -> None:
    from flowcraft.cli.reference import cli_reference

    page = cli_reference()
    assert "$ flowcraft run FILE" in page
    assert "| `--input NAME=VALUE`, `-i NAME=VALUE` |" in page
    assert "May be repeated." in page
