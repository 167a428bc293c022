"""Workspace: tools that read and change the files of one folder, and start programs in it, for models."""

from __future__ import annotations

import codecs
import fnmatch
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Final, Self

from flowcraft.plugin.tools import Tool
from flowcraft.source.patterns import pattern_mistake
from flowcraft.tools.folder import LARGEST_FILE, PRIVATE, Folder, Opened, Refused, check_change, parts_of, read_at
from flowcraft.tools.functions import function_tool
from flowcraft.tools.patches import Unfit, line_end, lines_of, patched, replaced, shortened, shown
from flowcraft.tools.programs import Programs

SKIPPED: Final = frozenset(
    PRIVATE
    | {".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox"}
    | {".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
)
"""Folders that are neither listed nor searched."""

MOST_LINES: Final = 2_000
MOST_READ: Final = 60_000
"""Characters of a file that are given at once."""

MOST_NAMES: Final = 1_000
MOST_FOUND: Final = 200
MOST_SEARCHED: Final = 50_000_000
"""Bytes that one search reads."""

SEARCH_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 120.0

_BOM: Final = codecs.BOM_UTF8
"""What some editors begin a file with: models do not see it, and it stays."""

MOST_WALKED: Final = 200_000
"""Files and folders that are looked at."""

_NOT_ALL: Final = "[not all files were looked at; choose a narrower pattern]"
_LONGEST_LINE = 1_000
_SHOWN_LINE = 300
_BEFORE_HIT = 100
_DEEPEST = 100


class _TooMany(Exception):
    """There are more files than are looked at, or than there is time for."""


class Workspace:
    """The tools of one folder: what they read, write and start lies in it, or is refused and told to the model.

    ``commands`` are the programs that may be started, by name or absolute path: none unless given. A program can do whatever
    it can do (``git`` and ``python`` anything): name only those that you would let the model use. ``environment`` is
    what they see besides PATH, a HOME of their own and what keeps them to themselves. ``dry`` writes and starts nothing;
    the diffs are shown all the same. Raises ValueError for a folder or a program that is not there.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        commands: Iterable[str] = (),
        dry: bool = False,
        *,
        environment: Mapping[str, str] | None = None,
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self._folder = Folder(folder)
        self._programs = Programs(self._folder, commands, environment)
        self._seconds = command_seconds
        self._diffs: list[str] = []
        self.dry = dry

    def __deepcopy__(self, memo: Mapping[int, object]) -> Self:
        """Return itself: what a copied agent changes belongs to the same diff."""
        return self

    @property
    def folder(self) -> str:
        """The folder, links resolved."""
        return str(self._folder.path)

    @property
    def diff(self) -> str:
        """All changes so far, in order, as unified diffs; in a dry workspace those that were not made."""
        return "".join(self._diffs)

    def tools(self) -> Sequence[Tool]:
        """Return the tools; ``run_command`` is among them where a program is allowed."""
        reading: list[Callable[..., object]] = [self.read_file, self.list_files, self.search]
        writing: list[Callable[..., object]] = [self.write_file, self.patch_file]
        made = [function_tool(tool) for tool in reading] + [function_tool(tool, effect="write") for tool in writing]
        if self._programs.names:
            text = f"{self.run_command.__doc__}\n\nThe programs: {', '.join(sorted(self._programs.names))}."
            made.append(function_tool(self.run_command, description=" ".join(text.split()), effect="external"))
        return tuple(made)

    def read_file(
        self,
        path: Annotated[str, "the path in the project, such as src/app.py"],
        first: Annotated[int, "the first line to read, from 1"] = 1,
        last: Annotated[int | None, "the last line to read; left out: to the end"] = None,
    ) -> str:
        """Read a text file of the project, or some lines of it."""
        text = _text(self._folder.read(path), path)
        lines = lines_of(text)
        if first < 1 or (last is not None and last < first):
            raise Refused("lines count from 1, and the last is not before the first")
        chosen = lines[first - 1 : min(last or len(lines), first - 1 + MOST_LINES)]
        if first > max(len(lines), 1):
            raise Refused(f"{path!r} has {len(lines):,} lines")
        whole = _fitting(chosen)
        given = "".join(chosen[:whole])
        if len(given) == len(text):
            return text
        if chosen and not whole:
            cut = f"[line {first:,} of {len(lines):,}, its first {MOST_READ:,} characters of {len(chosen[0]):,}]"
            return f"{chosen[0][:MOST_READ]}\n{cut}"
        return f"{given}\n[lines {first:,} to {first - 1 + whole:,} of {len(lines):,}]"

    def list_files(self, pattern: Annotated[str, "which files, such as src, src/* or **/*.py"] = "**") -> list[str]:
        """List the files of a folder, or those whose path matches a pattern: * within a name, ** across folders."""
        wanted = _wanted(pattern)
        found: list[str] = []
        try:
            for path, _, _ in self._walk():
                if not _matches(path.split("/"), wanted):
                    continue
                if len(found) == MOST_NAMES:
                    return [*found, f"[more than {MOST_NAMES:,} files; choose a narrower pattern]"]
                found.append(path)
        except _TooMany:
            found.append(_NOT_ALL)
        return found

    def search(
        self,
        text: Annotated[str, "what to look for, in each line"],
        regex: Annotated[bool, "whether the text is a regular expression"] = False,
        pattern: Annotated[str, "in which files, such as src or **/*.py"] = "**",
        ignore_case: bool = False,
    ) -> list[str]:
        """Search the files of the project; the result names path, line and what stands there."""
        if not text or "\n" in text:
            raise Refused("what to look for is part of one line")
        expression = text if regex else re.escape(text)
        if regex and (mistake := pattern_mistake(text)):
            raise Refused(mistake)
        looked = re.compile(expression, re.IGNORECASE if ignore_case else 0)
        longest = _LONGEST_LINE if regex else LARGEST_FILE  # time may grow with the square of what a pattern is looked for in
        found: list[str] = []
        try:
            found.extend(itertools.islice(self._found(looked, _wanted(pattern), longest), MOST_FOUND + 1))
        except _TooMany:
            found.append(_NOT_ALL)
        return [*found[:MOST_FOUND], "[there may be more; look for something narrower]"] if len(found) > MOST_FOUND else found

    def write_file(
        self, path: Annotated[str, "the path in the project"], content: Annotated[str, "the whole content of the file"]
    ) -> str:
        """Write a file of the project as a whole, new or in the place of what it held. Returns the diff."""
        with self._folder.changing():
            before = self._folder.find(path)
            old = None if before is None else _text(before, path)
            if old is not None and line_end(old) == "\r\n":
                content = _with_carriage_returns(content)
            return self._change(path, before, old, content)

    def patch_file(
        self,
        path: Annotated[str, "the path in the project"],
        old: Annotated[str, "the passage to replace, exactly as it stands in the file, where it stands once"] = "",
        new: Annotated[str, "what to put in its place"] = "",
        diff: Annotated[str, "instead of old and new: a unified diff of this file"] = "",
    ) -> str:
        """Change a part of a file: one passage for another, or by a unified diff. What does not fit is refused."""
        if bool(old) == bool(diff):
            raise Refused("give either 'old' and 'new', or 'diff'")
        with self._folder.changing():
            before = self._folder.read(path)
            text = _text(before, path)
            ends = line_end(text)
            plain = text.replace("\r\n", "\n") if ends == "\r\n" else text
            if ends == "\r\n":
                old, new, diff = (part.replace("\r\n", "\n") for part in (old, new, diff))
            elif old and old not in text:  # among lines of two kinds it may be one of the other kind
                windows = _with_carriage_returns(old)
                old, new = (windows, _with_carriage_returns(new)) if windows in text else (old, new)
            after = patched(plain, diff, "/".join(parts_of(path))) if diff else replaced(plain, old, new)
            return self._change(path, before, text, after.replace("\n", ends))

    async def run_command(
        self, argv: Annotated[list[str], "the program and its arguments, each by itself"]
    ) -> dict[str, object]:
        """Start one of the allowed programs in the project folder, without a shell."""
        if self.dry:
            self._programs.checked(argv)
            return {"dry": True, "note": "this is a dry run: the command was not started"}
        try:
            outcome = await self._programs.run(argv, self._seconds)
        except TimeoutError:
            raise Refused(f"the command took longer than {self._seconds:g} s and was ended") from None
        told: dict[str, object] = {
            "exit_code": outcome.code,
            "stdout": outcome.out.decode("utf-8", "replace"),
            "stderr": outcome.err.decode("utf-8", "replace"),
        }
        return {**told, "note": "it printed too much and was ended"} if outcome.overflow else told

    def _change(self, path: str, before: Opened | None, old: str | None, new: str) -> str:
        """Make a change, unless this is dry, and return it as a diff."""
        if before is not None and old is not None and before.data.startswith(_BOM):
            old, new = "\ufeff" + old, "\ufeff" + new.removeprefix("\ufeff")
        data = _bytes(new)
        check_change(path, data, before)  # in a dry workspace too: it shows what would be
        if old == new:
            return f"{path} is as it was: nothing was changed"
        if not self.dry:
            self._folder.write(path, data, before)
        name = "/".join(parts_of(path))
        diff = shown(name, old, new)
        self._diffs.append(diff)
        told = "this is a dry run: nothing was written. It would be:" if self.dry else f"{name} is written:"
        return f"{told}\n{shortened(diff)}"

    def _walk(self) -> Iterator[tuple[str, str, int]]:
        """Yield path, name and open folder of each plain file, in order; links are not followed. Raises _TooMany."""
        walked = 0
        with self._folder.opened() as root:
            for place, folders, files, here in os.fwalk(".", dir_fd=root, follow_symlinks=False):
                walked += len(folders)
                deep = place.count("/") >= _DEEPEST
                folders[:] = [] if deep else sorted(name for name in folders if name.casefold() not in SKIPPED)
                for name in sorted(files):
                    walked += 1
                    if walked > MOST_WALKED:
                        raise _TooMany
                    path = os.path.normpath(os.path.join(place, name))
                    if _shows(path):
                        yield path, name, here

    def _found(self, looked: re.Pattern[str], wanted: Sequence[str], longest: int) -> Iterator[str]:
        """Yield what stands in the lines of files, as far as it lies in their first ``longest`` characters. Raises _TooMany."""
        read, end = 0, time.monotonic() + SEARCH_SECONDS
        for path, name, here in self._walk():
            if read > MOST_SEARCHED or time.monotonic() > end:
                raise _TooMany
            if not _matches(path.split("/"), wanted):
                continue
            try:
                opened = read_at(here, name, path)
                text = _text(opened, path)
            except Refused:
                continue  # a link, no text, or too large
            read += len(opened.data)
            for number, line in enumerate(text.split("\n"), 1):
                if hit := looked.search(line[:longest]):
                    start = max(hit.start() - _BEFORE_HIT, 0) if len(line) > _SHOWN_LINE else 0
                    yield f"{path}:{number}: {line[start : start + _SHOWN_LINE].strip()}"
                if time.monotonic() > end:
                    raise _TooMany


def _wanted(pattern: str) -> tuple[str, ...]:
    """Return the names of a pattern; one without signs is a file, or a folder with all that lies in it."""
    wanted = parts_of(pattern)
    return wanted if wanted and any(sign in wanted[-1] for sign in "*?[") else (*wanted, "**")


def _shows(path: str) -> bool:
    """Say whether a file can be named: one that the other tools would refuse is not listed."""
    try:
        return bool(parts_of(path))
    except Refused:
        return False


def _fitting(lines: Sequence[str]) -> int:
    """Return how many whole lines are given at once."""
    lengths = itertools.accumulate(map(len, lines))
    return sum(length <= MOST_READ for length in lengths)


def _text(opened: Opened, path: str) -> str:
    if b"\0" in opened.data:
        raise Refused(f"{path!r} holds no text")
    try:
        return opened.data.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{path!r} is no text in UTF-8") from None


def _bytes(text: str) -> bytes:
    if "\0" in text:
        raise Refused("the content holds a NUL character")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("the content holds half a character, which no file in UTF-8 can") from None


def _with_carriage_returns(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _matches(names: Sequence[str], wanted: Sequence[str]) -> bool:
    """Say whether a path matches a pattern, both as names; time grows with their product alone."""
    taken = {0}  # how many names the parts so far may stand for
    for part in wanted:
        if part == "**":
            taken = set(range(min(taken), len(names) + 1))
        else:
            taken = {count + 1 for count in taken if count < len(names) and _fits(names[count], part)}
        if not taken:
            return False
    return len(names) in taken


def _fits(name: str, part: str) -> bool:
    return name == part or fnmatch.fnmatchcase(name, part)  # a name may hold the signs of a pattern


__all__ = ["Refused", "Unfit", "Workspace"]
