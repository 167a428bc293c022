"""The JSON Schema of the language, for editors: what completes and explains keys, and says which are wrong.

Draft 7: what editors' YAML servers support in full. A stage is told by its body, so that only the keys that this body takes are
offered, and a wrong key is called wrong instead of the whole stage.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from flowcraft.plugin.stages import StageBody
from flowcraft.workflow.editor.keys import DEFINITIONS, STAGE, TOP, Schema
from flowcraft.workflow.loading.plugin_options import marked
from flowcraft.workflow.schema import LANGUAGE_VERSION
from flowcraft.workflow.words import BODIES, NOT_WITH_AGENT, STAGE_KEYS, TOP_KEYS, takes

_STAGE = "One unit of work with exactly one body: {bodies}. All other keys say when, how often and how it is done."


_AN_AGENT: Schema = {
    "if": {"required": ["agent"]},
    "then": {
        "properties": dict.fromkeys(sorted(NOT_WITH_AGENT - {"judge"}), False),
        "dependencies": {"judge": ["until"]},
    },
}


def workflow_schema(bodies: Mapping[str, type[StageBody]]) -> dict[str, Any]:
    """Return the JSON Schema of a workflow file; ``bodies`` are those of plugins."""
    added = {key: body for key, body in bodies.items() if key not in BODIES}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"FlowCraft workflow, version {LANGUAGE_VERSION}",
        "description": "A workflow of FlowCraft: what it is given, its stages, and what it returns.",
        "type": "object",
        "required": ["flowcraft", "stages"],
        "properties": {key: {**TOP.get(key, {}), "description": text} for key, text in TOP_KEYS.items()},
        "patternProperties": {"^x-": {"description": "Yours: ignored."}},
        "additionalProperties": False,
        "defaultSnippets": [
            {
                "label": "workflow",
                "description": "A workflow with one question",
                "body": {"flowcraft": 1, "inputs": {"text": "string"}, "stages": {"answer": {"prompt": "$1"}}},
            }
        ],
        "definitions": {**copy.deepcopy(dict(DEFINITIONS)), **_stages(added)},
    }


def _stages(added: Mapping[str, type[StageBody]]) -> dict[str, Schema]:
    """Return the definitions of stages: each body with the keys that it takes, and the stage that has none yet."""
    plugin_takes = {key: frozenset(body.takes) for key, body in added.items()}
    about = {**BODIES, **{key: _about(body) for key, body in added.items()}}
    definitions: dict[str, Schema] = {}
    for key in STAGE_KEYS:
        definitions[f"key.{key}"] = {**copy.deepcopy(STAGE.get(key, {})), "description": STAGE_KEYS[key].description}
    for key in BODIES:
        definitions[f"key.{key}"] = {**copy.deepcopy(STAGE.get(key, {})), "description": BODIES[key]}
    for key, body in added.items():
        definitions |= _plugin(key, body)
    told = _STAGE.format(bodies=", ".join(about))
    for key, text in about.items():
        definitions[f"stage.{key}"] = _with_body(key, text, plugin_takes)
    definitions["stage.without_body"] = _without_body(list(about), told)
    definitions["stage"] = {
        "type": "object",
        "description": told,
        "allOf": [
            *({"if": {"required": [key]}, "then": {"$ref": f"#/definitions/stage.{key}"}} for key in about),
            {
                "if": {"not": {"anyOf": [{"required": [key]} for key in about]}},
                "then": {"$ref": "#/definitions/stage.without_body"},
            },
        ],
    }
    return definitions


def _key(key: str) -> Schema:
    return {"$ref": f"#/definitions/key.{key}"}


def _with_body(body: str, about: str, plugin_takes: Mapping[str, frozenset[str]]) -> Schema:
    """Return the schema of a stage with this body: the keys that it takes, and which of them come in pairs."""
    taken = [key for key in STAGE_KEYS if takes(key, body, plugin_takes, ("until",))]
    pairs = {"until": ["max"], "max": ["until"], "parallel": ["each"]}
    if "judge" in taken and not takes("judge", body, plugin_takes):
        pairs["judge"] = ["until"]
    return {
        "type": "object",
        "title": f"a stage with '{body}'",
        "description": about,
        "properties": {key: _key(key) for key in [body, *taken]},
        "required": [body],
        "additionalProperties": False,
        "dependencies": pairs,
        **(_AN_AGENT if body == "prompt" else {}),
    }


def _without_body(bodies: list[str], told: str) -> Schema:
    """Return the schema of a stage that has no body yet: what it may become is offered, but it is not enough."""
    return {
        "type": "object",
        "title": "a stage without a body",
        "description": told,
        "properties": {key: _key(key) for key in [*bodies, *STAGE_KEYS]},
        "additionalProperties": False,
        "anyOf": [{"required": [key]} for key in bodies],
        "defaultSnippets": [
            {"label": "prompt", "description": BODIES["prompt"], "body": {"prompt": "$1"}},
            {"label": "run", "description": BODIES["run"], "body": {"run": "${1:module}:${2:function}", "with": {}}},
            {"label": "each", "description": STAGE_KEYS["each"].description, "body": {"each": "$1", "prompt": "$2"}},
        ],
    }


def _about(body: type[StageBody]) -> str:
    lines = (body.__doc__ or "").strip().splitlines()
    return lines[0] if lines else f"A stage of the plugin body '{body.key}'."


def _plugin(key: str, body: type[StageBody]) -> dict[str, Schema]:
    """Return the definitions of a plugin's body: its options, and the parts that these refer to."""
    made: Any = copy.deepcopy(dict(body.schema)) if body.schema is not None else body.Options.model_json_schema()
    parts = {**made.pop("definitions", {}), **made.pop("$defs", {})}
    made.pop("$schema", None)
    found = {f"key.{key}.{name}": part for name, part in parts.items()} | {f"key.{key}": made}
    if body.schema is None:
        _let_templates_stand(made, body)
    for part in found.values():
        _refer(part, key)
        _describe(part, key)
    made["description"] = _about(body) if not made.get("description") or body.schema is None else made["description"]
    return found


def _let_templates_stand(made: Schema, body: type[StageBody]) -> None:
    """Let a template stand for each option that is marked so."""
    for name, field in body.Options.model_fields.items():
        option = made.get("properties", {}).get(field.alias or name)
        if option is not None and marked(field) and option.get("type") != "string":
            kept = {word: option.pop(word) for word in ("title", "description", "default") if word in option}
            written = {"type": "string", "pattern": r"\$\{\{", "description": "Text with ${{ expression }} in it."}
            made["properties"][field.alias or name] = {"anyOf": [dict(option), written], **kept}
    if not made.get("required"):
        made["type"] = ["object", "null"]


def _refer(part: Any, key: str) -> None:
    """Let the references in a plugin's schema lead to where its parts stand here."""
    left = [part]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            to = part.get("$ref")
            if isinstance(to, str) and to.startswith("#"):
                name = to.rpartition("/")[2] if "/" in to else ""
                part["$ref"] = f"#/definitions/key.{key}.{name}" if name else f"#/definitions/key.{key}"
            left += part.values()
        elif isinstance(part, list):
            left += part


def _describe(part: Any, key: str) -> None:
    """Give each option of a plugin's body that has no description one that names it."""
    left = [part]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            options = part.get("properties")
            if isinstance(options, dict):
                for name, option in options.items():
                    if isinstance(option, dict):
                        option.setdefault("description", f"The option '{name}' of '{key}'.")
            left += part.values()
        elif isinstance(part, list):
            left += part
