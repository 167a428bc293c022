"""Types that others define: pydantic models, JSON Schemas. What they need is imported on first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flowcraft.errors import WorkflowError
from flowcraft.source.schemas import validator_of
from flowcraft.workflow.types.type import INLINE, Details, Fields, ListOf, Named, Nullable, Type


class _Held:
    """Holds what was made on first use."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Type):
    """A pydantic model, ``package.module:Model``; looked up beside the workflow file first."""

    target: str
    folder: str = ""
    held: _Held = field(default_factory=_Held, compare=False, repr=False)

    @property
    def text(self) -> str:
        """``package.module:Model``."""
        return self.target

    def resolve(self, load: Callable[[str], Any]) -> Type:
        """Import the model with ``load``."""
        module, _, name = self.target.partition(":")
        found = replace(self, held=_Held())
        found.held.value = _model(load(module), name, self.target)
        return found

    @property
    def model(self) -> Any:
        """The class; imported when it is first asked for. Raises WorkflowError."""
        if self.held.value is None:
            module, _, name = self.target.partition(":")
            self.held.value = _model(_import(module, self.folder), name, self.target)
        return self.held.value

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return what the model makes of ``value``, as JSON-like data."""
        from pydantic import BaseModel, ValidationError

        if isinstance(value, BaseModel):
            value = value.model_dump(mode="json")
        try:
            return self.model.model_validate(value).model_dump(mode="json")
        except ValidationError as error:
            for item in error.errors(include_url=False, include_context=False, include_input=False):
                details.append({"field": _below(where, item["loc"]), "message": item["msg"]})
            return None

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return pydantic's own schema."""
        return self._described(_hoisted(self.model.model_json_schema(), defs))

    @property
    def size(self) -> int:
        """Large: it may bring ``$defs``, which belong to the root."""
        return INLINE + 1


def _model(module: Any, name: str, target: str) -> Any:
    from pydantic import BaseModel

    found = getattr(module, name, None)
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise WorkflowError(f"'{target}' is no pydantic model")
    return found


def _import(module: str, folder: str) -> Any:
    base = Path(folder).joinpath(*module.split("."))
    beside = bool(folder) and (base.with_suffix(".py").is_file() or (base / "__init__.py").is_file())
    if beside and folder not in sys.path:
        sys.path.insert(0, folder)
        try:
            return importlib.import_module(module)
        finally:
            sys.path.remove(folder)
    return importlib.import_module(module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema(Type):
    """A full JSON Schema, written under ``schema:``."""

    definition: Mapping[str, Any]
    held: _Held = field(default_factory=_Held, compare=False, repr=False)

    @property
    def text(self) -> str:
        """``a JSON Schema``."""
        return "a JSON Schema"

    @property
    def nullable(self) -> bool:
        """Whether null fits."""
        details: Details = []
        self.fit(None, "", details)
        return not details

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return ``value`` if it fits the schema."""
        if self.held.value is None:
            self.held.value = validator_of(self.definition)
        try:
            for error in self.held.value.iter_errors(value):
                details.append({"field": _below(where, error.absolute_path), "message": error.message[:500]})
        except RecursionError:
            details.append({"field": where, "message": "nests too deep to be checked"})
        return value

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the schema as it was written."""
        return self._described(_hoisted(self.definition, defs))

    @property
    def size(self) -> int:
        """Large: it may bring ``$defs``, which belong to the root."""
        return INLINE + 1


def imports(kind: Type) -> bool:
    """Say whether a type holds a pydantic model that is not imported yet: checking a value would run the user's code."""
    if isinstance(kind, Model):
        return kind.held.value is None
    if isinstance(kind, Fields):
        return any(map(imports, kind.fields.values()))
    if isinstance(kind, ListOf):
        return imports(kind.element)
    if isinstance(kind, Nullable):
        return imports(kind.inner)
    return isinstance(kind, Named) and imports(kind.target)


def _hoisted(schema: Mapping[str, Any], defs: dict[str, Any] | None) -> dict[str, Any]:
    """Return ``schema`` with its ``$defs`` moved to those of the root."""
    if defs is not None:
        defs.update(schema.get("$defs", {}))
    return {key: part for key, part in schema.items() if key != "$defs" or defs is None}


def _below(where: str, path: Any) -> str:
    text = where
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text
