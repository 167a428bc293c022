"""The rules of "What can be mentioned": the name `run`."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.integration


async def test_id_folder_and_date_are_fixed_at_the_start(place, monkeypatch):
    text = """
        stages:
          a: {run: "steps:fail_until", with: {path: "${{ run.folder }}/go"}}
          b:
            needs: [a]
            run: "steps:echo"
            with: {id: "${{ run.id }}", folder: "${{ run.folder }}", date: "${{ run.date }}"}
    """
    failed = await place.run(text)
    place.write("go", "")
    place.write("below/x", "")
    monkeypatch.chdir(place.path / "below")

    done = await place.resume(failed.run)

    told = done.outputs["b"]
    assert (told["id"], told["folder"]) == (done.run, str(place.path))
    assert told["date"].replace("-", "")[2:] == done.run[:6]


async def test_run_stages_tells_what_became_of_a_stage_in_all_its_fields(place):
    result = await place.run("""
        stages:
          done: {run: "steps:echo"}
          skipped: {when: false, run: "steps:echo"}
          failed: {run: "steps:fail", on_error: continue}
          many: {each: [1, 2], run: "steps:fail_at", with: {n: "${{ item }}", bad: 2}, on_error: continue}
          round: {until: iteration == 2, max: 3, run: "steps:echo"}
          judged: {until: judge.score >= 0, max: 3, judge: {rubric: Say something.}, prompt: hello}
          listed: {each: [a, b], until: judge.score >= 0, max: 2, judge: {rubric: Say something.}, prompt: hello}
          told:
            run: "steps:echo"
            with:
              done: ${{ run.stages.done }}
              skipped: ${{ run.stages.skipped }}
              failed: ${{ run.stages['failed'] }}
              many: ${{ run.stages.many }}
              round: ${{ run.stages.round.tries }}
              judged: ${{ run.stages.judged }}
              listed: ${{ run.stages.listed.judge }}
        outputs: {told: "${{ told }}"}
    """)

    told = result.outputs["told"]
    nothing = {"error": None, "errors": [], "judge": None, "model": None, "usd": None}
    assert told["done"] == {**nothing, "state": "done", "tries": 1}
    assert told["skipped"] == {**nothing, "state": "skipped", "tries": 0}
    assert (told["failed"]["state"], told["failed"]["tries"]) == ("failed", 1)
    assert "cannot failed" in told["failed"]["error"]
    assert (told["many"]["state"], len(told["many"]["errors"])) == ("done", 1)
    assert told["round"] == 2
    assert told["judged"]["judge"].keys() == {"score", "reasons"}
    assert (told["judged"]["model"], told["judged"]["usd"]) == ("offline", 0.0)
    assert len(told["listed"]) == 2


async def test_tries_are_rounds_of_until_and_not_goes_of_retry(place):
    result = await place.run("""
        stages:
          a: {run: "steps:fail", retry: {max: 2, backoff: 1ms}, on_error: continue}
          b: {run: "steps:echo", with: {tries: "${{ run.stages.a.tries }}"}}
    """)

    assert result.outputs == {"b": {"tries": 1}}


async def test_run_stages_mentions_its_stage_and_so_orders(place):
    place.steps("async def late():\n    await asyncio.sleep(0.1)\n    return note('first')\n")
    await place.run("""
        stages:
          b: {run: "steps:note", with: {word: "second${{ '' if run.stages.a.state == 'done' else '!' }}"}}
          a: {run: "steps:late"}
    """)

    assert place.marks() == ["first", "second"]


@pytest.mark.parametrize("name", ["state", "error"])
def test_state_and_error_stand_in_finally_only(place, name):
    told = place.refused(f'stages: {{a: {{prompt: "${{{{ run.{name} }}}}"}}}}\n')

    assert told == f"'run.{name}' stands only in 'finally'"


async def test_finally_is_told_how_the_run_ended(place):
    place.steps("def save(**told):\n    import json\n    LOG.with_name('told.json').write_text(json.dumps(told))\n")
    save = 'finally: {f: {run: "steps:save", with: {state: "${{ run.state }}", error: "${{ run.error }}"}}}\n'
    await place.run('stages: {a: {run: "steps:note"}}\n' + save)
    assert json.loads((place.path / "told.json").read_text()) == {"state": "done", "error": None}

    await place.run('stages: {a: {run: "steps:fail"}}\n' + save)
    told = json.loads((place.path / "told.json").read_text())
    assert (told["state"], "cannot failed" in told["error"]) == ("failed", True)


@pytest.mark.parametrize("text", ["run", "run.stages", "json(run)", "[run.stages]", "run.nothing", "run.stages.nobody.state"])
def test_run_stands_only_with_a_field_that_exists(place, text):
    place.refused(f'stages: {{a: {{prompt: "${{{{ {text} }}}}"}}}}\n')
