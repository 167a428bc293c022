"""The JSON Schema of the language: it takes what the loader takes, and refuses wrong keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import jsonschema
import pytest
import yaml

from flowcraft.plugin import BodyOptions, StageBody, Template
from flowcraft.workflow import workflow_schema
from flowcraft.workflow.words import BODIES, STAGE_KEYS, TOP_KEYS

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


@pytest.fixture(scope="module")
def validator():
    schema = workflow_schema({})
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def valid(validator, text):
    return validator.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid(validator, path):
    validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_every_key_is_described():
    schema = workflow_schema({"greet": Greet, "draw": Drawn})
    stage = schema["$defs"]["stage"]["properties"]

    assert set(schema["properties"]) == set(TOP_KEYS)
    assert set(stage) == {*STAGE_KEYS, *BODIES, "greet", "draw"}
    assert all(part["description"] for part in (*schema["properties"].values(), *stage.values()))


@pytest.mark.parametrize(
    "text",
    [
        "{flowcraft: 1, stages: {a: {prompt: hello}}, x-own: 3}",
        "{flowcraft: 1, inputs: {a: '[string] = []', b: {c: [integer]}}, types: {T: a | b}, env: [A], stages: {}}",
        "{flowcraft: 1, budget: {usd: 1, time: 2h}, defaults: {model: x, retry: {max: 1, backoff: 1s}}, stages: {}}",
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
        "{flowcraft: 2, stages: {}}",
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
        "{flowcraft: 1, stages: {}, env: [A, A]}",
        "{flowcraft: 1, stages: {}, budget: {dollars: 1}}",
    ],
)
def test_wrong_keys_and_values_are_refused(validator, text):
    assert not valid(validator, text)


def test_plugins_bodies_are_added():
    schema = workflow_schema({"greet": Greet, "draw": Drawn, "prompt": Greet})
    validator = jsonschema.Draft202012Validator(schema)

    assert valid(validator, "{flowcraft: 1, stages: {a: {greet: {who: x}, output: string}, b: {draw: a cat}, c: {prompt: x}}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {greet: {wo: x}}}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {greet: {who: x}, model: y}}}")
    assert not valid(validator, "{flowcraft: 1, stages: {a: {greet: {who: x}, prompt: y}}}")
    assert schema["$defs"]["stage"]["properties"]["greet"]["description"] == "Greets somebody."
    assert schema["$defs"]["stage"]["properties"]["draw"]["description"] == "What to draw."
