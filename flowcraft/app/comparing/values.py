"""What differs between two values, texts or questions, as people read it: what replays and diffs of runs have in common."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_SAID = {
    "prompt": "the prompt",
    "system": "the system message",
    "approve.question": "the question",
    "shell": "the command",
    "rubric": "the judge's rubric",
    "quality.rubric": "the judge's rubric",
    "quality.judge": "the judge",
    "quality.strategy": "the strategy",
    "quality.confidence": "the least confidence",
    "run": "the function",
    "uses": "the file",
    "output": "the type that it must return",
    "chain": "the chain of models",
    "model": "the model",
    "tools": "the tools",
    "previous": "the answer before, which the prompt repeats,",
    "reasons": "what the judge said of the answer before",
    "server": "the MCP server",
    "agent": "the agent",
    "crew": "the crew",
    "code": "the code",
}
_DEEPEST = 50
"""Levels of a value that are compared field by field; what lies deeper is compared as a whole."""
_MOST = 200_000
"""Lines or elements of both sides together of which is worked out what was put in between; of more, both ends are compared."""
_EXACT = 4_000_000
"""Elements times elements up to which those that many are alike are aligned too."""
_LONG = 60
"""Characters from which on a text is told as a diff of its lines."""
_LONGEST = 1000
"""Characters up to which a line is shown as one."""
_PART = re.compile(r".{0,298}?[.!?;](?:\s+|$)|.{1,300}(?:\s+|$)|.{1,300}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One place where two values differ: ``kind`` is added, removed or changed.

    ``path`` is that of the second value, of what was removed that of the first; ``diff`` is a unified diff where either is a
    text of some length.
    """

    path: str
    kind: str
    before: Any = None
    after: Any = None
    diff: str = ""

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        return {name: getattr(self, name) for name in ("path", "kind", "before", "after", "diff")}


def changes(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """Yield where two JSON-like values differ: objects field by field, lists with what was put in or taken out recognised."""
    return _changes(before, after, path, 0)


def _changes(before: Any, after: Any, path: str, depth: int) -> Iterator[Change]:
    if _key(before) == _key(after):
        return
    if depth < _DEEPEST and isinstance(before, dict) and isinstance(after, dict):
        for name in {**after, **before}:
            where = _field(path, name)
            if name not in after:
                yield Change(path=where, kind="removed", before=before[name])
            elif name not in before:
                yield Change(path=where, kind="added", after=after[name])
            else:
                yield from _changes(before[name], after[name], where, depth + 1)
    elif depth < _DEEPEST and isinstance(before, list) and isinstance(after, list):
        for old, new in _aligned(before, after):
            if old is not None and new is not None:
                yield from _changes(before[old], after[new], f"{path}[{new}]", depth + 1)
            elif old is not None:
                yield Change(path=f"{path}[{old}]", kind="removed", before=before[old])
            elif new is not None:
                yield Change(path=f"{path}[{new}]", kind="added", after=after[new])
    else:
        diff = unified(before, after, path or "value", ("before", "after")) if _reads_as_lines(before, after) else ""
        yield Change(path=path, kind="changed", before=before, after=after, diff=diff)


def _field(path: str, name: str) -> str:
    if not name.isidentifier():
        return f"{path}[{json.dumps(name, ensure_ascii=False)}]"
    return f"{path}.{name}" if path else name


def _key(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _reads_as_lines(before: Any, after: Any) -> bool:
    texts = [value for value in (before, after) if isinstance(value, str)]
    return any("\n" in text or len(text) > _LONG for text in texts)


def _aligned(before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[int | None, int | None]]:
    """Yield the places of elements that belong together and are not alike; None where one has none in the other list."""
    old, new = [_key(value) for value in before], [_key(value) for value in after]
    for kind, first, end, begin, last in _moves(old, new):
        if kind != "equal":
            yield from zip_longest(range(first, end), range(begin, last))


def _moves(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield what makes one sequence of the other, as difflib tells it; of very long ones nothing but both ends is compared."""
    shorter = min(len(old), len(new))
    head = next((place for place in range(shorter) if old[place] != new[place]), shorter)
    tail = next((place for place in range(shorter - head) if old[-1 - place] != new[-1 - place]), shorter - head)
    middle, other = old[head : len(old) - tail], new[head : len(new) - tail]
    if len(middle) + len(other) > _MOST:
        yield "replace", head, len(old) - tail, head, len(new) - tail
        return
    hasty = len(middle) * len(other) > _EXACT
    for kind, first, end, begin, last in difflib.SequenceMatcher(None, middle, other, autojunk=hasty).get_opcodes():
        yield kind, first + head, end + head, begin + head, last + head


def asked_differs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the parts in which what is asked for differs, what tells most first, as both have them."""
    first, second = _flat(old), _flat(new)
    known = list(_SAID)
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    names.sort(key=lambda name: (known.index(name) if name in known else len(known), name))
    return {name: (first.get(name), second.get(name)) for name in names}


def differ(names: Sequence[str]) -> str:
    """Return parts of what is asked for in words, with their verb: ``the prompt and the model differ``."""
    said = [_SAID.get(name, f"'{name}'") for name in names]
    listed = f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0]
    return f"{listed} {'differ' if len(said) > 1 else 'differs'}"


def _flat(asks: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked, the parts of objects under names of their own."""
    found: dict[str, Any] = {}
    for name, value in asks.items():
        if name in ("with", "approve", "params", "quality") and isinstance(value, dict):
            found.update({f"{name}.{part}": item for part, item in value.items()})
        else:
            found[name] = value
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def unified(old: Any, new: Any, name: str, called: tuple[str, str] = ("recorded", "now")) -> str:
    """Return a unified diff of two values as people read them; ``called`` is what both are, beside their name."""
    before, after = list(_lines(old)), list(_lines(new))
    first, second = (f"{name} ({word})" for word in called)
    if len(before) + len(after) > _MOST:
        return "\n".join(_by_places(before, after, first, second))
    return "\n".join(difflib.unified_diff(before, after, first, second, lineterm=""))


def _by_places(before: Sequence[str], after: Sequence[str], first: str, second: str) -> Iterator[str]:
    """Yield the diff of texts too long to find out what moved in them: what stands between their common ends."""
    yield from (f"--- {first}", f"+++ {second}")
    for kind, begin, end, start, last in _moves(before, after):
        if kind != "equal":
            yield f"@@ -{begin + 1},{end - begin} +{start + 1},{last - start} @@"
            yield from (f"-{line}" for line in before[begin:end])
            yield from (f"+{line}" for line in after[start:last])


def _lines(value: Any) -> Iterator[str]:
    """Yield what is compared and shown: lines; of a line that nobody reads as a whole its sentences, or some words at once."""
    if value is None:
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    for line in text.split("\n"):
        yield from _PART.findall(line) if len(line) > _LONGEST else (line,)
