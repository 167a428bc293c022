"""Ways out of a project folder, each of them refused, with nothing read or written outside."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowcraft.tools import Workspace

pytestmark = pytest.mark.integration

SECRET = "the secret of another folder"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET, "utf-8")
    return folder


@pytest.fixture
def project(tmp_path: Path, outside: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / ".git" / "config").write_text("[remote]\nurl = https://user:token@host\n", "utf-8")
    (folder / "src" / "app.py").write_text("x = 1\n", "utf-8")
    (folder / "file").symlink_to(outside / "secret.txt")
    (folder / "folder").symlink_to(outside)
    (folder / "up").symlink_to("..")
    (folder / "dangling").symlink_to(outside / "new.txt")
    (folder / "chain").symlink_to("folder")
    (folder / "hard").hardlink_to(outside / "secret.txt")
    os.mkfifo(folder / "pipe")
    (folder / "script.sh").write_text("#!/bin/sh\ncat ../outside/secret.txt\n", "utf-8")
    (folder / "script.sh").chmod(0o755)
    return folder


PATHS = {
    "upwards": "../outside/secret.txt",
    "upwards from within": "src/../../outside/secret.txt",
    "upwards at the end": "src/..",
    "absolute": "/etc/passwd",
    "absolute by two slashes": "//etc/passwd",
    "home": "~/secret.txt",
    "home of another": "~root/.profile",
    "the root of a process": "/proc/self" + "/root" + "/etc/passwd",
    "the folder of a process": "/proc/self/cwd/../outside/secret.txt",
    "a device": "/dev/zero",
    "link to a file": "file",
    "link to a folder": "folder/secret.txt",
    "link to the folder above": "up/outside/secret.txt",
    "link to nothing yet": "dangling",
    "link to a link": "chain/secret.txt",
    "another name of a file outside": "hard",
    "a pipe": "pipe",
    "a NUL": "src/app.py\0.txt",
    "backslashes": "..\\outside\\secret.txt",
    "a drive": "C:/secret.txt",
    "a drive without a slash": "C:secret.txt",
    "full-width dots": "\uff0e\uff0e/outside/secret.txt",
    "a two dot leader": "\u2025/outside/secret.txt",
    "a full-width slash": "..\uff0foutside\uff0fsecret.txt",
    "a division slash": "..\u2215outside\u2215secret.txt",
    "an invisible letter": ".\u200b./outside/secret.txt",
    "a turned direction": "src/\u202eyp.ppa",
    "a newline": "src/\n../app.py",
    "hooks": ".git/hooks/pre-commit",
    "settings of git": ".git/config",
    "git in capitals": ".GIT/hooks/pre-commit",
    "git below": "src/.git/config",
    "git with a dot behind": ".git./config",
    "git with a space behind": ".git /config",
    "git by its short name": "GIT~1/config",
    "git by a stream": ".git::$INDEX_ALLOCATION/config",
    "git with an invisible letter": ".g\u200cit/config",
    "git in full width": ".\uff47\uff49\uff54/config",
    "three dots": ".../secret.txt",
    "the folder itself": ".",
    "nothing": "",
    "too long": "a/" * 600 + "b",
    "a name that is too long": "new/" + "\u00e9" * 128,
    "a variable": "$HOME/secret.txt",
    "a variable in braces": "${PWD}/../outside/secret.txt",
    "a variable of another system": "%USERPROFILE%/secret.txt",
    "an address": "file:///etc/passwd",
    "an address in capitals": "FILE:secret.txt",
    "settings of jj": ".jj/repo/config.toml",
    "settings of darcs": "_darcs/prefs/defaults",
}

ARGUMENTS = {
    "an absolute path": ["cat", "/etc/passwd"],
    "upwards": ["cat", "../outside/secret.txt"],
    "upwards from within": ["cat", "src/../../outside/secret.txt"],
    "home": ["cat", "~/secret.txt"],
    "a value that is a path": ["cat", "--file=/etc/passwd"],
    "a value that leads upwards": ["cat", "--file=../outside/secret.txt"],
    "an option and a path in one": ["cat", "-f/etc/passwd"],
    "an option that leads upwards": ["cat", "-C.."],
    "a file of arguments": ["cat", "@/etc/passwd"],
    "upwards behind a sign of a shell": ["cat", "cat<../outside/secret.txt"],
    "upwards before a sign of a shell": ["cat", "cd ..&&cat outside/secret.txt"],
    "home behind a sign of a shell": ["cat", "cat<~/secret.txt"],
    "an address": ["cat", "file:///etc/passwd"],
    "a variable": ["cat", "$HOME/secret.txt"],
    "a link": ["cat", "file"],
    "a folder that is a link": ["cat", "folder/secret.txt"],
    "what is not there yet, by a link": ["cat", "folder/new.txt"],
    "a link behind an option": ["cat", "--file=file"],
    "a link beside others": ["cat", "src/app.py:file"],
    "the root of a process": ["cat", "/proc/self" + "/root" + "/etc/passwd"],
    "code that names a path": ["cat", "open('/etc/passwd')"],
    "a NUL": ["cat", "src\0/etc"],
}

PROGRAMS = {
    "one that is not allowed": ["sh", "-c", "cat ../outside/secret.txt"],
    "an absolute path": ["/bin/cat", "src/app.py"],
    "a script of the project": ["./script.sh"],
    "a script without its folder": ["script.sh"],
    "a script by a way": ["src/../script.sh"],
    "a command line": ["cat src/app.py; cat ../outside/secret.txt"],
    "in capitals": ["CAT", "src/app.py"],
    "a space behind": ["cat ", "src/app.py"],
    "a variable before": ["LD_PRELOAD=x.so", "cat", "src/app.py"],
    "nothing": [],
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_there_are_more_than_twenty_ways() -> None:
    assert len(PATHS) >= 40
    assert len(ARGUMENTS) + len(PROGRAMS) >= 25


@pytest.mark.parametrize("way", PATHS)
def test_path_is_refused_for_reading_writing_and_patching(project: Path, outside: Path, way: str) -> None:
    space, path, before = Workspace(project), PATHS[way], contents(outside.parent)
    with pytest.raises(ValueError, match=r"\w") as reading:
        space.read_file(path)
    assert SECRET not in str(reading.value)
    with pytest.raises(ValueError, match=r"\w"):
        space.write_file(path, "changed")
    with pytest.raises(ValueError, match=r"\w"):
        space.patch_file(path, old="secret", new="changed")
    assert contents(outside.parent) == before
    assert space.diff == ""


@pytest.mark.parametrize("way", ARGUMENTS)
def test_argument_that_names_a_place_outside_is_refused(project: Path, way: str) -> None:
    with pytest.raises(ValueError, match="argument"):
        asyncio.run(Workspace(project, commands=["cat"]).run_command(ARGUMENTS[way]))


@pytest.mark.parametrize("way", PROGRAMS)
def test_what_is_no_allowed_program_is_refused(project: Path, way: str) -> None:
    with pytest.raises(ValueError, match="program"):
        asyncio.run(Workspace(project, commands=["cat"]).run_command(PROGRAMS[way]))


def test_lists_and_searches_do_not_follow_links_or_look_into_version_control(project: Path) -> None:
    space = Workspace(project)
    assert [path for path in space.list_files() if "secret" in path or ".git" in path] == []
    assert space.search("secret") == ["script.sh:2: cat ../outside/secret.txt"]
    assert space.search("token") == []
    for pattern in ("../**", "/etc/*", "folder/../../*", "~/*"):
        with pytest.raises(ValueError, match=r"\w"):
            space.list_files(pattern)
        with pytest.raises(ValueError, match=r"\w"):
            space.search("root", pattern=pattern)


@pytest.mark.parametrize(("what", "name"), [("folder", "src"), ("file", "src/app.py")])
def test_link_put_there_between_check_and_use_is_not_followed(
    project: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, what: str, name: str
) -> None:
    """Whoever swaps a name for a link at the very moment before it is opened gets nothing."""
    real_open, real_stat = os.open, os.stat
    target = project / name

    def swap() -> None:
        if not target.is_symlink():
            target.rename(project / "aside")
            target.symlink_to(outside if what == "folder" else outside / "secret.txt")

    def swapping(function: Callable[..., Any]) -> Callable[..., Any]:
        def swapped(path: Any, *arguments: Any, **options: Any) -> Any:
            if path == target.name and options.get("dir_fd") is not None:
                if function is real_stat:
                    found = real_stat(path, *arguments, **options)
                    swap()
                    return found
                swap()
            return function(path, *arguments, **options)

        return swapped

    (outside / "app.py").write_text(SECRET, "utf-8")
    monkeypatch.setattr(os, "open", swapping(real_open))
    monkeypatch.setattr(os, "stat", swapping(real_stat))
    monkeypatch.setattr(os, "supports_dir_fd", {*os.supports_dir_fd, os.open})
    space = Workspace(project)
    with pytest.raises(ValueError, match=r"link|opened"):
        space.read_file("src/app.py")


def test_link_put_in_the_place_of_a_file_while_it_is_written_is_replaced_or_refused(project: Path, outside: Path) -> None:
    space = Workspace(project)
    opened = space._folder.find("src/app.py")
    (project / "src" / "app.py").unlink()
    (project / "src" / "app.py").symlink_to(outside / "secret.txt")
    with pytest.raises(ValueError, match="changed meanwhile"):
        space._folder.write("src/app.py", b"changed", opened)
    assert (outside / "secret.txt").read_text("utf-8") == SECRET
    assert sorted(path.name for path in (project / "src").iterdir()) == ["app.py"]


def test_project_folder_that_another_stands_for_is_refused(project: Path, outside: Path) -> None:
    space = Workspace(project)
    project.rename(project.parent / "aside")
    project.symlink_to(outside)
    with pytest.raises(ValueError, match="project folder"):
        space.read_file("secret.txt")
    project.unlink()
    outside.rename(project)
    with pytest.raises(ValueError, match="another folder"):
        space.read_file("secret.txt")


def test_socket_and_folder_are_no_files(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name in ("socket", "src"):
            with pytest.raises(ValueError, match=r"no plain file|is a folder"):
                Workspace(project).read_file(name)


def test_command_is_given_its_environment_and_inherits_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"LD_PRELOAD": "", "PYTHONPATH": "/x", "GIT_DIR": "/x", "BASH_ENV": "/x", "OPENAI_API_KEY": "sk-1", "HOME": "/root"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    told = asyncio.run(Workspace(project, commands=["env"], environment={"CI": "1"}).run_command(["env"]))
    seen = dict(line.split("=", 1) for line in str(told["stdout"]).splitlines())
    assert [name for name in given if name != "HOME" and name in seen] == []
    assert seen["HOME"] != "/root"
    assert seen["CI"] == "1"
    assert not Path(seen["HOME"]).exists()


def test_program_in_the_project_is_not_taken_for_one_of_the_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = project / "bin"
    fake.mkdir()
    (fake / "cat").write_text("#!/bin/sh\necho fake\n", "utf-8")
    (fake / "cat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:.:bin:{os.environ['PATH']}")
    monkeypatch.chdir(project)
    told = asyncio.run(Workspace(project, commands=["cat"]).run_command(["cat", "src/app.py"]))
    assert told["stdout"] == "x = 1\n"
    for wrong in (str(fake / "cat"), "./cat", "bin/cat", "no-such-program"):
        with pytest.raises(ValueError, match=r"program|command"):
            Workspace(project, commands=[wrong])


@pytest.mark.parametrize(
    "argument", ["v1..", "..v1", "HEAD^..HEAD", "a..b", "src/app.py::test[1/2]", "s/x/y/", "-", "--", "-Isrc", "..."]
)
def test_argument_that_leads_nowhere_is_passed_on(project: Path, argument: str) -> None:
    told = asyncio.run(Workspace(project, commands=["printf"]).run_command(["printf", "%s", argument]))
    assert told["stdout"] == argument


def test_programs_are_a_list_of_different_ones(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "cat"
    other.write_text("#!/bin/sh\n", "utf-8")
    other.chmod(0o755)
    with pytest.raises(ValueError, match="two programs are called 'cat'"):
        Workspace(project, commands=["cat", str(other)])
    with pytest.raises(ValueError, match="a list"):
        Workspace(project, commands="cat")


def test_no_shell_reads_an_argument(project: Path) -> None:
    told = asyncio.run(Workspace(project, commands=["echo"]).run_command(["echo", "$(id)", "`id`", "; id", "*", "a b"]))
    assert told["stdout"] == "$(id) `id` ; id * a b\n"


def test_git_finds_no_repository_above(project: Path) -> None:
    subprocess.run(["git", "init", "-q", str(project.parent)], check=True)
    told = asyncio.run(Workspace(project / "src", commands=["git"]).run_command(["git", "status"]))
    assert told["exit_code"] == 128
    assert "not a git repository" in str(told["stderr"])


def test_git_starts_nothing_that_a_repository_names(tmp_path: Path) -> None:
    """Its hooks and its monitor may have been put there by whoever the folder comes from."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("pre-commit", "post-index-change"):
        hook = tmp_path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\ntouch started\n", "utf-8")
        hook.chmod(0o755)
    subprocess.run(["git", "-C", str(tmp_path), "config", "core.fsmonitor", "touch started; false"], check=True)
    (tmp_path / "app.py").write_text("x = 1\n", "utf-8")
    names = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    space = Workspace(tmp_path, commands=["git"], environment=names)
    for words in (["add", "app.py"], ["status"], ["commit", "-m", "First"]):
        assert asyncio.run(space.run_command(["git", *words]))["exit_code"] == 0
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("folder", ["/", "no/such/folder"])
def test_folder_that_is_none_or_all_is_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="folder"):
        Workspace(folder)
