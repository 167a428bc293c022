"""The rules of "Trust", "Expressions" and "Files": what tries to get out is refused when the file is loaded, at its place."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from flowcraft.errors import WorkflowError
from flowcraft.workflow import load_workflow
from flowcraft.workflow.loading.files import Files, UnreadableFile, lies_below, open_plain

pytestmark = pytest.mark.unit

HEAD = {
    "flowcraft": 1,
    "env": ["TOKEN"],
    "inputs": {"s": "string", "o": "{a: string}", "l": "[string]", "n": "integer"},
}
OUTSIDE = "nothing of this may be seen"

EXPRESSIONS = {
    # dunders, in every spelling
    "dunder": "inputs.s.__class__",
    "dunder of a literal": "''.__class__.__mro__",
    "dunder of a list": "[].__class__.__base__.__subclasses__()",
    "dunder of an object": "inputs.__init__.__globals__",
    "dunder by its name as text": "inputs['__class__']",
    "dunder in a list": "inputs.o['__dict__']",
    "dunder name": "__builtins__",
    "dunder import": "__import__('os').system('id')",
    "wide letters": "ｉnputs.s",
    "wide low lines": "inputs.s.＿＿class＿＿",
    "wide function": "ｌｅｎ(inputs.l)",
    "mathematical letters": "𝓲𝓷𝓹𝓾𝓽𝓼.s",
    "ligature": "inputs.ﬁle",
    "wide import": "ｉmport",
    # attribute tricks through texts, lists, numbers
    "method of text": "'{0.__class__}'.format(inputs)",
    "method without a call": "'a'.format",
    "attribute of a number": "(1).real",
    "attribute of true": "true.real",
    "element of text": "'abc'[0]",
    "field by a computed name": "env[inputs.s]",
    "call of a value": "inputs.s()",
    "call of an element": "[len][0](inputs.l)",
    "function as a value": "len",
    "getattr": "getattr(inputs, 's')",
    "eval": "eval('1')",
    "open": "open('/etc/passwd')",
    # texts that compute
    "f-string": "f'{inputs}'",
    "byte string": "b'a'",
    "raw string": "r'a'",
    "joined strings": "'__cla' 'ss__'",
    "added strings": "'__cla' + 'ss__'",
    "percent format": "'%s' % inputs",
    "octal escape": "'\\137\\137class'",
    "named escape": "'\\N{LOW LINE}'",
    "lone surrogate": "'\\ud800'",
    # Python that is no expression of ours
    "lambda": "(lambda: 1)()",
    "walrus": "(x := inputs)",
    "comprehension": "[x for x in inputs.l]",
    "generator": "any(x for x in inputs.l)",
    "starred": "len(*inputs.l)",
    "double starred": "default(**inputs)",
    "keyword": "default(a=1)",
    "await": "await inputs.s",
    "yield": "(yield inputs.s)",
    "ellipsis": "...",
    "ellipsis as an index": "inputs.l[...]",
    "slice": "inputs.l[0:1]",
    "dictionary": "{'a': 1}",
    "set": "{1, 2}",
    "tuple": "(1, 2)",
    "is": "inputs is null",
    "statement": "import os",
    "two statements": "1; import os",
    "comment": "1 # x",
    "line join": "1 \\\n== 1",
    "backquotes": "`id`",
    "matrix": "inputs @ inputs",
    # what takes long
    "power": "9**9**9**9",
    "shift": "1 << 999999999",
    "repeated text": "'a' * 9999999999",
    "huge number": "1e999",
    "other base": "0xffffffff",
    "complex number": "1j",
    "1,000 characters": "9" * 1001,
    "parentheses": "(" * 300 + "1" + ")" * 300,
    "twenty parentheses and one": "(" * 21 + "1" + ")" * 21,
    "brackets": "[" * 200 + "]" * 200,
    "signs": "-" * 300 + "1",
    "nots": "not " * 200 + "true",
    "fields": "inputs" + ".o" * 300,
    "indices": "inputs" + "[0]" * 300,
    "comparisons in comparisons": "len(" * 30 + "inputs" + ")" * 30,
    # characters
    "NUL": "inputs\\x00",
    "other direction": "inputs\u202e.s",
    "no width": "inp\u200buts.s",
    "hard space": "inputs.s\u00a0== 'a'",
    "curly quotes": "\u201ca\u201d",
    # templates
    "nested": "${{ inputs.s",
    "quote that is not closed": "'a",
    "quote in a quote": '\'a" == "b\'"',
    # secrets
    "secret in a prompt": "env.TOKEN",
    "secret in brackets": "env['TOKEN']",
    "all secrets": "json(env)",
    "secrets in a list": "[env]",
    "secret through default": "default(null, env)",
    "secret through a choice": "env if true else 1",
}


def stage(**keys: object) -> dict[str, object]:
    return {**HEAD, "stages": {"a": {"prompt": "Hello ${{ [inputs.s, inputs.o, inputs.l, inputs.n] }}", **keys}}}


def expression(text: str) -> dict[str, object]:
    return stage(prompt="${{ " + text + " }}")


@pytest.mark.parametrize("attempt", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_an_expression_that_tries_to_get_out_is_refused(place, attempt):
    (problem, *_) = refused(place, expression(attempt))

    assert (problem.line, problem.file) == (1, str(place.path / "flow.yaml"))


@pytest.mark.parametrize("attempt", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_a_condition_that_tries_to_get_out_is_refused(place, attempt):
    refused(place, stage(when=attempt))


PATHS = {
    "up": "../outside.txt",
    "up and down": "below/../../outside.txt",
    "absolute": "/etc/hostname",
    "twice absolute": "//etc/hostname",
    "home": "~/outside.txt",
    "variable": "$HOME/outside.txt",
    "backslashes": "..\\outside.txt",
    "drive": "C:\\outside.txt",
    "share": "\\\\server\\outside.txt",
    "percent": "%2e%2e/outside.txt",
    "file URL": "file:///etc/hostname",
    "web URL": "https://example.org/outside.txt",
    "stream": "inside.txt::$DATA",
    "link to a file": "link.txt",
    "link to a folder": "folder/outside.txt",
    "link to a link": "second.txt",
    "link to itself": "loop.txt",
    "link to the environment": "environment.txt",
    "link to a device": "zero.txt",
    "environment": "/proc/self/environ",
    "device": "/dev/zero",
    "pipe": "pipe",
    "folder": "below",
    "own folder": ".",
    "nothing": "",
    "1 MB and a byte": "large.txt",
    "no UTF-8": "latin.txt",
    "NUL inside": "binary.txt",
    "NUL in the name": "inside.txt\0.md",
    "very long": "x" * 900,
    "wide letters": "ｉnside.txt",
    "space": " inside.txt",
}


@pytest.fixture
def traps(place, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "outside.txt").write_text(OUTSIDE)
    for name, target in {
        "link.txt": outside / "outside.txt",
        "folder": outside,
        "second.txt": "link.txt",
        "loop.txt": "loop.txt",
        "environment.txt": "/proc/self/environ",
        "zero.txt": "/dev/zero",
    }.items():
        os.symlink(target, place.path / name)
    os.mkfifo(place.path / "pipe")
    place.write("below/inside.txt", "fine")
    place.write("inside.txt", "fine")
    place.write("large.txt", b"x" * 1_000_001)
    place.write("latin.txt", b"\xe9")
    place.write("binary.txt", b"secret\0secret")
    return place


def refused(place, data):
    """The problems of a file with this data; nothing from outside of its folder may stand in one."""
    path = place.write("flow.yaml", json.dumps(data, ensure_ascii=False))
    with pytest.raises(WorkflowError) as raised:
        load_workflow(path)
    assert all(problem.line and problem.column for problem in raised.value.problems)
    assert OUTSIDE not in str(raised.value)
    return raised.value.problems


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_a_file_outside_of_the_folder_is_refused(traps, path):
    refused(traps, stage(prompt={"file": path}))
    refused(traps, expression(f"file({json.dumps(path)})"))


@pytest.mark.parametrize(
    "name", ["pipe", "zero.txt", "environment.txt", "below", "large.txt", "latin.txt", "binary.txt", "", "/dev/zero", "a\0b"]
)
def test_another_workflow_is_a_plain_file(traps, name):
    problems = refused(traps, {**HEAD, "stages": {"a": {"uses": name}}})

    assert not any("=" in problem.excerpt for problem in problems if problem.file != str(traps.path / "flow.yaml"))


@pytest.mark.parametrize(
    "what",
    [
        "pipe",
        "zero.txt",
        "environment.txt",
        "below",
        "loop.txt",
        "/dev/zero",
        "/proc/self/environ",
        "",
        "a\0b",
        "file:///etc/hostname",
        "ftp://example.org/a.png",
        "data:text/plain,a",
        "http://127.0.0.1/a.png",
        "http://0x7f.1/a.png",
        "http://[::1]/a.png",
        "http://169.254.169.254/a.png",
        "http://localhost/a.png",
        "https://db.internal/a.png",
    ],
)
def test_an_attachment_is_a_plain_file_or_an_image_of_the_web(traps, what):
    refused(traps, stage(attach=what))


@pytest.mark.parametrize(
    "target",
    [
        "../steps:note",
        "..steps:note",
        "/tmp/steps:note",
        "steps.py:note",
        "steps:note()",
        "steps:",
        ":note",
        "steps",
        "",
        "steps:note;id",
        "steps:note\n",
        "steps note",
        "steps:__builtins__.eval",
        "${{ inputs.s }}:note",
        "steps:${{ inputs.s }}",
    ],
)
def test_a_function_is_a_module_and_a_name(place, target):
    refused(place, {**HEAD, "stages": {"a": {"run": target}}})


@pytest.mark.parametrize("command", ["echo ${{ inputs.s }}", "echo '${{ inputs.s }}'", "echo $${{ inputs.s }}", "${{"])
def test_no_value_stands_in_a_command(place, command):
    refused(place, {**HEAD, "stages": {"a": {"shell": command}}})


@pytest.mark.parametrize("name", ["BASH_ENV", "ENV", "PS4", "SHELLOPTS", "IFS", "PWD", "A=B", "a-b", "x\0", "1a"])
def test_a_variable_is_no_instruction_to_bash(place, name):
    refused(place, {**HEAD, "stages": {"a": {"shell": "true", "with": {name: "x"}}}})


SECRETS = {
    "prompt": {"prompt": "${{ env.TOKEN }}"},
    "system": {"prompt": "a", "system": "${{ env.TOKEN }}"},
    "rubric": {"prompt": "a", "strategy": "best_of_two", "judge": {"rubric": "${{ env.TOKEN }}"}},
    "attach": {"prompt": "a", "attach": "${{ env.TOKEN }}"},
    "with of uses": {"uses": "part.yaml", "with": {"x": "${{ env.TOKEN }}"}},
    "when": {"prompt": "a", "when": "env.TOKEN == 'a'"},
    "each": {"prompt": "a", "each": ["${{ env.TOKEN }}"]},
    "until": {"prompt": "a", "until": "env.TOKEN == a", "max": 2},
    "model": {"prompt": "a", "model": "${{ env.TOKEN }}"},
    "params": {"prompt": "a", "params": {"user": "${{ env.TOKEN }}"}},
    "name that is not listed": {"run": "steps:note", "with": {"word": "${{ env.HOME }}"}},
    "computed name": {"run": "steps:note", "with": {"word": "${{ env[inputs.s] }}"}},
    "all": {"run": "steps:note", "with": {"word": "${{ json(env) }}"}},
}


@pytest.mark.parametrize("keys", SECRETS.values(), ids=SECRETS.keys())
def test_a_secret_stands_nowhere_but_with_and_mcp(place, keys):
    place.write("part.yaml", "flowcraft: 1\ninputs: {x: string}\nstages: {a: {prompt: '${{ inputs.x }}'}}\n")
    refused(place, {**HEAD, "stages": {"a": keys}})


def test_a_secret_is_no_output(place):
    refused(place, {**stage(), "outputs": {"x": "${{ env.TOKEN }}"}})


SCHEMAS = {
    "of the web": {"$ref": "http://example.org/schema.json"},
    "of a file": {"$ref": "file:///etc/hostname"},
    "of a neighbour": {"$ref": "other.json"},
    "dynamic": {"$dynamicRef": "http://example.org/schema.json"},
    "inside": {"properties": {"a": {"items": {"$ref": "//example.org/a"}}}},
    "name of its own": {"properties": {"a": {"$id": "http://example.org/"}}},
    "dialect": {"$schema": "http://example.org/dialect"},
    "dialect that is none": {"$schema": ["x"]},
    "to itself": {"$ref": "#"},
    "in a circle": {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}},
    "to nothing": {"$ref": "#/$defs/gone"},
    "nested repetition": {"pattern": "^(a+)+$"},
    "alike alternatives": {"pattern": "^(a|ab)*b?c$|(x|x)*y"},
    "nested and hollow": {"pattern": "(a*)*b"},
    "many repetitions": {"pattern": ".*.*.*=.*"},
    "many short repetitions": {"pattern": "^" + "a{0,2}" * 20 + "b"},
    "many that may be there": {"pattern": "a?" * 28 + "a" * 28 + "x"},
    "many of any character": {"pattern": ".{0,20}" * 8 + "x"},
    "many alike alternatives": {"pattern": r"(?:\w\w|\w)" * 22 + "-"},
    "look ahead": {"pattern": "(?=(a+)+$)a"},
    "back reference": {"pattern": r"(.*)\1+x"},
    "pattern of names": {"patternProperties": {"^(a+)+$": {}}},
    "pattern that is none": {"pattern": "("},
    "very many": {"allOf": [{"pattern": f"^a{number}$"} for number in range(101)]},
    "huge repetition": {"pattern": "a{1,99999999999}"},
    "pattern inside": {"properties": {"pattern": {"pattern": r"(\w+\s?)*$"}}},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_a_schema_leads_nowhere_and_comes_to_an_end(place, schema):
    refused(place, stage(output={"schema": schema}))


DOCUMENTS = {
    "alias bomb": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)),
    "alias of itself": "x-a: &a [*a]\n",
    "merge key": "x-a: &a {b: 1}\nx-c: {<<: *a}\n",
    "tag of Python": "stages: !!python/object/apply:os.system ['id']\n",
    "tag of its own": "stages: !include other.yaml\n",
    "verbatim tag": "stages: !<tag:yaml.org,2002:python/name:os.system> x\n",
    "brackets": "stages: " + "[" * 50_000 + "\n",
    "dashes": "- " * 50_000 + "\n",
    "key that is a mapping": "{a: b}: c\n",
    "long number": "x-a: " + "9" * 400_000 + "\n",
    "second document": "stages: {a: {prompt: x}}\n---\nstages: {}\n",
    "escaped surrogate": 'x-a: "\\ud83d"\n',
    "control character": "x-a: \x1b[2J\n",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_stays_small_and_plain(place, text):
    path = place.write("flow.yaml", "flowcraft: 1\n" + text)

    with pytest.raises(WorkflowError) as raised:
        load_workflow(path)

    assert all(problem.line for problem in raised.value.problems)


def test_the_attempts_are_many():
    tables = (EXPRESSIONS, EXPRESSIONS, PATHS, PATHS, SECRETS, SCHEMAS, DOCUMENTS)

    assert sum(map(len, tables)) >= 60


def test_a_link_that_is_swapped_between_check_and_reading_is_not_followed(place, tmp_path_factory):
    """Whichever file is opened, it is that one which is asked where it lies."""
    outside = tmp_path_factory.mktemp("outside") / "outside.txt"
    outside.write_text(OUTSIDE)
    place.write("fine.txt", "fine")
    link, ended = place.path / "link.txt", threading.Event()
    os.symlink("fine.txt", link)

    def swap() -> None:
        while not ended.is_set():
            for target in (outside, Path("fine.txt")):
                os.symlink(target, place.path / "new")
                os.replace(place.path / "new", link)

    swapping = threading.Thread(target=swap)
    swapping.start()
    read = set()
    try:
        for _ in range(2000):
            try:
                read.add(Files().below(str(place.path), "link.txt")[1])
            except UnreadableFile as error:
                read.add(str(error))
    finally:
        ended.set()
        swapping.join()

    assert read <= {"fine", "'link.txt' leads out of the workflow's folder by a link"}


def test_it_is_the_opened_file_that_is_asked_where_it_lies(place, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "outside.txt"
    outside.write_text(OUTSIDE)
    place.write("fine.txt", "fine")
    link = place.path / "link.txt"
    os.symlink(outside, link)
    with open_plain(str(link)) as file:
        link.unlink()
        os.symlink("fine.txt", link)  # swapped: the path is harmless now, what was opened is not

        assert not lies_below(file, str(link), str(place.path))
    with open_plain(str(link)) as file:
        assert lies_below(file, str(link), str(place.path))


def test_a_data_field_may_be_named_like_a_dunder(place):
    """Text in brackets is a key of data and nothing else: what JSON brings is read, Python's own is not."""
    workflow = place.load("inputs: {x: any}\nstages: {a: {prompt: \"${{ inputs.x['__class__'] }}\"}}\n")

    template = workflow.stages["a"].body.prompt
    assert template.text({"inputs": {"x": {"__class__": "data"}}}) == "data"
    assert template.text({"inputs": {"x": [1]}}) == ""
