"""A list of 10,000 elements, 64 at a time: little memory, and a person sees how far it is."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow]

ELEMENTS = 10_000
MEGABYTES = 300
LIST = """
flowcraft: 1
stages:
  numbers: {run: "long:numbers", with: {count: COUNT}}
  answers: {each: numbers, parallel: 64, BODY}
outputs: {first: "${{ answers[0] }}", last: "${{ answers[-1] }}"}
"""
LONG = """
def numbers(count: int) -> list[int]:
    return list(range(count))

def answer(number: int) -> str:
    return f"Number {number} is a number. " + "x" * 2000
"""
BODIES = {
    "run": 'run: "long:answer", with: {number: "${{ item }}"}',
    "prompt": 'prompt: "Number ${{ item }} is a number."',
}


def watched(folder, *words):
    """Run in a terminal; return the exit code, what the terminal was sent, and the most memory in MB."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in folder.env.items() if not name.startswith("COVERAGE")}
    env |= {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-m", "flowcraft", *words]
    process = subprocess.Popen(command, cwd=folder.path, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    told, most = [], 0.0
    while part := _read(ours):
        told.append(part)
        most = max(most, _peak(process.pid))
    os.close(ours)
    return process.wait(), b"".join(told).decode(), most


def _peak(process):
    """Return the largest resident size so far in MB; what ``wait4`` tells counts the process too that it was forked from."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when the other end is closed
        return b""


@pytest.mark.parametrize("body", BODIES)
def test_ten_thousand_elements_take_little_memory_and_are_counted_while_they_run(folder, body):
    folder.write("long.py", LONG)
    folder.write("long.yaml", LIST.replace("COUNT", str(ELEMENTS)).replace("BODY", BODIES[body]))

    code, told, megabytes = watched(folder, "run", "long.yaml", "--model", "offline")

    assert code == 0, told
    assert f"done ({ELEMENTS})" in told
    counts = [int(count) for count in re.findall(rf"(\d+)/{ELEMENTS}\b", told)]
    assert len(set(counts)) >= 5, "the view did not count the elements"
    assert counts == sorted(counts)
    assert "last: Number 9999 is a number." in told
    assert 30 < megabytes < MEGABYTES
