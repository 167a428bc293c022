"""JSON Schemas as the pydantic classes that CrewAI wants: they say the schema as it is, and check by it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, RootModel, create_model, model_validator

from flowcraft.llm.parse import mismatches, told
from flowcraft.plugin import OutputSpec, ToolSpec


class _Arguments(BaseModel):
    """Takes whatever is given: arguments are checked where the tool is called."""

    model_config = ConfigDict(extra="allow")


class _Value(RootModel[Any]):
    """A value of any kind, checked by its class's schema."""

    @model_validator(mode="after")
    def _fits(self) -> _Value:
        if wrong := mismatches(self.root, type(self).model_json_schema()):
            raise ValueError(told(wrong))
        return self


def arguments_class(spec: ToolSpec) -> type[BaseModel]:
    """Return the class of a tool's arguments."""
    return _saying(spec.parameters, "Arguments", _Arguments)


def output_class(spec: OutputSpec) -> type[BaseModel]:
    """Return the class of an answer that must fit a schema; its ``root`` is the value."""
    return _saying(spec.schema, spec.name or "Output", _Value)


def _saying(schema: Mapping[str, Any], name: str, base: type[BaseModel]) -> type[BaseModel]:
    def model_json_schema(cls: type[BaseModel], *given: Any, **options: Any) -> dict[str, Any]:
        return copy.deepcopy(dict(schema))

    made = create_model(name, __base__=base, __doc__=None)
    made.model_json_schema = classmethod(model_json_schema)  # type: ignore[method-assign, assignment]  # says what is given  # a class made here
    return made
