"""What may stand under each key of the language, as JSON Schema: with a description, examples and defaults for editors.

Draft 7, which editors know best. A ``$ref`` stands alone or beside annotations: draft 7 ignores all else beside it.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any

from flowcraft.workflow.editor.crews import AGENTS, CREW
from flowcraft.workflow.loading.stage_settings import MOST_PARALLEL, MOST_RETRIES, MOST_TRIES, PARAMS
from flowcraft.workflow.schema import LANGUAGE_VERSION
from flowcraft.workflow.words import DEFAULT_KEYS, RESERVED, STAGE_KEYS, STAGE_NAME, STRATEGIES

Schema = dict[str, Any]

DURATION: Schema = {
    "type": "string",
    "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s?(ms|s|m|h|d)\s*$|^\$\{\{.*\}\}$",
    "errorMessage": "a duration with its unit: 500ms, 30s, 5m, 24h, 7d",
    "examples": ["5m"],
}
WHOLE_TEMPLATE: Schema = {
    "type": "string",
    "pattern": r"^\$\{\{[\s\S]*\}\}$",
}
"""One expression that mentions inputs only: it is settled at the start."""
_TEXT: Schema = {"type": "string", "minLength": 1}
_FILE: Schema = {
    "type": "object",
    "properties": {"file": {"type": "string", "minLength": 1, "description": "A path below the workflow's folder."}},
    "required": ["file"],
    "additionalProperties": False,
}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def named(of: str, what: str, *, least: int = 0) -> Schema:
    """Return the schema of a mapping by names that may stand in expressions; each entry is ``of`` (a definition)."""
    kinds: Schema = {"type": "object", "minProperties": least} if least else {"type": ["object", "null"]}
    return {**kinds, "propertyNames": _ref("name"), "additionalProperties": {**_ref(of), "description": what}}


DEFINITIONS: Mapping[str, Schema] = {
    "template": {
        "description": "Text with ${{ expression }} in it, or {file: path}.",
        "anyOf": [{"type": "string"}, _FILE],
    },
    "value": {"description": "Data of any shape; its texts may hold ${{ expression }}, alone it keeps its type."},
    "expression": {
        "description": "An expression without ${{ }}: names, comparison, and, or, not, in, len, any, all, default.",
        "type": ["string", "boolean", "number", "array", "null"],
        "examples": ["inputs.strict or len(files.files) < 50"],
    },
    "type": {
        "description": "string, integer, number, boolean, any, [T], {field: T}, a | b, T | null, or a name of 'types'.",
        "anyOf": [
            {
                "type": "string",
                "minLength": 1,
                "examples": ["string", "[string]", "low | medium | high"],
            },
            {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": _ref("type"),
            },
            {
                "type": "object",
                "properties": {"schema": {"type": "object", "description": "A full JSON Schema."}},
                "required": ["schema"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {**_ref("type"), "description": "The type of a field."},
            },
        ],
    },
    "name": {
        "description": "Small letters, digits and '_', no digit first; no word of the language.",
        "type": "string",
        "pattern": f"^(?!({'|'.join(sorted(RESERVED | {word for word in keyword.kwlist if word.islower()}))})$){STAGE_NAME}$",
        "errorMessage": "a name has small letters, digits and '_' only, no digit first, and is no word of the language",
    },
}

_PARAM_TEXTS: Mapping[str, str] = {
    "temperature": "How much chance there is in the answer: 0 is the least.",
    "top_p": "Only the likeliest words whose chances add up to this are drawn from.",
    "max_tokens": "The longest answer, in tokens.",
    "stop": "A text, or texts, at which the answer ends.",
    "seed": "The same seed draws the same answer, where the provider can.",
    "presence_penalty": "Above 0, words that were said already get less likely.",
    "frequency_penalty": "Above 0, words get less likely the more often they were said.",
    "logprobs": "Whether to ask for the chances of the words that were drawn.",
    "top_logprobs": "For how many other words at each place to ask for their chances.",
    "min_p": "Only words at least this likely, compared with the likeliest, are drawn from.",
    "grammar": "A grammar that the answer must fit, where the server takes one.",
    "reasoning": "How much the model thinks first: a word such as low or high, or a mapping of the vendor's.",
    "user": "Who asks, for the vendor's records.",
    "extra": "What one vendor alone has; passed on as it is.",
}


def _param(name: str, kinds: tuple[str, ...]) -> Schema:
    about = _PARAM_TEXTS.get(name, "")
    if kinds == ("object",):
        return {"type": [*kinds, "null"], "description": about}
    return {"anyOf": [{"type": [*kinds, "null"]}, WHOLE_TEMPLATE], "description": about}


_PARAMS: Schema = {
    "type": ["object", "null"],
    "properties": {name: _param(name, kinds) for name, kinds in PARAMS.items()},
    "additionalProperties": False,
}

_RETRY: Schema = {
    "default": 0,
    "anyOf": [
        {
            "type": "integer",
            "minimum": 0,
            "maximum": MOST_RETRIES,
        },
        {
            "type": "object",
            "title": "with a pause",
            "properties": {
                "max": {"type": "integer", "minimum": 0, "maximum": MOST_RETRIES, "description": "So many more goes."},
                "backoff": {**DURATION, "description": "The first pause (1s); each further one is twice as long, 5m at most."},
            },
            "required": ["max"],
            "additionalProperties": False,
        },
    ],
}

_SETTINGS: Mapping[str, Schema] = {
    "model": {**_TEXT, "examples": ["cheap", "expensive"]},
    "strategy": {"type": "string", "enum": list(STRATEGIES)},
    "params": _PARAMS,
    "timeout": DURATION,
    "cache": DURATION,
    "retry": _RETRY,
    "parallel": {
        "default": 1,
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MOST_PARALLEL},
            WHOLE_TEMPLATE,
        ],
    },
}

_BUDGET: Mapping[str, Schema] = {
    "usd": {"type": "number", "exclusiveMinimum": 0, "description": "Dollars that calls of models may cost."},
    "calls": {"type": "integer", "minimum": 1, "description": "How many calls of models there may be."},
    "tokens": {"type": "integer", "minimum": 1, "description": "How many tokens may go in and come out."},
    "time": {**DURATION, "description": "How long the run may take."},
}

_SERVER: Schema = {
    "type": "object",
    "description": "A server: a program that is started here (command), or one that is asked over HTTP (url).",
    "properties": {
        "command": {**_TEXT, "description": "A program that is started, and asked by pipes."},
        "args": {
            "type": ["array", "null"],
            "items": {"type": "string", "description": "One argument."},
            "description": "The program's arguments.",
        },
        "env": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string", "description": "The value of the variable."},
            "description": "Environment variables that the program gets besides.",
            "examples": [{"TOKEN": "${{ env.TOKEN }}"}],
        },
        "url": {**_TEXT, "description": "Where the server is asked over HTTP."},
        "headers": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string", "description": "The value of the header."},
            "description": "Headers of each request.",
        },
    },
    "additionalProperties": False,
    "if": {"required": ["url"]},
    "then": {"properties": {"command": False, "args": False, "env": False}},
    "else": {"required": ["command"], "properties": {"headers": False}},
}

TOP: Mapping[str, Schema] = {
    "flowcraft": {"type": "integer", "const": LANGUAGE_VERSION, "default": LANGUAGE_VERSION},
    "name": {"type": ["string", "null"]},
    "description": {"type": ["string", "null"]},
    "inputs": {
        **named("type", "The input's type, '= default' where it may be left out, and '(what it is for)'."),
        "examples": [{"text": "string (what to sum up)", "words": "integer = 100"}],
    },
    "types": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {**_ref("type"), "description": "What the name stands for."},
    },
    "env": {
        "type": ["array", "null"],
        "uniqueItems": True,
        "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "description": "A name of the environment."},
    },
    "budget": {"type": ["object", "null"], "properties": dict(_BUDGET), "additionalProperties": False},
    "defaults": {
        "type": ["object", "null"],
        "properties": {
            key: {**_SETTINGS[key], "description": f"{STAGE_KEYS[key].description} For stages that do not say otherwise."}
            for key in DEFAULT_KEYS
        },
        "additionalProperties": False,
    },
    "mcp": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"},
        "additionalProperties": _SERVER,
    },
    "agents": AGENTS,
    "stages": named("stage", "A stage: one unit of work with exactly one body.", least=1),
    "finally": named("stage", "A stage that runs when all else has ended."),
    "outputs": {
        "type": ["object", "null"],
        "additionalProperties": {**_ref("value"), "description": "What is returned under this name."},
        "examples": [{"answer": "${{ stage.field }}"}],
    },
}

STAGE: Mapping[str, Schema] = {
    **_SETTINGS,
    "params": {**_PARAMS, "type": ["object", "string", "null"], "pattern": WHOLE_TEMPLATE["pattern"]},
    "needs": {
        "type": ["array", "null"],
        "uniqueItems": True,
        "items": {"type": "string", "description": "A stage of the same group."},
    },
    "when": _ref("expression"),
    "each": {"type": ["string", "array", "null"], "examples": ["inputs.files"]},
    "until": _ref("expression"),
    "max": {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MOST_TRIES},
            WHOLE_TEMPLATE,
        ]
    },
    "stages": named("stage", "A stage of the group.", least=1),
    "on_error": {"type": "string", "enum": ["fail", "continue"], "default": "fail"},
    "with": {
        "type": ["object", "null"],
        "additionalProperties": {**_ref("value"), "description": "The value of the argument."},
        "examples": [{"name": "${{ inputs.name }}"}],
    },
    "output": _ref("type"),
    "system": {"anyOf": [_ref("template"), {"type": "null"}]},
    "attach": {
        "anyOf": [
            _ref("template"),
            {"type": "array", "items": _ref("template")},
            {"type": "null"},
        ]
    },
    "tools": {
        "type": ["array", "null"],
        "uniqueItems": True,
        "items": {**_TEXT, "description": "A tool: module:function, a plugin's, mcp:server or mcp:server/tool."},
    },
    "judge": {
        "type": "object",
        "title": "a rubric",
        "properties": {
            "model": {**_TEXT, "description": "Who judges: a tier, an alias or a model."},
            "rubric": {**_ref("template"), "description": "By what an answer is the better one; a template, or {file: path}."},
        },
        "required": ["rubric"],
        "additionalProperties": False,
    },
    "confidence": {"type": "number", "minimum": 0, "maximum": 1, "examples": [0.8]},
    "cache": {**DURATION, "examples": ["1h", "7d"]},
    "prompt": _ref("template"),
    "agent": {**_TEXT, "examples": ["writer"]},
    "crew": CREW,
    "approve": _ref("template"),
    "choices": {
        "anyOf": [
            {
                "type": "array",
                "minItems": 1,
                "uniqueItems": True,
                "items": {"type": "string", "minLength": 1, "description": "A choice."},
            },
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": ["string", "null"], "description": "What people read for this choice."},
            },
        ],
        "examples": [["approve", "reject"], {"ship": "Publish it now", "hold": "Wait for the next release"}],
    },
    "run": {
        "type": "string",
        "pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$",
        "examples": ["steps:split"],
        "errorMessage": "package.module:function, as in steps:split",
    },
    "shell": {**_TEXT, "examples": ['wc -w <<< "$text"']},
    "uses": {**_TEXT, "examples": ["./part.yaml"]},
}
