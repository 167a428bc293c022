"""The rules of "Names"."""

from __future__ import annotations

import keyword

import pytest

from flowcraft.workflow.words import RESERVED

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["a", "_", "a1", "_x", "long_name_2", "match", "stages", "prompt"])
def test_names_are_small_letters_digits_and_underscores(place, name):
    assert name in place.load(f"stages: {{{name}: {{prompt: hello}}}}\n").stages


@pytest.mark.parametrize("name", ["A", "1a", "a-b", "a.b", "é", "a b", "__x", "__class__"])
def test_other_names_are_errors(place, name):
    assert "cannot name a stage" in place.refused(f"stages: {{'{name}': {{prompt: hello}}}}\n")
    assert "cannot name an input" in place.refused(
        f"inputs: {{'{name}': string}}\nstages: {{a: {{prompt: '${{{{ json(inputs) }}}}'}}}}\n"
    )


@pytest.mark.parametrize("name", sorted({*RESERVED, *(word for word in keyword.kwlist if word.islower())}))
def test_reserved_names_are_errors(place, name):
    assert place.refused(f"stages: {{{name}: {{prompt: hello}}}}\n") == f"'{name}' is reserved and cannot name a stage"


def test_an_inner_name_does_not_repeat_one_around_it(place):
    told = place.refused("stages: {a: {prompt: hello}, g: {stages: {a: {prompt: hello}}}}\n")

    assert told == "'a' is the name of a stage around this one already"


def test_names_of_two_groups_may_be_the_same(place):
    place.load("stages: {g: {stages: {a: {prompt: hello}}}, h: {stages: {a: {prompt: hello}}}}\n")


def test_needs_names_stages_of_the_same_group(place):
    text = "stages: {a: {prompt: hello}, g: {stages: {b: {prompt: hello, needs: [a]}}}}\n"

    assert "stages of the same group" in place.refused(text)


@pytest.mark.parametrize("keys", ["prompt: hello, when: a == b", "prompt: '${{ a }}'", "prompt: hello, each: a"])
def test_mentioning_oneself_is_a_circle(place, keys):
    assert place.refused(f"stages: {{a: {{{keys}}}, b: {{prompt: hello}}}}\n") == "stage 'a' mentions itself: a circle"


async def test_with_until_its_own_name_is_its_latest_finished_try(place):
    result = await place.run("""
        stages:
          a: {until: iteration == 3, max: 3, run: "steps:echo", with: {before: "${{ a.before }}", n: "${{ iteration }}"}}
          b: {each: [x, y], until: iteration == 2, max: 2, run: "steps:echo", with: {own: "${{ b.item }}", item: "${{ item }}"}}
    """)

    assert result.outputs["a"] == {"before": None, "n": 3}
    assert [one["own"] for one in result.outputs["b"]] == ["x", "y"]


async def test_item_and_index_belong_to_the_nearest_stage_around(place):
    result = await place.run("""
        stages:
          g:
            each: [a, b]
            stages:
              one: {run: "steps:echo", with: {item: "${{ item }}", index: "${{ index }}"}}
              many: {each: ["${{ item }}", z], run: "steps:echo", with: {item: "${{ item }}", index: "${{ index }}"}}
    """)

    assert result.outputs["g"][1]["one"] == {"item": "b", "index": 1}
    assert result.outputs["g"][1]["many"] == [{"item": "b", "index": 0}, {"item": "z", "index": 1}]


async def test_iteration_counts_from_one_and_index_from_zero(place):
    result = await place.run("""
        stages: {a: {each: [x], until: true, max: 1, run: "steps:echo", with: {i: "${{ index }}", n: "${{ iteration }}"}}}
    """)

    assert result.outputs["a"] == [{"i": 0, "n": 1}]


async def test_paths_of_a_file_are_relative_to_it_and_those_that_arrive_to_the_folder_of_the_start(place, monkeypatch):
    place.write("below/part.txt", "from the file")
    place.write(
        "below/flow.yaml",
        """
        flowcraft: 1
        inputs: {path: string}
        stages:
          written: {run: "steps:echo", with: {text: {file: part.txt}}}
          arrived: {shell: 'cat "$path"', with: {path: "${{ inputs.path }}"}, output: string}
    """,
    )
    place.write("below/steps.py", "def echo(**given):\n    return given\n")
    place.write("part.txt", "from the start")

    async with place.open() as flow:
        result = await flow.run(place.path / "below" / "flow.yaml", {"path": "part.txt"})

    assert result.outputs == {"written": {"text": "from the file"}, "arrived": "from the start"}
