"""Inputs: declared with defaults, given by a program or by the command line."""

from __future__ import annotations

import io

import pytest

from flowcraft.errors import WorkflowError
from flowcraft.workflow import bind_inputs, parse_inputs

pytestmark = pytest.mark.unit

DECLARED = """
inputs:
  text: string (what to read)
  count: integer = 3
  ratio: number = 0.5
  flag: boolean = false
  names: '[string] = ["a"]'
  numbers: '[integer] = []'
  mode: fast | slow = fast (how)
  maybe: string | null
  maybe_number: integer | null
  point: '{x: integer} = {"x": 1}'
  whole: any = null
stages: {a: {prompt: "${{ json(inputs) }}"}}
"""


@pytest.fixture
def workflow(folder):
    return folder.load(DECLARED)


def problems(call, *args, **options):
    with pytest.raises(WorkflowError) as raised:
        call(*args, **options)
    return [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("written", "default"),
    [
        ("string = hello world", "hello world"),
        ("string = hello (greeting)", "hello"),
        ('string = "a (b)"', "a (b)"),
        ('string = "a\\nb" (x)', "a\nb"),
        ("string = null", "null"),
        ("string = ''", "''"),
        ("string | null = null", None),
        ("low | high = high (how)", "high"),
        ("integer = 3", 3),
        ("number = 1e3", 1000.0),
        ("boolean = true (why)", True),
        ("'[string] = [\"a (b)\"] (what)'", ["a (b)"]),
        ('\'{x: integer} = {"x": 1, "y": 2}\'', {"x": 1}),
        ("any = [1]", [1]),
    ],
)
def test_default_is_json_or_bare_words_up_to_the_description(folder, written, default):
    given = folder.load(f"inputs:\n  x: {written}\nstages: {{a: {{prompt: hello}}}}\n").inputs["x"]

    assert given.default == default
    assert not given.required


@pytest.mark.parametrize(
    ("written", "heart"),
    [
        ("integer = many", "the default does not fit integer: many is no JSON"),
        ("integer = 1.5", "the default does not fit integer: must be an integer, not a number (1.5)"),
        ("low | high = top", "must be one of low, high"),
        ("number = NaN", "NaN is no JSON"),
        ("string =", "a default is missing"),
        ("'[string] = a'", "a is no JSON"),
    ],
)
def test_default_that_does_not_fit_is_refused(folder, written, heart):
    assert heart in folder.messages(f"inputs:\n  x: {written}\nstages: {{a: {{prompt: hello}}}}\n")[0]


def test_description_and_place_are_kept(workflow):
    assert workflow.inputs["text"].type.description == "what to read"
    assert workflow.inputs["mode"].type.description == "how"
    assert workflow.inputs["count"].position.line == 5
    assert [name for name, given in workflow.inputs.items() if given.required] == ["text"]


def test_bind_gives_defaults_and_drops_extra_fields(workflow):
    bound = bind_inputs(workflow, {"text": "x", "point": {"x": 2, "y": 3}, "count": 4.0})

    assert bound == {
        "text": "x",
        "count": 4,
        "ratio": 0.5,
        "flag": False,
        "names": ["a"],
        "numbers": [],
        "mode": "fast",
        "maybe": None,
        "maybe_number": None,
        "point": {"x": 2},
        "whole": None,
    }


def test_unknown_missing_and_wrong_inputs_are_listed_at_once(workflow):
    assert problems(bind_inputs, workflow, {"cuont": 1, "zzz": 1, "flag": "yes", "point": {"x": "1"}, "names": [1]}) == [
        "unknown input 'cuont'; did you mean 'count'?",
        f"unknown input 'zzz'; the inputs are: {', '.join(workflow.inputs)}",
        "the input 'text' (string: what to read) is missing; give it with -i text=...",
        "input 'flag': must be true or false, not text ('yes')",
        "input 'names[0]': must be text, not a number (1)",
        "input 'point.x': must be an integer, not text ('1')",
    ]


@pytest.mark.parametrize(
    ("pairs", "given"),
    [
        (["text=a=b"], {"text": "a=b"}),
        (["text="], {"text": ""}),
        (["text=3"], {"text": "3"}),
        (["text=@@home"], {"text": "@home"}),
        (["count=-4"], {"count": -4}),
        (["ratio=2"], {"ratio": 2}),
        (["ratio=.5e1"], {"ratio": 5.0}),
        (["flag=true"], {"flag": True}),
        (["names=one", "names=two"], {"names": ["one", "two"]}),
        (["names=one"], {"names": ["one"]}),
        (['names=["x", "y"]'], {"names": ["x", "y"]}),
        (["numbers=1", "numbers=2"], {"numbers": [1, 2]}),
        (["numbers=[1, 2]"], {"numbers": [1, 2]}),
        (["mode=slow"], {"mode": "slow"}),
        (["maybe=null"], {"maybe": "null"}),
        (["maybe_number=null"], {"maybe_number": None}),
        (["maybe_number=7"], {"maybe_number": 7}),
        (['point={"x": 2}'], {"point": {"x": 2}}),
        (["whole=[1, null]"], {"whole": [1, None]}),
    ],
)
def test_values_of_the_command_line_are_read_by_their_type(workflow, pairs, given):
    assert parse_inputs(workflow, pairs) == given


@pytest.mark.parametrize(
    ("pair", "heart"),
    [
        ("count=1.5", "input 'count': '1.5' is no whole number"),
        ("count=", "input 'count': '' is no whole number"),
        ("ratio=1,5", "input 'ratio': '1,5' is no number"),
        ("ratio=nan", "input 'ratio': 'nan' is no number"),
        ("flag=yes", "input 'flag': write true or false, not 'yes'"),
        ("point=x", "input 'point': 'x' is no JSON"),
        ("whole=NaN", "input 'whole': 'NaN' is no JSON"),
        ("names=[x", "input 'names': '[x' is no JSON"),
        ("text=@missing.txt", "input 'text': missing.txt cannot be read: No such file or directory"),
        ("text=@-", "input 'text': there is no standard input"),
        ("txt=x", "unknown input 'txt'; did you mean 'text'?"),
        ("text", "'text' is no input; write -i name=value"),
        ("whole=" + "[" * 100_000, "is no JSON"),
    ],
)
def test_wrong_values_of_the_command_line_are_told(workflow, pair, heart, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert heart in problems(parse_inputs, workflow, [pair])[0]


def test_all_that_is_wrong_comes_with_what_is_missing(workflow):
    assert problems(parse_inputs, workflow, ["count=x", "flag=y", "zzz=1", "flag=true", "ratio=1", "ratio=2"]) == [
        f"unknown input 'zzz'; the inputs are: {', '.join(workflow.inputs)}",
        "input 'count': 'x' is no whole number",
        "input 'flag': it is given more than once, and it is no list",
        "input 'ratio': it is given more than once, and it is no list",
        "the input 'text' (string: what to read) is missing; give it with -i text=...",
    ]


def test_files_and_standard_input_give_text(workflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("\ufeffпривет\n", encoding="utf-8")
    (tmp_path / "n.json").write_text("[1, 2]\n", encoding="utf-8")
    (tmp_path / "x.bin").write_bytes(b"\xff")
    (tmp_path / "big.txt").write_bytes(b"x" * 10_000_001)

    assert parse_inputs(workflow, ["text=@a.txt", "numbers=@n.json", "names=@a.txt", "count=@-"], stdin=io.StringIO("5\n")) == {
        "text": "привет\n",
        "numbers": [1, 2],
        "names": ["привет\n"],
        "count": 5,
    }
    assert "not UTF-8" in problems(parse_inputs, workflow, ["text=@x.bin"])[0]
    assert "more than 10 MB" in problems(parse_inputs, workflow, ["text=@big.txt"])[0]


@pytest.mark.parametrize("name", ["inputs.yaml", "inputs.json"])
def test_file_of_inputs_stands_below_the_pairs(workflow, tmp_path, name):
    path = tmp_path / name
    path.write_text('{"text": "from file", "count": 7, "numbers": [1]}', encoding="utf-8")

    assert parse_inputs(workflow, ["count=8"], file=path) == {"text": "from file", "count": 8, "numbers": [1]}


def test_wrong_file_of_inputs_is_told(workflow, tmp_path):
    path = tmp_path / "inputs.yaml"
    assert "cannot be read: No such file" in problems(parse_inputs, workflow, [], file=path)[0]
    path.write_text("- a\n", encoding="utf-8")
    assert "a file of inputs is a mapping" in problems(parse_inputs, workflow, [], file=path)[0]
    path.write_text("a: 1\na: 2\n", encoding="utf-8")
    assert "stands twice" in problems(parse_inputs, workflow, [], file=path)[0]
    path.write_text("", encoding="utf-8")
    assert parse_inputs(workflow, [], file=path) == {}


def test_workflow_without_inputs_says_so(folder):
    workflow = folder.load("stages: {a: {prompt: hello}}\n")

    assert problems(bind_inputs, workflow, {"x": 1}) == ["unknown input 'x'; the workflow takes no inputs"]


def test_json_file_of_inputs_may_write_any_character_by_escapes(folder):
    workflow = folder.load('inputs: {x: string}\nstages: {a: {prompt: "${{ inputs.x }}"}}\n')
    file = folder.write("inputs.json", r'{"x": "\u043f \ud83d\ude00"}')

    assert parse_inputs(workflow, [], file=file) == {"x": "п 😀"}


@pytest.mark.parametrize(
    ("text", "place", "heart"),
    [
        ('{"x": 1,\n y}', "inputs.json:2:2", "this is not JSON"),
        ('{"x": NaN}', "inputs.json", "this is not JSON"),
        (b'{"x": "\xff"}', "inputs.json", "this is not JSON"),
        ('["x"]', "inputs.json:1:1", "a mapping of names and values"),
    ],
)
def test_json_file_of_inputs_that_is_none_is_refused(folder, text, place, heart):
    workflow = folder.load('inputs: {x: string}\nstages: {a: {prompt: "${{ inputs.x }}"}}\n')
    file = folder.write("inputs.json", text)

    with pytest.raises(WorkflowError) as raised:
        parse_inputs(workflow, [], file=file)

    (problem,) = raised.value.problems
    assert problem.place.endswith(place)
    assert heart in problem.message


@pytest.mark.parametrize(
    ("pairs", "heart"),
    [
        (["x=hello"], """input 'x': 'hello' is no JSON; text stands in quotes: '"hello"'"""),
        (["x=1e999"], "input 'x': '1e999' is no JSON"),
        (["x=[1e999]"], "input 'x': '[1e999]' is no JSON"),
        (["x=1", "n=1e999"], "input 'n': 1e999 is too large a number"),
        (["x=@"], "input 'x': no path behind '@'"),
        (["x=@-", "n=@-"], "input 'n': there is no standard input, or another input has read it"),
    ],
)
def test_wrong_value_is_told_with_what_to_write(folder, pairs, heart):
    workflow = folder.load('inputs: {x: any, n: number = 1}\nstages: {a: {prompt: "${{ inputs.x }} ${{ inputs.n }}"}}\n')

    with pytest.raises(WorkflowError) as raised:
        parse_inputs(workflow, pairs, stdin=io.StringIO("1"))

    assert str(raised.value).startswith(heart)
