"""Changes of texts: one passage for another, unified diffs, and how a change is shown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MOST_SHOWN: Final = 20_000
"""Characters of a diff that a model is shown."""

MOST_COMPARED: Final = 25_000_000
"""Pairs of lines that are looked at to show a change line by line; beyond that all between its ends is one change."""

_AROUND = 3

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
    first = text.find(old)
    if first < 0:
        raise Unfit("the passage to replace does not stand in the file; read it again")
    if text.find(old, first + 1) >= 0:  # one that overlaps it is another one too
        raise Unfit(f"the passage to replace stands there {max(text.count(old), 2)} times; give more around it")
    return text[:first] + new + text[first + len(old) :]


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
        if not at <= start <= len(lines) or lines[start : start + len(hunk.before)] != list(hunk.before):
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
    if sign not in (" ", "-", "+"):
        raise Unfit("a diff says of no line that it has no newline")
    for lines in [before] if sign == "-" else [after] if sign == "+" else [before, after]:
        lines[-1] = lines[-1].removesuffix("\n")


def shown(path: str, before: str | None, after: str) -> str:
    """Return a change as a unified diff."""
    source = "/dev/null" if before is None else f"a/{path}"
    heads = f"--- {source}\n", f"+++ b/{path}\n"
    rows = (*heads, *_rows(lines_of(before or ""), lines_of(after)))
    return "".join(row if row.endswith("\n") else f"{row}\n\\ No newline at end of file\n" for row in rows)


def shortened(diff: str) -> str:
    """Return as much of a diff as a model is shown."""
    if len(diff) <= MOST_SHOWN:
        return diff
    return f"{diff[:MOST_SHOWN]}\n[{len(diff) - MOST_SHOWN:,} characters of the diff are left out]\n"


def _rows(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Yield the hunks of a diff. Only what stands between the first and the last change is compared, and a little around it."""
    head = _alike(before, after)
    tail = _alike(before[head:][::-1], after[head:][::-1])
    start, around = max(head - _AROUND, 0), min(tail, _AROUND)
    old, new = before[start : len(before) - tail + around], after[start : len(after) - tail + around]
    for group in _groups(old, new, head - start, around):
        first, last = group[0], group[-1]
        yield f"@@ -{_span(start + first[1], start + last[2])} +{_span(start + first[3], start + last[4])} @@\n"
        for kind, old_from, old_to, new_from, new_to in group:
            if kind == "equal":
                yield from (f" {line}" for line in old[old_from:old_to])
                continue
            yield from (f"-{line}" for line in old[old_from:old_to])
            yield from (f"+{line}" for line in new[new_from:new_to])


def _alike(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many lines two texts begin with alike."""
    return next(
        (place for place, (mine, yours) in enumerate(zip(one, other, strict=False)) if mine != yours), min(len(one), len(other))
    )


_Change = tuple[str, int, int, int, int]


def _groups(old: Sequence[str], new: Sequence[str], above: int, below: int) -> Iterator[Sequence[_Change]]:
    """Yield what differs, with the lines around it; as one change where comparing line by line could take minutes."""
    if len(old) * len(new) <= MOST_COMPARED:
        yield from difflib.SequenceMatcher(None, old, new).get_grouped_opcodes(_AROUND)
        return
    ends = len(old) - below, len(new) - below
    yield (
        ("equal", 0, above, 0, above),
        ("replace", above, ends[0], above, ends[1]),
        ("equal", ends[0], len(old), ends[1], len(new)),
    )


def _span(start: int, stop: int) -> str:
    """Return lines as a hunk's head names them; they are counted from 0 here and from 1 there."""
    length = stop - start
    return f"{start + 1}" if length == 1 else f"{start + (length > 0)},{length}"


def line_end(text: str) -> str:
    r"""Return what all lines of a text end with where that is ``\r\n``, else ``\n``."""
    return "\r\n" if text.count("\n") and text.count("\n") == text.count("\r\n") else "\n"
