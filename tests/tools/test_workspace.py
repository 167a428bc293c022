"""What the tools of a project folder do with its files and programs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowcraft.tools import Toolbox, Workspace
from flowcraft.tools.patches import hunks, patched, shown

pytestmark = pytest.mark.integration

APP = "def add(a, b):\n    return a - b\n\n\nprint(add(1, 2))\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text(APP, "utf-8")
    (tmp_path / "README.md").write_text("# A project\n\nIt adds.\n", "utf-8")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "add.js").write_text("add", "utf-8")
    return tmp_path


@pytest.fixture
def space(project: Path) -> Workspace:
    return Workspace(project)


def test_tools_say_what_they_do_to_the_world(project: Path) -> None:
    assert {tool.spec.name: tool.effect for tool in Workspace(project).tools()} == {
        "read_file": "read",
        "list_files": "read",
        "search": "read",
        "write_file": "write",
        "patch_file": "write",
    }
    tools = Workspace(project, commands=["git"]).tools()
    assert (tools[-1].spec.name, tools[-1].effect) == ("run_command", "external")
    assert tools[-1].spec.description.endswith("The programs: git.")
    assert len(Toolbox(*tools)) == 6


def test_file_is_read_whole_or_by_lines(space: Workspace, project: Path) -> None:
    assert space.read_file("src/app.py") == APP
    assert space.read_file("./src//app.py", first=2, last=2) == "    return a - b\n\n[lines 2 to 2 of 5]"
    with pytest.raises(ValueError, match="has 5 lines"):
        space.read_file("src/app.py", first=6)
    with pytest.raises(ValueError, match="count from 1"):
        space.read_file("src/app.py", first=0)
    (project / "long.txt").write_text("word\n" * 3_000, "utf-8")
    assert space.read_file("long.txt").endswith("[lines 1 to 2,000 of 3,000]")
    (project / "empty.txt").touch()
    assert space.read_file("empty.txt") == ""


@pytest.mark.parametrize(("data", "wrong"), [(b"\0PNG", "no text"), (b"\xff\xfe", "UTF-8"), (b"x" * 2_000_001, "too large")])
def test_what_is_no_text_or_too_large_is_refused(space: Workspace, project: Path, data: bytes, wrong: str) -> None:
    (project / "data").write_bytes(data)
    with pytest.raises(ValueError, match=wrong):
        space.read_file("data")
    with pytest.raises(ValueError, match=wrong):
        space.write_file("data", "changed")
    assert (project / "data").read_bytes() == data


def test_files_are_listed_by_pattern_without_big_folders(space: Workspace) -> None:
    assert space.list_files() == ["README.md", "src/app.py"]
    assert space.list_files("**/*.py") == space.list_files("src/*") == ["src/app.py"]
    assert space.list_files("*.py") == []
    assert space.list_files("**/*" + "a*" * 100) == []


def test_folder_stands_for_all_that_lies_in_it(space: Workspace, project: Path) -> None:
    for pattern in ("src", "src/", "./src", "src/**", "src/app.py"):
        assert space.list_files(pattern) == ["src/app.py"]
        assert space.search("print", pattern=pattern) == ["src/app.py:5: print(add(1, 2))"]
    assert space.list_files(".") == space.list_files("./") == ["README.md", "src/app.py"]
    (project / "[id].py").write_text("x", "utf-8")
    assert space.list_files("[id].py") == ["[id].py"]


def test_what_is_cut_is_said(space: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowcraft.tools.workspace.MOST_NAMES", 2)
    assert space.list_files() == ["README.md", "src/app.py"]
    (project / "z.txt").write_text("add", "utf-8")
    assert space.list_files()[2:] == ["[more than 2 files; choose a narrower pattern]"]
    for number in range(4):
        (project / "empty" / str(number)).mkdir(parents=True)
    monkeypatch.setattr("flowcraft.tools.workspace.MOST_WALKED", 8)
    assert space.list_files("**/*.py")[-1] == "[not all files were looked at; choose a narrower pattern]"
    assert space.search("add")[-1] == "[not all files were looked at; choose a narrower pattern]"
    monkeypatch.setattr("flowcraft.tools.workspace.SEARCH_SECONDS", -1.0)
    assert space.search("add", pattern="*.none") == ["[not all files were looked at; choose a narrower pattern]"]


def test_text_far_into_a_long_line_is_found_and_shown(space: Workspace, project: Path) -> None:
    (project / "page.js").write_text("x" * 50_000 + "needle" + "y" * 50_000, "utf-8")
    (found,) = space.search("needle")
    assert found == f"page.js:1: {'x' * 100}needle{'y' * 194}"
    assert space.search("needle$|needley", regex=True) == []  # a pattern might take for ever in a line of any length


def test_search_names_path_and_line(space: Workspace) -> None:
    assert space.search("add(") == ["src/app.py:1: def add(a, b):", "src/app.py:5: print(add(1, 2))"]
    assert space.search(r"^def \w+", regex=True) == ["src/app.py:1: def add(a, b):"]
    assert space.search("ADD", ignore_case=True, pattern="*.md") == ["README.md:3: It adds."]
    assert space.search("nowhere") == []


def test_search_that_may_take_for_ever_is_refused(space: Workspace, project: Path) -> None:
    (project / "trap.txt").write_text("a" * 900 + "!\n", "utf-8")
    for pattern in ("(a+)+$", "(a|a)*$", "a{0,2}" * 20 + "b", ".{0,20}" * 8 + "x", "(", "x" * 1_001):
        with pytest.raises(ValueError, match=r"for ever|no regular expression|at most"):
            space.search(pattern, regex=True)
    with pytest.raises(ValueError, match="one line"):
        space.search("a\nb")


def test_search_ends_at_its_limit(space: Workspace, project: Path) -> None:
    (project / "many.txt").write_text("word\n" * 300, "utf-8")
    found = space.search("word")
    assert len(found) == 201
    assert "narrower" in found[-1]


def test_file_is_written_with_its_folders_and_shown(space: Workspace, project: Path) -> None:
    told = space.write_file("a/b/new.txt", "one\ntwo")
    assert (project / "a" / "b" / "new.txt").read_text("utf-8") == "one\ntwo"
    assert "--- /dev/null\n+++ b/a/b/new.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n\\ No newline" in told
    assert "nothing was changed" in space.write_file("a/b/new.txt", "one\ntwo")
    assert space.diff.count("--- ") == 1


def test_passage_is_replaced_where_it_stands_once(space: Workspace, project: Path) -> None:
    told = space.patch_file("src/app.py", old="a - b", new="a + b")
    assert "-    return a - b\n+    return a + b\n" in told
    assert (project / "src" / "app.py").read_text("utf-8") == APP.replace("-", "+")
    for old, wrong in (("a - b", "does not stand"), ("add", "2 times"), ("", "either")):
        with pytest.raises(ValueError, match=wrong):
            space.patch_file("src/app.py", old=old, new="x")
    with pytest.raises(ValueError, match="either"):
        space.patch_file("src/app.py", old="a", new="b", diff="@@")


def test_passage_that_stands_there_twice_over_itself_is_refused(space: Workspace, project: Path) -> None:
    (project / "gap.txt").write_text("a\n\n\nb\n", "utf-8")
    with pytest.raises(ValueError, match="stands there 2 times"):
        space.patch_file("gap.txt", old="\n\n", new="\n")


def test_changes_at_once_are_all_made(space: Workspace, project: Path) -> None:
    lines = [f"line {number}\n" for number in range(16)]
    (project / "lines.txt").write_text("".join(lines), "utf-8")
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda line: space.patch_file("lines.txt", line, line.upper()), lines))
    assert space.read_file("lines.txt") == "".join(lines).upper()


def test_no_line_is_lost_where_a_file_is_read_in_parts(space: Workspace, project: Path) -> None:
    text = "".join(f"{number:04}{'w' * 76}\n" for number in range(1_100))
    (project / "wide.txt").write_text(text, "utf-8")
    part = space.read_file("wide.txt")
    last = int(part.rpartition("to ")[2].partition(" of")[0])
    rest = space.read_file("wide.txt", first=last + 1)
    assert part.rpartition("\n[")[0] + rest.rpartition("\n[")[0] == text
    (project / "one.txt").write_text("y" * 70_000 + "\nz\n", "utf-8")
    assert space.read_file("one.txt").endswith("y\n[line 1 of 2, its first 60,000 characters of 70,001]")


def test_folders_in_folders_and_long_patterns_end_no_list(space: Workspace, project: Path) -> None:
    here = os.open(project, os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    assert space.list_files("**/*.md") == ["README.md"]
    assert space.list_files("**/" * 330 + "*.md") == ["README.md"]
    assert space.search("adds", pattern="**/" * 330 + "*.md") == ["README.md:3: It adds."]
    subprocess.run(["rm", "-rf", str(project / "d")], check=True)  # pytest's own way down is not that deep


def test_unified_diff_is_carried_out_or_refused_as_a_whole(space: Workspace, project: Path) -> None:
    diff = "--- a/src/app.py\n+++ b/src/app.py\n@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n"
    space.patch_file("src/app.py", diff=diff)
    assert (project / "src" / "app.py").read_text("utf-8") == APP.replace("-", "+")
    with pytest.raises(ValueError, match="does not fit"):
        space.patch_file("src/app.py", diff=diff)
    two = "@@ -5 +5 @@\n-print(add(1, 2))\n+print(add(2, 2))\n@@ -9 +9 @@\n-x\n+y\n"
    with pytest.raises(ValueError, match="line 9 does not fit"):
        space.patch_file("src/app.py", diff=two)
    with pytest.raises(ValueError, match="line 9 does not fit"):
        space.patch_file("src/app.py", diff="@@ -9,0 +10 @@\n+beyond the end\n")
    assert "add(1, 2)" in space.read_file("src/app.py")


@pytest.mark.parametrize(
    ("diff", "wrong"),
    [
        ("nothing", "no hunk"),
        ("@@ -1,2 +1,1 @@\n a\n", "not as many lines"),
        ("@@ -1 +1 @@\n*a\n", "begins with none"),
        ("--- a/x\n+++ b/x\n--- a/y\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n", "one file"),
        ("@@ -1 +1 @@\n-a\n+b\nmore\n", "belongs to no hunk"),
        ("@@ -1 +1 @@\n\\ No newline at end of file\n-a\n+b\n", "of no line"),
    ],
)
def test_what_is_no_diff_is_refused(diff: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        hunks(diff)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\nb\nc\n", "a\nB\nc\n"),
        ("", "new\n"),
        ("a\n", ""),
        ("a\nb", "a\nb\n"),
        ("a\nb\n", "a\nb"),
        ("a\x0cb\n", "c\x0cd\u2028\n"),
        ("".join(f"{line}\n" for line in range(90)), "".join(f"{line % 80}\n" for line in range(91))),
        ("a\n" * 40, "a\n" * 41),
        ("b\n" * 6_000, "a\n" * 5 + "c\n" * 6_000),
        ("a\n" * 5 + "b\n" * 6_000 + "a\n" * 5, "a\n" * 5 + "c\n" * 6_000 + "a\n" * 6),
    ],
)
def test_what_is_shown_can_be_carried_out(before: str, after: str) -> None:
    assert patched(before, shown("x", before, after)) == after


def test_diff_of_git_can_be_carried_out(tmp_path: Path) -> None:
    before = "".join(f"line {number}\n" for number in range(60))
    after = before.replace("line 3\n", "line three\n").replace("line 50\n", "").replace("line 59\n", "the end")
    for name, text in (("a", before), ("b", after)):
        (tmp_path / name).write_text(text, "utf-8")
    made = subprocess.run(["git", "diff", "--no-index", "a", "b"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert patched(before, made.stdout) == after


def test_mode_and_line_ends_are_kept(space: Workspace, project: Path) -> None:
    script = project / "run.sh"
    script.write_bytes(b"#!/bin/sh\r\necho one\r\n")
    script.chmod(0o755)
    space.patch_file("run.sh", old="echo one\n", new="echo one\necho two\n")
    assert script.read_bytes() == b"#!/bin/sh\r\necho one\r\necho two\r\n"
    space.write_file("run.sh", "echo\n")
    assert script.read_bytes() == b"echo\r\n"
    assert script.stat().st_mode & 0o777 == 0o755
    mixed = project / "mixed.txt"
    mixed.write_bytes(b"one\r\ntwo\n")
    space.patch_file("mixed.txt", old="two", new="three")
    assert mixed.read_bytes() == b"one\r\nthree\n"


def test_write_that_fails_leaves_the_file_as_it_was(space: Workspace, project: Path) -> None:
    for content, wrong in (("a\0b", "NUL"), ("\ud800", "half a character"), ("x" * 2_000_001, "too many")):
        with pytest.raises(ValueError, match=wrong):
            space.write_file("src/app.py", content)
    assert (project / "src" / "app.py").read_text("utf-8") == APP
    assert [path.name for path in (project / "src").iterdir()] == ["app.py"]
    assert space.diff == ""


def test_dry_workspace_shows_and_changes_nothing(project: Path) -> None:
    space = Workspace(project, commands=["git"], dry=True)
    told = space.write_file("new/file.txt", "text\n")
    assert "nothing was written" in told
    assert "+text\n" in told
    assert "-    return a - b" in space.patch_file("src/app.py", old="a - b", new="a + b")
    assert asyncio.run(space.run_command(["git", "init"]))["dry"] is True
    assert sorted(path.name for path in project.rglob("*")) == ["README.md", "add.js", "app.py", "node_modules", "src"]
    assert (project / "src" / "app.py").read_text("utf-8") == APP
    assert space.diff.count("+++ ") == 2
    with pytest.raises(ValueError, match="none of the programs"):
        asyncio.run(space.run_command(["rm", "src/app.py"]))


@pytest.mark.parametrize("dry", [False, True])
def test_what_is_too_large_to_write_is_refused_in_a_dry_workspace_too(project: Path, dry: bool) -> None:
    space = Workspace(project, dry=dry)
    with pytest.raises(ValueError, match="too many for a file"):
        space.write_file("new.txt", "x" * 2_000_001)
    assert space.diff == ""
    assert not (project / "new.txt").exists()


def test_command_tells_how_it_ended(project: Path) -> None:
    python = sys.executable
    space = Workspace(project, commands=[python, "cat"])
    name = Path(python).name
    told = asyncio.run(space.run_command([name, "-c", "import sys; print(1); print(2, file=sys.stderr); sys.exit(3)"]))
    assert told == {"exit_code": 3, "stdout": "1\n", "stderr": "2\n"}
    assert asyncio.run(space.run_command(["cat", "README.md"]))["stdout"] == "# A project\n\nIt adds.\n"


def test_command_is_bounded_in_time_and_output(project: Path) -> None:
    space = Workspace(project, commands=["sleep", "yes"], command_seconds=0.2)
    with pytest.raises(ValueError, match=r"longer than 0\.2 s"):
        asyncio.run(space.run_command(["sleep", "1000"]))
    told = asyncio.run(Workspace(project, commands=["yes"]).run_command(["yes"]))
    assert "too much" in str(told["note"])
    assert len(str(told["stdout"])) <= 200_000


DAEMON = """
import os, sys, time
if os.fork():
    while not os.path.exists("daemon"): time.sleep(0.01)
    time.sleep(float(sys.argv[1]))
    os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
out = os.open(os.devnull, os.O_RDWR)
for place in range(3): os.dup2(out, place)
with open("new", "w") as file: file.write(str(os.getpid()))
os.rename("new", "daemon")
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone tells who has which environment")
@pytest.mark.parametrize(("seconds", "limit"), [("0", 60.0), ("600", 2.0)])
def test_daemon_that_a_command_starts_ends_with_it(project: Path, seconds: str, limit: float) -> None:
    (project / "daemon.py").write_text(DAEMON, "utf-8")
    space = Workspace(project, commands=[sys.executable], command_seconds=limit)
    command = space.run_command([Path(sys.executable).name, "daemon.py", seconds])
    if seconds == "0":
        assert asyncio.run(command)["exit_code"] == 0
    else:
        with pytest.raises(ValueError, match="longer than"):
            asyncio.run(command)
    assert ended(int((project / "daemon").read_text("utf-8")))


def ended(number: int) -> bool:
    """Say whether a process has ended, or does within a moment; one that has not is killed here."""
    status = Path("/proc", str(number), "status")
    for _ in range(500):
        if not status.exists() or "State:\tZ" in status.read_text("utf-8"):
            return True
        time.sleep(0.01)
    os.kill(number, signal.SIGKILL)
    return False


def test_bare_repository_that_a_model_writes_is_none_for_git(project: Path) -> None:
    """Its settings would name programs that git starts."""
    space = Workspace(project, commands=["git"])
    files = {"HEAD": "ref: refs/heads/main\n", "config": "[core]\nbare = true\nfsmonitor = touch started\n"}
    for name, text in {**files, "objects/x": "", "refs/x": ""}.items():
        space.write_file(name, text or "x")
    told = asyncio.run(space.run_command(["git", "rev-parse", "--is-bare-repository"]))
    assert (told["exit_code"], "cannot use bare repository" in str(told["stderr"])) == (128, True)
