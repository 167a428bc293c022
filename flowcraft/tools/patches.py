"""Changes of texts: one passage for another, unified diffs, and how a change is shown."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final

MOST_SHOWN: Final = 20_000
"""Characters of a diff that a model is shown."""

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@.*")


class Unfit(ValueError):
    """A change does not fit the text; nothing of it is made."""


def lines_of(text: str) -> list[str]:
    """Return the lines of a text with their ends; other characters than the newline do not end one."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def replaced(text: str, old: str, new: str) -> str:
    """Return ``text`` with ``new`` for ``old``, which must stand there once. Raises Unfit."""
    if not old:
        raise Unfit("'old' is empty: give the passage to replace, as it stands in the file")
    found = text.count(old)
    if found != 1:
        how = "does not stand in the file; read it again" if not found else f"stands there {found} times; give more around it"
        raise Unfit(f"the passage to replace {how}")
    return text.replace(old, new)


@dataclass(frozen=True, slots=True)
class Hunk:
    """One place of a unified diff: the line it begins at, from 1, what stands there and what is to stand there."""

    start: int
    before: tuple[str, ...]
    after: tuple[str, ...]


def patched(text: str, diff: str) -> str:
    """Return ``text`` with a unified diff of one file carried out: exactly where it says. Raises Unfit."""
    lines = lines_of(text)
    done: list[str] = []
    at = 0
    for hunk in hunks(diff):
        start = hunk.start - 1 if hunk.before else hunk.start
        if start < at or lines[start : start + len(hunk.before)] != list(hunk.before):
            raise Unfit(f"the hunk at line {hunk.start} does not fit the file; read it again")
        done += [*lines[at:start], *hunk.after]
        at = start + len(hunk.before)
    whole = [*done, *lines[at:]]
    if any(not line.endswith("\n") for line in whole[:-1]):
        raise Unfit("a line within the file would have no end")
    return "".join(whole)


def hunks(diff: str) -> list[Hunk]:
    """Return the hunks of a unified diff of one file. Raises Unfit where it is none."""
    found: list[Hunk] = []
    rows = diff.split("\n")
    if rows and not rows[-1]:
        rows.pop()
    at, heads = 0, 0
    while at < len(rows):
        head = _HUNK.fullmatch(rows[at])
        if head is None:
            heads += rows[at].startswith("+++ ")
            if heads > 1 or (found and rows[at].strip()):
                raise Unfit(f"line {at + 1} of the diff belongs to no hunk; a diff is of one file")
            at += 1
            continue
        hunk, at = _hunk(head, rows, at + 1)
        found.append(hunk)
    if not found:
        raise Unfit("the diff has no hunk: a line such as '@@ -3,2 +3,4 @@', then lines that begin with ' ', '-' or '+'")
    return found


def _hunk(head: re.Match[str], rows: list[str], at: int) -> tuple[Hunk, int]:
    left, right = (int(number) if number is not None else 1 for number in (head[2], head[4]))
    before: list[str] = []
    after: list[str] = []
    while at < len(rows) and (len(before) < left or len(after) < right or rows[at].startswith("\\")):
        sign, line = rows[at][:1], rows[at][1:] + "\n"
        if sign == "\\":
            _cut(before, after, rows[at - 1][:1])
        elif sign in (" ", ""):
            before.append(line)
            after.append(line)
        elif sign in ("-", "+"):
            (before if sign == "-" else after).append(line)
        else:
            raise Unfit(f"line {at + 1} of the diff begins with none of ' ', '-', '+'")
        at += 1
    if (len(before), len(after)) != (left, right):
        raise Unfit(f"the hunk at line {head[1]} has not as many lines as its head says")
    return Hunk(int(head[1]), tuple(before), tuple(after)), at


def _cut(before: list[str], after: list[str], sign: str) -> None:
    """Take the end off a last line that has none."""
    for lines in [before] if sign == "-" else [after] if sign == "+" else [before, after]:
        lines[-1] = lines[-1].removesuffix("\n")


def shown(path: str, before: str | None, after: str, most: int = MOST_SHOWN) -> str:
    """Return a change as a unified diff, at most ``most`` characters of it."""
    old = [] if before is None else lines_of(before)
    source = "/dev/null" if before is None else f"a/{path}"
    rows = difflib.unified_diff(old, lines_of(after), source, f"b/{path}")
    text = "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)
    return text if len(text) <= most else f"{text[:most]}\n[{len(text) - most:,} characters of the diff are left out]\n"


def line_end(text: str) -> str:
    r"""Return what all lines of a text end with where that is ``\r\n``, else ``\n``."""
    return "\r\n" if text.count("\n") and text.count("\n") == text.count("\r\n") else "\n"
