""" "`agents` and `crew`" of docs/language.md: a test for each rule of what a file may say."""

from __future__ import annotations

import pytest

from flowcraft.workflow.crew_words import REFUSED_OF_AGENTS, REFUSED_OF_CREWS, REFUSED_OF_TASKS
from flowcraft.workflow.schema import Crew

pytestmark = pytest.mark.unit

AGENTS = "agents:\n  writer: {role: Writer, goal: Write}\n  critic: {role: Critic, goal: Find faults}\n"
BOTH = "stages: {a: {agent: writer, prompt: x}, b: {agent: critic, prompt: x}}\n"


def crew(tasks: str, more: str = "") -> str:
    return f"{AGENTS}stages:\n  a:\n    crew: {{{more}tasks: {tasks}}}\n  b: {{agent: critic, prompt: x}}\n"


def read(place, tasks: str, more: str = "") -> Crew:
    body = place.load(crew(tasks, more)).stages["a"].body
    assert isinstance(body, Crew)
    return body


def test_an_agents_yaml_of_crewai_pastes_in(place):
    text = "writer:\n  role: >\n    Writer on {topic}\n  goal: Write\n  backstory: >\n    Wrote.\n  verbose: true\n"
    text += "  llm: cheap\n"
    place.write("agents.yaml", text)
    inputs = "inputs: {topic: string}\n"
    inline = "agents:\n" + "".join(f"  {line}\n" for line in text.splitlines())

    pasted = place.load(f"{inputs}{inline}stages: {{a: {{agent: writer, prompt: x}}}}\n").agents["writer"]
    beside = place.load(f"{inputs}agents: agents.yaml\nstages: {{a: {{agent: writer, prompt: x}}}}\n").agents["writer"]

    assert pasted == beside
    assert pasted.role.text({"inputs": {"topic": "bees"}}) == "Writer on bees\n"
    assert (pasted.model, pasted.options) == ("cheap", {"verbose": True})


def test_name_in_braces_means_an_input_where_there_is_one(place):
    agents = 'agents:\n  a: {role: "{x} {y} {{x}} {\\"x\\": 1} ${x}", goal: "${{ inputs.x }} $${{ x }}"}\n'
    agent = place.load(f"inputs: {{x: string}}\n{agents}stages: {{s: {{agent: a, prompt: 'x {{x}}'}}}}\n").agents["a"]
    scope = {"inputs": {"x": "{y}${{ y }}"}}

    assert agent.role.text(scope) == '{y}${{ y }} {y} {{x}} {"x": 1} ${y}${{ y }}'
    assert agent.goal.text(scope) == "{y}${{ y }} ${{ x }}"


def test_an_input_that_only_braces_mention_is_used(place):
    text = "inputs: {x: string}\nagents: {a: {role: 'On {x}', goal: x}}\nstages: {s: {agent: a, prompt: x}}\n"

    assert place.warnings(text) == []


def test_names_in_braces_of_a_prompt_with_an_agent_are_text(place):
    text = "inputs: {x: string}\nagents: {a: {role: 'On {x}', goal: x}}\nstages: {s: {agent: a, prompt: 'On {x}'}}\n"
    body = place.load(text).stages["s"].body

    assert body.prompt.text({"inputs": {"x": "bees"}}) == "On {x}"


def test_texts_of_agents_mention_inputs_only(place):
    for name in ("b", "run.id", "env.KEY", "item"):
        text = f"env: [KEY]\nagents: {{a: {{role: '${{{{ {name} }}}}', goal: x}}}}\n"
        stages = "stages:\n  b: {prompt: x}\n  s: {each: [1], agent: a, prompt: '${{ b }}'}\n"

        assert place.refused(text + stages)


def test_texts_of_tasks_mention_what_their_stage_sees(place):
    text = f"{AGENTS}stages:\n  b: {{prompt: x}}\n  a:\n    each: [1]\n    crew:\n      tasks:\n"
    text += "        - {agent: writer, description: '${{ b }} ${{ item }}', expected_output: '${{ index }}'}\n"
    stage = place.load(text).stages["a"]

    assert stage.depends == ("b",)


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        ("[{agent: writer, description: x}, {name: last, agent: critic, description: y}]", ("task1", "last")),
        ("{first: {agent: writer, description: x}, second: {agent: critic, description: y}}", ("first", "second")),
    ],
)
def test_tasks_are_a_list_or_a_mapping(place, tasks, names):
    assert tuple(task.name for task in read(place, tasks).tasks) == names


def test_tasks_may_stand_in_a_file_of_their_own(place):
    place.write("config/tasks.yaml", "draft:\n  agent: writer\n  description: {file: draft.md}\n")
    place.write("config/draft.md", "Draft it")
    workflow = place.load(crew("config/tasks.yaml"))
    (task,) = workflow.stages["a"].body.tasks

    assert task.description.text({}) == "Draft it"
    assert sorted(name.removeprefix(f"{place.path}/") for name in workflow.files) == [
        "config/draft.md",
        "config/tasks.yaml",
        "flow.yaml",
    ]


def test_a_crew_has_the_agents_of_its_tasks(place):
    assert list(read(place, "[{agent: writer, description: x}]").agents) == ["writer"]


def test_a_manager_may_choose_from_all_agents(place):
    led = read(place, "[{description: x}]", "process: hierarchical, manager: critic, ")

    assert list(led.agents) == ["writer"]
    assert getattr(led.manager, "name", None) == "critic"
    assert read(place, "[{description: x}]", "process: hierarchical, manager: expensive, ").manager == "expensive"
    assert read(place, "[{description: x}]", "process: hierarchical, ").manager is None


def test_context_names_earlier_tasks(place):
    one = "{name: one, agent: writer, description: x}"

    assert read(place, f"[{one}, {{agent: writer, description: x, context: [one]}}]").tasks[1].context == ("one",)
    assert read(place, f"[{one}, {{agent: writer, description: x, context: []}}]").tasks[1].context == ()
    assert read(place, f"[{one}, {{agent: writer, description: x}}]").tasks[1].context is None


def test_results_without_output_are_text(place):
    workflow = place.load(crew("[{agent: writer, description: x}]"))

    assert {name: stage.value.text for name, stage in workflow.stages.items()} == {"a": "string", "b": "string"}


@pytest.mark.parametrize("key", ["params: {}", "strategy: single", "confidence: 0.5", "system: x", "attach: a.png"])
def test_a_prompt_with_agent_takes_less(place, key):
    text = f"{AGENTS}stages: {{a: {{agent: writer, prompt: x, {key}}}, b: {{agent: critic, prompt: x}}}}\n"

    assert place.refused(text) == f"a prompt with 'agent' takes no '{key.partition(':')[0]}'"


def test_defaults_that_an_agent_cannot_take_do_not_reach_it(place):
    defaults = "defaults: {params: {seed: 1}, strategy: best_of_two, timeout: 1m, model: cheap}\n"
    stage = place.load(defaults + AGENTS + BOTH).stages["a"]

    assert (stage.params, stage.strategy, stage.timeout) == ({}, None, 60)


def test_an_agent_is_judged_with_until(place):
    more = "until: judge.score > 0.5, max: 2, judge: {rubric: short}"

    assert place.load(f"{AGENTS}stages: {{a: {{agent: writer, prompt: x, {more}}}, b: {{agent: critic, prompt: x}}}}\n")


def test_an_agent_whom_nobody_has_is_warned_of(place):
    assert place.warnings(AGENTS + "stages: {a: {agent: writer, prompt: x}}\n") == ["the agent 'critic' is never used"]


@pytest.mark.parametrize("word", sorted(REFUSED_OF_AGENTS))
def test_a_word_of_crewais_agents_is_refused_with_what_to_write(place, word):
    (problem,) = place.problems(f"agents: {{a: {{role: x, goal: x, {word}: 1}}}}\nstages: {{s: {{agent: a, prompt: x}}}}\n")

    assert problem.message == f"an agent takes no '{word}' here"
    assert len(problem.hint) > 15


@pytest.mark.parametrize("word", sorted(REFUSED_OF_TASKS))
def test_a_word_of_crewais_tasks_is_refused_with_what_to_write(place, word):
    (problem,) = place.problems(crew(f"[{{agent: writer, description: x, {word}: 1}}]"))

    assert problem.message == f"a task takes no '{word}' here"
    assert len(problem.hint) > 15


@pytest.mark.parametrize("word", sorted(REFUSED_OF_CREWS))
def test_a_word_of_crewais_crews_is_refused_with_what_to_write(place, word):
    (problem,) = place.problems(crew("[{agent: writer, description: x}]", f"{word}: 1, "))

    assert problem.message == f"a crew takes no '{word}' here"
    assert len(problem.hint) > 15
