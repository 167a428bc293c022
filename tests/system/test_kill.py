"""A run that is killed (-9) at any moment is brought to its end by ``runs resume``, and repeats nothing that was saved."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.usefixtures("forked")]

MARKS = 58
"""So many marks do functions leave."""

MOMENTS = sorted({*range(1, 55, 2), 4, 20, 40})
"""After so many of the marks the process is killed: 30 moments from the first to nearly the last."""


def kill_after(folder, process, marks):
    """Kill ``process`` as soon as functions have left ``marks`` marks; say whether it was still running."""
    folder.wait_for(lambda: len(folder.lines()) >= marks or process.poll() is not None)
    running = process.poll() is None
    folder.kill(process)
    return running


def resume(folder, run):
    ended = folder.flowcraft("runs", "resume", run, "--json")
    assert ended.code == 0, ended.err
    assert "waiting" not in ended.err
    return ended.json


@pytest.mark.parametrize("marks", MOMENTS)
def test_run_killed_at_a_moment_ends_the_same_and_repeats_nothing_saved(twelve, unbroken, marks):
    process = twelve.start("run", "twelve.yaml", "--json", HELD_AT=str(MARKS))
    assert kill_after(twelve, process, marks), "the process had ended before the moment came"
    (run,) = twelve.runs()
    saved, before = twelve.saved(run), twelve.starts()

    document = resume(twelve, run)

    after = twelve.starts()
    assert document["state"] == "done"
    assert document["outputs"] == unbroken
    for name, count in after.items():
        assert count <= before[name] + 1, name
        if name in saved:
            assert count == before[name], f"{name} was saved and started again"
    assert not [name for name in saved if name not in after and name != "f"]


def test_run_killed_again_and_again_ends_the_same(twelve, unbroken):
    kills = 0
    marks = 5
    process = twelve.start("run", "twelve.yaml", "--json", HELD_AT=str(marks + 4))
    while kill_after(twelve, process, marks) and kills < 50:
        kills += 1
        (run,) = twelve.runs()
        marks = len(twelve.lines()) + 14
        process = twelve.start("runs", "resume", run, "--json", HELD_AT=str(marks + 4))
    (run,) = twelve.runs()

    ended = twelve.flowcraft("runs", "show", run, "--json")

    assert kills >= 3
    assert ended.json["state"] == "done"
    assert ended.json["outputs"] == unbroken
    assert max(twelve.starts().values()) <= kills + 1
