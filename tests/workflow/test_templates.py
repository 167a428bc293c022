"""Templates: what is inserted and how, whole values, the way to write '${{' itself, and files."""

from __future__ import annotations

import pytest

from flowcraft.workflow import render_value

pytestmark = pytest.mark.unit

SCOPE = {"inputs": {"text": "a ${{ b }}", "object": {"z": 1, "a": ["ж", None]}, "none": None, "flag": True, "number": 2.5}}


def arguments(folder, written):
    """Return ``with`` of a stage, rendered."""
    inputs = "inputs: {text: string, object: any, none: string | null, flag: boolean, number: number}\n"
    workflow = folder.load(inputs + f"stages:\n  a:\n    run: json:dumps\n    with:\n      obj: {written}\n")
    return render_value(workflow.stages["a"].with_, SCOPE)["obj"]


def prompt(folder, written):
    """Return the text of a prompt."""
    inputs = "inputs: {text: string, object: any, none: string | null, flag: boolean, number: number}\n"
    return folder.load(inputs + f"stages:\n  a:\n    prompt: {written}\n").stages["a"].body.prompt.text(SCOPE)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("hello", "hello"),
        ("<${{ inputs.text }}>", "<a ${{ b }}>"),
        ("<${{ inputs.none }}>", "<>"),
        ("${{ inputs.flag }}, ${{ inputs.number }}", "true, 2.5"),
        ("${{ inputs.object }}", '{\n  "z": 1,\n  "a": [\n    "ж",\n    null\n  ]\n}'),
        ("$${{ inputs.text }}", "${{ inputs.text }}"),
        ("cost $$${{ inputs.number }}", "cost $${{ inputs.number }}"),
        ("${{ '}}' }} and ${{ \"{{\" }}", "}} and {{"),
        ("${{inputs.number}}${{inputs.number}}", "2.52.5"),
        ("${{ 'it\\'s }}' }}", "it's }}"),
    ],
)
def test_values_are_inserted_as_text_and_never_rendered_again(folder, written, text):
    assert prompt(folder, "|-\n      " + written) == text


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${{ inputs.object }}", {"z": 1, "a": ["ж", None]}),
        ("${{ inputs.none }}", None),
        ("${{ inputs.flag }}", True),
        ('" ${{ inputs.flag }}"', " true"),
        ('["${{ inputs.number }}", x]', [2.5, "x"]),
        ('{a: {b: "${{ inputs.number }}"}}', {"a": {"b": 2.5}}),
        ("3", 3),
        ("null", None),
    ],
)
def test_value_that_is_exactly_one_expression_keeps_its_type(folder, written, value):
    assert arguments(folder, written) == value


def test_expression_that_is_not_closed_is_refused(folder):
    (problem,) = folder.problems("stages:\n  a:\n    prompt: |\n      one\n      two ${{ 'a }}\n")

    assert problem.message == "a '${{' that is not closed"
    assert problem.place.endswith(":6:11")


def test_every_wrong_expression_of_a_text_is_told(folder):
    problems = folder.problems('stages:\n  a: {prompt: "${{ b + 1 }} and ${{ }} and ${{ None }}"}\n')

    assert [problem.column for problem in problems] == [20, 36, 48]


def test_prompt_may_stand_in_a_file(folder):
    folder.write("prompts/ask.md", "Hello ${{ inputs.name }},\nbye\n")
    workflow = folder.load("inputs: {name: string}\nstages:\n  a: {prompt: {file: prompts/ask.md}}\n")

    assert workflow.stages["a"].body.prompt.text({"inputs": {"name": "世界"}}) == "Hello 世界,\nbye\n"
    assert workflow.warnings == ()


def test_file_may_stand_in_system_with_and_outputs(folder):
    folder.write("a.txt", "text ${{ inputs.x }}")
    workflow = folder.load(
        """
        inputs: {x: string}
        stages:
          a: {prompt: hello, system: {file: a.txt}}
          b: {run: "json:dumps", with: {obj: {file: a.txt}}}
        outputs: {a: {file: a.txt}, b: "${{ b }}", c: "${{ a }}"}
        """
    )
    scope = {"inputs": {"x": "1"}, "a": 2, "b": 3}

    assert workflow.stages["a"].body.system.text(scope) == "text 1"
    assert render_value(workflow.stages["b"].with_, scope) == {"obj": "text 1"}
    assert render_value(workflow.outputs, scope) == {"a": "text 1", "b": 3, "c": 2}


def test_mistake_in_a_file_has_the_files_own_lines(folder):
    folder.write("ask.md", "one\ntwo\n  three ${{ inputs.nam }}\n")

    (problem,) = folder.problems("inputs: {name: string}\nstages:\n  a: {prompt: {file: ask.md}}\n")

    assert problem.place == f"{folder.path / 'ask.md'}:3:20"
    assert problem.excerpt == "  three ${{ inputs.nam }}"


def test_text_of_a_file_is_inserted_verbatim(folder):
    folder.write("data/raw.txt", "keep ${{ this }} $${{ too }}")
    workflow = folder.load("stages:\n  a: {prompt: \"<${{ file('data/raw.txt') }}>\"}\n")

    assert workflow.stages["a"].body.prompt.text({}) == "<keep ${{ this }} $${{ too }}>"
    assert str(folder.path / "data/raw.txt") in workflow.files


@pytest.mark.parametrize(
    ("path", "heart"),
    [
        ("../outside.txt", "does not lie below"),
        ("/etc/hostname", "does not lie below"),
        ("", "does not lie below"),
        (".", "does not lie below"),
        ("a/../../outside.txt", "does not lie below"),
        ("link.txt", "leads out of the workflow's folder by a link"),
        ("missing.txt", "there is no file 'missing.txt'"),
        ("sub", "'sub' is a folder"),
        ("large.txt", "at most 1 MB"),
        ("binary.bin", "not UTF-8"),
    ],
)
def test_file_must_be_text_below_the_folder(folder, tmp_path_factory, path, heart):
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("secret", encoding="utf-8")
    (folder.path / "link.txt").symlink_to(outside)
    (folder.path / "sub").mkdir()
    folder.write("large.txt", "x" * 1_000_001)
    folder.write("binary.bin", b"\xff\xfe\x00")

    (in_function,) = folder.problems(f"stages:\n  a: {{prompt: \"${{{{ file('{path}') }}}}\"}}\n")
    (in_prompt,) = folder.problems(f"stages:\n  a: {{prompt: {{file: '{path}'}}}}\n")

    assert heart in in_function.message
    assert heart in in_prompt.message


def test_path_of_a_file_is_written_out(folder):
    assert folder.messages('inputs: {f: string}\nstages:\n  a: {prompt: {file: "${{ inputs.f }}"}}\n') == [
        "the path of {file: ...} is written out"
    ]


@pytest.mark.parametrize(
    ("written", "heart"),
    [
        ("name: ${{ inputs.x }}\nstages: {a: {prompt: hello}}", "'name' takes no template"),
        ('stages: {a: {run: "${{ inputs.x }}:f"}}', "'run' takes no template"),
        ('stages: {a: {uses: "${{ inputs.x }}"}}', "'uses' takes no template"),
        ('defaults: {model: "${{ inputs.x }}"}\nstages: {a: {prompt: hello}}', "'model' takes no template"),
        ("stages: {a: {prompt: 3}}", "'prompt' must be text, not a number (3)"),
        ("stages: {a: {prompt: [a]}}", "'prompt' must be text, not a list"),
        ("stages: {a: {prompt: }}", "'prompt' must be text, not nothing"),
        ("stages: {a: {prompt: '  '}}", "the prompt is empty"),
        ('stages: {a: {prompt: hello, timeout: "${{ inputs.x }}m"}}', "'timeout' must be one value"),
    ],
)
def test_template_in_the_wrong_place_is_refused(folder, written, heart):
    assert heart in folder.messages("inputs: {x: string}\n" + written + "\n")


def test_settings_of_a_stage_may_come_from_inputs(folder):
    workflow = folder.load(
        """
        inputs: {tier: string, many: integer, long: string = 5m, heat: number}
        stages:
          a:
            each: [1, 2]
            prompt: ${{ item }}
            model: ${{ inputs.tier }}
            parallel: ${{ inputs.many }}
            timeout: ${{ inputs.long }}
            params: {temperature: "${{ inputs.heat }}"}
        """
    )
    stage, scope = workflow.stages["a"], {"inputs": {"tier": "cheap", "many": 3, "long": "5m", "heat": 0.5}}

    assert stage.model.text(scope) == "cheap"
    assert stage.parallel.render(scope) == 3
    assert stage.timeout.render(scope) == "5m"
    assert render_value(stage.params, scope) == {"temperature": 0.5}


def test_setting_from_an_input_of_the_wrong_type_is_refused(folder):
    assert folder.messages(
        'inputs: {n: string}\nstages: {a: {each: [1], prompt: "${{ item }}", parallel: "${{ inputs.n }}"}}\n'
    ) == ["'parallel' takes integer, not string"]


@pytest.mark.parametrize("text", ["{{ inputs.who }}", "{{who}}", "${who}", "${ first }", "{{ first.x[0] }}"])
def test_braces_of_other_tools_around_a_known_name_are_doubted(folder, text):
    workflow = folder.load(
        "inputs: {who: string}\n"
        "stages:\n"
        '  first: {prompt: "${{ inputs.who }}", output: {x: "[string]"}}\n'
        f'  second: {{prompt: "${{{{ first.x }}}} {text}"}}\n'
    )

    (doubt,) = workflow.warnings
    assert doubt.message == f"'{text}' is just text"
    assert (doubt.line, doubt.column, doubt.width) == (5, 36, len(text))
    assert doubt.hint.startswith("an expression is written ${{ ")


@pytest.mark.parametrize("text", ["{{ other }}", "${HOME}", "{who}", "{{{who}}}", "$${{ who }}", '{\\"who\\": {\\"who\\": 1}}'])
def test_other_braces_are_text_without_a_word(folder, text):
    workflow = folder.load(f'inputs: {{who: string}}\nstages: {{first: {{prompt: "${{{{ inputs.who }}}} {text}"}}}}\n')

    assert workflow.warnings == ()
