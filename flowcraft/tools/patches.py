"""Changes of texts: one passage for another, unified diffs, and how a change is shown."""

from __future__ import annotations

import bisect
import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flowcraft.tools.misfits import line_at, misfit

MOST_SHOWN: Final = 20_000
"""Characters of a diff that a model is shown."""

MOST_COMPARED: Final = 25_000_000
"""Pairs of lines that are looked at to show a change line by line; beyond that all between its ends is one change."""

_AROUND = 3

_MORE: Final = ("rename ", "copy ", "old mode ", "new mode ", "deleted file ", "new file ", "GIT binary", "Binary files ")
"""How lines begin by which a diff asks for more than other lines."""

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
        raise Unfit(f"the passage to replace does not stand in the file. {misfit(text, old, new)}")
    second = text.find(old, first + 1)
    if second >= 0:  # one that overlaps it is another one too
        lines = f"lines {line_at(text, first)} and {line_at(text, second)}"
        raise Unfit(f"the passage to replace stands there {max(text.count(old), 2)} times ({lines}); give more around it")
    return text[:first] + new + text[first + len(old) :]


@dataclass(frozen=True, slots=True)
class Hunk:
    """One place of a unified diff: the line it begins at, from 1, what stands there and what is to stand there."""

    start: int
    before: tuple[str, ...]
    after: tuple[str, ...]


def patched(text: str, diff: str, path: str = "") -> str:
    """Return ``text`` with a unified diff of one file carried out. Raises Unfit, also where its heads name another ``path``.

    A hunk goes where its head says, else where what it takes away and keeps stands, if that is in one place.
    """
    lines = lines_of(text)
    starts = [0, *itertools.accumulate(map(len, lines))]
    done: list[str] = []
    at = 0
    for hunk in hunks(diff, path):
        start = hunk.start - 1 if hunk.before else hunk.start
        if not at <= start <= len(lines) or lines[start : start + len(hunk.before)] != list(hunk.before):
            start = bisect.bisect_left(starts, _elsewhere(text, starts[at], hunk))
        done += [*lines[at:start], *hunk.after]
        at = start + len(hunk.before)
    whole = [*done, *lines[at:]]
    if any(not line.endswith("\n") for line in whole[:-1]):
        raise Unfit("a line within the file would have no end")
    return "".join(whole)


def _elsewhere(text: str, start: int, hunk: Hunk) -> int:
    """Return at which character, not before ``start``, a hunk fits. Raises Unfit where that is none, or not clear."""
    wrong = f"the hunk at line {hunk.start} does not fit the file"
    sought = "".join(hunk.before)
    if not sought:
        raise Unfit(f"{wrong}, and keeps no line that would say where it belongs; read the file again")
    places = _places(text, sought, start)
    first = next(places, -1)
    if first < 0:
        raise Unfit(f"{wrong}. {misfit(text, sought, ''.join(hunk.after))}")
    if next(places, -1) >= 0:
        raise Unfit(f"{wrong} there, and would in several other places; give the right line, or more lines around it")
    return first


def _places(text: str, sought: str, start: int) -> Iterator[int]:
    """Yield where whole lines stand in a text, from ``start`` on, where a line begins."""
    if text.startswith(sought, start) and _whole(text, sought, start):
        yield start
    place = text.find(f"\n{sought}", start)
    while place >= 0:
        if _whole(text, sought, place + 1):
            yield place + 1
        place = text.find(f"\n{sought}", place + 1)


def _whole(text: str, sought: str, place: int) -> bool:
    return sought.endswith("\n") or place + len(sought) == len(text)


def hunks(diff: str, path: str = "") -> list[Hunk]:
    """Return the hunks of a unified diff of one file. Raises Unfit where it is none, or one of another file than ``path``."""
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
            _check_head(rows[at], path)
            at += 1
            continue
        hunk, at = _hunk(head, rows, at + 1)
        found.append(hunk)
    if not found:
        raise Unfit("the diff has no hunk: a line such as '@@ -3,2 +3,4 @@', then lines that begin with ' ', '-' or '+'")
    return found


def _check_head(row: str, path: str) -> None:
    """Raise Unfit for a line above the hunks that asks for something else than other lines in the file of ``path``."""
    if row.startswith(_MORE):
        raise Unfit(f"{row[:200]!r}: a diff changes lines of a file here, not its name or mode, and no binary ones")
    if not row.startswith(("--- ", "+++ ")):
        return
    name = row[4:].partition("\t")[0].strip().strip('"')
    if name == "/dev/null":
        raise Unfit("a diff changes a file here: a new one is written as a whole, and none is removed")
    named, meant = [part for part in name.split("/") if part != "."], path.split("/")
    if path and name and not _ends(named, meant) and not _ends(meant, named):
        raise Unfit(f"the diff is of {name!r}, not of {path!r}")


def _ends(one: Sequence[str], other: Sequence[str]) -> bool:
    return one[max(len(one) - len(other), 0) :] == other


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
        counted = f"{len(before)} before and {len(after)} after, not {left} and {right}, up to line {at} of the diff"
        raise Unfit(f"the hunk at line {head[1]} has not as many lines as its head says: {counted}")
    return Hunk(int(head[1]), tuple(before), tuple(after)), at


def _cut(before: list[str], after: list[str], sign: str) -> None:
    """Take the end off a last line that has none."""
    if sign not in (" ", "-", "+"):
        raise Unfit("a diff says of no line that it has no newline")
    for lines in [before] if sign == "-" else [after] if sign == "+" else [before, after]:
        lines[-1] = lines[-1].removesuffix("\n")


def shown(path: str, before: str | None, after: str) -> str:
    """Return a change as a unified diff that git carries out; ``before`` is None for a new file."""
    head = f"diff --git a/{path} b/{path}\n" + ("new file mode 100644\n" if before is None else "")
    if before is None and not after:
        return head
    end = "\t" if " " in path else ""  # so that programs see where the name ends
    source = "/dev/null" if before is None else f"a/{path}{end}"
    rows = (f"{head}--- {source}\n+++ b/{path}{end}\n", *_rows(lines_of(before or ""), lines_of(after)))
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
