"""The tools of ``executor.yaml``: those of a workspace whose folder, programs and dryness the environment names."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from pathlib import Path

from flowcraft.errors import ToolUnavailable
from flowcraft.plugin import tool
from flowcraft.tools import Workspace

FOLDER = "build/executor"
SPACES: dict[tuple[str, str, bool], Workspace] = {}


def list_files(pattern: str = "**") -> list[str]:
    """List the files of the project.

    Args:
        pattern: A folder such as src, or which files, such as **/*.py: * within a name, ** across folders.

    """
    return workspace().list_files(pattern)


def search(text: str, regex: bool = False, pattern: str = "**", ignore_case: bool = False) -> list[str]:
    """Search the files of the project line by line; the result names path, line and what stands there.

    Args:
        text: What to look for in each line.
        regex: Whether the text is a regular expression.
        pattern: Which files, such as **/*.py.
        ignore_case: Whether capitals count as small letters.

    """
    return workspace().search(text, regex, pattern, ignore_case)


def read_file(path: str, first: int = 1, last: int | None = None) -> str:
    """Read a text file of the project, or some lines of it.

    Args:
        path: The path in the project, such as src/app.py.
        first: The first line to read, from 1.
        last: The last line to read; left out: to the end.

    """
    return workspace().read_file(path, first, last)


@tool(effect="write")
def write_file(path: str, content: str) -> str:
    """Write a file as a whole, new or in the place of what it held. Returns the diff.

    Args:
        path: The path in the project.
        content: The whole content of the file.

    """
    return workspace().write_file(path, content)


@tool(effect="write")
def patch_file(path: str, old: str = "", new: str = "", diff: str = "") -> str:
    """Change a part of a file: one passage for another, or by a unified diff. What does not fit is refused.

    Args:
        path: The path in the project.
        old: The passage to replace, exactly as it stands in the file, where it stands once.
        new: What to put in its place.
        diff: Instead of old and new, a unified diff of this file.

    """
    return workspace().patch_file(path, old, new, diff)


@tool(effect="external")
async def run_command(argv: list[str]) -> dict[str, object]:
    """Start one of the allowed programs in the project folder, without a shell. One that is not allowed is named as such.

    Args:
        argv: The program, then each argument.

    """
    return await workspace().run_command(argv)


def changes() -> str:
    """Return all changes as diffs; those of a dry run were not made. The next run of this process begins with none."""
    diff = workspace().diff
    SPACES.clear()
    return diff


def workspace() -> Workspace:
    """Return the workspace that the environment names. What is wrong with it no model can mend: it ends the run."""
    dry = os.environ.get("EXECUTOR_DRY", "") not in ("", "0")
    folder = os.path.abspath(os.environ.get("EXECUTOR_FOLDER") or default_folder(dry))
    try:
        return made(folder, os.environ.get("EXECUTOR_COMMANDS", ""), dry)
    except ValueError as error:
        raise ToolUnavailable(f"{error}; see EXECUTOR_FOLDER and EXECUTOR_COMMANDS") from None


def default_folder(dry: bool) -> str:
    """Return the folder where none is named. It is made; in a dry run an empty one elsewhere stands for it."""
    if not dry:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
    return FOLDER if os.path.isdir(FOLDER) else nothing()


@functools.cache
def nothing() -> str:
    """Return an empty folder, which is gone with the process."""
    empty = tempfile.mkdtemp(prefix="executor-")
    atexit.register(os.rmdir, empty)
    return empty


def made(folder: str, commands: str, dry: bool) -> Workspace:
    """Return the one workspace of a folder, also where several calls come at once."""
    key = folder, commands, dry
    return SPACES.get(key) or SPACES.setdefault(key, Workspace(folder, commands.split(), dry))
