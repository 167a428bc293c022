"""``until``: tries until a condition holds, each of them kept."""

from __future__ import annotations

import json
import sqlite3

import pytest

from flowcraft.events import TryFinished
from flowcraft.testing import FakeProvider

pytestmark = pytest.mark.integration

COUNT = """
def count(n=None):
    note(f"try{0 if n is None else n}")
    return {"n": 0 if n is None else n + 1}

def reach(path, n):
    note(f"reach{n}")
    return pathlib.Path(path).exists()
"""


@pytest.fixture
def counting(project):
    project.steps((project.path / "steps.py").read_text() + COUNT)
    return project


def pieces(project):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        found = connection.execute("SELECT path, state, result FROM pieces").fetchall()
    return {path: (state, json.loads(result)) for path, state, result in found}


UNTIL = """
    stages:
      up:
        until: up.n >= {least}
        max: {most}
        run: "steps:count"
        with: {{n: "${{{{ up.n }}}}"}}
        output: {{n: integer}}
"""


async def test_its_own_name_is_its_latest_finished_try(counting):
    result = await counting.run(UNTIL.format(least=2, most=5))

    assert result.outputs == {"up": {"n": 2}}
    assert counting.marks() == ["try0", "try0", "try1"]
    assert result.stages["up"]["tries"] == 3
    assert {path: state for path, (state, _) in pieces(counting).items()} == {
        "up#1": "done",
        "up#2": "done",
        "up#3": "done",
        "up": "done",
    }
    tries = [(event.number, event.passed) for event in counting.events if isinstance(event, TryFinished)]
    assert tries == [(1, False), (2, False), (3, True)]


async def test_where_no_try_passes_the_stage_fails_and_names_max(counting):
    result = await counting.run(UNTIL.format(least=9, most=2))

    assert result.state == "failed"
    assert result.error == "stage up: 'until' did not hold in 2 tries, the most that 'max' allows: up.n >= 9"


async def test_a_resumed_run_gets_as_many_tries_again(counting):
    failed = await counting.run(UNTIL.format(least=3, most=2))
    done = await counting.resume(failed.run)

    assert done.outputs == {"up": {"n": 3}}
    assert counting.marks() == ["try0", "try0", "try1", "try2"]
    assert done.stages["up"]["tries"] == 4


async def test_continue_keeps_the_last_try_without_a_judge(counting):
    text = UNTIL.format(least=9, most=3).replace("max:", "on_error: continue\n        max:")
    result = await counting.run(text + '      after: {run: "steps:note", with: {word: "kept${{ up.n }}"}}\n')

    assert result.state == "done"
    assert result.outputs == {"after": "kept2"}
    assert result.stages["up"]["state"] == "failed"
    assert "max" in result.stages["up"]["error"]


async def test_iteration_counts_from_one_and_max_may_come_from_an_input(counting):
    result = await counting.run(
        """
        inputs: {most: integer}
        stages:
          up:
            each: [a, b]
            until: iteration == 2 or item == 'b'
            max: ${{ inputs.most }}
            run: "steps:note"
            with: {word: "${{ item }}${{ iteration }}"}
        """,
        most=2,
    )

    assert result.outputs == {"up": ["a2", "b1"]}
    assert counting.marks() == ["a1", "a2", "b1"]
    assert result.stages["up"]["tries"] == 2
    assert {"up[0]#1", "up[0]#2", "up[1]#1"} < set(pieces(counting))


async def test_a_group_with_until_is_a_loop_over_several_stages(counting):
    counting.steps((counting.path / "steps.py").read_text() + "\ndef more(n=None):\n    return 1 if n is None else n + 1\n")
    result = await counting.run("""
        stages:
          report:
            until: report.check >= 2
            max: 5
            stages:
              draft: {run: "steps:note", with: {word: "draft${{ iteration }}-${{ report.check }}"}}
              check: {needs: [draft], run: "steps:more", with: {n: "${{ report.check }}"}, output: integer}
          after: {run: "steps:note", with: {word: "${{ report.draft }}!"}}
    """)

    assert result.outputs == {"after": "draft2-1!"}
    assert counting.marks() == ["draft1-", "draft2-1", "draft2-1!"]
    assert {"report#1", "report#1/draft", "report#1/check", "report#2", "report#2/draft", "report#2/check", "report"} < set(
        pieces(counting)
    )


async def test_inner_loop_belongs_to_the_try_of_the_outer_one(counting):
    result = await counting.run("""
        stages:
          outer:
            until: iteration == 2
            max: 2
            stages:
              inner: {until: iteration == 3, max: 3, run: "steps:note", with: {word: "i${{ iteration }}"}}
              told: {run: "steps:note", with: {word: "o${{ iteration }}-${{ inner }}"}}
    """)

    assert result.outputs == {"outer": {"inner": "i3", "told": "o2-i3"}}
    assert counting.marks() == ["i1", "i2", "i3", "o1-i3", "i1", "i2", "i3", "o2-i3"]
    assert {"outer#1/inner#3", "outer#2/inner#1", "outer#2/inner"} < set(pieces(counting))


async def test_a_body_that_fails_in_a_try_fails_the_stage_and_goes_on_in_that_try(counting):
    path = counting.path / "now"
    text = f"""
        stages:
          up:
            until: up == 'at last'
            max: 3
            run: "steps:fail_until"
            with: {{path: "{path}"}}
    """
    failed = await counting.run(text)
    path.touch()
    done = await counting.resume(failed.run)

    assert failed.error.startswith("stage up#1: ")
    assert done.outputs == {"up": "at last"}
    assert counting.marks() == ["try", "try"]
    assert pieces(counting)["up#1"][0] == "done"


async def test_timeout_counts_all_tries(counting):
    result = await counting.run("""
        stages:
          up: {until: "false", max: 1000, timeout: 100ms, run: "asyncio:sleep", with: {delay: 0.02}}
    """)

    assert result.error == "stage up: timed out after 0.1 s"


async def test_second_try_of_a_prompt_gets_its_previous_output(project):
    result = await project.ask(
        "stages: {up: {until: up == 'good', max: 3, prompt: Say something good.}}",
        "bad",
        "good",
    )

    first, second = (request.messages for request in project.fake.requests)
    assert [message.role for message in first] == ["user"]
    assert [(message.role, message.text) for message in second] == [
        ("user", "Say something good."),
        ("assistant", "bad"),
        ("user", "This does not do yet.\nAnswer again, and better."),
    ]
    assert result.outputs == {"up": "good"}


async def test_a_prompt_that_mentions_its_own_name_gets_nothing_besides(project):
    await project.ask(
        "stages: {up: {until: up == 'good', max: 3, prompt: 'Better than <${{ up }}>.'}}",
        "bad",
        "good",
    )

    asked = [[message.text for message in request.messages] for request in project.fake.requests]
    assert asked == [["Better than <>."], ["Better than <bad>."]]


JUDGED = """
    stages:
      up:
        until: judge.score >= 0.8
        max: 3
        {continue_}
        judge: {{rubric: "Says good"}}
        prompt: Say something.
    outputs: {{up: "${{{{ up }}}}", judge: "${{{{ run.stages.up.judge }}}}"}}
"""


def verdict(score, reason="so"):
    return json.dumps({"reason": reason, "score": score})


async def test_judge_scores_each_try_and_its_reasons_go_with_the_next(project):
    text = JUDGED.format(continue_="")
    result = await project.ask(text, "bad", verdict(0.2, "It says bad."), "good", verdict(0.9, "It says good."))

    assert result.outputs == {"up": "good", "judge": {"score": 0.9, "reasons": ["It says good."]}}
    told = project.fake.requests[2].messages
    assert [message.text for message in told] == [
        "Say something.",
        "bad",
        "This does not do yet. What is wrong with it:\n- It says bad.\nAnswer again, and better.",
    ]
    assert "Says good" in project.fake.requests[1].messages[0].text
    assert "bad" in project.fake.requests[1].messages[1].text
    assert pieces(project)["up#1/judge"] == ("done", {"score": 0.2, "reasons": ["It says bad."]})
    assert result.stages["up"]["calls"] == 4
    assert [event.score for event in project.events if isinstance(event, TryFinished)] == [0.2, 0.9]


async def test_continue_keeps_the_best_try_by_its_score(project):
    tries = ("one", verdict(0.3), "two", verdict(0.7), "three", verdict(0.5))
    result = await project.ask(JUDGED.format(continue_="on_error: continue"), *tries)

    assert result.state == "done"
    assert result.outputs == {"up": "two", "judge": {"score": 0.7, "reasons": ["so"]}}


async def test_what_was_tried_and_judged_is_neither_tried_nor_judged_again(project):
    failed = await project.ask(JUDGED.format(continue_=""), "one", verdict(0.3), "two")
    assert failed.state == "failed"
    assert {"up#1", "up#1/judge", "up#2"} <= set(pieces(project))
    project.fake = FakeProvider(verdict(0.9))
    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        done = await flow.resume(failed.run)

    assert done.outputs == {"up": "two", "judge": {"score": 0.9, "reasons": ["so"]}}
    assert len(project.fake.requests) == 1


async def test_function_is_judged_with_until_and_its_secrets_are_not_shown(project, monkeypatch):
    monkeypatch.setenv("TOKEN", "top-secret-value")
    result = await project.ask(
        """
        env: [TOKEN]
        stages:
          up:
            until: judge.score > 0.5
            max: 2
            judge: {rubric: "Fine: ${{ up }}"}
            run: "steps:note"
            with: {word: "${{ env.TOKEN }}"}
        """,
        verdict(1),
    )

    asked = project.fake.requests[0]
    assert result.state == "done"
    assert "top-secret-value" not in "".join(message.text for message in asked.messages)
    assert "Fine: ***" in asked.messages[0].text


async def test_where_nobody_judges_the_stage_fails(project):
    result = await project.ask(JUDGED.format(continue_=""), "one")

    assert result.state == "failed"
    assert result.error.startswith("stage up: ")
    assert [path for path, (state, _) in pieces(project).items() if state == "done"] == ["up#1"]


async def test_paths_name_element_try_and_go_in_this_order(counting):
    """``stage[element]#try~go/inner``, each part only where each, until and retry are."""
    counting.write("part.yaml", 'flowcraft: 1\nstages: {deep: {run: "steps:note", with: {word: deep}}}\n')
    result = await counting.run("""
        stages:
          each_one:
            each: [a]
            until: iteration == 2
            max: 2
            retry: 1
            stages:
              inner: {until: iteration == 2, max: 2, run: "steps:note", with: {word: x}}
              part: {uses: ./part.yaml}
    """)

    assert result.state == "done"
    assert set(pieces(counting)) == {
        "each_one[0]",
        *(
            f"each_one[0]#{k}{rest}"
            for k in (1, 2)
            for rest in ("", "~1/inner", "~1/inner#1", "~1/inner#2", "~1/part", "~1/part/deep")
        ),
    }


SECOND = """
def second(n):
    note(f"n{n}")
    if LOG.read_text().split().count(f"n{n}") < 2:
        raise ValueError("no")
    return n
"""


async def test_go_of_a_try_that_failed_is_repeated_within_that_try(counting):
    counting.steps((counting.path / "steps.py").read_text() + SECOND)
    result = await counting.run("""
        stages:
          up:
            until: up == 2
            max: 3
            retry: {max: 1, backoff: 1ms}
            run: "steps:second"
            with: {n: "${{ iteration }}"}
            output: integer
    """)

    assert result.outputs == {"up": 2}
    assert counting.marks() == ["n1", "n1", "n2", "n2"]
    assert {path: state for path, (state, _) in pieces(counting).items()} == {
        "up#1~1": "failed",
        "up#1": "done",
        "up#2~1": "failed",
        "up#2": "done",
        "up": "done",
    }


async def test_elements_that_pass_no_try_keep_their_best_and_a_judge_each(project):
    result = await project.ask(
        """
        stages:
          up:
            each: [a, b]
            until: judge.score > 0.5
            max: 1
            on_error: continue
            judge: {rubric: fine}
            prompt: Say ${{ item }}.
        outputs: {up: "${{ up }}", judge: "${{ run.stages.up.judge }}", errors: "${{ len(run.stages.up.errors) }}"}
        """,
        "one",
        verdict(0.1, "bad"),
        "two",
        verdict(0.9, "fine"),
    )

    assert result.outputs == {
        "up": ["one", "two"],
        "judge": [{"score": 0.1, "reasons": ["bad"]}, {"score": 0.9, "reasons": ["fine"]}],
        "errors": 1,
    }


async def test_reused_tries_are_told_the_same_when_the_run_goes_on(counting):
    path = counting.path / "now"
    text = (
        UNTIL.format(least=2, most=5)
        + f"""
      told: {{needs: [up], run: "steps:fail_until", with: {{path: "{path}"}}}}
      after: {{needs: [told], run: "steps:note", with: {{word: "${{{{ run.stages.up.tries }}}}"}}}}
"""
    )
    failed = await counting.run(text)
    path.touch()
    done = await counting.resume(failed.run)

    assert (failed.state, done.state) == ("failed", "done")
    assert counting.marks()[-1] == "3"
    assert counting.marks().count("try1") == 1
