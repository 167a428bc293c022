"""``flowcraft graph`` as a user runs it."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree

import pytest

from flowcraft.app import FlowCraft

pytestmark = pytest.mark.system

WORKFLOW = """\
flowcraft: 1
name: notes
inputs: {text: string, often: boolean = false}
stages:
  split: {run: "steps:split", with: {text: "${{ inputs.text }}"}, output: [string]}
  sum: {each: split, prompt: "Sum up ${{ item }}"}
  again: {when: inputs.often, prompt: "Again ${{ sum }}"}
  check: {run: "steps:check", with: {parts: "${{ sum }}"}, on_error: continue}
  last: {needs: [check], uses: ./part.yaml, with: {x: "${{ again }}"}}
"""
PART = """\
flowcraft: 1
inputs: {x: string | null}
stages: {inner: {prompt: "Say ${{ inputs.x }}"}}
"""
STEPS = """\
open("imported.txt", "w").close()

def split(text: str) -> list[str]:
    return text.split()

def check(parts: list[str]) -> None:
    raise ValueError("too short")
"""


@pytest.fixture
def written(folder):
    folder.write("notes.yaml", WORKFLOW)
    folder.write("part.yaml", PART)
    folder.write("steps.py", STEPS)
    return folder


def ran(folder):
    """Run the workflow; return the run's id."""
    ended = folder.flowcraft("run", "notes.yaml", "-i", "text=a b", "--json", "--model", "offline")
    assert ended.json["state"] == "done"
    return ended.json["run"]


def test_the_terminal_shows_every_stage_and_what_it_is_made_from(written):
    ended = written.flowcraft("graph", "notes.yaml")

    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.startswith("notes\n\ninputs  text: string · often: boolean = false\n\n1 ● split")
    for line in ("2 ● sum    prompt  Sum up ${{ item }}", "each split", "when inputs.often", "← again · needs check"):
        assert line in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_nothing_of_the_users_is_run(written):
    for form in ("terminal", "mermaid", "svg"):
        assert written.flowcraft("graph", "notes.yaml", "--format", form).code == 0
    assert not (written.path / "imported.txt").exists()
    assert not written.database.exists()


def test_svg_and_mermaid_go_to_standard_output_or_to_a_file(written):
    svg = written.flowcraft("graph", "notes.yaml", "--format", "svg").out
    mermaid = written.flowcraft("graph", "notes.yaml", "--format", "mermaid").out

    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert mermaid.startswith('---\ntitle: "notes"\n---\nflowchart TD\n')
    for name, text in (("a.svg", svg), ("a.mmd", mermaid), ("a.mermaid", mermaid)):
        ended = written.flowcraft("graph", "notes.yaml", "-o", name)
        assert (ended.code, ended.out) == (0, "")
        assert (written.path / name).read_text("utf-8") == text
    assert written.flowcraft("graph", "notes.yaml", "-o", "a.txt").code == 0
    assert "● split" in (written.path / "a.txt").read_text("utf-8")


def test_an_ending_that_says_nothing_is_refused(written):
    ended = written.flowcraft("graph", "notes.yaml", "-o", "a.png")

    assert ended.code == 2
    assert "does not end in .svg, .mmd" in " ".join(ended.err.replace("│", " ").split())
    assert not (written.path / "a.png").exists()
    assert written.flowcraft("graph", "notes.yaml", "-o", "a.png", "--format", "svg").code == 0


def test_a_place_that_cannot_be_written_is_told(written):
    ended = written.flowcraft("graph", "notes.yaml", "-o", "nowhere/a.svg")

    assert ended.code == 1
    assert ended.err == "flowcraft: nowhere/a.svg cannot be written: No such file or directory\n"


def test_a_broken_file_gives_its_problems(written):
    written.write("notes.yaml", WORKFLOW.replace("often: boolean", "often: bolean").replace("each: split", "each: splitt"))

    ended = written.flowcraft("graph", "notes.yaml")

    assert ended.code == 2
    assert ended.out == ""
    assert "notes.yaml:3:" in ended.err
    assert "notes.yaml:6:" in ended.err
    assert "Traceback" not in ended.err


def test_a_file_with_warnings_is_drawn(written):
    written.write("notes.yaml", WORKFLOW.replace("text: string,", "text: string, unused: string = x,"))

    assert written.flowcraft("graph", "notes.yaml").code == 0


def test_a_file_whose_models_nobody_knows_is_drawn(written):
    written.write("notes.yaml", WORKFLOW.replace('prompt: "Sum', 'model: nobody:knows, prompt: "Sum'))

    assert "model nobody:knows" in written.flowcraft("graph", "notes.yaml").out


def test_no_file_and_no_run_are_nothing_to_draw(written):
    ended = written.flowcraft("graph")

    assert ended.code == 2
    assert "name a workflow file" in ended.err


def test_deep_unfolds_the_parts(written):
    assert "inner" not in written.flowcraft("graph", "notes.yaml").out
    assert "1 ● inner  prompt  Say ${{ inputs.x }}" in written.flowcraft("graph", "notes.yaml", "--deep").out


def test_a_run_is_drawn_with_what_became_of_its_stages(written):
    run = ran(written)

    ended = written.flowcraft("graph", "notes.yaml", "--run", run, "--deep")

    assert ended.code == 0
    assert ended.err == ""
    assert f"run {run} · done" in ended.out
    lines = ended.out.splitlines()
    assert next(line for line in lines if " sum " in line).startswith("2 ✓ sum    prompt  done · 2 elements · ")
    assert "· 2 calls ·" in next(line for line in lines if " sum " in line)
    assert "- again" in ended.out
    assert "when: inputs.often" in ended.out
    assert "✗ check" in ended.out
    assert "ValueError: too short" in ended.out
    assert "✓ inner" in ended.out


def test_a_run_is_found_by_the_beginning_of_its_id_and_drawn_without_a_file(written):
    run = ran(written)
    (written.path / "notes.yaml").unlink()
    (written.path / "part.yaml").unlink()

    ended = written.flowcraft("graph", "--run", run[:-1], "--format", "svg")

    assert ended.code == 0
    assert f"run {run} · done" in ended.out


def test_a_run_is_drawn_as_it_started_though_the_file_was_edited_since(written):
    run = ran(written)
    written.write("notes.yaml", WORKFLOW.replace("again:", "once_more:").replace("${{ again }}", "${{ once_more }}"))
    written.write("other.yaml", PART)

    edited = written.flowcraft("graph", "notes.yaml", "--run", run)
    other = written.flowcraft("graph", "other.yaml", "--run", run)

    assert "- again" in edited.out
    assert edited.err == f"notes.yaml was edited since run {run} began; what it started with is drawn\n"
    assert other.err == f"run {run} is of notes.yaml, not of other.yaml; what it started with is drawn\n"


def test_an_exported_run_is_drawn(written):
    run = ran(written)
    assert written.flowcraft("runs", "export", run, "-o", "kept.sqlite").code == 0

    ended = written.flowcraft("graph", "--run", "kept.sqlite", FLOWCRAFT_STORAGE="sqlite:///elsewhere.db")

    assert ended.code == 0
    assert f"run {run} · done" in ended.out


def test_a_run_that_there_is_not_is_told(written):
    ended = written.flowcraft("graph", "--run", "nothing")

    assert ended.code == 1
    assert "nothing" in ended.err
    assert "Traceback" not in ended.err


def test_a_terminal_without_frames_gets_ascii(written):
    ended = written.flowcraft("graph", "notes.yaml", PYTHONIOENCODING="ascii", PYTHONUTF8="0")

    assert ended.out.isascii()
    assert "1 * split" in ended.out


def test_the_library_draws_as_the_command_does(written, monkeypatch):
    from flowcraft.drawing import mermaid

    monkeypatch.chdir(written.path)
    run = ran(written)

    async def drawn():
        async with FlowCraft() as flow:
            return mermaid(flow.draw("notes.yaml")), flow.draw_run(run).summary

    text, summary = asyncio.run(drawn())

    assert text == written.flowcraft("graph", "notes.yaml", "--format", "mermaid").out
    assert summary == f"Workflow notes with 5 stages; run {run}: done (3 done, 1 skipped, 1 failed)"
