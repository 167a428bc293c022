"""The command line as a user runs it: real processes in a folder of their own, without any key."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def run(self) -> str:
        """The id of the run that the command's last lines name."""
        lines = [line for line in self.err.splitlines() if line.startswith("run ")]
        return lines[-1].split()[1]


FORKED = """
import os, runpy, sys

os.chdir(folder)
os.environ.clear()
os.environ.update(env)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for target, file in ((1, out), (2, err)):
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), target)
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(encoding=env.get("PYTHONIOENCODING", "utf-8"))
places = [place for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
sys.path[:0] = [folder, *places]
for file in (os.path.join(place, "sitecustomize.py") for place in places):
    if os.path.exists(file):
        runpy.run_path(file)

from flowcraft.cli.app import run
if any(name.startswith("COVERAGE") for name in env):
    import coverage
    measured = coverage.process_startup()
    try:
        run(arguments)
    finally:
        measured.stop()
        measured.save()
run(arguments)
"""
LOADED = [
    "aiohttp",
    "coverage",
    "flowcraft.app.comparing.differences",
    "flowcraft.app.drawings",
    "flowcraft.app.forecasts",
    "flowcraft.app.forks",
    "flowcraft.app.recordings",
    "flowcraft.app.runs",
    "flowcraft.builtin.bodies",
    "flowcraft.cli.app",
    "flowcraft.cli.diff",
    "flowcraft.cli.graph",
    "flowcraft.cli.runs",
    "flowcraft.engine.bodies.prompt",
    "flowcraft.engine.bodies.run",
    "flowcraft.storage.database",
    "flowcraft_openai.provider",
    "openai._client",
]


class Forked:
    """The command line in a process of its own that begins with its modules loaded: a copy of one that did nothing else.

    It is used as one of ``subprocess`` is.
    """

    def __init__(self, folder: Path, arguments: tuple[str, ...], env: dict[str, str], number: int) -> None:
        beside = folder.with_name(f"{folder.name}-told")
        beside.mkdir(exist_ok=True)
        self._told = [beside / f"{number}.{name}" for name in ("out", "err")]
        out, err = map(str, self._told)
        given = {"folder": str(folder), "arguments": list(arguments), "env": env, "out": out, "err": err}
        self._process = self._context().Process(target=exec, args=(FORKED, given))
        self._process.start()

    @staticmethod
    def _context() -> Any:
        """What processes are copied from; it is not measured itself, or each of them would be."""
        measured = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE")}
        try:
            multiprocessing.set_forkserver_preload(LOADED)
            multiprocessing.forkserver.ensure_running()
        finally:
            os.environ.update(measured)
        return multiprocessing.get_context("forkserver")

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, sign: int) -> None:
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(self._process.pid, sign)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._process.join(timeout)
        assert self._process.exitcode is not None, "the process has not ended in time"
        out, err = (file.read_text("utf-8") if file.exists() else "" for file in self._told)
        return out, err


class Folder:
    """A working folder with a database of its own, and the processes started in it."""

    forks: ClassVar[bool] = False
    """Whether processes that are started begin with the modules of the command line loaded."""

    cold: ClassVar[bool] = False
    """Whether commands that are waited for begin without, too, as a user's do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "flowcraft.db"
        self.log = path / "log.txt"
        self.env = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._started: list[Any] = []

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, **env: str) -> Any:
        if self.forks:
            return self.fork(*arguments, **env)
        process = subprocess.Popen(
            [sys.executable, "-m", "flowcraft", *arguments],
            cwd=self.path,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        self._started.append(process)
        return process

    def fork(self, *arguments: str, **env: str) -> Forked:
        process = Forked(self.path, arguments, {**self.env, **env}, len(self._started))
        self._started.append(process)
        return process

    def finish(self, process: Any, timeout: float = 120) -> Ended:
        out, err = process.communicate(timeout=timeout)
        return Ended(process.returncode, out, err)

    def flowcraft(self, *arguments: str, **env: str) -> Ended:
        """Carry a command out, in a process of its own that begins loaded: loading takes ten times as long as most of them."""
        return self.finish((self.start if self.cold else self.fork)(*arguments, **env))

    def lines(self) -> list[str]:
        """The side effects so far: what functions wrote, a line each."""
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    def starts(self) -> Counter[str]:
        return Counter(line.split()[1] for line in self.lines() if line.startswith("start "))

    def wait_for(self, condition: Callable[[], bool], process: Any = None, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if process is not None and process.poll() is not None:
                raise AssertionError(f"the process ended with {process.returncode}: {self.finish(process)}")
            if time.monotonic() > until:
                raise AssertionError("what was waited for did not happen")
            time.sleep(0.001)

    def kill(self, process: Any) -> None:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def runs(self) -> list[str]:
        with sqlite3.connect(self.database) as connection:
            made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
            return [row[0] for row in connection.execute("SELECT id FROM runs ORDER BY created")] if made else []

    def saved(self, run: str) -> set[str]:
        """The paths whose pieces are recorded as done."""
        with sqlite3.connect(self.database) as connection:
            rows = connection.execute("SELECT path FROM pieces WHERE run = ? AND state = 'done'", (run,))
            return {row[0] for row in rows}

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes begin with their modules loaded, and unmeasured: for tests that kill so many that loading takes longest.

    A process that is killed writes no coverage.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Folder, "forks", True)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands begin as a user's do, with nothing loaded."""
    monkeypatch.setattr(Folder, "cold", True)


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Folder]:
    made = Folder(tmp_path)
    if request.node.get_closest_marker("no_cover"):
        made.env = {name: value for name, value in made.env.items() if not name.startswith("COVERAGE")}
    yield made
    made.end()


STEPS = """
import os, pathlib, time

LOG = pathlib.Path(__file__).with_name("log.txt")

def note(word, name):
    handle = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{word} {name} {os.getpid()}\\n".encode())
    os.close(handle)
    if "HELD_AT" in os.environ and LOG.read_bytes().count(b"\\n") >= int(os.environ["HELD_AT"]):
        time.sleep(600)  # until it is killed

def work(name, seconds=0.02, value=None):
    note("start", name)
    time.sleep(seconds)
    note("end", name)
    return value if value is not None else f"<{name}>"

def numbers(count):
    note("start", "numbers")
    return list(range(count))

def join(parts):
    note("start", "join")
    return "+".join(str(part) for part in parts)
"""


@pytest.fixture(scope="session")
def steps() -> str:
    """Functions that leave a mark when they start, and another when they end.

    With ``HELD_AT`` in the environment none returns from that mark on: who is to be killed before does not end before, however
    late the one who kills comes to it.
    """
    return STEPS


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Folder]:
    """Makes folders beyond that of the test."""
    return lambda name: Folder(tmp_path_factory.mktemp(name))


TWELVE = """
flowcraft: 1
inputs: {count: integer = 20}
stages:
  numbers: {run: "steps:numbers", with: {count: "${{ inputs.count }}"}, output: "[integer]"}
  a: {run: "steps:work", with: {name: a}}
  b: {run: "steps:work", with: {name: b, value: "${{ a }}b"}}
  c: {run: "steps:work", with: {name: c, value: "${{ a }}c"}}
  items:
    each: numbers
    parallel: 4
    run: steps:work
    with: {name: "items[${{ index }}]", value: "item ${{ item }} of ${{ b }}"}
  d: {run: "steps:work", with: {name: d, value: "${{ b }}${{ c }}"}}
  e: {needs: [d], run: "steps:work", with: {name: e}}
  f: {when: "len(items) > 1000", run: "steps:work", with: {name: f}}
  g: {needs: [f], run: "steps:work", with: {name: g}}
  h: {run: "steps:work", with: {name: h, value: "${{ g }}${{ e }}"}}
  i: {run: "steps:work", with: {name: i, value: "${{ h }}${{ items[3] }}"}}
  join: {run: "steps:join", with: {parts: "${{ items }}"}}
outputs: {joined: "${{ join }}", last: "${{ i }}", d: "${{ d }}", skipped: "${{ f }}"}
"""


def with_twelve(folder: Folder) -> Folder:
    folder.write("steps.py", STEPS)
    folder.write("twelve.yaml", TWELVE)
    return folder


@pytest.fixture
def twelve(folder: Folder) -> Folder:
    """A workflow of twelve stages, one of them a list; every function leaves a mark when it starts."""
    return with_twelve(folder)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The outputs of a run of the twelve stages that nobody disturbed."""
    folder = with_twelve(Folder(tmp_path_factory.mktemp("unbroken")))
    ended = folder.flowcraft("run", "twelve.yaml", "--json")
    assert ended.code == 0, ended.err
    assert max(folder.starts().values()) == 1
    return ended.json["outputs"]
