"""The rules of "One stage, step by step", "`until`" and "`judge` with `until`"."""

from __future__ import annotations

import pytest

from flowcraft.events import GoFailed

pytestmark = pytest.mark.integration


async def test_when_is_asked_once_before_each(place):
    result = await place.run(
        """
        inputs: {many: any}
        stages: {a: {when: inputs.many != 5, each: inputs.many, run: "steps:note", with: {word: "${{ item }}"}}}
    """,
        many=5,
    )  # a list that is none: nobody asks for it

    assert result.outputs == {"a": None}
    assert result.stages["a"]["state"] == "skipped"


async def test_when_that_mentions_item_is_asked_for_each_element(place):
    result = await place.run(
        'stages: {a: {each: [1, 2, 3], when: item != 2, run: "steps:note", with: {word: "${{ index }}"}}}\n'
    )

    assert result.outputs == {"a": [0, None, 2]}


async def test_each_null_is_an_empty_list(place):
    result = await place.run('inputs: {x: any = null}\nstages: {a: {each: inputs.x.list, run: "steps:note"}}\n')

    assert result.outputs == {"a": []}


async def test_results_of_each_stand_in_the_order_of_the_list(place):
    place.steps("async def late(n):\n    await asyncio.sleep((3 - n) / 50)\n    return n\n")
    result = await place.run('stages: {a: {each: [0, 1, 2, 3], parallel: 4, run: "steps:late", with: {n: "${{ item }}"}}}\n')

    assert result.outputs == {"a": [0, 1, 2, 3]}


async def test_on_error_counts_for_each_element(place):
    result = await place.run("""
        stages:
          a: {each: [1, 2, 3], run: "steps:fail_at", with: {n: "${{ item }}", bad: 2}, on_error: continue}
          b: {run: "steps:echo", with: {a: "${{ a }}", s: "${{ run.stages.a.state }}", e: "${{ run.stages.a.errors }}"}}
    """)

    told = result.outputs["b"]
    assert (told["a"], told["s"]) == ([1, None, 3], "done")
    assert len(told["e"]) == 1
    assert told["e"][0].startswith("[1] ")


async def test_where_no_try_passes_the_stage_fails_and_the_message_names_max(place):
    result = await place.run('stages: {a: {until: false, max: 2, run: "steps:note", with: {word: a}}}\n')

    assert result.state == "failed"
    assert "2 tries, the most that 'max' allows" in result.error


async def test_with_continue_the_last_try_is_kept(place):
    result = await place.run("""
        stages: {a: {until: false, max: 2, on_error: continue, run: "steps:echo", with: {n: "${{ iteration }}"}}}
    """)

    assert (result.state, result.outputs) == ("done", {"a": {"n": 2}})


async def test_retry_gives_so_many_more_goes_of_the_body_and_doubles_its_pause(place):
    pauses = []
    async with place.open() as flow:
        flow.subscribe(lambda event: pauses.append(event.pause) if isinstance(event, GoFailed) else None)
        text = 'stages: {a: {run: "steps:fail", with: {word: a}, retry: {max: 4, backoff: 10ms}}}\n'
        result = await flow.run(place.file(text))

    assert (result.state, place.marks()) == ("failed", ["a"] * 5)
    assert all(0.005 * 2**n <= pause <= 0.01 * 2**n for n, pause in enumerate(pauses))
    assert len(pauses) == 4


async def test_a_pause_is_never_longer_than_five_minutes(place, monkeypatch):
    asked = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr("flowcraft.engine.stages.goes.asyncio.sleep", sleep)
    await place.run('stages: {a: {run: "steps:fail", retry: {max: 12, backoff: 2s}}}\n')

    assert len(asked) == 12
    assert all(150 <= pause <= 300 for pause in asked[8:])


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        ('run: "steps:slow"', ["begun"]),
        ('run: "steps:aslow"', ["begun"]),
        ("shell: 'printf begun >> log.txt; sleep 60'", ["begun"]),
    ],
)
async def test_a_stage_that_ran_out_of_time_is_not_tried_again(place, body, marks):
    place.steps(
        "def slow():\n    note('begun')\n    time.sleep(4)\n"
        "async def aslow():\n    note('begun')\n    await asyncio.sleep(60)\n"
    )
    result = await place.run(f"stages: {{a: {{{body}, timeout: 3s, retry: 3}}}}\n")

    assert result.error == "stage a: timed out after 3 s"
    assert place.marks() == marks


async def test_an_inner_stage_never_outlives_its_outer_one(place):
    place.steps("async def aslow():\n    note('begun')\n    await asyncio.sleep(60)\n    note('outlived')\n")
    place.write("part.yaml", 'flowcraft: 1\nstages: {x: {run: "steps:aslow", on_error: continue, timeout: 1h}}\n')
    result = await place.run("""
        stages:
          g: {timeout: 3s, on_error: continue, stages: {x: {run: "steps:aslow", timeout: 1h, retry: 5}}}
          p: {timeout: 3s, on_error: continue, uses: part.yaml}
    """)

    assert (result.state, result.outputs) == ("done", {"g": None, "p": None})
    assert place.marks() == ["begun", "begun"]


async def test_a_timeout_starts_anew_on_resume(place):
    place.steps("""
        async def wait(path):
            note("go")
            await asyncio.sleep(0.2 if pathlib.Path(path).exists() else 60)
            return "in time"
    """)
    failed = await place.run('stages: {a: {run: "steps:wait", with: {path: there}, timeout: 2s}}\n')
    assert failed.error == "stage a: timed out after 2 s"
    place.write("there", "")

    done = await place.resume(failed.run)

    assert (done.outputs, place.marks()) == ({"a": "in time"}, ["go", "go"])


def test_defaults_of_time_and_goes_do_not_reach_parts_and_groups(place):
    place.write("part.yaml", "flowcraft: 1\nstages: {x: {prompt: hello}}\n")
    stages = place.load("""
        defaults: {timeout: 1m, retry: 2}
        stages: {a: {prompt: hello}, p: {uses: part.yaml}, g: {stages: {x: {prompt: hello}}}}
    """).stages

    assert [(stages[name].timeout, stages[name].retry.max) for name in "apg"] == [(60, 2), (None, 0), (None, 0)]
    assert stages["g"].body.stages["x"].timeout == 60


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("until: true", "'until' without 'max'"),
        ("max: 2", "'max' without 'until'"),
        ("parallel: 2", "'parallel' without 'each'"),
        ("until: true, max: 0", "'max' must be from 1"),
        ("timeout: 5", "'timeout' needs a unit"),
        ("retry: -1", "'retry' must be from 0"),
        ("retry: {max: 1, backoff: 6m}", "'backoff' must be at most 5m"),
        ("on_error: stop", "'on_error' must be fail or continue"),
    ],
)
def test_keys_that_make_no_sense_alone_or_together_are_errors(place, keys, told):
    assert told in place.refused(f"stages: {{a: {{prompt: hello, {keys}}}}}\n")


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("24h", 86400), ("7d", 604800)])
def test_durations_are_a_number_and_a_unit(place, text, seconds):
    assert place.load(f"stages: {{a: {{prompt: hello, timeout: {text}}}}}\n").stages["a"].timeout == seconds
