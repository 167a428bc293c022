"""What may stand in ``agents`` and ``crew``, as JSON Schema for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowcraft.workflow.crew_words import AGENT_KEYS, CREW_KEYS, PROCESSES, TASK_KEYS

Schema = dict[str, Any]

_NAME = "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
_TEXT: Schema = {"type": "string", "minLength": 1}
_TEMPLATE: Schema = {"$ref": "#/definitions/template"}
_FLAG: Schema = {"type": ["boolean", "null"]}
_PLAIN: Schema = {"type": ["string", "null"]}
_TOOLS: Schema = {
    "type": ["array", "null"],
    "uniqueItems": True,
    "items": {**_TEXT, "description": "A tool: module:function, a plugin's, mcp:server or mcp:server/tool."},
}


def _mapping(keys: Mapping[str, str], of: Mapping[str, Schema], required: list[str]) -> Schema:
    return {
        "type": "object",
        "properties": {key: {**of.get(key, _PLAIN), "description": text} for key, text in keys.items()},
        "required": required,
        "additionalProperties": False,
    }


_AGENT: Schema = {
    **_mapping(
        AGENT_KEYS,
        {
            "role": _TEMPLATE,
            "goal": _TEMPLATE,
            "backstory": {"anyOf": [_TEMPLATE, {"type": "null"}]},
            "tools": _TOOLS,
            "allow_delegation": _FLAG,
            "max_iter": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
            "verbose": _FLAG,
        },
        ["role", "goal"],
    ),
    "not": {"required": ["model", "llm"]},
}
_TASK: Schema = _mapping(
    TASK_KEYS,
    {
        "description": _TEMPLATE,
        "expected_output": {"anyOf": [_TEMPLATE, {"type": "null"}]},
        "context": {"type": ["array", "null"], "uniqueItems": True, "items": {**_TEXT, "description": "An earlier task."}},
        "tools": _TOOLS,
        "markdown": _FLAG,
    },
    ["description"],
)

AGENTS: Schema = {
    "anyOf": [
        {**_TEXT, "description": "The path of a YAML file that holds the agents."},
        {
            "type": ["object", "null"],
            "propertyNames": {"pattern": _NAME},
            "additionalProperties": {**_AGENT, "description": "An agent."},
        },
    ],
    "examples": ["agents.yaml", {"writer": {"role": "Writer", "goal": "Write well", "backstory": "Has written for years"}}],
}

_HAS_AGENT: Schema = {"required": ["agent"], "description": "A task: somebody must do it."}

CREW: Schema = {
    **_mapping(
        CREW_KEYS,
        {
            "process": {"type": "string", "enum": list(PROCESSES), "default": "sequential"},
            "tasks": {
                "anyOf": [
                    {**_TEXT, "description": "The path of a YAML file that holds the tasks."},
                    {"type": "array", "minItems": 1, "items": {**_TASK, "description": "A task."}},
                    {
                        "type": "object",
                        "minProperties": 1,
                        "propertyNames": {"pattern": _NAME},
                        "additionalProperties": {**_TASK, "description": "A task."},
                    },
                ]
            },
        },
        ["tasks"],
    ),
    "if": {
        "required": ["process"],
        "properties": {"process": {"const": "hierarchical", "description": CREW_KEYS["process"]}},
    },
    "else": {
        "properties": {
            "manager": {"type": "null", "description": CREW_KEYS["manager"]},
            "tasks": {"items": _HAS_AGENT, "additionalProperties": _HAS_AGENT, "description": CREW_KEYS["tasks"]},
        },
    },
    "examples": [{"tasks": [{"agent": "writer", "description": "Write on {topic}", "expected_output": "A page"}]}],
}
