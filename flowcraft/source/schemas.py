"""JSON Schemas that a file brings: what is wrong in them, and validators that fetch nothing and come to an end."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft.source.patterns import LONGEST_TEXT, pattern_mistake, repeats

Place = tuple[str | int, ...]

MOST_PATTERNS = 100

_DATA = frozenset({"enum", "const", "default", "examples"})
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")


def schema_mistakes(definition: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield the path and the message of what is wrong in a JSON Schema itself."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    dialect = definition.get("$schema")
    if dialect is not None and (not isinstance(dialect, str) or not _is_known(dialect)):
        yield ("$schema",), "an unknown dialect: leave it out, or write https://json-schema.org/draft/2020-12/schema"
        return
    if (many := _count(definition)) > MOST_PATTERNS:
        yield (), f"it holds {many:,} patterns; at most {MOST_PATTERNS}"
        return
    wrong = [*_mistakes(definition, ())]  # first of all: checking the schema compiles its patterns
    yield from wrong
    if wrong:
        return
    try:
        validator_for(definition).check_schema(dict(definition))
    except SchemaError as error:
        yield tuple(error.absolute_path), error.message[:500]
        return
    yield from _circles(definition)


def _count(part: Any) -> int:
    """Return how many patterns a schema holds."""
    if isinstance(part, list):
        return sum(map(_count, part))
    if not isinstance(part, Mapping):
        return 0
    names = part.get("patternProperties")
    own = isinstance(part.get("pattern"), str) + (len(names) if isinstance(names, Mapping) else 0)
    return own + sum(map(_count, part.values()))


def _is_known(dialect: str) -> bool:
    from referencing.jsonschema import UnknownDialect, specification_with

    try:
        specification_with(dialect)
    except UnknownDialect:
        return False
    return True


def validator_of(schema: Mapping[str, Any]) -> Any:
    """Return a validator of values. Nothing is fetched; a pattern that may take for ever is passed over.

    Schemas of files were refused for such patterns; those of tool servers and of pydantic's models were not asked.
    """
    from jsonschema.validators import validator_for
    from referencing import Registry

    return _bounded(validator_for(schema))(dict(schema), registry=Registry())


@functools.cache
def _bounded(kind: Any) -> Any:
    from jsonschema import validators

    extend: Any = validators.extend
    return extend(kind, {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique_items})


def _pattern(validator: Any, pattern: str, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(value, str) or pattern_mistake(pattern):
        return
    if len(value) > LONGEST_TEXT and repeats(pattern):
        yield ValidationError(f"a text of {len(value):,} characters is too long for the pattern {pattern!r}")
    elif not re.search(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if not isinstance(value, Mapping):
        return
    for pattern, inner in patterns.items():
        for name, part in () if pattern_mistake(pattern) else value.items():
            if len(name) <= LONGEST_TEXT and re.search(pattern, name):
                yield from validator.descend(part, inner, path=name, schema_path=pattern)


def _unique_items(validator: Any, unique: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """Say whether an element stands twice, in one go: the library compares objects each with each."""
    from jsonschema.exceptions import ValidationError

    if unique is not True or not isinstance(value, list):
        return
    first: dict[str, int] = {}
    for index, element in enumerate(value):
        before = first.setdefault(json.dumps(_comparable(element), sort_keys=True), index)
        if before != index:
            yield ValidationError(f"elements {before} and {index} are the same, and all must differ")
            return


def _comparable(value: Any) -> Any:
    """Return ``value`` with whole numbers written in one way: to JSON Schema 1.0 is 1."""
    if isinstance(value, Mapping):
        return {str(name): _comparable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_comparable(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mistakes(part: Any, path: Place) -> Iterator[tuple[Place, str]]:
    """Yield references to elsewhere, and patterns that are not carried out."""
    items: Any = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list) else ()
    named = bool(path) and path[-1] in ("properties", "$defs", "definitions", "dependentSchemas")
    for key, value in items:
        at = (*path, key)
        if isinstance(part, Mapping) and not named:
            yield from _keyword(key, value, at)
            if key in _DATA:
                continue
        yield from _mistakes(value, at)


def _keyword(key: str, value: Any, at: Place) -> Iterator[tuple[Place, str]]:
    if key in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
        yield at, "a schema refers only to its own parts ('#/...')"
    elif key == "$id" and isinstance(value, str) and len(at) > 1:
        yield at, "'$id' stands only at the top of a schema"
    elif key == "pattern" and isinstance(value, str) and (mistake := pattern_mistake(value)):
        yield at, mistake
    elif key == "patternProperties" and isinstance(value, Mapping):
        yield from (((*at, name), mistake) for name in value if (mistake := pattern_mistake(name)))


def _circles(definition: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield references that lead nowhere, or back to themselves without a step into the value."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012, specification_with

    dialect = definition.get("$schema")
    nameless = {key: value for key, value in definition.items() if key != "$id"}
    resource = (specification_with(dialect) if dialect else DRAFT202012).create_resource(nameless)
    resolver = Registry().with_resource("", resource).resolver()
    done: set[int] = set()

    def follow(part: Any, path: Place, around: tuple[int, ...]) -> Iterator[tuple[Place, str]]:
        if not isinstance(part, Mapping) or id(part) in done:
            return
        if id(part) in around:
            yield path, "a schema that refers to itself before anything else"
            return
        inner = (*around, id(part))
        for key in _REFERENCES:
            if isinstance(part.get(key), str):
                try:
                    target = resolver.lookup(part[key]).contents
                except Unresolvable:
                    yield (*path, key), f"'{part[key]}' is no part of the schema"
                    continue
                yield from follow(target, (*path, key), inner)
        for key in _IN_PLACE:
            several = part.get(key)
            for index, one in enumerate(several) if isinstance(several, list) else ((None, several),):
                yield from follow(one, (*path, key) if index is None else (*path, key, index), inner)
        done.add(id(part))

    for part, path in _schemas(nameless, ()):
        yield from follow(part, path, ())


def _schemas(part: Any, path: Place) -> Iterator[tuple[Any, Place]]:
    if isinstance(part, Mapping):
        yield part, path
    items: Any = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        if key not in _DATA:
            yield from _schemas(value, (*path, key))
