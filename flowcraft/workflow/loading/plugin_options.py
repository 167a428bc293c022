"""The options of a plugin's body: checked against its pydantic model, with templates where the model marks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from flowcraft.plugin.stages import StageBody
from flowcraft.plugin.stages import Template as TemplateMark
from flowcraft.source import did_you_mean, listed
from flowcraft.workflow.expressions.template import OPENING
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind


def read_options(reading: Reading, path: Path, data: Any, body: type[StageBody], stage: str) -> Any:
    """Return the options with a template in the place of each marked text; keep what is wrong."""
    options = body.Options
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        reading.problem(path, f"'{body.key}' must be a mapping of options, not {plain_kind(data)}", _known(options))
        return {}
    by_key = {field.alias or name: field for name, field in options.model_fields.items()}
    read = {}
    for key, value in data.items():
        field = by_key.get(key)
        if field is not None and marked(field):
            read[key] = reading.value((*path, key), value, body.key, stage)
            continue
        read[key] = value
        if field is not None and _has_template(value):
            reading.problem((*path, key), f"'{key}' takes no template")
    if not _has_template(data):
        _validate(reading, path, data, options)
        return read
    for key in data:
        if key not in by_key and options.model_config.get("extra") == "forbid":
            reading.problem((*path, key), f"unknown option '{key}'", did_you_mean(key, by_key) or _known(options), key=True)
    for key, field in by_key.items():
        if key not in data and field.is_required():
            reading.problem(path, f"the option '{key}' is missing", key=True)
        elif key in data and not _has_template(data[key]):
            _validate_field(reading, (*path, key), data[key], field)
    return read


def marked(field: Any) -> bool:
    """Say whether an option may be a template."""
    return any(mark is TemplateMark or isinstance(mark, TemplateMark) for mark in field.metadata)


def _has_template(value: Any) -> bool:
    if isinstance(value, str):
        return OPENING in value
    if isinstance(value, Mapping):
        return any(_has_template(part) for part in value.values())
    return isinstance(value, list) and any(_has_template(part) for part in value)


def _known(options: type[BaseModel]) -> str:
    names = [field.alias or name for name, field in options.model_fields.items()]
    return f"the options are: {listed(names)}" if names else "it has no options"


def _validate(reading: Reading, path: Path, data: Any, options: type[BaseModel]) -> None:
    try:
        options.model_validate(data)
    except ValidationError as error:
        names = [field.alias or name for name, field in options.model_fields.items()]
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            at: Path = (*path, *item["loc"])
            if item["type"] == "extra_forbidden":
                hint = did_you_mean(str(item["loc"][-1]), names) or _known(options)
                reading.problem(at, f"unknown option '{item['loc'][-1]}'", hint, key=True)
            elif item["type"] == "missing":
                reading.problem(at[:-1], f"the option '{item['loc'][-1]}' is missing", key=True)
            else:
                reading.problem(at, f"'{'.'.join(map(str, item['loc']))}': {item['msg']}")


def _validate_field(reading: Reading, path: Path, value: Any, field: Any) -> None:
    try:
        TypeAdapter(field.rebuild_annotation()).validate_python(value)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            reading.problem((*path, *item["loc"]), f"'{path[-1]}': {item['msg']}")
