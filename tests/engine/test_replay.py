"""A recorded run once more: nothing is carried out, everything comes from the recording, and what differs is named."""

from __future__ import annotations

import json
import sqlite3
import textwrap

import pytest

from flowcraft.app.replay import recorded_inputs, replay
from flowcraft.errors import StoreError, WorkflowError
from flowcraft.workflow import load_workflow

pytestmark = pytest.mark.integration

NOTES = """
inputs: {words: "[string] = [\\"a\\", \\"b\\"]", strict: boolean = true}
stages:
  notes:
    each: inputs.words
    parallel: 2
    prompt: |
      A note
      about ${{ item }}
  check: {when: inputs.strict, run: "steps:note", with: {word: "${{ notes[0] }}"}}
  merged:
    system: You merge.
    prompt: "Merge: ${{ notes }} ${{ check }}"
    output: {text: string}
outputs: {text: "${{ merged.text }}", notes: "${{ notes }}"}
"""
ANSWERS = ("first", "second", '{"text": "größer – both"}')


async def recorded(project, workflow, *answers, expect="done", **inputs):
    """Run a workflow with these answers of the model, record it, and forget all that was there."""
    result = await project.ask(workflow, *answers, **inputs)
    assert result.state == expect, result.error
    flow = project.open()
    flow.export(result.run, project.path / "flow.recorded.sqlite", force=True)
    await flow.aclose()
    (project.path / "flowcraft.db").unlink()
    (project.path / "log.txt").unlink(missing_ok=True)
    project.forget()
    return result


def change(project, before, after, file="flow.yaml"):
    path = project.path / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


async def replayed(project, **inputs):
    found = await replay(project.path / "flow.yaml", inputs=inputs)
    assert project.marks() == [], "something was carried out"
    assert not (project.path / "flowcraft.db").exists()
    return found


async def test_gives_the_same_and_carries_nothing_out(project):
    result = await recorded(project, NOTES, *ANSWERS)
    steps = project.path / "steps.py"
    steps.write_text("raise SystemExit('imported')\n" + steps.read_text())

    found = await replayed(project)

    assert found.same, found
    assert json.dumps(found.outputs) == json.dumps(result.outputs)
    assert (found.run, found.state, found.pieces) == (result.run, "done", 4)
    assert str(found).endswith(f"the same as run {result.run} in {project.path}/flow.recorded.sqlite (4 pieces of work, done)")


async def test_names_the_first_prompt_that_changed_with_a_diff_and_its_place(project):
    await recorded(project, NOTES, *ANSWERS)
    change(project, "about ${{", "all about ${{")
    change(project, "You merge.", "You merge well.")

    found = await replayed(project)

    first = found.findings[0]
    assert (first.kind, first.path) == ("changed", "notes[0]")
    assert (
        str(first)
        == textwrap.dedent(f"""\
        {project.path}/flow.yaml:8:5: notes[0]: the prompt differs from the recording
        --- prompt (recorded)
        +++ prompt (now)
        @@ -1,3 +1,3 @@
         A note
        -about a
        +all about a
         """).rstrip("\n")
        + "\n "
    )


@pytest.mark.parametrize(
    ("before", "after", "path", "told"),
    [
        ("You merge.", "You sum up.", "merged", "merged: the system message differs from the recording"),
        ("{text: string}", "{text: string, more: string}", "merged", "merged: the type that it must return differs"),
        ('"Merge:', '"Sum:', "merged", "merged: the prompt differs from the recording"),
        (
            "system: You merge.",
            "model: expensive",
            "merged",
            "merged: the system message, the chain of models and the model differ",
        ),
        ("system: You merge.", "params: {seed: 1}\n    system: You merge.", "merged", "merged: 'params.seed' differs"),
        ('word: "${{ notes[0] }}"', 'word: "${{ notes[1] }}"', "check", "check: 'with.word' differs from the recording"),
        ('"steps:note"', '"steps:fail"', "check", "check: the function differs from the recording"),
    ],
)
async def test_names_what_else_a_piece_asks_for_differently(project, before, after, path, told):
    await recorded(project, NOTES, *ANSWERS)
    change(project, before, after)

    found = await replayed(project)

    assert [finding.path for finding in found.findings] == [path]
    assert told in found.findings[0].message
    assert found.findings[0].diff.startswith("--- ")


async def test_says_what_is_new_and_what_is_gone(project):
    await recorded(project, NOTES, *ANSWERS)
    change(project, "  merged:\n", "  extra: {prompt: More}\n  merged:\n")

    (new,) = (await replayed(project)).findings
    change(project, "  extra: {prompt: More}\n", "")
    change(project, "  merged:\n", "  whole:\n")
    change(project, "merged.text", "whole.text")
    renamed = await replayed(project)
    change(project, '  check: {when: inputs.strict, run: "steps:note", with: {word: "${{ notes[0] }}"}}\n', "")
    change(project, "${{ check }}", "first")
    gone = await replayed(project)

    assert (new.kind, new.message) == ("new", "the stage 'extra' is new: the recording has nothing of it")
    assert new.place == f"{project.path}/flow.yaml:12:3"
    assert [finding.message for finding in renamed.findings] == ["the stage 'merged' of the recording is gone"]
    assert [finding.message for finding in gone.findings] == [
        "the stage 'check' of the recording is gone",
        "the stage 'merged' of the recording is gone",
    ]


async def test_says_where_a_condition_or_a_list_turned_out_otherwise(project):
    await recorded(project, NOTES, *ANSWERS, strict=False)
    carried = await replayed(project, strict=True)
    longer = await replayed(project, words=["a", "b", "c"])
    shorter = await replayed(project, words=["a"])

    assert carried.findings[0].message == "check is carried out; in the recording it was skipped: when: inputs.strict"
    assert longer.findings[0].message == "notes[2] is asked for; the recording has 2 pieces of 'notes', and not this one"
    assert shorter.findings[0].message == "merged: the prompt differs from the recording"


async def test_says_that_a_stage_is_skipped_now(project):
    await recorded(project, "stages: {a: {prompt: A}, b: {when: 'len(a) > 0', prompt: B}}", "one", "two")
    change(project, "len(a) > 0", "len(a) > 9")

    found, outputs = (await replayed(project)).findings

    assert (found.path, found.message) == ("b", "b is skipped now; in the recording it was carried out")
    assert outputs.message == "the outputs differ"


async def test_other_outputs_are_shown_with_a_diff(project):
    await recorded(project, NOTES, *ANSWERS)
    change(project, 'text: "${{ merged.text }}"', 'text: "${{ merged.text }}!"')

    (found,) = (await replayed(project)).findings

    assert (found.kind, found.message) == ("outputs", "the outputs differ")
    assert '-  "text": "größer – both",\n+  "text": "größer – both!",' in found.diff


async def test_the_order_of_fields_in_outputs_counts(project):
    await recorded(project, NOTES, *ANSWERS)
    change(
        project,
        'outputs: {text: "${{ merged.text }}", notes: "${{ notes }}"}',
        'outputs: {notes: "${{ notes }}", text: "${{ merged.text }}"}',
    )

    assert [finding.kind for finding in (await replayed(project)).findings] == ["outputs"]


async def test_elements_that_changed_places_are_found_by_what_they_ask(project):
    await recorded(project, NOTES, *ANSWERS)

    found = await replayed(project, words=["b", "a"])

    assert [finding.path for finding in found.findings] == ["check"], "the notes were found at each other's places"


async def test_tries_judges_and_groups_come_from_the_recording(project):
    workflow = """
    stages:
      draft:
        until: judge.score >= 0.8
        max: 3
        judge: {rubric: "Is it good?"}
        prompt: Write
      loop:
        needs: [draft]
        until: loop.check == 'ok'
        max: 2
        stages:
          text: {prompt: "Text ${{ iteration }}"}
          check: {prompt: "Check ${{ text }}"}
    outputs: {draft: "${{ draft }}", loop: "${{ loop }}", tries: "${{ run.stages.draft.tries }}"}
    """
    said = ['{"score": 0.2, "reason": "short"}', '{"score": 0.9, "reason": "fine"}']
    result = await recorded(project, workflow, "bad", said[0], "good", said[1], "t1", "no", "t2", "ok")

    found = await replayed(project)
    change(project, "Is it good?", "Is it very good?")
    judged = await replayed(project)

    assert found.same, found
    assert found.outputs == result.outputs
    assert found.outputs["tries"] == 2
    assert judged.findings[0].message == "draft#1: the judge's rubric differs from the recording"


async def test_failures_that_the_run_went_on_with_are_the_same(project):
    workflow = """
    stages:
      each_one:
        each: ["x", "y"]
        on_error: continue
        retry: {max: 1, backoff: 10ms}
        run: "steps:fail"
        with: {word: "${{ item }}"}
      after: {needs: [each_one], prompt: "Errors: ${{ run.stages.each_one.errors }}"}
    """
    result = await recorded(project, workflow, "said")

    found = await replayed(project)

    assert found.same, found
    assert found.outputs == result.outputs


async def test_a_run_that_failed_fails_the_same(project):
    workflow = """
    stages: {a: {prompt: A}, b: {run: "steps:fail", with: {word: "${{ a }}"}}, c: {needs: [b], prompt: C}}
    finally: {last: {run: "steps:note", with: {word: "${{ run.state }} ${{ run.error }}"}}}
    """
    await recorded(project, workflow, "said", expect="failed")

    found = await replayed(project)
    change(project, '"steps:fail"', '"steps:note"')
    other = await replayed(project)

    assert (found.same, found.state) == (True, "failed"), found
    assert [finding.message for finding in other.findings] == ["b: the function differs from the recording"]


async def test_of_what_failed_side_by_side_another_may_be_first(project):
    workflow = """
    stages:
      later: {shell: "sleep 0.3; exit 5"}
      first: {shell: "sleep 0.1; exit 4"}
      under_way: {shell: "sleep 0.5; echo said"}
      each_one: {each: [7, 8], parallel: 2, shell: "sleep 0.3; exit $code", with: {code: "${{ item }}"}}
    finally: {last: {prompt: "${{ run.error }}, ${{ under_way.stdout }}, ${{ run.stages.later.state }}"}}
    """
    await recorded(project, workflow, "said", expect="failed")

    found = await replayed(project)
    change(project, "exit 5", "exit 6")
    other = await replayed(project)

    assert found.same, found
    assert found.state == "failed"
    assert [finding.path for finding in other.findings] == ["later"]


async def test_a_run_that_fails_otherwise_is_told(project):
    workflow = """
    stages: {a: {run: "steps:note", with: {word: w}, output: any}, b: {needs: [a], run: "steps:fail", with: {word: x}}}
    """
    await recorded(project, workflow, expect="failed")
    change(project, "needs: [a], run", "when: 'a < 3', needs: [a], run")

    (found,) = (await replayed(project)).findings

    assert found.message.startswith("the run fails otherwise: stage b: when: ")
    assert "; in the recording: stage b: " in found.message


async def test_a_run_that_failed_and_was_resumed_is_replayed_as_it_ended(project):
    workflow = """
    stages: {a: {prompt: A}, b: {run: "steps:fail_until", with: {path: there}}}
    finally: {last: {run: "steps:note", with: {word: "${{ run.state }}"}}}
    """
    first = await project.ask(workflow, "said")
    project.write("there", "")
    ended = await project.resume(first.run)
    assert (first.state, ended.state) == ("failed", "done")
    flow = project.open()
    flow.export(ended.run, project.path / "flow.recorded.sqlite")
    (project.path / "flowcraft.db").unlink()
    (project.path / "log.txt").unlink()

    found = await replayed(project)

    assert found.same, found
    assert json.dumps(found.outputs) == json.dumps(ended.outputs)


async def test_what_fails_only_now_is_told(project):
    await recorded(project, 'stages: {a: {run: "steps:note", with: {word: w}, output: any}}')
    change(project, "output: any}}", "output: any}}\noutputs: {a: '${{ a < 3 }}'}")

    (found,) = (await replayed(project)).findings

    assert found.kind == "failed"
    assert found.message.startswith("the run is failed: outputs: ")
    assert found.message.endswith("; in the recording it was done")


async def test_inputs_and_names_of_the_run_come_from_the_recording(project, monkeypatch, tmp_path_factory):
    workflow = """
    env: [SOME_TOKEN]
    inputs: {topic: string}
    stages:
      a: {prompt: "On ${{ inputs.topic }} ${{ run.id }} ${{ run.date }} ${{ run.folder }}"}
      b: {run: "steps:note", with: {word: "${{ env.SOME_TOKEN }}"}}
    """
    monkeypatch.setenv("SOME_TOKEN", "a-secret-token")
    result = await recorded(project, workflow, "said", topic="rain")
    monkeypatch.delenv("SOME_TOKEN")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    found = await replayed(project)

    assert found.same, found
    assert found.outputs == result.outputs
    assert b"a-secret-token" not in (project.path / "flow.recorded.sqlite").read_bytes()


async def test_an_input_that_is_gone_or_new_is_told(project):
    await recorded(project, NOTES, *ANSWERS)
    change(project, ", strict: boolean = true", "")
    change(project, "when: inputs.strict, ", "")

    (found,) = (await replayed(project)).findings
    change(project, "inputs: {words:", "inputs: {other: string, words:")
    with pytest.raises(WorkflowError, match="other"):
        await replay(project.path / "flow.yaml")

    assert found.message == "the input 'strict' of the recording is gone"


async def test_another_default_of_an_input_is_told_where_the_run_took_it(project):
    await recorded(project, "inputs: {a: string = one, b: string = two}\nstages: {x: {prompt: X}}", "said", b="given")
    change(project, "a: string = one, b: string = two", "a: string = three, b: string = four")

    (found,) = (await replayed(project)).findings
    given = await replayed(project, a="one")
    change(project, "a: string = three", "a: string")
    (none,) = (await replayed(project)).findings

    assert (found.kind, found.path, found.place) == ("inputs", "a", f"{project.path}/flow.yaml:2:10")
    assert found.message == "the input 'a' has another default than in the recording"
    assert found.diff.splitlines()[-2:] == ["-one", "+three"]
    assert given.same
    assert none.message == "the input 'a' has no default any more"


async def test_what_the_new_recording_is_given_leaves_defaults_to_the_file(project):
    await recorded(project, "inputs: {a: string = one, b: string = two}\nstages: {x: {prompt: X}}", "said", b="given")
    change(project, "a: string = one", "a: string = three")
    file = project.path / "flow.yaml"

    given = recorded_inputs(file, None, load_workflow(file))
    change(project, "a: string = three", "a: string")

    assert given == {"b": "given"}
    assert recorded_inputs(file, None, load_workflow(file)) == {"a": "one", "b": "given"}


@pytest.mark.parametrize("stage", ["each: ['x', 'y']\n    prompt: 'A ${{ item }}'", "prompt: A"])
async def test_a_fork_is_replayed_with_what_it_took_over_and_what_was_set(project, stage):
    workflow = (
        f"stages:\n  a:\n    {stage}\n  b: {{cache: 1h, prompt: B}}\n  c: {{prompt: 'C ${{{{ a }}}} ${{{{ b }}}}'}}\n"
        "outputs: {a: '${{ a }}', c: '${{ c }}', by: '${{ run.stages.b.model }}', told: '${{ run.stages.a.model }}'}\n"
    )
    first = await project.ask(workflow, "a", "b", "c", "d")
    flow = project.open(llm={"default_model": "fake:one"}, providers={"fake": {}})
    value = ["p", "q"] if "each" in stage else "set"
    async with flow:
        plain = await flow.fork(first.run)
        forked = await flow.fork(first.run, outputs={"a": value})
        for made in (plain, forked):
            flow.export(made.run, project.path / f"{made.run}.sqlite")
    (project.path / "flowcraft.db").unlink()

    for made in (plain, forked):
        found = await replay(project.path / "flow.yaml", project.path / f"{made.run}.sqlite")
        assert found.same, found
        assert json.dumps(found.outputs) == json.dumps(made.outputs)
    assert forked.outputs["a"] == value


async def test_a_run_that_waits_is_replayed_up_to_where_it_waits(project):
    workflow = """
    stages: {a: {prompt: A}, gate: {needs: [a], approve: "Good? ${{ a }}"}, b: {needs: [gate], prompt: B}}
    finally: {last: {run: "steps:note", with: {word: "${{ run.state }}"}}}
    """
    await recorded(project, workflow, "said", expect="waiting")

    found = await replayed(project)
    change(project, "prompt: A", "prompt: AA")
    other = await replayed(project)

    assert (found.same, found.state, found.pieces) == (True, "waiting", 1), found
    assert [finding.path for finding in other.findings] == ["a"]


async def test_what_runs_last_is_not_told_where_the_budget_stopped_the_run(project):
    workflow = """
    budget: {calls: 1}
    stages: {a: {prompt: A}, b: {prompt: "B ${{ a }}"}}
    finally: {last: {run: "steps:note", with: {word: "${{ run.state }} ${{ run.error }}"}}}
    """
    await recorded(project, workflow, "said", expect="failed")

    assert (await replayed(project)).same


async def test_a_budget_that_is_spent_spends_nothing_again(project):
    await recorded(project, "budget: {calls: 1}\nstages: {a: {prompt: A}}", "said")

    assert (await replayed(project)).same


async def test_a_run_that_was_stopped_by_its_budget_is_replayed_as_far_as_it_came(project):
    workflow = 'budget: {calls: 1}\nstages: {a: {prompt: A}, b: {prompt: "B ${{ a }}"}}'
    await recorded(project, workflow, "said", expect="failed")

    found = await replayed(project)
    change(project, "{prompt: A}", "{prompt: AA}")
    other = await replayed(project)

    assert found.same, found
    assert [finding.path for finding in other.findings] == ["a"]


async def test_other_workflows_that_are_used_are_replayed_with_it(project):
    project.write("part.yaml", 'flowcraft: 1\ninputs: {x: string}\nstages: {inner: {prompt: "In ${{ inputs.x }}"}}\n')
    result = await recorded(project, "stages: {part: {uses: ./part.yaml, with: {x: y}}}", "said")

    found = await replayed(project)
    change(project, "In ${{", "Into ${{", file="part.yaml")
    other = await replayed(project)

    assert (found.same, found.outputs) == (True, result.outputs), found
    assert other.findings[0].place.endswith("/part.yaml:3:18")
    assert other.findings[0].message == "part/inner: the prompt differs from the recording"


async def test_a_prompt_that_is_too_long_to_keep_is_compared_as_a_whole(project):
    await recorded(project, "inputs: {text: string}\nstages: {a: {prompt: '${{ inputs.text }}'}}", "said", text="x" * 150_000)

    same = await replayed(project)
    other = await replayed(project, text="x" * 70_000 + "y" + "x" * 79_999)

    assert same.same
    assert other.findings[0].message == "a asks for something else, in a part that the recording does not show"


async def test_of_a_long_line_only_the_part_that_differs_is_shown(project):
    text = "".join(f"Sentence {number} of many. " for number in range(9000))
    long = "inputs: {text: string}\nstages: {a: {prompt: 'Read: ${{ inputs.text }}'}}"
    await recorded(project, long, "said", text=text)

    begins = (await replayed(project, text=text.replace("Sentence 7 of", "Sentence seven of"))).findings[0]
    ends = (await replayed(project, text=f"{text}And so on. ")).findings[0]

    assert begins.message == "a: the prompt differs from the recording"
    assert "-Sentence 7 of many. \n+Sentence seven of many. \n Sentence 8 of many. " in begins.diff
    assert "+And so on. " in ends.diff.splitlines()
    assert len(begins.diff) < 2000
    assert len(ends.diff) < 2000


async def test_says_that_there_is_no_recording(project):
    project.write("flow.yaml", "flowcraft: 1\nstages: {a: {prompt: A}}\n")

    with pytest.raises(
        StoreError, match=r"there is no recording .*flow\.recorded\.sqlite; 'flowcraft run --record FILE' makes one"
    ):
        await replay(project.path / "flow.yaml")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE pieces SET result = 'nonsense'", "cannot be replayed: the database is damaged: table pieces"),
        ("UPDATE pieces SET result = '[]', state = 'failed'", "the piece a is failed and has no error"),
        ("UPDATE documents SET snapshot = '{}'", "was kept in another form; record the run again"),
        ("UPDATE documents SET snapshot = json_set(snapshot, '$.settings', json('[]'))", "was kept in another form"),
        ("UPDATE documents SET snapshot = json_set(snapshot, '$.fork', 5)", "was kept in another form"),
        ("UPDATE events SET data = '{'", "cannot be replayed: the database is damaged: table events"),
        ("DROP TABLE pieces", "is damaged: it has no table pieces; export the run again"),
        ("UPDATE flowcraft_version SET version_num = '9999'", "has schema '9999', this FlowCraft knows schemas up to"),
    ],
)
async def test_a_damaged_recording_is_told(project, damage, told):
    await recorded(project, "stages: {a: {prompt: A}}", "said")
    path = project.path / "flow.recorded.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(damage)

    with pytest.raises(StoreError) as raised:
        await replay(project.path / "flow.yaml")

    assert told in str(raised.value)
    assert str(path) in str(raised.value)


async def test_a_recording_of_another_version_of_the_language_is_replayed_with_todays_file(project):
    await recorded(project, "inputs: {a: string = b}\nstages: {a: {prompt: '${{ inputs.a }}'}}", "said")
    with sqlite3.connect(project.path / "flow.recorded.sqlite") as connection:
        connection.execute("UPDATE documents SET snapshot = replace(snapshot, 'flowcraft: 1', 'flowcraft: 2')")

    assert (await replayed(project)).same
