"""The keys of a stage that say when and how often it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowcraft.source import did_you_mean
from flowcraft.workflow.expressions.expression import Constant, Expression
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import Value


def read_flow(reading: Reading, path: Path, data: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """Read ``needs``, ``when``, ``each``, ``until`` and ``on_error``; ``stage`` is the stage's id."""
    on_error = data.get("on_error", "fail")
    if on_error not in ("fail", "continue"):
        hint = did_you_mean(str(on_error), ("fail", "continue"))
        reading.problem((*path, "on_error"), "'on_error' must be fail or continue", hint)
    return {
        "needs": _needs(reading, (*path, "needs"), data.get("needs")),
        "when": _condition(reading, path, "when", data, stage) if "when" in data else None,
        "each": _each(reading, (*path, "each"), data["each"], stage) if "each" in data else None,
        "until": _condition(reading, path, "until", data, stage) if "until" in data else None,
        "on_error": on_error,
    }


def check_pairs(reading: Reading, path: Path, data: Mapping[str, Any]) -> None:
    """Refuse a key that means nothing without another one."""
    if "parallel" in data and "each" not in data:
        reading.problem((*path, "parallel"), "'parallel' without 'each'", "it says how many elements at a time", key=True)
    if "until" in data and "max" not in data:
        reading.problem((*path, "until"), "'until' without 'max'", "add how often it is tried at most: max: 3", key=True)
    if "max" in data and "until" not in data:
        hint = "for so many more goes after a failure write retry: N" if "retry" not in data else ""
        reading.problem((*path, "max"), "'max' without 'until'", hint or "add what must become true: until: ...", key=True)


def _needs(reading: Reading, path: Path, data: Any) -> tuple[str, ...]:
    """Read ``needs``; whether the stages exist is checked when all are known."""
    if data is None:
        return ()
    if not isinstance(data, list):
        reading.problem(path, f"'needs' must be a list of stages, not {plain_kind(data)}", f"write needs: [{data}]")
        return ()
    names = []
    for index, name in enumerate(data):
        if not isinstance(name, str):
            reading.problem((*path, index), f"'needs' holds names of stages, not {plain_kind(name)}")
        elif name in names:
            reading.problem((*path, index), f"'{name}' stands twice")
        else:
            names.append(name)
    return tuple(names)


def _condition(reading: Reading, base: Path, key: str, data: Mapping[str, Any], stage: str) -> Expression | None:
    """Read a condition: an expression, or a YAML boolean, number, null or list."""
    path, written = (*base, key), data[key]
    if isinstance(written, str):
        return reading.expression(path, written, key, stage)
    if isinstance(written, Mapping):
        reading.problem(path, f"'{key}' must be an expression, not a mapping", "put it in quotes")
        return None
    return Expression(text=str(written), root=Constant(constant=written), position=reading.document.position(path))


def _each(reading: Reading, path: Path, data: Any, stage: str) -> Expression | tuple[Value, ...] | None:
    """Read a list, or an expression that gives one."""
    if isinstance(data, list):
        return tuple(reading.value((*path, index), part, "each", stage) for index, part in enumerate(data))
    if isinstance(data, str):
        return reading.expression(path, data, "each", stage)
    if data is None:
        return ()
    reading.problem(path, f"'each' must be a list or an expression, not {plain_kind(data)}")
    return None
