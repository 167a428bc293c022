"""The JSON Schema of the language: it takes what the loader takes, and refuses wrong keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, ClassVar

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from flowcraft.errors import WorkflowError
from flowcraft.plugin import BodyOptions, StageBody, Template
from flowcraft.source import read_document
from flowcraft.workflow import load_workflow, workflow_schema
from flowcraft.workflow.words import BODIES, STAGE_KEYS, TOP_KEYS, takes

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "workflows").glob("*.yaml"))


class Options(BodyOptions):
    who: Annotated[str, Template]


class Greet(StageBody):
    """Greets somebody."""

    key: ClassVar[str] = "greet"
    Options: ClassVar[type[BodyOptions]] = Options


class Drawn(StageBody):
    key: ClassVar[str] = "draw"
    schema: ClassVar[dict[str, object]] = {"type": "string", "description": "What to draw."}


class Depth(BaseModel):
    wide: int = 1


class Packed(BodyOptions):
    depth: Depth = Depth()
    count: Annotated[int, Template] = 1


class Pack(StageBody):
    """Packs things."""

    key: ClassVar[str] = "pack"
    Options: ClassVar[type[BodyOptions]] = Packed


@pytest.fixture(scope="module")
def validator():
    schema = workflow_schema({})
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def valid(validator, text):
    return validator.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(validator, path):
    validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def keys_of(schema, part, seen=()):
    """Yield every key that may be written below ``part``: its path, and its schema with what it refers to."""
    if isinstance(part, list):
        for inner in part:
            yield from keys_of(schema, inner, seen)
    if not isinstance(part, dict):
        return
    to = part.get("$ref", "")
    if to and to not in seen:
        yield from keys_of(schema, schema["definitions"][to.removeprefix("#/definitions/")], (*seen, to))
    for name, inner in part.get("properties", {}).items():
        if inner is not False:  # a key that is refused
            yield name, resolved(schema, inner)
            yield from keys_of(schema, inner, seen)
    for word in ("additionalProperties", "patternProperties", "items"):
        inner = part.get(word)
        if isinstance(inner, dict) and word != "patternProperties":
            yield word, resolved(schema, inner)
            yield from keys_of(schema, inner, seen)
    for word in ("allOf", "anyOf", "oneOf", "if", "then", "else"):
        yield from keys_of(schema, part.get(word, []), seen)


def resolved(schema, part):
    """Return ``part`` with what it refers to, as editors merge them: what stands beside ``$ref`` counts first."""
    while "$ref" in part:
        rest = {key: value for key, value in part.items() if key != "$ref"}
        part = {**schema["definitions"][part["$ref"].removeprefix("#/definitions/")], **rest}
    return part


BODIES_OF_PLUGINS = {"greet": Greet, "draw": Drawn, "pack": Pack}


def test_every_key_at_every_level_is_described():
    schema = workflow_schema(BODIES_OF_PLUGINS)

    keys = list(keys_of(schema, schema))

    assert {"backoff", "rubric", "temperature", "usd", "headers", "choices", "who", "depth", "wide"} <= {
        name for name, _ in keys
    }
    assert [name for name, part in keys if not part.get("description", "").strip()] == []


def test_all_keys_of_the_language_are_there():
    schema = workflow_schema(BODIES_OF_PLUGINS)

    assert set(schema["properties"]) == set(TOP_KEYS)
    begun = schema["definitions"]["stage.without_body"]["properties"]
    assert set(begun) == {*STAGE_KEYS, *BODIES, *BODIES_OF_PLUGINS}
    for name in begun:
        assert resolved(schema, begun[name]).keys() - {"description", "title"}, f"nothing is said of what '{name}' holds"


@pytest.mark.parametrize("body", [*BODIES, *BODIES_OF_PLUGINS])
def test_a_stage_is_offered_the_keys_that_its_body_takes(body):
    schema = workflow_schema(BODIES_OF_PLUGINS)
    taken = {key: frozenset(plugin.takes) for key, plugin in BODIES_OF_PLUGINS.items()}

    offered = set(schema["definitions"][f"stage.{body}"]["properties"])

    assert offered == {body, *(key for key in STAGE_KEYS if takes(key, body, taken, ("until",)))}


def test_editors_find_only_what_draft_7_knows():
    text = json.dumps(workflow_schema(BODIES_OF_PLUGINS))

    assert not re.search(r"\"(\$defs|dependentRequired|unevaluatedProperties|prefixItems)\":", text)
    assert set(re.findall(r"\"\$ref\": \"(.*?)\"", text)) <= {
        f"#/definitions/{name}" for name in workflow_schema(BODIES_OF_PLUGINS)["definitions"]
    }


@pytest.mark.parametrize(
    "text",
    [
        "{flowcraft: 1, stages: {a: {prompt: hello}}, x-own: 3, env: [A]}",
        "{flowcraft: 1, inputs: {a: '[string] = []', b: {c: [integer]}}, types: {T: x | y}, stages: {s: {prompt: hi}}}",
        "{flowcraft: 1, budget: {usd: 1, time: 2h}, defaults: {retry: {max: 1, backoff: 1s}}, stages: {s: {prompt: hi}}}",
        "{flowcraft: 1, stages: {a: {run: 'a.b:c', with: {x: [1]}, output: {x: string}, when: true, each: [1], parallel: 2}}}",
        "{flowcraft: 1, stages: {a: {uses: x.yaml, with: {}, needs: [b], timeout: '${{ inputs.x }}', on_error: continue}}}",
        "{flowcraft: 1, stages: {a: {prompt: {file: p.md}, system: x, params: {seed: 1}, output: {schema: {type: object}}}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello}}, outputs: {x: {y: [1]}}}",
    ],
)
def test_what_the_loader_takes_is_valid(validator, text):
    assert valid(validator, text)


@pytest.mark.parametrize(
    "text",
    [
        "{stages: {a: {prompt: hello}}}",
        "{flowcraft: 1}",
        "{flowcraft: 2, stages: {s: {prompt: hi}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello}}, stags: {}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, promt: hello}}}",
        "{flowcraft: 1, stages: {a: {timeout: 3s}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, run: 'a:b'}}}",
        "{flowcraft: 1, stages: {a: {run: 'a:b', model: x}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, with: {}}}}",
        "{flowcraft: 1, stages: {a: {uses: x.yaml, output: string}}}",
        "{flowcraft: 1, stages: {A: {prompt: hello}}}",
        "{flowcraft: 1, stages: {item: {prompt: hello}}}",
        "{flowcraft: 1, stages: {a: {prompt: 3}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, timeout: 30}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, timeout: 5 min}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, retry: -1}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, on_error: ignore}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, until: x}}}",
        "{flowcraft: 1, stages: {a: {prompt: hello, output: [string, integer]}}}",
        "{flowcraft: 1, stages: {a: {run: a.b}}}",
        "{flowcraft: 1, stages: {s: {prompt: hi}}, env: [A, A]}",
        "{flowcraft: 1, stages: {s: {prompt: hi}}, budget: {dollars: 1}}",
    ],
)
def test_wrong_keys_and_values_are_refused(validator, text):
    assert not valid(validator, text)


def documented():
    """Yield the whole workflows in the pages of the documentation."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text("utf-8")
        for block in re.finditer(r"^( *)```yaml[^\n]*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL):
            code = "".join(row.removeprefix(block[1]) for row in block[2].splitlines(keepends=True))
            if re.search(r"^flowcraft: 1$", code, re.MULTILINE):
                yield pytest.param(code, id=f"{path.name}:{text.count(chr(10), 0, block.start()) + 1}")


@pytest.mark.parametrize("code", list(documented()))
def test_every_workflow_of_the_documentation_is_valid(validator, code):
    validator.validate(read_document(code, "page", WorkflowError).data)


BROKEN = Path(__file__).parent / "broken"
STRUCTURE = re.compile(
    r"unknown key|unknown strategy|'\w+' takes no '|.*must be (?!one line)|.*lacks '|.*is reserved|'\w+' without '"
    r"|a second body"
    r"|.*does not say what|.*needs a unit|.*is no duration|.*names no function|the key '\w+' is missing|.* needs '?stages'?"
    r"|a workflow file is empty|.*cannot name a (stage|server)|.*twice$|.*is a word of the language that"
)
"""How the messages begin that say that a key or the shape of its value is wrong; all others are of names, types and files."""


def broken():
    """Yield the broken files whose mistake is one of structure and lies in the file itself."""
    for path in sorted(BROKEN.glob("*.yaml")):
        found = re.fullmatch(r"# expect: (?:(\S+?):)?(\d+:\d+) (.+)", path.read_text("utf-8").split("\n", 1)[0])
        if found and not found[1] and STRUCTURE.match(found[3]):
            try:
                yield pytest.param(read_document(path.read_bytes(), path.name, WorkflowError).data, id=path.stem)
            except WorkflowError:
                continue  # it is not even YAML


def test_there_are_files_of_broken_structure():
    assert len(list(broken())) >= 60


@pytest.mark.parametrize("data", list(broken()))
def test_what_is_of_broken_structure_is_refused(validator, data):
    assert not validator.is_valid(data)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_whatever_the_loader_takes_of_an_example_the_schema_takes(validator, path, tmp_path):
    """Each key of the example taken away in turn: where the loader is content, the schema is too."""
    whole = read_document(path.read_bytes(), path.name, WorkflowError).data
    for beside in path.parent.iterdir():
        if beside.suffix in (".py", ".md", ".txt", ".yaml") and beside.name != path.name:
            (tmp_path / beside.name).write_bytes(beside.read_bytes())
    taken = 0
    for lacking in without_one_key(whole):
        file = tmp_path / path.name
        file.write_text(yaml.safe_dump(lacking, sort_keys=False, allow_unicode=True), encoding="utf-8")
        try:
            load_workflow(file)
        except WorkflowError:
            continue
        taken += 1
        assert list(validator.iter_errors(read_document(file.read_bytes(), path.name, WorkflowError).data)) == []
    assert taken


BEGUN = {
    "prompt": {"prompt": "hello"},
    "run": {"run": "json:dumps", "with": {"obj": 1}},
    "shell": {"shell": "true"},
    "approve": {"approve": "Go on?"},
    "stages": {"stages": {"b": {"prompt": "hello"}}},
}
VALUES = [
    None,
    True,
    0,
    2,
    0.5,
    "x",
    "5m",
    "${{ inputs.n }}",
    [],
    ["a"],
    {},
    {"max": 1},
    {"rubric": "good"},
    "continue",
    "cascade",
]


@pytest.mark.parametrize("body", BEGUN)
def test_whatever_the_loader_takes_under_a_key_the_schema_takes(validator, body, tmp_path):
    """Every key with values of every kind; where it comes in a pair, with the other one."""
    file, taken = tmp_path / "w.yaml", set()
    for key in [*STAGE_KEYS, *BODIES]:
        beside = {"until": {"max": 2}, "max": {"until": "true"}, "parallel": {"each": [1]}, "judge": {"until": "a", "max": 2}}
        for value in VALUES:
            stage = {**BEGUN[body], **beside.get(key, {}), key: value}
            data = {"flowcraft": 1, "inputs": {"n": "integer = 2"}, "stages": {"a": stage}}
            file.write_text(json.dumps(data), encoding="utf-8")
            try:
                load_workflow(file)
            except WorkflowError:
                continue
            taken.add(key)
            assert validator.is_valid(data), f"{key}: {value!r}"
    assert {"when", "each", "needs", "timeout", "parallel"} <= taken


def without_one_key(data):
    """Yield ``data`` without one key, for each key of each mapping in it."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield {name: part for name, part in data.items() if name != key}
            yield from ({**data, key: part} for part in without_one_key(value))


def test_plugins_bodies_are_added():
    schema = workflow_schema({"greet": Greet, "draw": Drawn, "prompt": Greet})
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)

    assert valid(validator, "{flowcraft: 1, stages: {a: {greet: {who: x}, output: string}, b: {draw: a cat}, c: {prompt: x}}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {greet: {wo: x}}}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {greet: {who: x}, model: y}}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {greet: {who: x}, prompt: y}}}")
    assert schema["definitions"]["key.greet"]["description"] == "Greets somebody."
    assert schema["definitions"]["key.draw"]["description"] == "What to draw."


def test_options_of_plugins_may_be_nested_and_templates():
    schema = workflow_schema({"pack": Pack})
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)

    assert valid(validator, "{flowcraft: 1, stages: {a: {pack: {depth: {wide: 2}, count: '${{ inputs.n }}'}}, b: {pack: }}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {pack: {depth: {wide: far}}}}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {pack: {count: many}}}}")


def test_a_wrong_key_is_called_wrong_where_it_stands(validator):
    data = yaml.safe_load("{flowcraft: 1, stages: {a: {run: 'a:b', model: x}}}")

    (error,) = validator.iter_errors(data)

    assert list(error.absolute_path) == ["stages", "a"]
    assert "'model' was unexpected" in error.message
