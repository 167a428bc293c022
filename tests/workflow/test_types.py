"""Types: how they are written, what fits them, and their JSON Schema."""

from __future__ import annotations

import jsonschema
import pytest
from pydantic import BaseModel

from flowcraft.workflow import TypeMismatch
from flowcraft.workflow.types.type import ANY, INTEGER, NULL, NUMBER, STRING, Fields, ListOf, common, fits, type_of

pytestmark = pytest.mark.unit


def output(folder, written, types="{}"):
    return folder.load(f"types: {types}\nstages:\n  a:\n    prompt: hello\n    output: {written}\n").stages["a"].output


def refuse(folder, written, types="{}"):
    return folder.problems(f"types: {types}\nstages:\n  a:\n    prompt: hello\n    output: {written}\n")[0]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("string", "string"),
        ("any", "any"),
        ("string (a word)", "string"),
        ("[string]", "[string]"),
        ("[[integer]]", "[[integer]]"),
        ("'[string] | null'", "[string] | null"),
        ("integer | null", "integer | null"),
        ("null | integer", "integer | null"),
        ("any | null", "any"),
        ("low | medium | high", "low | medium | high"),
        ("low | high | null", "low | high | null"),
        ("en-US | 'two words' | 1.5", "en-US | two words | 1.5"),
        ("{a: string, b: [number]}", "{a: string, b: [number]}"),
        ("'{a: string (x, y), b: {c: boolean}} | null'", "{a: string, b: {c: boolean}} | null"),
        ("'{\"the name\": string}'", "{the name: string}"),
        ("{schema: {type: object}}", "a JSON Schema"),
        ("{schema: string}", "{schema: string}"),
        ("json:JSONDecoder", "json:JSONDecoder"),
    ],
)
def test_types_are_read(folder, written, text):
    assert output(folder, written).text == text


@pytest.mark.parametrize(
    ("written", "heart", "hint"),
    [
        ("strng", "unknown type 'strng'", "did you mean 'string'?"),
        ("int", "unknown type 'int'", "did you mean 'integer'?"),
        ("dict", "unknown type 'dict'", "did you mean 'any'?"),
        ("list", "unknown type 'list'", "did you mean '[any]'?"),
        ("'list[str]'", "unknown type 'list'", "did you mean '[string]'?"),
        ("'List[Note]'", "unknown type 'List'", "did you mean '[Note]'?"),
        ("low", "unknown type 'low'", "at least two words"),
        ("low | null", "unknown type 'low'", "at least two words"),
        ("string | integer", "a union of several types", "T | null"),
        ("low | string", "words and types do not mix", ""),
        ("low | low", "the word 'low' stands twice", ""),
        ("string = x", "only inputs have a default", ""),
        ("string text", "text behind the type", "parentheses"),
        ("string (x", "a '(' that is not closed", "comma"),
        ("'[string'", "a '[' that is not closed", ""),
        ("'{a: string'", "a '{' that is not closed", ""),
        ("'{a string}'", "a field is written 'name: type'", ""),
        ("'{}'", "an object type without fields", "any"),
        ("{}", "an object type without fields", "any"),
        ("[]", "exactly one element type", ""),
        ("'| a'", "a type is missing before '|'", ""),
        ("''", "a type is missing here", ""),
        ("", "a type is missing", ""),
        ("3", "3 is no type", ""),
        ("{a: }", "a type is missing", ""),
        ("'" + "[" * 60 + "'", "a type deeper than 30", ""),
        ("json:Nothing", "module 'json' has no 'Nothing'", ""),
        ("nowhere:Model", "there is no module 'nowhere'", ""),
        ("{schema: {type: objekt}}", "this is no JSON Schema", ""),
        ("{schema: {$ref: 'http://127.0.0.1/x'}}", "refers only to its own parts", ""),
    ],
)
def test_what_is_no_type_is_refused(folder, written, heart, hint):
    problem = refuse(folder, written)

    assert heart in problem.message
    assert hint in problem.hint


def test_place_inside_a_type_is_shown(folder):
    problem = refuse(folder, "{a: '[strng] | null'}")

    assert (problem.line, problem.column, problem.width) == (6, 19, 5)


def test_word_of_an_enumeration_near_a_type_is_a_warning(folder):
    assert folder.warnings("stages: {a: {prompt: hello, output: {x: strin | other}}}\n") == [
        "the word 'strin' of the enumeration is near the type 'string'"
    ]
    assert folder.warnings("stages: {a: {prompt: hello, output: \"'strin' | other\"}}\n") == []


def test_named_types_stand_in_any_order(folder):
    kind = output(folder, "[Outer]", "{Outer: {inner: Inner, again: Inner | null}, Inner: {x: string}, Alias: Outer}")

    assert kind.text == "[Outer]"
    assert kind.check([{"inner": {"x": "1"}}]) == [{"inner": {"x": "1"}, "again": None}]


@pytest.mark.parametrize(
    ("types", "heart"),
    [
        ("{A: A}", "a circle of types: A -> A"),
        ("{A: {b: B}, B: C, C: '[A]'}", "a circle of types: A -> B -> C -> A"),
        ("{string: integer}", "'string' cannot name a type: it is a built-in type"),
        ("{my-type: integer}", "'my-type' cannot name a type"),
        ("{A: B}", "unknown type 'B'"),
    ],
)
def test_wrong_named_types_are_refused(folder, types, heart):
    assert heart in folder.messages(f"types: {types}\nstages: {{a: {{prompt: hello}}}}\n")[0]


def test_all_wrong_fields_of_a_type_of_yaml_keys_are_told_at_their_places(folder):
    problems = folder.problems("""
        types:
          Finding:
            file: strng
            line: integer
            where: {from: intger, to: integer, more: [{deep: nmber, deeper: }]}
            severity: "low | "
        stages: {a: {prompt: hello, output: {x: bolean, found: Finding, y: {}}}}
    """)

    assert [(problem.line, problem.column, problem.message) for problem in problems] == [
        (5, 11, "unknown type 'strng'"),
        (7, 19, "unknown type 'intger'"),
        (7, 54, "unknown type 'nmber'"),
        (7, 69, "a type is missing"),
        (8, 21, "a type is missing here"),
        (9, 41, "unknown type 'bolean'"),
        (9, 68, "an object type without fields"),
    ]


def test_types_that_nest_too_deep_are_refused(folder):
    names = "\n".join(f"  T{number}: {{x: T{number + 1}}}" for number in range(300))
    backwards = "\n".join(f"  T{number}: {{x: T{number + 1}}}" for number in reversed(range(300)))

    for written in (names, backwards):
        messages = folder.messages(f"types:\n{written}\n  T300: string\nstages: {{a: {{prompt: hello, output: T0}}}}\n")
        assert any("nest deeper than 50" in message for message in messages)


FINDING = "{file: string, line: integer | null, severity: low | high, tags: [string]}"


def test_value_that_fits_is_kept_without_extra_fields_in_declared_order(folder):
    kind = output(folder, FINDING)

    value = kind.check({"more": 1, "tags": ["x"], "severity": "low", "file": "a.py", "line": 3.0})

    assert value == {"file": "a.py", "line": 3, "severity": "low", "tags": ["x"]}
    assert list(value) == ["file", "line", "severity", "tags"]
    assert type(value["line"]) is int


def test_field_that_admits_null_may_be_left_out(folder):
    assert output(folder, "{a: string | null, b: any}").check({}) == {"a": None, "b": None}


def test_everything_that_does_not_fit_is_told_field_by_field(folder):
    with pytest.raises(TypeMismatch) as raised:
        output(folder, f"{{found: [{FINDING}]}}").check(
            {"found": [{"file": 1, "line": "x", "severity": "hi"}, 3, {"file": "f", "severity": "low", "tags": [None, True]}]}
        )

    assert raised.value.details == [
        {"field": "found[0].file", "message": "must be text, not a number (1)"},
        {"field": "found[0].line", "message": "must be an integer, not text ('x')"},
        {"field": "found[0].severity", "message": "must be one of low, high, not text ('hi')"},
        {"field": "found[0].tags", "message": "is missing"},
        {"field": "found[1]", "message": "must be an object, not a number (3)"},
        {"field": "found[2].tags[0]", "message": "must be text, not null"},
        {"field": "found[2].tags[1]", "message": "must be text, not a boolean (true)"},
    ]
    assert "found[0].file: must be text, not a number (1); " in str(raised.value)


@pytest.mark.parametrize(
    ("written", "value", "message"),
    [
        ("integer", True, "must be an integer, not a boolean (true)"),
        ("integer", 1.5, "must be an integer, not a number (1.5)"),
        ("number", float("nan"), "must be a number, not a number (nan)"),
        ("number", "1", "must be a number, not text ('1')"),
        ("boolean", 1, "must be true or false, not a number (1)"),
        ("string", ["x"], "must be text, not a list"),
        ("[string]", {"x": 1}, "must be a list, not an object"),
        ("string", "x", None),
        ("number", 3, None),
        ("any", {"x": [None]}, None),
    ],
)
def test_scalars_are_strict(folder, written, value, message):
    kind = output(folder, written)
    if message is None:
        assert kind.check(value) == value
        return
    with pytest.raises(TypeMismatch) as raised:
        kind.check(value)
    assert raised.value.details == [{"field": "", "message": message}]


def test_details_of_a_long_list_are_bounded(folder):
    with pytest.raises(TypeMismatch) as raised:
        output(folder, "[integer]").check(["x"] * 10_000)

    assert len(raised.value.details) == 20


def test_json_schema_is_strict_and_described(folder):
    kind = output(
        folder,
        "{a: string (what it is), b: '[low | high] | null', c: Point | null, d: integer | null, e: low | high | null}",
        "{Point: {x: number, y: number}}",
    )

    assert kind.json_schema() == {
        "type": "object",
        "properties": {
            "a": {"type": "string", "description": "what it is"},
            "b": {"anyOf": [{"type": "array", "items": {"type": "string", "enum": ["low", "high"]}}, {"type": "null"}]},
            "c": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
                        "required": ["x", "y"],
                        "additionalProperties": False,
                    },
                    {"type": "null"},
                ]
            },
            "d": {"type": ["integer", "null"]},
            "e": {"type": ["string", "null"], "enum": ["low", "high", None]},
        },
        "required": ["a", "b", "c", "d", "e"],
        "additionalProperties": False,
    }


def test_large_types_share_their_parts(folder):
    names = ", ".join(f"T{number}: {{x: T{number + 1}, y: T{number + 1} | null}}" for number in range(30))
    kind = output(folder, "T0 | null", f"{{{names}, T30: string}}")

    schema = kind.json_schema()

    assert len(schema["$defs"]) == 30
    assert jsonschema.Draft202012Validator(schema).is_valid(None)
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_schema_agrees_with_the_check(folder):
    kind = output(folder, f"{{found: [{FINDING}], note: string | null}}")
    value = kind.check({"found": [{"file": "a", "severity": "low", "tags": []}], "other": 1})

    jsonschema.validate(value, kind.json_schema())


def test_full_json_schema_is_checked_by_its_own_rules(folder):
    kind = output(folder, "{schema: {type: object, properties: {n: {type: integer, minimum: 3}}, required: [n]}}")

    assert kind.check({"n": 3, "more": 1}) == {"n": 3, "more": 1}
    with pytest.raises(TypeMismatch) as raised:
        kind.check({"n": 1})
    assert raised.value.details[0]["field"] == "n"


def test_long_list_of_unique_objects_is_checked_in_one_go(folder):
    kind = output(folder, "{schema: {type: array, uniqueItems: true}}")
    many = [{"number": number, "in": [True]} for number in range(50_000)]

    assert len(kind.check(many)) == 50_000  # each with each would be a billion comparisons
    with pytest.raises(TypeMismatch, match="elements 7 and 50000 are the same"):
        kind.check([*many, {"in": [True], "number": 7.0}])


@pytest.mark.parametrize("different", [[1, True], [0, False], ["1", 1], [{}, []], [None, "null"], [{"a": 1}, {"a": True}]])
def test_unique_elements_differ_as_json_does(folder, different):
    kind = output(folder, "{schema: {type: array, uniqueItems: true}}")

    assert kind.check(different) == different


def test_definitions_of_a_schema_move_to_the_root(folder):
    schema = "{schema: {$ref: '#/$defs/N', $defs: {N: {type: integer}}}}"
    kind = output(folder, f"{{a: [{schema}]}}")

    made = kind.json_schema()

    assert made["$defs"] == {"N": {"type": "integer"}}
    jsonschema.validate({"a": [1]}, made)
    assert output(folder, schema).json_schema() == {"$ref": "#/$defs/N", "$defs": {"N": {"type": "integer"}}}


MODELS = """
from pydantic import BaseModel

class Inner(BaseModel):
    x: int

class Outer(BaseModel):
    inner: Inner
    name: str = "none"
"""


def test_pydantic_model_is_imported_only_when_it_is_used(folder):
    folder.write("shapes_one.py", MODELS)
    kind = output(folder, "{m: shapes_one:Outer}")
    import sys

    assert "shapes_one" not in sys.modules
    assert kind.check({"m": {"inner": {"x": "3"}}}) == {"m": {"inner": {"x": 3}, "name": "none"}}
    with pytest.raises(TypeMismatch) as raised:
        kind.check({"m": {"inner": {"x": "no"}}})
    assert raised.value.details[0]["field"] == "m.inner.x"


def test_pydantic_model_is_resolved_by_who_imports(folder):
    class Thing(BaseModel):
        n: int

    class Module:
        Model = Thing
        Other = int

    folder.write("shapes_two.py", "class Model: ...\nclass Other: ...\n")
    kind = output(folder, "{list: [shapes_two:Model], maybe: shapes_two:Model | null}").resolve(lambda name: Module)

    assert kind.check({"list": [Thing(n=1), {"n": 2}]}) == {"list": [{"n": 1}, {"n": 2}], "maybe": None}
    jsonschema.validate({"list": [{"n": 1}], "maybe": None}, kind.json_schema())
    with pytest.raises(Exception, match="'shapes_two:Other' is no pydantic model"):
        output(folder, "shapes_two:Other").resolve(lambda name: Module)


def test_fields_of_a_model_are_any(folder):
    folder.write("shapes_three.py", MODELS)

    folder.load('stages:\n  a: {prompt: hello, output: shapes_three:Outer}\n  b: {prompt: "${{ a.whatever.x }}"}\n')


def test_type_of_values():
    assert type_of([1, None, 2.5]) == ListOf(element=NUMBER)
    assert type_of([1, "x"]) == ListOf(element=ANY)
    assert type_of([]) == ListOf(element=ANY)
    assert type_of(None) == NULL
    assert type_of({"a": 1}) == Fields(fields={"a": INTEGER})
    assert common([]) == ANY


@pytest.mark.parametrize(
    ("given", "wanted", "whether"),
    [
        ("string", "integer", False),
        ("integer", "number", True),
        ("number", "integer", True),
        ("boolean", "integer", False),
        ("any", "[string]", True),
        ("string | null", "string", True),
        ("low | high", "string", True),
        ("string", "low | high", True),
        ("low | high", "high | top", True),
        ("low | high", "top | flop", False),
        ("[string]", "[integer]", False),
        ("[any]", "[integer]", True),
        ("string", "[string]", False),
        ("{a: string, b: integer}", "{a: string}", True),
        ("{a: string}", "{a: string, b: integer}", False),
        ("{a: string}", "{a: string, b: integer | null}", True),
        ("{a: string}", "{a: integer}", False),
        ("{a: string}", "{schema: {type: string}}", True),
    ],
)
def test_types_that_can_fit(folder, given, wanted, whether):
    assert fits(output(folder, f"{given!r}" if given[0] == "[" else given), output(folder, wanted)) is whether


def test_text_of_a_string_subclass_is_plain():
    class Word(str):
        __slots__ = ()

    assert type(STRING.check(Word("x"))) is str


def test_default_that_nests_too_deep_is_no_json(folder):
    (problem,) = folder.problems(f"inputs: {{a: 'any = {'[' * 200_000}'}}\nstages: {{a: {{prompt: x}}}}\n")

    assert "is no JSON" in problem.message
    assert len(str(problem)) < 1000
