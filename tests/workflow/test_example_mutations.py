"""10,000 mutations of the examples: each is loaded, or refused at a place, within ten seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.no_cover]

ROOT = Path(__file__).parents[2]
COUNT = 10_000
CHUNK = 1250


@pytest.mark.parametrize("seed", range(0, COUNT, CHUNK))
def test_mutated_example_is_loaded_or_refused_with_a_place(seed):
    """In a process of its own, without coverage: that would take most of the time."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}

    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.mutations", "--count", str(CHUNK), "--seed", str(seed)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )

    sys.stdout.write(ended.stdout)  # median and worst time, for those who ask with -s
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{CHUNK:,} mutations from seed {seed}: " in ended.stdout
    assert " loaded; " in ended.stdout
    assert " refused" in ended.stdout
