"""The rules of "Order" and "`finally`"."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("when", ["needs: [a]", "when: a == a", "each: '[a]'"])
async def test_a_stage_waits_for_what_it_mentions_or_needs(place, when):
    place.steps("async def late():\n    await asyncio.sleep(0.1)\n    return note('first')\n")
    await place.run(f'stages: {{b: {{run: "steps:note", with: {{word: second}}, {when}}}, a: {{run: "steps:late"}}}}\n')

    assert place.marks() == ["first", "second"]


def test_a_circle_is_an_error_that_names_its_path(place):
    text = 'stages: {a: {prompt: "${{ c }}"}, b: {prompt: "${{ a }}"}, c: {prompt: hello, needs: [b]}}\n'

    assert place.refused(text) == "a circle: a -> c -> b -> a"


async def test_a_skip_never_cascades(place):
    result = await place.run("""
        stages:
          a: {when: false, run: "steps:note", with: {word: a}}
          b: {run: "steps:echo", with: {a: "${{ a.x[0].y }}"}}
          c: {needs: [a], run: "steps:note", with: {word: c}}
    """)

    assert result.outputs == {"b": {"a": None}, "c": "c"}
    assert place.marks() == ["c"]


async def test_a_failure_with_continue_is_null_and_the_run_goes_on(place):
    result = await place.run("""
        stages:
          a: {run: "steps:fail", on_error: continue}
          b: {run: "steps:echo", with: {a: "${{ a }}", told: "${{ run.stages.a.error }}"}}
    """)

    assert result.state == "done"
    assert result.outputs["b"]["a"] is None
    assert "cannot failed" in result.outputs["b"]["told"]


async def test_after_a_failure_nothing_new_starts_and_what_runs_is_kept(place):
    place.steps("""
        FAILED = asyncio.Event()
        async def late():
            await FAILED.wait()
            return note("kept")
        async def fails(path):
            FAILED.set()
            return fail_until(path)
    """)
    failed = await place.run("""
        stages:
          a: {run: "steps:fails", with: {path: go}}
          b: {run: "steps:late"}
          c: {needs: [b], run: "steps:note", with: {word: new}}
    """)
    assert (failed.state, place.marks()) == ("failed", ["go", "kept"])
    place.write("go", "")

    done = await place.resume(failed.run)

    again = place.marks()[2:]
    assert (done.state, sorted(again)) == ("done", ["go", "new"])  # side by side: either may be first


async def test_a_new_run_never_resumes_an_old_one(place):
    text = 'stages: {a: {run: "steps:note", with: {word: a}}, b: {needs: [a], run: "steps:fail_until", with: {path: go}}}\n'
    first = await place.run(text)
    second = await place.run(text)

    assert first.run != second.run
    assert place.marks() == ["a", "go", "a", "go"]


async def test_finally_runs_after_a_failure_and_sees_unfinished_stages_as_null(place):
    result = await place.run("""
        stages:
          a: {run: "steps:fail"}
          b: {needs: [a], run: "steps:note", with: {word: b}}
        finally:
          f: {run: "steps:note", with: {word: "${{ run.state }}:${{ b == null }}:${{ run.stages.b.state == 'done' }}"}}
    """)

    assert result.state == "failed"
    assert place.marks() == ["failed", "failed:true:false"]


async def test_a_done_run_whose_finally_fails_is_failed(place):
    result = await place.run('stages: {a: {run: "steps:note"}}\nfinally: {f: {run: "steps:fail"}}\n')

    assert result.state == "failed"
    assert "finally" in result.error


async def test_without_outputs_those_stages_are_returned_that_no_stage_mentions_or_needs(place):
    result = await place.run("""
        stages:
          mentioned: {run: "steps:note", with: {word: a}}
          needed: {run: "steps:note", with: {word: b}}
          told: {run: "steps:note", with: {word: c}}
          end: {needs: [needed], run: "steps:echo", with: {a: "${{ mentioned }}", t: "${{ run.stages.told.state }}"}}
          alone: {run: "steps:note", with: {word: d}}
    """)

    assert result.outputs == {"end": {"a": "a", "t": "done"}, "alone": "d"}
