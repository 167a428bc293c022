"""How files of a project folder are changed: whole or not at all, by several at once, with all that belongs to a file kept."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowcraft.tools import Workspace
from flowcraft.tools.folder import Folder

pytestmark = pytest.mark.integration

PATCHING = """
import sys
from flowcraft.tools import Workspace
space = Workspace(sys.argv[1])
for number in range(int(sys.argv[2]), 40, 2):
    space.patch_file("lines.txt", f"line {number}\\n", f"LINE {number}\\n")
"""


def test_two_workspaces_of_one_folder_lose_no_change(tmp_path: Path) -> None:
    lines = [f"line {number}\n" for number in range(40)]
    (tmp_path / "lines.txt").write_text("".join(lines), "utf-8")
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda line: Workspace(tmp_path).patch_file("lines.txt", line, line.upper()), lines))
    assert (tmp_path / "lines.txt").read_text("utf-8") == "".join(lines).upper()


def test_two_processes_lose_no_change(tmp_path: Path) -> None:
    lines = [f"line {number}\n" for number in range(40)]
    (tmp_path / "lines.txt").write_text("".join(lines), "utf-8")
    others = [subprocess.Popen([sys.executable, "-c", PATCHING, str(tmp_path), first]) for first in ("0", "1")]
    assert [other.wait() for other in others] == [0, 0]
    assert (tmp_path / "lines.txt").read_text("utf-8") == "".join(lines).upper()
    assert os.listdir(tmp_path) == ["lines.txt"]


WRITING = """
import sys
from flowcraft.tools import Workspace
space = Workspace(sys.argv[1])
for number in range(1_000_000):
    space.write_file("large.txt", "ab"[number % 2] * 1_500_000)
    print(flush=True)
"""


def test_file_is_old_or_new_wherever_its_writer_is_killed(tmp_path: Path) -> None:
    for number in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITING, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(number * 0.003)  # another moment each time
        writer.kill()
        writer.communicate()
        content = (tmp_path / "large.txt").read_text("utf-8")
        assert content in ("a" * 1_500_000, "b" * 1_500_000)
    Workspace(tmp_path).write_file("large.txt", "c")
    assert os.listdir(tmp_path) == ["large.txt"]


def test_another_file_is_not_put_in_the_place_of_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text("x = 1\n", "utf-8")
    real = os.fsync

    def other(descriptor: int) -> None:
        real(descriptor)
        (made,) = tmp_path.glob(".*")
        made.unlink()
        made.write_text("half", "utf-8")

    monkeypatch.setattr(os, "fsync", other)
    with pytest.raises(ValueError, match="written by others"):
        Workspace(tmp_path).write_file("app.py", "x = 2\n")
    assert (tmp_path / "app.py").read_text("utf-8") == "x = 1\n"


def test_change_waits_only_so_long_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft.tools.folder.LOCK_SECONDS", 0.0)
    space = Workspace(tmp_path)
    with Folder(tmp_path).changing(), pytest.raises(ValueError, match="others have been changing"):
        space.write_file("new.txt", "text")
    space.write_file("new.txt", "text")


@pytest.mark.parametrize("dry", [False, True])
def test_read_only_file_stays_as_it_is(tmp_path: Path, dry: bool) -> None:
    file = tmp_path / "kept.txt"
    file.write_text("one\n", "utf-8")
    file.chmod(0o444)
    space = Workspace(tmp_path, dry=dry)
    with pytest.raises(ValueError, match=r"'kept\.txt' is read-only"):
        space.write_file("kept.txt", "two\n")
    with pytest.raises(ValueError, match=r"'kept\.txt' is read-only"):
        space.patch_file("kept.txt", old="one", new="two")
    assert (file.read_text("utf-8"), space.diff) == ("one\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_owner_and_mode_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "run.sh"
    file.write_text("echo\n", "utf-8")
    os.chown(file, 12345, 23456)
    file.chmod(0o740)
    Workspace(tmp_path).write_file("run.sh", "echo one\n")
    status = file.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 23456, 0o740)


def test_what_the_system_refuses_is_told_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text("x = 1\n", "utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"'app\.py' cannot be written: No space left on device"):
        Workspace(tmp_path).write_file("app.py", "x = 2\n")
    assert (tmp_path / "app.py").read_text("utf-8") == "x = 1\n"
    assert os.listdir(tmp_path) == ["app.py"]


def test_file_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**12)
    monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: _Unreadable(descriptor))
    with pytest.raises(ValueError, match="too large"):
        Workspace(tmp_path).read_file("large")


class _Unreadable:
    """A file that fails where it is read."""

    def __init__(self, descriptor: int) -> None:
        self._file = open(descriptor, "rb", closefd=True)  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> _Unreadable:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()
