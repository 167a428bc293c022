"""The rules of "Templates" and "Files"."""

from __future__ import annotations

import pytest

from flowcraft.errors import WorkflowError

pytestmark = pytest.mark.integration


async def test_text_is_inserted_as_it_is_null_as_nothing_and_all_else_as_json(place):
    result = await place.run("""
        stages: {a: {run: "steps:echo", with: {v: "${{ 'é' }}|${{ null }}|${{ 1.5 }}|${{ true }}|${{ [1] }}"}}}
    """)

    assert result.outputs["a"]["v"] == "é||1.5|true|[\n  1\n]"


async def test_inserted_text_is_never_rendered_again(place):
    result = await place.run(
        'inputs: {x: string}\nstages: {a: {run: "steps:echo", with: {v: "<${{ inputs.x }}>"}}}\n', x="${{ run.id }} $${{ }}"
    )

    assert result.outputs["a"]["v"] == "<${{ run.id }} $${{ }}>"


async def test_a_dollar_more_writes_the_characters(place):
    result = await place.run('stages: {a: {run: "steps:echo", with: {v: "$${{ x }} $$${{ x }}"}}}\n')

    assert result.outputs["a"]["v"] == "${{ x }} $${{ x }}"


async def test_a_value_that_is_exactly_one_expression_keeps_its_type(place):
    result = await place.run("""
        stages: {a: {run: "steps:echo", with: {list: "${{ [1, null] }}", deep: {n: ["${{ 2 }}", "n: ${{ 2 }}"]}}}}
        outputs: {a: "${{ a }}", none: "${{ null }}"}
    """)

    assert result.outputs == {"a": {"list": [1, None], "deep": {"n": [2, "n: 2"]}}, "none": None}


async def test_an_expression_ends_at_the_first_braces_outside_of_quotes(place):
    result = await place.run("""stages: {a: {run: "steps:echo", with: {v: "${{ '}}' }}}}"}}}\n""")

    assert result.outputs["a"]["v"] == "}}}}"


@pytest.mark.parametrize(
    "stage",
    [
        "prompt: {file: x.md}",
        "prompt: a, system: {file: x.md}",
        "prompt: a, strategy: best_of_two, judge: {rubric: {file: x.md}}",
        'run: "steps:echo", with: {v: {file: x.md}}',
    ],
)
def test_wherever_a_template_stands_a_file_may_stand_too_with_its_own_lines_in_errors(place, stage):
    place.write("x.md", "first\n  ${{ nobody }}\n")
    (problem,) = place.problems(f"stages: {{a: {{{stage}}}}}\n")

    assert (problem.file, problem.line, problem.column) == (str(place.path / "x.md"), 2, 7)


def test_outputs_may_stand_in_a_file(place):
    place.write("x.md", "${{ nobody }}")
    (problem,) = place.problems("stages: {a: {prompt: a}}\noutputs: {x: {file: x.md}}\n")

    assert problem.file == str(place.path / "x.md")


@pytest.mark.parametrize("key", ["model", "timeout", "parallel", "max"])
def test_settings_may_come_from_inputs_and_from_nothing_else(place, key):
    more = {"parallel": "each: [1], ", "max": "until: true, "}.get(key, "")
    told = place.refused(f'stages: {{b: {{prompt: a}}, a: {{prompt: a, {more}{key}: "${{{{ b }}}}"}}}}\n')

    assert told == f"'{key}' may mention inputs only: it is settled at the start"


async def test_settings_from_inputs_are_checked_at_the_start(place):
    with pytest.raises(WorkflowError, match=r"'timeout': .* is no duration"):
        await place.run('inputs: {t: string}\nstages: {a: {run: "steps:note", timeout: "${{ inputs.t }}"}}\n', t="soon")

    assert place.marks() == []


async def test_text_of_a_file_is_inserted_verbatim_and_kept_with_the_run(place):
    place.write("x.txt", "a ${{ nobody }} \u00e9\n")
    failed = await place.run("""
        stages:
          a: {run: "steps:fail_until", with: {path: go}}
          b: {needs: [a], run: "steps:echo", with: {v: "${{ file('x.txt') }}"}}
    """)
    place.write("x.txt", "another text")
    place.write("go", "")

    done = await place.resume(failed.run)

    assert done.outputs["b"]["v"] == "a ${{ nobody }} é\n"


async def test_editing_the_file_does_not_change_a_run(place):
    failed = await place.run('stages: {a: {run: "steps:fail_until", with: {path: go}}}\noutputs: {x: "${{ a }}!"}\n')
    place.file("stages: {a: {prompt: something else}}\n")
    place.write("go", "")

    assert (await place.resume(failed.run)).outputs == {"x": "at last!"}


@pytest.mark.parametrize(
    "path", ["../x.txt", "/etc/hostname", "gone.txt", "", ".", "folder", "link.txt", "large.txt", "latin.txt"]
)
def test_a_file_lies_below_the_folder_is_text_and_has_at_most_one_megabyte(place, path, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "x.txt"
    outside.write_text("outside")
    (place.path / "link.txt").symlink_to(outside)
    place.write("folder/x.txt", "inside")
    place.write("large.txt", b"x" * 1_000_001)
    place.write("latin.txt", b"\xe9")

    place.refused(f"stages: {{a: {{prompt: {{file: '{path}'}}}}}}\n")
    place.refused(f"stages: {{a: {{prompt: \"${{{{ file('{path}') }}}}\"}}}}\n")


def test_a_link_within_the_folder_is_followed(place):
    place.write("folder/x.txt", "inside")
    (place.path / "link.txt").symlink_to("folder/x.txt")

    assert place.load("stages: {a: {prompt: {file: link.txt}}}\n").stages["a"].body.prompt.source == "inside"
