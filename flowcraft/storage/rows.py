"""Values into columns and back. What comes back is checked: a file may have been changed by something else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flowcraft.attempts import Attempt, Usage
from flowcraft.errors import StoreError

Check = Callable[[Any], Any]
_MOST = 2**53
"""Counts end here: what JSON readers still take exactly, and so little that sums of them stay within 64 bits."""


def storable(value: str) -> str:
    """Return ``value`` with lone surrogates, which UTF-8 cannot hold, written as JSON writes them."""
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def to_json(value: Any) -> str:
    """Return ``value`` as JSON text that UTF-8 can hold."""
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def text(value: Any) -> str:
    """Take a text."""
    if type(value) is not str:
        raise ValueError(f"text was expected, not {_kind(value)}")
    return value


def integer(value: Any) -> int:
    """Take an integer."""
    if type(value) is not int:
        raise ValueError(f"an integer was expected, not {_kind(value)}")
    return value


def real(value: Any) -> float:
    """Take a number."""
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise ValueError(f"a number was expected, not {_kind(value)}")


def flag(value: Any) -> bool:
    """Take 0 or 1."""
    return bool(integer(value))


def json_text(value: Any) -> str:
    """Take a text that is JSON."""
    json_value(value)
    return value  # type: ignore[no-any-return]  # json_value takes text alone


def json_value(value: Any) -> Any:
    """Take what a JSON text says."""
    try:
        return json.loads(text(value))
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None


def json_object(value: Any) -> dict[str, Any]:
    """Take a JSON object."""
    found = json_value(value)
    if not isinstance(found, dict):
        raise ValueError("a JSON object was expected")
    return found


def optional(check: Check) -> Check:
    """Take NULL, or what ``check`` takes."""
    return lambda value: None if value is None else check(value)


def one_of(words: Iterable[str]) -> Check:
    """Take one of these words."""
    known = frozenset(words)

    def check(value: Any) -> str:
        if text(value) not in known:
            raise ValueError(f"{value!r} is none of {', '.join(sorted(known))}")
        return str(value)

    return check


class Reader:
    """Turns the rows of one table into what they are made of, column by column."""

    def __init__(self, table: str, checks: Mapping[str, Check]) -> None:
        self.table = table
        self.columns = tuple(checks)
        self._checks = tuple(checks.items())
        self._sound: set[tuple[type, ...]] = set()

    def check(self, row: Sequence[Any], key: object) -> None:
        """Raise what a call would. For columns whose type is all that matters: a row like one that was checked is sound."""
        types = tuple(map(type, row))
        if types not in self._sound:
            self(row, key)
            self._sound.add(types)

    def __call__(self, row: Iterable[Any], key: object) -> dict[str, Any]:
        """Return the row's values by column; ``key`` is what an error calls the row.

        Raises StoreError, naming table, row and column.
        """
        found: dict[str, Any] = {}
        try:
            for (column, check), value in zip(self._checks, row, strict=True):
                found[column] = check(value)
        except ValueError as error:
            raise StoreError(
                f"the database is damaged: table {self.table}, row {key}, column {self.columns[len(found)]}: {error}; "
                "restore the file from a copy, or delete the row"
            ) from None
        return found


ATTEMPT: Mapping[str, Check] = {
    **dict.fromkeys(("model", "provider", "role", "outcome", "message"), text),
    **dict.fromkeys(("started", "seconds", "wait"), real),
    "first_token": optional(real),
    **dict.fromkeys(("input", "cached", "cache_write", "output", "reasoning", "audio"), integer),
    "usd": optional(real),
    "offline": flag,
    "estimated": flag,
    "streamed": flag,
}
"""How the columns of an attempt are read, in their order."""


def attempt_values(attempt: Attempt) -> tuple[Any, ...]:
    """Return an attempt as the values of its columns, in the order of ATTEMPT."""
    usage = attempt.usage
    return (
        storable(attempt.model),
        storable(attempt.provider),
        storable(attempt.role),
        attempt.outcome,
        storable(attempt.message),
        attempt.started,
        attempt.seconds,
        attempt.wait,
        attempt.first_token,
        _count(usage.input),
        _count(usage.cached),
        _count(usage.cache_write),
        _count(usage.output),
        _count(usage.reasoning),
        _count(usage.audio),
        None if attempt.usd is None else float(attempt.usd),
        int(attempt.offline),
        int(attempt.estimated),
        int(attempt.streamed),
    )


def _count(value: Any) -> int:
    # Plugins count tokens and money: one that counts oddly (None, a float, beyond 64 bits) must not end everybody's writing.
    return min(int(value or 0), _MOST)


def attempt_of(found: dict[str, Any]) -> Attempt:
    """Return the attempt in a checked row; its columns are taken out of ``found``."""
    values = {name: found.pop(name) for name in ATTEMPT}
    tokens = {name: values.pop(name) for name in ("input", "cached", "cache_write", "output", "reasoning", "audio")}
    return Attempt(**values, usage=Usage(**tokens))


def _kind(value: Any) -> str:
    return "NULL" if value is None else "bytes" if isinstance(value, bytes) else type(value).__name__
