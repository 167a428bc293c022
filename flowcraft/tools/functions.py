"""Python functions as tools: what a model is told comes from type hints, defaults and the docstring."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from flowcraft.plugin.tools import Effect, Tool, ToolSpec, tool_notes

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The names of tools that every vendor takes."""


def function_tool(function: Callable[..., Any], *, name: str = "", description: str = "", effect: Effect | None = None) -> Tool:
    """Return ``function``, sync or async, as a tool; what is not given is read from it.

    Raises TypeError where its arguments cannot be described to a model, ValueError where its name cannot be a tool's.
    """
    notes = tool_notes(function)
    name = name or notes.name or getattr(function, "__name__", "")
    if not TOOL_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a tool: 1 to 64 letters, digits, '_' and '-'; give it a name of its own")
    if inspect.isclass(function):
        raise TypeError(f"the class {name!r} cannot be a tool: what it makes says nothing to a model; name a function")
    told, parameters = _documented(function)
    try:
        arguments = _Arguments(function, parameters)
    except (TypeError, NameError, PydanticUserError) as error:
        raise TypeError(f"the function {name!r} cannot be a tool: {str(error).splitlines()[0]}") from None
    spec = ToolSpec(name=name, description=description or notes.description or told, parameters=arguments.schema())
    return Tool(spec=spec, call=_calling(function, arguments), effect=effect or notes.effect, untrusted=notes.untrusted)


def _calling(function: Callable[..., Any], arguments: _Arguments) -> Callable[..., Any]:
    """Return ``function`` so that it takes JSON values, and gets what its hints say: models, enumerations, dates."""
    call = getattr(function, "__call__", None)  # noqa: B004 - not whether it can be called, but what is called
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):

        @functools.wraps(function)
        async def asynchronous(**given: Any) -> Any:
            return await function(**arguments.bound(given))

        return asynchronous

    @functools.wraps(function)
    def synchronous(**given: Any) -> Any:
        return function(**arguments.bound(given))

    return synchronous


class _Schema(GenerateJsonSchema):
    """Without titles, which only repeat the names."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as pydantic declares it

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: the name says it."""
        return False


class _Arguments:
    """The arguments of a function as a pydantic model, whose fields have names of our own: a function may use any."""

    def __init__(self, function: Callable[..., Any], described: Mapping[str, str]) -> None:
        self._names: dict[str, str] = {}
        fields: dict[str, Any] = {}
        takes_all = False
        hints = _hints(function)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(f"it takes {parameter.name!r} by place, and a model gives names")
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_all = True
                continue
            field = f"argument_{len(fields)}"
            self._names[field] = parameter.name
            fields[field] = _field(parameter, hints.get(parameter.name, Any), described.get(parameter.name, ""))
        config = ConfigDict(extra="allow" if takes_all else "forbid", validate_by_alias=True, protected_namespaces=())
        self._model: type[BaseModel] = create_model("Arguments", __config__=config, **fields)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the arguments."""
        schema = self._model.model_json_schema(by_alias=True, schema_generator=_Schema)
        schema.pop("title", None)
        schema.setdefault("properties", {})
        return schema

    def bound(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function's hints want them; what is left out is left to the function's defaults."""
        try:
            model = self._model.model_validate(dict(given))
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False))
            raise ValueError(f"the arguments do not fit: {told}") from None
        bound = {name: getattr(model, field) for field, name in self._names.items() if field in model.model_fields_set}
        return {**bound, **(model.model_extra or {})}


def _field(parameter: inspect.Parameter, hint: Any, described: str) -> tuple[Any, FieldInfo]:
    default = ... if parameter.default is parameter.empty else parameter.default
    told = _annotated_text(hint) or described
    if isinstance(default, FieldInfo):
        raise TypeError(f"{parameter.name!r} has a Field as its default: write Annotated[..., Field(...)]")
    return hint, Field(default, alias=parameter.name, description=told or None)


def _annotated_text(hint: Any) -> str:
    """Return what ``Annotated`` says of a parameter: a text, or the description of a Field."""
    if get_origin(hint) is not Annotated:
        return ""
    for note in get_args(hint)[1:]:
        text = note if isinstance(note, str) else getattr(note, "description", None)
        if isinstance(text, str) and text:
            return text
    return ""


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = target.__call__
    target = inspect.unwrap(target)
    try:
        return get_type_hints(target, include_extras=True)
    except NameError as error:
        raise TypeError(f"its type hints cannot be resolved: {error}") from None


def _documented(function: Callable[..., Any]) -> tuple[str, Mapping[str, str]]:
    """Return what a docstring (Google's, numpy's, Sphinx's or plain) says of the function and of each parameter."""
    import docstring_parser

    text = inspect.getdoc(function) if inspect.isroutine(function) else inspect.getdoc(getattr(function, "func", function))
    try:
        parsed = docstring_parser.parse(text or "")
    except docstring_parser.ParseError:
        return (text or "").strip(), {}
    described = {item.arg_name: (item.description or "").strip() for item in parsed.params}
    return (parsed.description or "").strip(), described
