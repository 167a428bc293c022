"""What is wrong with settings, in words, at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from flowcraft.errors import Problem
from flowcraft.settings.origins import Path, dotted, secret_path, value_at
from flowcraft.settings.sources import Sources
from flowcraft.source import did_you_mean, listed

_KINDS = (
    (("bool",), "must be true or false"),
    (("int", "finite"), "must be a whole number"),
    (("float", "decimal"), "must be a number"),
    (("string",), "must be text"),
    (("model", "dict", "mapping"), "must be a mapping (key: value)"),
    (("tuple", "list", "iterable"), "must be a list"),
)
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def problems_of(error: ValidationError, page: type[BaseModel], sources: Sources, base: Path = ()) -> list[Problem]:
    """Return everything that validation found, each at its place; ``page`` is the model of what stands at ``base``."""
    return [_problem(dict(detail), page, sources, base) for detail in error.errors(include_url=False)]


def _problem(detail: dict[str, Any], page: type[BaseModel], sources: Sources, base: Path) -> Problem:
    inside = _real_path(detail["loc"], value_at(sources.data, base), missing=detail["type"] in ("extra_forbidden", "missing"))
    path = (*base, *inside)
    if detail["type"] == "extra_forbidden":
        return _unknown_key(path, page, sources, base)
    if detail["type"] == "missing":
        return sources.problem_at(path[:-1], f"{dotted(path[:-1])} needs the key {str(path[-1])!r}")
    message, hint = _said(detail, shown=not secret_path(path))
    return sources.problem_at(path, f"{dotted(path)} {message}", hint, key=detail["loc"][-1:] == ("[key]",))


def _unknown_key(path: Path, page: type[BaseModel], sources: Sources, base: Path) -> Problem:
    name, section = str(path[-1]), path[:-1]
    known = keys_at(page, section[len(base) :])
    hint = did_you_mean(name, known)
    if not hint and not base:
        elsewhere = next((other for other in key_paths(page) if name in other), ())
        hint = f"is {'.'.join(elsewhere[: elsewhere.index(name) + 1])} meant?" if elsewhere else ""
    where = dotted(section) or "settings"
    message = f"unknown key {name!r} in {where}"
    if not hint and known:
        message += f" (it has: {listed(sorted(known), 40)})"
    return sources.problem_at(path, message, hint, key=True)


def _said(detail: Mapping[str, Any], *, shown: bool) -> tuple[str, str]:
    kind, value = detail["type"], detail["input"]
    told = f", not {_short(value)}" if shown else ""
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        return f"must be one of {', '.join(words)}{told}", did_you_mean(str(value), words)
    if kind == "value_error":
        return f"cannot be used: {detail['ctx']['error']}", ""
    if kind in _LIMITS:
        words_of_limit, name = _LIMITS[kind]
        return f"must be {words_of_limit} {detail['ctx'][name]:g}{told}", ""
    for beginnings, message in _KINDS:
        if kind.startswith(beginnings):
            return f"{message}{told}", ""
    return f"cannot be used: {detail['msg']}", ""


def _short(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", tuple: "a list", NoneType: "nothing"}
    if type(value) in names:
        return names[type(value)]
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _real_path(location: tuple[str | int, ...], data: Any, *, missing: bool) -> Path:
    """Return the part of pydantic's location that names keys of the page; the rest are its own marks."""
    path: Path = ()
    for number, part in enumerate(location):
        holder = value_at(data, path) if path else data
        inside = (isinstance(holder, Mapping) and part in holder) or (
            isinstance(holder, list | tuple) and isinstance(part, int) and part < len(holder)
        )
        # The first part is a field of the page itself, even where its value came from elsewhere (a preset, a key's variable).
        if inside or number == 0 or (missing and number == len(location) - 1):
            path = (*path, part)
    return path


def keys_at(page: type[BaseModel], path: Path) -> tuple[str, ...]:
    """Return the keys that the page has at ``path``."""
    annotation: Any = page
    for part in path:
        model = model_of(annotation)
        if model is not None:
            field = model.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:
            annotation = item_of(annotation)
    model = model_of(annotation)
    return tuple(model.model_fields) if model is not None else ()


def key_paths(page: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Give the path of every key of the page; what is keyed by names of one's own stands as ``<name>``."""
    for name, field in page.model_fields.items():
        here = (*path, name)
        annotation = field.annotation
        item = item_of(annotation)
        model = model_of(annotation) or model_of(item)
        if model is None:
            yield here
        else:
            yield from key_paths(model, here if model_of(annotation) else (*here, "<name>"))


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a union, without their marks."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(inner for item in get_args(annotation) for inner in alternatives(item))
    return (annotation,)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model that an annotation names, None if it names none."""
    for alternative in alternatives(annotation):
        if isinstance(alternative, type) and issubclass(alternative, BaseModel):
            return alternative
    return None


def item_of(annotation: Any) -> Any:
    """Return what a mapping of an annotation holds, None if it has no mapping."""
    for alternative in alternatives(annotation):
        if get_origin(alternative) is dict:
            return get_args(alternative)[1]
    return None
