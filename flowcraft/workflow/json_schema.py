"""The JSON Schema of the language, for editors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from flowcraft.plugin.stages import StageBody
from flowcraft.workflow.schema import LANGUAGE_VERSION
from flowcraft.workflow.stage_settings import MOST_PARALLEL, MOST_RETRIES, MOST_TRIES, PARAMS
from flowcraft.workflow.words import BODIES, DEFAULT_KEYS, RESERVED, STAGE_KEYS, STAGE_NAME, STRATEGIES, TOP_KEYS, takes

_DURATION = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s?(ms|s|m|h|d)\s*$|^\$\{\{.*\}\}$"}
_WHOLE_TEMPLATE = {"type": "string", "pattern": r"^\$\{\{[\s\S]*\}\}$"}
_FILE = {
    "type": "object",
    "properties": {"file": {"type": "string", "description": "A path below the workflow's folder."}},
    "required": ["file"],
    "additionalProperties": False,
}


def workflow_schema(bodies: Mapping[str, type[StageBody]]) -> dict[str, Any]:
    """Return the JSON Schema of a workflow file; ``bodies`` are those of plugins."""
    added = {key: body for key, body in bodies.items() if key not in BODIES}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"FlowCraft workflow, version {LANGUAGE_VERSION}",
        "type": "object",
        "required": ["flowcraft", "stages"],
        "properties": {key: {**_TOP[key], "description": text} for key, text in TOP_KEYS.items()},
        "patternProperties": {"^x-": {"description": "Yours: ignored."}},
        "additionalProperties": False,
        "$defs": {
            "template": {"anyOf": [{"type": "string"}, _FILE], "description": "Text with ${{ expression }} in it."},
            "value": {"description": "Data whose texts may hold ${{ expression }}."},
            "expression": {"type": ["string", "boolean", "number", "array", "null"]},
            "type": {
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "minItems": 1, "maxItems": 1, "items": {"$ref": "#/$defs/type"}},
                    {"$ref": "#/$defs/json_schema"},
                    {"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/$defs/type"}},
                ],
                "description": "string, integer, number, boolean, any, [T], {field: T}, a | b, T | null, or a name of 'types'.",
            },
            "json_schema": {
                "type": "object",
                "properties": {"schema": {"type": "object", "description": "A full JSON Schema."}},
                "required": ["schema"],
                "additionalProperties": False,
            },
            "stage_name": {"type": "string", "pattern": f"^{STAGE_NAME}$", "not": {"enum": sorted(RESERVED)}},
            "stage": _stage(added),
        },
    }


def _named(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": ["object", "null"], "propertyNames": {"$ref": "#/$defs/stage_name"}, "additionalProperties": of}


_SETTINGS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "minLength": 1},
    "strategy": {"enum": list(STRATEGIES)},
    "params": {
        "type": ["object", "null"],
        "properties": {name: {"anyOf": [{"type": [*kinds, "null"]}, _WHOLE_TEMPLATE]} for name, kinds in PARAMS.items()}
        | {"extra": {"type": ["object", "null"], "description": "What one vendor alone has; passed on as it is."}},
        "additionalProperties": False,
    },
    "timeout": _DURATION,
    "retry": {
        "anyOf": [
            {"type": "integer", "minimum": 0, "maximum": MOST_RETRIES},
            {
                "type": "object",
                "properties": {
                    "max": {"type": "integer", "minimum": 0, "description": "So many more goes."},
                    "backoff": {**_DURATION, "description": "The first pause (1s); each further one is twice as long."},
                },
                "required": ["max"],
                "additionalProperties": False,
            },
        ]
    },
    "parallel": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_PARALLEL}, _WHOLE_TEMPLATE]},
}

_TEXTS: dict[str, Any] = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}

_TOP: dict[str, dict[str, Any]] = {
    "flowcraft": {"const": LANGUAGE_VERSION},
    "name": {"type": ["string", "null"]},
    "description": {"type": ["string", "null"]},
    "inputs": _named({"$ref": "#/$defs/type"}),
    "types": {"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/type"}},
    "env": {"type": ["array", "null"], "uniqueItems": True, "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
    "budget": {
        "type": ["object", "null"],
        "properties": {
            "usd": {"type": "number", "exclusiveMinimum": 0, "description": "Dollars."},
            "calls": {"type": "integer", "minimum": 1, "description": "Calls of models."},
            "tokens": {"type": "integer", "minimum": 1, "description": "Tokens, in and out."},
            "time": {**_DURATION, "description": "How long the run may take."},
        },
        "additionalProperties": False,
    },
    "defaults": {
        "type": ["object", "null"],
        "properties": {key: {**_SETTINGS[key], "description": STAGE_KEYS[key].description} for key in DEFAULT_KEYS},
        "additionalProperties": False,
    },
    "mcp": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"},
        "additionalProperties": {
            "type": "object",
            "properties": {
                "command": {"type": "string", "minLength": 1, "description": "A program that is started, and asked by pipes."},
                "args": {"type": ["array", "null"], "items": {"type": "string"}, "description": "Its arguments."},
                "env": {**_TEXTS, "description": "Environment variables that it gets besides."},
                "url": {"type": "string", "minLength": 1, "description": "Where the server is asked over HTTP."},
                "headers": {**_TEXTS, "description": "Headers of each request."},
            },
            "oneOf": [
                {"required": ["command"], "properties": {"headers": False}},
                {"required": ["url"], "properties": {"args": False, "env": False}},
            ],
            "additionalProperties": False,
        },
    },
    "stages": {**_named({"$ref": "#/$defs/stage"}), "type": "object"},
    "finally": _named({"$ref": "#/$defs/stage"}),
    "outputs": {"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/value"}},
}

_STAGE: dict[str, dict[str, Any]] = {
    **_SETTINGS,
    "needs": {"type": ["array", "null"], "uniqueItems": True, "items": {"type": "string"}},
    "when": {"$ref": "#/$defs/expression"},
    "each": {"type": ["string", "array", "null"]},
    "until": {"$ref": "#/$defs/expression"},
    "max": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_TRIES}, _WHOLE_TEMPLATE]},
    "stages": {**_named({"$ref": "#/$defs/stage"}), "type": "object"},
    "on_error": {"enum": ["fail", "continue"]},
    "with": {"type": ["object", "null"], "additionalProperties": {"$ref": "#/$defs/value"}},
    "output": {"$ref": "#/$defs/type"},
    "system": {"$ref": "#/$defs/template"},
    "attach": {
        "anyOf": [{"$ref": "#/$defs/template"}, {"type": "array", "items": {"$ref": "#/$defs/template"}}, {"type": "null"}]
    },
    "tools": {"type": ["array", "null"], "uniqueItems": True, "items": {"type": "string", "minLength": 1}},
    "judge": {
        "type": "object",
        "properties": {
            "model": {"type": "string", "minLength": 1, "description": "A tier, an alias or a model."},
            "rubric": {"$ref": "#/$defs/template"},
        },
        "required": ["rubric"],
        "additionalProperties": False,
    },
    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    "prompt": {"$ref": "#/$defs/template"},
    "run": {"type": "string", "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$"},
    "shell": {"type": "string", "minLength": 1},
    "uses": {"type": "string", "minLength": 1},
}


def _stage(added: Mapping[str, type[StageBody]]) -> dict[str, Any]:
    """Return the schema of a stage: exactly one body, and only the keys that it takes."""
    plugin_takes = {key: frozenset(body.takes) for key, body in added.items()}
    properties = {key: {**_STAGE[key], "description": known.description} for key, known in STAGE_KEYS.items()}
    properties |= {key: {**_STAGE[key], "description": text} for key, text in BODIES.items()}
    properties |= {key: _plugin(body) for key, body in added.items()}
    names = [*BODIES, *added]
    choices = []
    for name in names:
        refused = [key for key in STAGE_KEYS if not takes(key, name, plugin_takes, ("until",))]
        choice = {"required": [name], "properties": dict.fromkeys(refused, False)}
        choices.append(choice if takes("judge", name, plugin_takes) else {**choice, "dependentRequired": {"judge": ["until"]}})
    pairs = {"until": ["max"], "max": ["until"]}
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "dependentRequired": pairs,
        "oneOf": choices,
    }


def _plugin(body: type[StageBody]) -> dict[str, Any]:
    made = copy.deepcopy(dict(body.schema)) if body.schema is not None else body.Options.model_json_schema()
    about = (body.__doc__ or "").strip().splitlines()
    return {"description": about[0] if about else f"A stage of the plugin body '{body.key}'.", **made}
