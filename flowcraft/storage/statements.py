"""Core statements turned once into the driver's own text, for what runs thousands of times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.sql.compiler import SQLCompiler


class Statement:
    """A statement as ``text`` for a driver that takes its parameters by position, in the order of ``names``."""

    def __init__(self, statement: ClauseElement, dialect: Dialect, columns: Sequence[str] = ()) -> None:
        compiler = statement.compile(dialect=dialect, column_keys=list(columns) or None)
        assert isinstance(compiler, SQLCompiler)
        self.text = str(compiler)
        self.names = tuple(compiler.positiontup or ())
        self._constants = {name: value for name, value in compiler.params.items() if value is not None}

    def bind(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the parameters in their order, the statement's own constants included."""
        constants = self._constants
        return tuple([values[name] if name in values else constants[name] for name in self.names])
