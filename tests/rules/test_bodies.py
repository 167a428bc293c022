"""The rules of "Bodies": "`run`", "`shell`", "`uses`" and "`stages`: a group"."""

from __future__ import annotations

import base64
import contextlib
import sqlite3

import pytest

pytestmark = pytest.mark.integration


async def test_a_module_is_looked_up_beside_the_file_first(place):
    place.write("json.py", "def dumps(obj):\n    return 'ours'\n")  # but never in place of one of Python's own
    place.write("pytest.py", "def fail(reason):\n    return 'ours'\n")
    result = await place.run("""
        stages: {a: {run: "pytest:fail", with: {reason: x}}, b: {run: "json:dumps", with: {obj: [1]}}}
    """)

    assert result.outputs["a"] == "ours"


async def test_two_folders_may_both_have_a_module_of_one_name(place):
    for name in ("one", "two"):
        place.write(f"{name}/steps.py", f"import helper\ndef who():\n    return '{name} ' + helper.NAME\n")
        place.write(f"{name}/helper.py", f"NAME = 'of {name}'\n")
        place.write(f"{name}/flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:who"}}\noutputs: {a: "${{ a }}"}\n')
    async with place.open() as flow:
        alone = [(await flow.run(place.path / name / "flow.yaml")).outputs["a"] for name in ("one", "two", "one")]

    together = await place.run("stages: {a: {uses: one/flow.yaml}, b: {uses: two/flow.yaml}}\n")

    assert alone == ["one of one", "two of two", "one of one"]
    assert together.outputs == {"a": {"a": "one of one"}, "b": {"a": "two of two"}}


async def test_with_is_checked_against_the_signature(place):
    place.steps("def need(n: int, word: str = ''):\n    return n\n")
    messages = [
        place.refused(f'stages: {{a: {{run: "steps:need", with: {given}}}}}\n')
        for given in ("{}", "{n: 1, m: 2}", "{n: one}", "{n: '${{ run.id }}'}")
    ]

    assert messages == [
        "steps:need also needs: n",
        "steps:need has no parameter 'm'",
        "the parameter 'n' takes integer, not string",
        "the parameter 'n' takes integer, not string",
    ]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("{1, 2}", "a set is not JSON"),
        ("b'x'", "a bytes is not JSON"),
        ("float('nan')", "not JSON compliant"),
        ("object()", "a object is not JSON"),
        ("(x for x in [])", "a generator is not JSON"),
        ("{(1, 2): 3}", "keys must be"),
        ("{1: 'a', '1': 'b'}", "two keys of an object are both '1' in JSON"),
        ("nest()", "holds itself, or nests too deep"),
    ],
)
async def test_a_result_is_json(place, made, told):
    place.steps(f"def nest():\n    x = []\n    x.append(x)\n    return x\n\ndef make():\n    return {made}\n")
    result = await place.run('stages: {a: {run: "steps:make"}}\n')

    assert result.state == "failed"
    assert told in result.error


async def test_pydantic_models_and_dataclasses_are_turned_into_json(place):
    place.steps("""
        import dataclasses, datetime, pydantic
        class M(pydantic.BaseModel):
            day: datetime.date
        @dataclasses.dataclass
        class D:
            ms: list
        def make():
            return D([M(day=datetime.date(2026, 1, 2))]), (1, 2)
    """)
    result = await place.run('stages: {a: {run: "steps:make"}}\n')

    assert result.outputs == {"a": [{"ms": [{"day": "2026-01-02"}]}, [1, 2]]}


async def test_a_value_over_ten_megabytes_fails_and_says_what_to_do(place):
    place.steps("def large(n):\n    return 'x' * n\n")
    fine = await place.run('stages: {a: {run: "steps:large", with: {n: 9999998}}}\noutputs: {n: "${{ len(a) }}"}\n')
    wrong = await place.run('stages: {a: {run: "steps:large", with: {n: 9999999}}}\noutputs: {n: "${{ len(a) }}"}\n')

    assert fine.outputs == {"n": 9999998}
    assert "over the limit of 10 MB; write a file and return its path" in wrong.error


async def test_an_error_shows_class_message_and_place_and_its_traceback_is_in_the_log(place):
    said = []
    async with place.open() as flow:
        flow.subscribe(lambda event: said.append(event))
        result = await flow.run(place.file('stages: {a: {run: "steps:fail", with: {word: it}}}\n'))

    line = next(
        n for n, text in enumerate((place.path / "steps.py").read_text().split("\n"), 1) if 'raise ValueError(f"cannot' in text
    )
    assert result.error == f"stage a: steps:fail: ValueError: cannot it ({place.path}/steps.py:{line})"
    assert any("Traceback" in str(getattr(event, "details", "")) for event in said)


async def test_shell_stops_at_its_first_failure_in_a_pipe_too(place):
    result = await place.run("""
        stages:
          a: {shell: "false; echo on", on_error: continue}
          b: {shell: "false | cat; echo on", on_error: continue}
        outputs: {a: "${{ a }}", b: "${{ b.stdout }}"}
    """)

    assert result.outputs == {"a": {"exit_code": 1, "stdout": "", "stderr": ""}, "b": ""}


async def test_what_on_error_continue_keeps_of_a_shell_is_kept_on_resume_with_until_too(place):
    place.steps(
        "def wait_for(path, kept):\n    if not pathlib.Path(path).exists():\n        raise ValueError('no')\n    return kept\n"
    )
    failed = await place.run("""
        stages:
          a: {shell: "echo out; echo more >> log.txt; exit 3", until: a.exit_code == 0, max: 2, on_error: continue}
          b: {run: "steps:wait_for", with: {path: go, kept: "${{ a }}"}}
    """)
    place.write("go", "")

    done = await place.resume(failed.run)

    assert done.outputs == {"b": {"exit_code": 3, "stdout": "out\n", "stderr": ""}}
    assert place.marks() == ["more"]


async def test_a_try_that_failed_and_was_let_pass_is_not_done_again_though_the_process_died_behind_it(place):
    place.steps(
        "def wait_for(path, kept):\n    if not pathlib.Path(path).exists():\n        raise ValueError('no')\n    return kept\n"
    )
    failed = await place.run("""
        stages:
          a: {shell: "echo out; echo more >> log.txt; exit 3", until: a.exit_code == 0, max: 2, on_error: continue}
          b: {run: "steps:wait_for", with: {path: go, kept: "${{ a }}"}}
    """)
    with contextlib.closing(sqlite3.connect(place.path / "flowcraft.db")) as connection, connection:
        connection.execute("DELETE FROM pieces WHERE path = 'a'")  # killed between the try's record and the stage's
    place.write("go", "")

    done = await place.resume(failed.run)

    assert done.outputs == {"b": {"exit_code": 3, "stdout": "out\n", "stderr": ""}}
    assert place.marks() == ["more"]


def test_no_template_stands_in_a_command_and_the_message_shows_with(place):
    (problem,) = place.problems(
        "inputs: {x: string}\nstages: {a: {shell: 'ls ${{ inputs.x }}', with: {y: \"${{ inputs.x }}\"}}}\n"
    )

    assert "'shell' takes no template" in problem.message
    assert 'with: {x: "${{ inputs.x }}"}' in problem.hint


async def test_names_of_with_become_variables_and_stdin_is_piped(place):
    result = await place.run("""
        stages: {a: {shell: 'cat; echo "$word"; echo "${stdin-unset}"', output: string,
          with: {word: "a; b $(id)", stdin: "piped "}}}
    """)

    assert result.outputs == {"a": "piped a; b $(id)\nunset"}


async def test_with_output_stdout_is_one_json_value(place):
    result = await place.run("""
        stages:
          a: {shell: "echo ' [1, 2] '", output: "[integer]"}
          b: {shell: "echo ' text '", output: string}
          c: {shell: "echo text", output: integer, on_error: continue}
        outputs: {a: "${{ a }}", b: "${{ b }}", c: "${{ c }}"}
    """)

    assert result.outputs == {"a": [1, 2], "b": "text", "c": None}


async def test_shell_inherits_only_what_is_listed(place, monkeypatch):
    monkeypatch.setenv("LISTED_NAME", "listed-value")
    monkeypatch.setenv("OTHER_NAME", "other-value")
    result = await place.run("""
        env: [LISTED_NAME]
        stages: {a: {shell: 'env | cut -d= -f1 | sort; printf %s "$LISTED_NAME" | base64', output: string}}
    """)

    *names, encoded = result.outputs["a"].split("\n")
    allowed = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK", "LISTED_NAME", "PWD", "SHLVL", "_"}
    assert {name for name in names if not name.lower().endswith("_proxy")} <= allowed
    assert encoded in ("***", base64.b64encode(b"listed-value").decode()[:0] + "***")


async def test_only_inputs_go_into_a_part_and_run_id_is_the_same(place):
    place.write(
        "part.yaml",
        """
        flowcraft: 1
        inputs: {x: integer}
        stages: {a: {run: "steps:echo", with: {x: "${{ inputs.x }}", id: "${{ run.id }}"}}}
        outputs: {a: "${{ a }}"}
    """,
    )
    result = await place.run("defaults: {timeout: 1m}\nstages: {p: {uses: part.yaml, with: {x: 1}}}\n")

    assert result.outputs == {"p": {"a": {"x": 1, "id": result.run}}}
    assert (
        place.load("defaults: {timeout: 1m}\nstages: {p: {uses: part.yaml, with: {x: 1}}}\n")
        .stages["p"]
        .body.workflow.stages["a"]
        .timeout
        is None
    )


async def test_a_workflow_may_use_itself_to_depth_ten(place):
    text = """
        inputs: {n: integer = 0, most: integer = 3}
        stages:
          a: {when: inputs.n < inputs.most, uses: flow.yaml, with: {n: "${{ NEXT }}", most: "${{ inputs.most }}"}}
        outputs: {n: "${{ default(a.n, inputs.n) }}"}
    """
    place.steps("def more(n):\n    return n + 1\n")
    text = text.replace(
        "          a:", '          more: {run: "steps:more", with: {n: "${{ inputs.n }}"}}\n          a:'
    ).replace("NEXT", "more")

    assert (await place.run(text)).outputs == {"n": 3}
    assert (await place.run(text, most=10)).outputs == {"n": 10}
    assert "nested deeper than 10" in (await place.run(text, most=11)).error


def test_a_part_is_typed_and_checked_at_load(place):
    place.write("part.yaml", "flowcraft: 1\ninputs: {x: integer}\nstages: {a: {prompt: '${{ inputs.x }}'}}\n")

    assert [
        place.refused(f"stages: {{p: {{uses: part.yaml, with: {given}}}}}\n") for given in ("{}", "{x: a}", "{x: 1, y: 2}")
    ] == [
        "part.yaml also needs: x",
        "the input 'x' takes integer, not string",
        "part.yaml has no input 'y'",
    ]


def test_only_the_file_that_is_run_may_have_a_finally(place):
    place.write("part.yaml", "flowcraft: 1\nstages: {a: {prompt: hello}}\nfinally: {b: {prompt: hello}}\n")

    assert place.refused("stages: {p: {uses: part.yaml}}\n") == "part.yaml has a 'finally'"


async def test_a_group_sees_the_names_around_it_and_gives_the_object_of_its_stages(place):
    result = await place.run(
        """
        inputs: {x: integer}
        stages:
          a: {run: "steps:note", with: {word: a}}
          g:
            stages:
              b: {run: "steps:echo", with: {a: "${{ a }}", x: "${{ inputs.x }}"}}
              c: {when: false, run: "steps:note"}
    """,
        x=1,
    )

    assert result.outputs == {"g": {"b": {"a": "a", "x": 1}, "c": None}}


def test_a_stage_has_exactly_one_body(place):
    assert "a second body" in place.refused('stages: {a: {prompt: hello, run: "steps:note"}}\n')
    assert place.refused("stages: {a: {timeout: 1m}}\n") == "the stage does not say what to do"


@pytest.mark.parametrize("body", ["uses: ''", "run: ''", "shell: ''", "prompt: ''", "stages: {}"])
def test_a_body_is_not_empty(place, body):
    assert place.refused(f"stages: {{a: {{{body}}}}}\n")
