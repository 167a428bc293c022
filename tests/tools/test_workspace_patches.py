"""Patches that models write: where they go, what a model is told where they do not fit, and diffs that git can carry out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flowcraft.tools import Workspace
from flowcraft.tools.patches import patched

pytestmark = pytest.mark.integration

APP = "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n\n\ndef mul(a, b):\n    return a * b\n"


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "app.py").write_text(APP, "utf-8")
    return Workspace(tmp_path / "project")


def refusal(space: Workspace, **change: str) -> str:
    with pytest.raises(ValueError, match=r"\w") as raised:
        space.patch_file("app.py", **change)
    assert space.read_file("app.py") == APP
    assert space.diff == ""
    return str(raised.value)


def test_hunk_with_a_wrong_line_goes_where_its_lines_stand(space: Workspace) -> None:
    sub = "@@ -1,3 +1,3 @@\n def sub(a, b):\n-    return a - b\n+    return b - a\n \n"
    space.patch_file("app.py", diff=f"{sub}@@ -2,2 +2,2 @@\n def mul(a, b):\n-    return a * b\n+    return b * a\n")
    assert space.read_file("app.py") == APP.replace("a - b", "b - a").replace("a * b", "b * a")


def test_hunk_that_could_go_to_several_places_is_refused(space: Workspace) -> None:
    told = refusal(space, diff="@@ -1,2 +1,1 @@\n \n-\n")
    assert "several other places" in told


@pytest.mark.parametrize(
    "diff", ["@@ -1 +1 @@\n-    return a\n+    return b\n", "@@ -1 +1 @@\n-    return a\n\\ No newline\n+x\n"]
)
def test_hunk_fits_whole_lines_alone(space: Workspace, diff: str) -> None:
    assert "does not fit" in refusal(space, diff=diff)


def test_last_line_without_an_end_is_found(tmp_path: Path) -> None:
    diff = "@@ -1 +1 @@\n-b\n\\ No newline at end of file\n+c\n"
    assert patched("b\nbb\na\nb", diff) == "b\nbb\na\nc\n"


def test_hunks_go_forward(space: Workspace) -> None:
    diff = "@@ -9 +9 @@\n-def mul(a, b):\n+def mul(x, y):\n@@ -1 +1 @@\n-def add(a, b):\n+def add(x, y):\n"
    assert "line 1 does not fit" in refusal(space, diff=diff)


def test_model_is_shown_what_nearly_fits(space: Workspace) -> None:
    other_space = refusal(space, old="def sub(a, b):\n  return a - b", new="x")
    assert (
        "does not stand in the file. It does with other white space:\n[lines 5 to 6]\ndef sub(a, b):\n    return a - b"
        in other_space
    )
    one_of_two = refusal(space, old="def sub(a, b):\n    return a - c\n", new="x")
    assert "The nearest is this:\n[lines 5 to 6]\ndef sub(a, b):\n    return a - b" in one_of_two
    alike = refusal(space, old="def mull(a, b) -> int:", new="x")
    assert "The nearest is this:\n[lines 9 to 9]\ndef mul(a, b):" in alike
    assert refusal(space, old="completely different words", new="x").endswith("in the file. Read it again")
    assert "[lines 5 to 6]" in refusal(space, diff="@@ -5,2 +5,1 @@\n def sub(a, b):\n-    return a - c\n")


def test_model_is_told_of_what_may_be_done_already(space: Workspace) -> None:
    assert "stands at line 6 already" in refusal(space, old="return b - a", new="return a - b")
    assert "stands at line 6 already" in refusal(space, diff="@@ -6 +6 @@\n-    return b - a\n+    return a - b\n")


def test_model_is_told_of_line_ends_that_it_wrote_out(space: Workspace) -> None:
    assert "'\\n' written out" in refusal(space, old="def sub(a, b):\\n    return a - b", new="x")


def test_model_is_told_where_a_passage_stands_twice(space: Workspace) -> None:
    assert "3 times (lines 1 and 5)" in refusal(space, old="(a, b)", new="x")


def test_long_passages_are_looked_for_in_time(space: Workspace, tmp_path: Path) -> None:
    lines = "".join(f"a line of words and the number {number}\n" for number in range(30_000))
    (tmp_path / "project" / "long.txt").write_text(lines, "utf-8")
    for old in (lines.replace("words", "word"), lines[:100_000].replace("words", "word"), "x" * 100_000, "\n" * 90_000 + "x"):
        with pytest.raises(ValueError, match="does not stand") as raised:
            space.patch_file("long.txt", old=old, new="y")
        assert len(str(raised.value)) < 2_000


@pytest.mark.parametrize(
    ("heads", "wrong"),
    [
        ("--- a/other.py\n+++ b/other.py\n", "of 'a/other.py', not of 'app.py'"),
        ("--- a/app.py\n+++ b/src/other.py\n", "of 'b/src/other.py'"),
        ("--- a/app.py\n+++ /dev/null\n", "none is removed"),
        ("--- /dev/null\n+++ b/app.py\n", "a new one is written as a whole"),
        ("rename from app.py\nrename to other.py\n", "not its name"),
        ("old mode 100644\nnew mode 100755\n", "not its name or mode"),
        ("deleted file mode 100644\n", "not its name"),
        ("GIT binary patch\n", "no binary"),
    ],
)
def test_diff_that_asks_for_more_than_other_lines_is_refused(space: Workspace, heads: str, wrong: str) -> None:
    assert wrong in refusal(space, diff=f"{heads}@@ -6 +6 @@\n-    return a - b\n+    return b - a\n")


@pytest.mark.parametrize("name", ["app.py", "b/app.py", "./app.py", "b/project/app.py", '"b/app.py"', "b/app.py\t2026-01-01"])
def test_name_of_the_file_may_be_written_in_other_ways(space: Workspace, name: str) -> None:
    space.patch_file("app.py", diff=f"--- {name}\n+++ {name}\n@@ -6 +6 @@\n-    return a - b\n+    return b - a\n")
    assert "b - a" in space.read_file("app.py")


def test_byte_order_mark_and_odd_line_ends_stay(space: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "project" / "mark.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\r\n")
    assert space.read_file("mark.txt") == "one\r\ntwo\r\r\n"
    assert space.search("^one", regex=True) == ["mark.txt:1: one"]
    space.patch_file("mark.txt", diff="@@ -1 +1 @@\n-one\n+three\n")
    assert file.read_bytes() == b"\xef\xbb\xbfthree\r\ntwo\r\r\n"
    for content in ("four\n", "\ufefffive\n"):
        space.write_file("mark.txt", content)
        assert file.read_bytes() == b"\xef\xbb\xbf" + content.strip("\n\ufeff").encode() + b"\r\n"
    file.write_bytes(b"one\r\ntwo\r\nthree\n")
    space.patch_file("mark.txt", old="one\ntwo\n", new="1\n2\n")
    assert file.read_bytes() == b"1\r\n2\r\nthree\n"


@pytest.mark.parametrize("dry", [False, True])
def test_git_carries_out_what_is_shown(tmp_path: Path, dry: bool) -> None:
    project, copy = tmp_path / "project", tmp_path / "copy"
    project.mkdir()
    before = {"app.py": APP.encode(), "mark.txt": b"\xef\xbb\xbfone\r\ntwo", "emptied": b"x\n", "a file": b"x"}
    for name, data in before.items():
        (project / name).write_bytes(data)
    shutil.copytree(project, copy)
    space = Workspace(project, dry=dry)
    space.patch_file("app.py", old="a - b", new="b - a")
    space.patch_file("mark.txt", old="one", new="1")
    written = {"emptied": "", "a file": "y", "new/empty": "", "new/b c.txt": "1\n2", "\u00e4.txt": "\u00e4\n"}
    for name, content in written.items():
        space.write_file(name, content)
    subprocess.run(["git", "apply", "-"], cwd=copy, input=space.diff.encode(), check=True)
    after = {"app.py": APP.replace("a - b", "b - a").encode(), "mark.txt": b"\xef\xbb\xbf1\r\ntwo"}
    after |= {name: content.encode() for name, content in written.items()}
    assert (contents(copy), contents(project)) == (after, before if dry else after)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
