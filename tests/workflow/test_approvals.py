"""``approve`` in a file: what it takes, what it gives, where it may stand, and which gate a name means."""

from __future__ import annotations

import pytest

from flowcraft.workflow import best_match, find_gate, gates_of

pytestmark = pytest.mark.unit


def test_default_choices_are_approve_and_reject(folder):
    workflow = folder.load("stages: {gate: {approve: Go on?}}\n")

    body = workflow.stages["gate"].body
    assert (dict(body.choices), body.rejects) == ({"approve": "", "reject": ""}, True)
    assert workflow.stages["gate"].value.text == "{choice: approve | reject, comment: string, by: string, at: string}"


def test_value_has_the_choices_as_an_enumeration_and_the_fields_of_the_form(folder):
    workflow = folder.load(
        "stages: {gate: {approve: Which?, choices: {now: At once, later: }, output: {subject: string, n: integer | null}}}\n"
    )

    kind = workflow.stages["gate"].value.text
    assert kind.startswith("{choice: now | later, ")
    assert kind.endswith("subject: string, n: integer | null}")


@pytest.mark.parametrize(
    ("stage", "heart"),
    [
        ("{approve: Go?, retry: 2}", "'approve' takes no 'retry'"),
        ("{approve: Go?, on_error: continue}", "'approve' takes no 'on_error'"),
        ("{approve: Go?, model: cheap}", "'approve' takes no 'model'"),
        ("{approve: Go?, with: {a: 1}}", "'approve' takes no 'with'"),
        ("{prompt: hello, choices: [a]}", "'prompt' takes no 'choices'"),
        ("{approve: ''}", "the question is empty"),
        ("{approve: 7}", "'approve' must be text, not a number"),
        ("{approve: Go?, choices: []}", "'choices' must be not empty"),
        ("{approve: Go?, choices: yes}", "'choices' must be a list or a mapping, not text"),
        ("{approve: Go?, choices: [a, a]}", "the choice 'a' stands twice"),
        ("{approve: Go?, choices: [1]}", "a choice must be text, not a number"),
        ("{approve: Go?, choices: [' a']}", "a choice must be one line of 1 to 100 characters"),
        ("{approve: Go?, choices: {a: [b]}}", "a label must be text, not a list"),
        ("{approve: Go?, output: string}", "a form has fields, and string has none"),
        ("{approve: Go?, output: {by: string}}", "no field of a form may be called 'by'"),
        ("{approve: Go?, timeout: 5}", "'timeout' needs a unit"),
        ("{approve: Go?, prompt: hello}", "a second body"),
    ],
)
def test_wrong_approval_is_refused(folder, stage, heart):
    messages = folder.messages(f"stages: {{a: {stage}}}\n")

    assert [message.startswith(heart) for message in messages] == [True], messages


def test_comparison_with_a_word_that_is_no_choice_is_an_error(folder):
    (message,) = folder.messages(
        "stages:\n  gate: {approve: Go?, choices: [ship, hold]}\n  b: {when: gate.choice == 'shipp', prompt: hello}\n"
    )

    assert message == "'shipp' is none of the words ship, hold"


@pytest.mark.parametrize(
    "last", ["{approve: Go?}", "{stages: {gate: {approve: Go?}}}", "{uses: ./asks.yaml}", "{stages: {x: {uses: ./deep.yaml}}}"]
)
def test_no_approval_stands_in_finally(folder, last):
    folder.write("asks.yaml", "flowcraft: 1\nstages: {gate: {approve: Go?}}\n")
    folder.write("deep.yaml", "flowcraft: 1\nstages: {part: {uses: ./asks.yaml}}\n")

    (message,) = folder.messages(f"stages: {{a: {{prompt: hello}}}}\nfinally: {{last: {last}}}\n")

    assert "none stands in 'finally'" in message or "no approval stands in 'finally'" in message


@pytest.mark.parametrize(
    "stage",
    [
        "{each: [1, 2], approve: Go?}",
        "{each: [1, 2], stages: {gate: {approve: Go?}}}",
        "{each: [1, 2], stages: {inner: {stages: {gate: {approve: Go?}}}}}",
        "{each: [1, 2], uses: ./asks.yaml}",
    ],
)
def test_approval_in_a_list_is_warned_of(folder, stage):
    folder.write("asks.yaml", "flowcraft: 1\nstages: {gate: {approve: Go?}}\n")

    workflow = folder.load(f"stages: {{a: {stage}}}\n")

    assert ["once for each element of a list" in warning.message for warning in workflow.warnings] == [True]


def test_default_time_and_retry_do_not_reach_an_approval(folder):
    stage = folder.load("defaults: {timeout: 5m, retry: 2}\nstages: {gate: {approve: Go?}}\n").stages["gate"]

    assert (stage.timeout, stage.retry.max) == (None, 0)


def test_gates_go_by_their_names_behind_those_around_them(folder):
    folder.write("asks.yaml", "flowcraft: 1\nstages: {gate: {approve: Go?}}\n")
    workflow = folder.load(
        "stages:\n  report: {stages: {gate: {approve: Go?}}}\n  rows: {each: [1], approve: Go?}\n  part: {uses: ./asks.yaml}\n"
    )

    assert [gate.name for gate in gates_of(workflow)] == ["report.gate", "rows", "part.gate"]
    found = {name for name in ("report.gate", "rows[3]", "rows", "part.gate") if find_gate(workflow, name) is not None}
    assert found == {"report.gate", "rows[3]", "rows", "part.gate"}
    assert [find_gate(workflow, name) for name in ("gate", "report", "report.gate[1]", "rows.x", "", "a b")] == [None] * 6


@pytest.mark.parametrize(
    ("path", "names", "best"),
    [
        ("report/gate", ["report.gate", "gate"], "report.gate"),
        ("gate[3]", ["gate", "gate[3]", "gate[2]"], "gate[3]"),
        ("gate[4]", ["gate", "gate[3]"], "gate"),
        ("rows[2]/inner#3/gate#2", ["rows.inner.gate"], "rows.inner.gate"),
        ("rows[2]/gate~1", ["rows[1].gate"], None),
    ],
)
def test_answer_beforehand_means_the_gate_that_it_names_most_exactly(path, names, best):
    assert best_match(path, names) == best
