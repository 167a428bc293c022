"""Regular expressions that a file brings: refused where looking for them may take for ever."""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any

LONGEST_PATTERN = 1000
LONGEST_TEXT = 10_000
"""Characters of a text in which a pattern with repetitions is looked for: time may grow with their square."""

_FEW = 20
_STEEPEST = 2
_MOST_WAYS = 1_000
_FEWER = 10
_LETTERS = frozenset([*map(chr, range(128)), "\x85", "\xa0", "\xe9", "\u0416", "\u0663", "\u2003", "\u4e2d", "\U0001f600"])
"""One character of each kind stands for all of them: those of ASCII, letters, digits and spaces beyond it."""

_NOTHING: frozenset[str] = frozenset()
_FLAGS = re.compile(r"\(\?[aLmux]*[is]")


class _Endless(Exception):
    """A part of a pattern can match one text in too many ways."""


@functools.lru_cache(maxsize=1000)
def pattern_mistake(pattern: str) -> str:
    """Return why a regular expression is not carried out; nothing where it is."""
    if len(pattern) > LONGEST_PATTERN:
        return f"a pattern of {len(pattern):,} characters; at most {LONGEST_PATTERN:,}"
    try:
        re.compile(pattern)
        tree = importlib.import_module("re._parser").parse(pattern)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        return f"'{_short(pattern)}' is no regular expression: {error}"
    try:
        _Reader(pattern).steepness(tree)
    except (_Endless, RecursionError) as error:
        return f"looking for '{_short(pattern)}' may take for ever: {error}"
    return ""


@functools.lru_cache(maxsize=1000)
def repeats(pattern: str) -> bool:
    """Say whether a pattern holds a repetition, so that the length of the text counts."""
    return any(mark in pattern for mark in "*+{")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


class _Reader:
    """Reads Python's own tree of a pattern from its end to its beginning.

    A repetition is harmless where the next character always says whether it goes on: what it begins with is nothing that may
    stand behind it. Where that is not so, there are two ways on; within another repetition that is beyond all time, else each
    adds a power to how the time grows with the text. Short ones, and alternatives that begin alike, multiply it: of them a
    pattern may hold some, and fewer where the text counts too.
    """

    def __init__(self, pattern: str) -> None:
        self.ambiguous = 0
        self.ways = 1
        self.letters = _LETTERS if pattern.isascii() else _LETTERS | frozenset(pattern)
        self.flagged = _FLAGS.search(pattern) is not None

    def steepness(self, tree: Any) -> None:
        """Raise _Endless where looking for the pattern takes too long."""
        self.sequence(tree, _NOTHING, looped=False)
        anchored = bool(len(tree)) and str(tree[0][0]) == "AT" and "BEGINNING" in str(tree[0][1])
        power = self.ambiguous + (0 if anchored or not self.ambiguous else 1)
        if power > _STEEPEST:
            raise _Endless("several repetitions can share one text in too many ways")
        if self.ways > _MOST_WAYS // _FEWER**self.ambiguous:
            raise _Endless("repetitions and alternatives that begin alike can share one text in too many ways")

    def sequence(self, tree: Any, behind: frozenset[str], *, looped: bool) -> tuple[frozenset[str], bool]:
        """Return what a sequence may begin with, and whether it may be empty; ``behind`` is what may follow it."""
        first, empty = _NOTHING, True
        for operation, argument in reversed(list(tree)):
            after = first | behind if empty else first
            own, nothing = self.one(str(operation), argument, after, looped=looped)
            first, empty = (own | first if nothing else own), empty and nothing
        return first, empty

    def one(self, operation: str, argument: Any, behind: frozenset[str], *, looped: bool) -> tuple[frozenset[str], bool]:
        """Return the same of one part."""
        if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            return self.repeat(operation, argument, behind, looped=looped)
        if operation == "SUBPATTERN":
            return self.sequence(argument[3], behind, looped=looped)
        if operation == "ATOMIC_GROUP":
            return self.sequence(argument, behind, looped=looped)
        if operation == "BRANCH":
            return self.branch(argument[1], behind, looped=looped)
        if operation in ("ASSERT", "ASSERT_NOT"):
            self.sequence(argument[1], _NOTHING, looped=looped)
            return _NOTHING, True
        if operation == "AT":
            return _NOTHING, True
        if operation in ("GROUPREF", "GROUPREF_EXISTS"):
            raise _Endless("it refers back to a group")
        if not self.flagged and self.letters is _LETTERS:
            return _found(operation, tuple(argument) if isinstance(argument, list) else argument), False
        if self.flagged:
            return frozenset(letter for letter in self.letters if self.in_any_case(operation, argument, letter)), False
        return frozenset(letter for letter in self.letters if _is_one(operation, argument, letter)), False

    def in_any_case(self, operation: str, argument: Any, letter: str) -> bool:
        """Say whether a character matches under some of the flags: in both its cases, and a dot for all."""
        if operation == "ANY":
            return True
        return any(_is_one(operation, argument, form) for form in (letter, *letter.lower()[:1], *letter.upper()[:1]))

    def repeat(self, kind: str, argument: Any, behind: frozenset[str], *, looped: bool) -> tuple[frozenset[str], bool]:
        """Return the same of a repetition."""
        least, most, body = int(argument[0]), int(argument[1]), argument[2]
        begins, hollow = _Quiet(self).sequence(body, _NOTHING, looped=False)
        again = most > 1
        first, empty = self.sequence(body, begins | behind if again else behind, looped=looped or again)
        if kind != "POSSESSIVE_REPEAT" and least != most and (begins & behind or (hollow and again)):
            if looped:
                raise _Endless("a repetition within another one can share a text in too many ways")
            few = most - least <= _FEW
            self.ambiguous += not few
            self.ways *= most - least + 1 if few else 1
        return first, empty or not least

    def branch(self, ways: Any, behind: frozenset[str], *, looped: bool) -> tuple[frozenset[str], bool]:
        """Return the same of alternatives."""
        first, empty, taken, alike = _NOTHING, False, _NOTHING, 1
        prefix_free = _prefix_free(ways)
        for way in ways:
            own, nothing = self.sequence(way, behind, looped=looped)
            begins = own | behind if nothing else own
            if looped and begins & taken and not prefix_free:
                raise _Endless("alternatives that begin alike stand within a repetition")
            alike += bool(begins & taken) and not prefix_free
            first, empty, taken = first | own, empty or nothing, taken | begins
        self.ways *= alike
        return first, empty


class _Quiet(_Reader):
    """Reads without a verdict, to find out what a part begins with."""

    def __init__(self, reader: _Reader) -> None:
        self.ambiguous, self.ways = 0, 1
        self.letters, self.flagged = reader.letters, reader.flagged

    def repeat(self, kind: str, argument: Any, behind: frozenset[str], *, looped: bool) -> tuple[frozenset[str], bool]:
        """Return what a repetition begins with."""
        first, empty = self.sequence(argument[2], behind, looped=False)
        return first, empty or not int(argument[0])


def _prefix_free(ways: Any) -> bool:
    """Say whether all alternatives are plain words of which none begins another."""
    if not all(str(operation) == "LITERAL" for way in ways for operation, _ in way):
        return False
    words = ["".join(chr(code) for _, code in way).casefold() for way in ways]
    return not any(a.startswith(b) for place, a in enumerate(words) for other, b in enumerate(words) if place != other)


@functools.lru_cache(maxsize=1000)
def _found(operation: str, argument: Any) -> frozenset[str]:
    """Return the usual characters that match a part."""
    return frozenset(letter for letter in _LETTERS if _is_one(operation, argument, letter))


def _is_one(operation: str, argument: Any, letter: str) -> bool:
    """Say whether one character matches a part that takes one."""
    code = ord(letter)
    if operation == "LITERAL":
        return bool(argument == code)
    if operation == "NOT_LITERAL":
        return bool(argument != code)
    if operation == "RANGE":
        return bool(argument[0] <= code <= argument[1])
    if operation == "CATEGORY":
        return _CATEGORIES[str(argument)].match(letter) is not None
    if operation == "IN":
        parts = [(str(kind), part) for kind, part in argument]
        negated = parts[0][0] == "NEGATE"
        return any(_is_one(kind, part, letter) for kind, part in parts[negated:]) is not negated
    return letter != "\n"  # a dot


_CATEGORIES = {
    "CATEGORY_DIGIT": re.compile(r"\d"),
    "CATEGORY_NOT_DIGIT": re.compile(r"\D"),
    "CATEGORY_SPACE": re.compile(r"\s"),
    "CATEGORY_NOT_SPACE": re.compile(r"\S"),
    "CATEGORY_WORD": re.compile(r"\w"),
    "CATEGORY_NOT_WORD": re.compile(r"\W"),
}
