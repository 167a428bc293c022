"""What a run is given: from the command line or a program, checked against the inputs of the workflow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from flowcraft.errors import Problem, WorkflowError
from flowcraft.source import did_you_mean, listed, read_document
from flowcraft.workflow.schema import Input, Workflow
from flowcraft.workflow.types.foreign import imports
from flowcraft.workflow.types.syntax import finite, parse_json
from flowcraft.workflow.types.type import Enumeration, ListOf, Scalar, Type, TypeMismatch

_INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,300}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_LARGEST = 10_000_000


def bind_inputs(workflow: Workflow, values: Mapping[str, Any], *, importing: bool = True) -> dict[str, Any]:
    """Return the inputs of a run: ``values`` as they fit their types, defaults where none is given.

    Not ``importing``, pydantic models are not asked, which would run the user's code. Raises WorkflowError that lists every
    unknown, missing and wrong input.
    """
    problems = _unknown(workflow, values) + _missing(workflow, values)
    bound: dict[str, Any] = {}
    for name, known in workflow.inputs.items():
        value, foreign = values.get(name, known.default), imports(known.type)
        if (foreign and not importing) or (name not in values and (value is None or not foreign)):
            bound[name] = value
            continue
        try:
            bound[name] = known.type.check(value)
        except TypeMismatch as error:
            problems += [_wrong(known, item) for item in error.details]
    if problems:
        raise WorkflowError(problems=problems)
    return bound


def parse_inputs(
    workflow: Workflow,
    pairs: Sequence[str],
    *,
    file: str | os.PathLike[str] | None = None,
    stdin: TextIO | None = None,
) -> dict[str, Any]:
    """Return the inputs that the command line gives: ``name=value`` pairs over those of a YAML or JSON ``file``.

    A value ``@path`` is the text of a file, ``@-`` that of ``stdin``; ``@@`` begins a text with ``@``. Raises WorkflowError
    that lists everything that is wrong, missing inputs included.
    """
    given = _from_file(file)
    texts: dict[str, list[tuple[str, bool]]] = {}
    problems: list[Problem] = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            problems.append(Problem(message=f"'{pair}' is no input", hint="write -i name=value"))
            continue
        if name not in workflow.inputs:
            problems += _unknown(workflow, {name: text})
            continue
        try:
            texts.setdefault(name, []).append(_text(text, stdin))
        except ValueError as error:
            texts.setdefault(name, [])
            problems.append(Problem(message=f"input '{name}': {error}"))
        stdin = None if text == "@-" else stdin
    for name, found in texts.items():
        try:
            given[name] = _value(workflow.inputs[name].type, found) if found else None
        except ValueError as error:
            problems.append(Problem(message=f"input '{name}': {error}"))
            given[name] = None
    if problems:
        rest = _unknown(workflow, {name: value for name, value in given.items() if name not in texts})
        raise WorkflowError(problems=[*problems, *rest, *_missing(workflow, given)])
    return given


def _from_file(file: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the inputs of a YAML or JSON file."""
    if file is None:
        return {}
    name = os.fspath(file)
    try:
        with open(name, "rb") as opened:
            raw = opened.read(_LARGEST)
    except OSError as error:
        problem = Problem(message=f"the file of inputs cannot be read: {error.strerror}", file=name)
        raise WorkflowError(problems=[problem]) from None
    data = _json_file(raw, name) if name.endswith(".json") else read_document(raw, name, WorkflowError).data
    if not isinstance(data, dict | None):
        problem = Problem(message="a file of inputs is a mapping of names and values", file=name, line=1, column=1)
        raise WorkflowError(problems=[problem])
    return dict(data or {})


def _json_file(raw: bytes, name: str) -> Any:
    """Return what a JSON file says: YAML does not know its escapes of characters beyond 16 bits."""
    try:
        return parse_json(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        problem = Problem(message=f"this is not JSON: {error.msg}", file=name, line=error.lineno, column=error.colno)
    except (ValueError, RecursionError) as error:
        problem = Problem(message=f"this is not JSON: {error}", file=name)
    raise WorkflowError(problems=[problem])


def _unknown(workflow: Workflow, values: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for name in values:
        if name not in workflow.inputs:
            known = f"the inputs are: {listed(workflow.inputs)}" if workflow.inputs else "the workflow takes no inputs"
            hint = did_you_mean(name, workflow.inputs) or known
            problems.append(Problem(message=f"unknown input '{name}'", hint=hint))
    return problems


def _missing(workflow: Workflow, values: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for name, known in workflow.inputs.items():
        if known.required and name not in values:
            about = f": {known.type.description}" if known.type.description else ""
            hint = f"give it with -i {name}=..."
            problems.append(Problem(message=f"the input '{name}' ({known.type.text}{about}) is missing", hint=hint))
    return problems


def _wrong(known: Input, item: Mapping[str, str]) -> Problem:
    where = item["field"]
    separator = "" if not where or where.startswith("[") else "."
    return Problem(message=f"input '{known.name}{separator}{where}': {item['message']}")


def _text(text: str, stdin: TextIO | None) -> tuple[str, bool]:
    """Return the text of a value, and whether it stood on the command line itself. Raises ValueError."""
    if text.startswith("@@"):
        return text[1:], True
    if not text.startswith("@"):
        return text, True
    if text == "@-":
        if stdin is None:
            raise ValueError("there is no standard input, or another input has read it")
        return stdin.read(), False
    if text == "@":
        raise ValueError("no path behind '@'; a text that begins with '@' is written '@@'")
    try:
        with open(text[1:], "rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{text[1:]} cannot be read: {error.strerror}") from None
    if len(raw) > _LARGEST:
        raise ValueError(f"{text[1:]} has more than 10 MB; pass its path and read it in a function")
    try:
        return raw.decode("utf-8").removeprefix("\ufeff"), False
    except UnicodeDecodeError:
        raise ValueError(f"{text[1:]} is not UTF-8 text") from None


def _value(kind: Type, texts: Sequence[tuple[str, bool]]) -> Any:
    """Return the value of an input that was given once, or of a list whose elements were given one by one."""
    bare = kind.bare
    if isinstance(bare, ListOf):
        text, literal = texts[0]
        whole = text.lstrip().startswith("[") and (literal or bare.element.bare != Scalar(name="string"))
        if len(texts) == 1 and (whole or (kind.nullable and text == "null")):
            return _json(text)
        return [_one(bare.element, text) for text, _ in texts]
    if len(texts) > 1:
        raise ValueError("it is given more than once, and it is no list")
    return _one(kind, texts[0][0])


def parse_value(kind: Type, *texts: str) -> Any:
    """Return the value of a type that a text says, or of a list that several say, as an input's; ValueError: they say none."""
    return _value(kind, [(text, True) for text in texts])


def _one(kind: Type, text: str) -> Any:
    """Return one value: text as it is, numbers and booleans strictly, all else as JSON."""
    bare = kind.bare
    if isinstance(bare, Enumeration) or bare == Scalar(name="string"):
        return text
    stripped = text.strip()
    if kind.nullable and stripped == "null":
        return None
    if isinstance(bare, Scalar) and bare.name == "boolean":
        if stripped not in ("true", "false"):
            raise ValueError(f"write true or false, not '{_short(text)}'")
        return stripped == "true"
    if isinstance(bare, Scalar) and bare.name == "integer":
        if not _INTEGER.fullmatch(stripped):
            raise ValueError(f"'{_short(text)}' is no whole number")
        return int(stripped)
    if isinstance(bare, Scalar) and bare.name == "number":
        if not _NUMBER.fullmatch(stripped):
            raise ValueError(f"'{_short(text)}' is no number")
        return int(stripped) if _INTEGER.fullmatch(stripped) else finite(stripped)
    return _json(text)


def _json(text: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError):
        hint = f"""; text stands in quotes: '"{text}"'""" if re.fullmatch(r"[^\W0-9][\w -]{0,30}", text) else ""
        raise ValueError(f"'{_short(text)}' is no JSON{hint}") from None


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


def parse_written(kind: Type, text: str, stdin: TextIO | None = None) -> Any:
    """Return the value of a type as a command line writes it, like that of an input: ``@path`` reads a file, ``@-`` ``stdin``.

    Raises ValueError where the text says none.
    """
    return _value(kind, [_text(text, stdin)])
