"""Broken workflow files at the command line: exit code 2, a place in the file, never a traceback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowcraft.cli import app

pytestmark = pytest.mark.system

BROKEN = sorted(Path(__file__).parent.parent.joinpath("workflow", "broken").glob("*.yaml"))


def validate(file, capsys, *command):
    with pytest.raises(SystemExit) as ended:
        app.run([*(command or ("validate",)), str(file)])
    return ended.value.code, capsys.readouterr().err


def made(tmp_path):
    """What cannot be kept as a file of its own: too large, no text, no YAML at all."""
    return {
        "ten megabytes": b"flowcraft: 1\nstages: {a: {prompt: '" + b"x" * 10_000_000 + b"'}}\n",
        "binary": bytes(range(256)) * 10,
        "not UTF-8": "flowcraft: 1\nname: Привет\n".encode("cp1251"),
        "brackets": b"[" * 100_000,
        "aliases": b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (98 + n, 98 + n, 97 + n, 97 + n) for n in range(24)),
        "empty": b"",
    }


def test_there_are_many_ways_to_be_wrong():
    assert len(BROKEN) + len(made(None)) >= 40


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_broken_file_is_refused_with_a_place(file, capsys):
    code, told = validate(file, capsys)

    assert code == 2
    assert re.search(r"\.(yaml|md):\d+:\d+: ", told), told
    assert "Traceback" not in told
    assert "fault of FlowCraft" not in told


@pytest.mark.parametrize("kind", made(None))
def test_file_that_is_no_workflow_at_all_is_refused_with_a_place(kind, tmp_path, capsys):
    file = tmp_path / "odd.yaml"
    file.write_bytes(made(tmp_path)[kind])

    code, told = validate(file, capsys)

    assert code == 2
    assert re.search(r"odd\.yaml:\d+:\d+: ", told), told[:500]
    assert len(told) < 5_000
    assert "Traceback" not in told


@pytest.mark.parametrize("command", ["run", "validate"])
def test_file_that_is_not_there_is_named(command, tmp_path, capsys):
    code, told = validate(tmp_path / "nothing.yaml", capsys, command)

    assert code == 2
    assert "nothing.yaml" in told


def test_folder_is_no_workflow(tmp_path, capsys):
    code, told = validate(tmp_path, capsys)

    assert code == 2
    assert str(tmp_path) in told


def test_broken_file_is_refused_by_run_in_a_real_process(folder):
    folder.write("flow.yaml", "flowcraft: 1\nstages:\n  a: {promt: Hello}\n")

    ended = folder.flowcraft("run", "flow.yaml")

    assert ended.code == 2
    assert "flow.yaml:3:7: " in ended.err
    assert "did you mean 'prompt'" in ended.err
    assert ended.out == ""
    assert not folder.database.exists()
