"""``flowcraft runs diff`` as a user types it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

FLOW = """
flowcraft: 1
inputs: {topic: string = tea, count: integer = 3}
stages:
  numbers: {run: "steps:numbers", with: {count: "${{ inputs.count }}"}}
  notes: {each: numbers, prompt: "Write note ${{ item }} about ${{ inputs.topic }}"}
  report:
    prompt: |
      Merge the notes.
      ${{ notes }}
  same: {prompt: "Say hello"}
outputs: {notes: "${{ notes }}", hello: "${{ same }}"}
"""


@pytest.fixture
def two(folder, steps):
    """A folder with a run and its fork, of which an input and a prompt are others."""
    folder.write("steps.py", steps)
    folder.write("flow.yaml", FLOW)
    first = folder.flowcraft("run", "flow.yaml", "--json")
    assert first.code == 0, first.err
    folder.write("edited.yaml", FLOW.replace("Merge", "Blend"))
    second = folder.flowcraft("runs", "fork", first.json["run"], "--file", "edited.yaml", "-i", "count=14", "--json")
    assert second.code == 0, second.err
    return folder, first.json["run"], second.json["run"]


def test_a_run_and_its_fork_are_told_apart_in_words(two):
    folder, first, second = two

    ended = folder.flowcraft("runs", "diff", first, second)

    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == f"{first} · flow · done"
    assert lines[1] == f"{second} · edited · done · a fork of the other"
    assert "taken over: notes (3 of 14), same" in lines
    assert "  count: 3 → 14" in lines
    assert "file edited.yaml" in lines
    assert "  -      Merge the notes." in lines
    assert "  +      Blend the notes." in lines
    assert any(line.startswith("~ notes: done (3 of 14 taken over)") for line in lines)
    assert any(line.startswith("= same: reused") for line in lines)
    assert "    report: the prompt differs" in lines
    assert "      … 6 more places" in lines
    assert lines[-1] == "in full: --stage NAME, or --full"


def test_one_stage_is_shown_in_full(two):
    folder, first, second = two

    ended = folder.flowcraft("runs", "diff", first, second, "--stage", "notes")

    assert "more" not in ended.out
    assert '+"Write note 13 about tea"' in ended.out
    assert "report" not in ended.out
    wrong = folder.flowcraft("runs", "diff", first, second, "--stage", "nots")
    assert wrong.code == 2
    assert "unknown stage 'nots'; did you mean 'notes'?" in wrong.err


def test_as_json_everything_is_there(two):
    folder, first, second = two

    found = folder.flowcraft("runs", "diff", first, second, "--json").json

    assert found["same"] is False
    assert found["fork"] == second
    assert [found["before"]["run"], found["after"]["run"]] == [first, second]
    assert [(one["path"], one["before"], one["after"]) for one in found["inputs"]] == [("count", 3, 14)]
    notes = next(stage for stage in found["stages"] if stage["stage"] == "notes")
    assert [change["path"] for change in notes["output"]] == [f"notes[{number}]" for number in range(3, 14)]
    assert notes["after"]["calls"] == 11
    assert [change["path"] for change in found["outputs"]] == [f"notes[{number}]" for number in range(3, 14)]


def test_exit_code_says_on_request_whether_the_outputs_differ(two):
    folder, first, second = two

    assert folder.flowcraft("runs", "diff", first, second, "--exit-code").code == 1
    alike = folder.flowcraft("runs", "diff", second, second, "--exit-code")
    assert alike.code == 0
    assert alike.out.splitlines()[-1] == "the same run"


def test_runs_that_differ_in_nothing_say_so(two):
    folder, first, _ = two
    again = folder.flowcraft("run", "flow.yaml", "--json").json["run"]

    ended = folder.flowcraft("runs", "diff", first, again, "--exit-code")

    assert ended.code == 0
    assert ended.out.splitlines()[-1] == "nothing differs but what was spent"


def test_exports_are_compared_without_settings_and_database(two, new_folder):
    folder, first, second = two
    elsewhere = new_folder("elsewhere")
    for name, run in (("a", first), ("b", second)):
        assert folder.flowcraft("runs", "export", run, "-o", str(elsewhere.path / f"{name}.sqlite")).code == 0
    elsewhere.write("settings.yaml", "nonsense: [")

    ended = elsewhere.flowcraft("runs", "diff", "a.sqlite", "./b.sqlite")

    assert ended.code == 0, ended.err
    assert ended.out == folder.flowcraft("runs", "diff", first, second).out
    assert not elsewhere.database.exists()
    mixed = folder.flowcraft("runs", "diff", str(elsewhere.path / "a.sqlite"), second)
    assert mixed.out == ended.out


@pytest.mark.parametrize(
    ("name", "told", "code"),
    [("nothing.sqlite", "cannot be read", 1), ("flow.yaml", "is no export", 1), ("999999", "no run", 1)],
)
def test_what_is_no_run_is_named(two, name, told, code):
    folder, first, _ = two

    ended = folder.flowcraft("runs", "diff", first, name)

    assert ended.code == code
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_on_a_terminal_no_line_is_wider_than_the_screen(two):
    folder, first, second = two
    own, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flowcraft", "runs", "diff", first, second],
        cwd=folder.path,
        env={**folder.env, "COLUMNS": "80", "TERM": "dumb"},
        stdout=other,
    )
    os.close(other)
    lines = _read(own).splitlines()
    assert process.wait(60) == 0
    assert any(line.startswith("~ notes") for line in lines)
    assert max(map(len, lines)) <= 80


def _read(own):
    found = b""
    while select.select([own], [], [], 60)[0]:
        try:
            found += os.read(own, 65536)
        except OSError:  # the other end is closed
            break
    os.close(own)
    return found.decode()
