"""Agents and crews: what the loader makes of them, and what is checked with knowledge of models and of the runner."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flowcraft.plugin import Capabilities, ModelInfo, Price
from flowcraft.workflow import Facts, check_workflow, has_agents, plugin_tools
from flowcraft.workflow.schema import models_of_agents

pytestmark = pytest.mark.unit

AGENTS = """
agents:
  a: {role: x, goal: x, tools: [shout], llm: dear}
  b: {role: x, goal: x}
stages:
  one: {agent: a, prompt: x}
  two: {model: plain, crew: {tasks: [{agent: a, description: x}, {agent: b, description: x, tools: [whisper]}]}}
"""


@dataclass(frozen=True)
class Cast:
    answering: tuple[ModelInfo, ...]
    contestants: tuple[ModelInfo, ...] = ()
    judging: tuple[ModelInfo, ...] = ()
    instead: tuple[ModelInfo, ...] = ()


def model(name: str, *, tools: bool = True, price: bool = True) -> ModelInfo:
    return ModelInfo(
        model=name, provider="local", capabilities=Capabilities(tools=tools), price=Price(input=1, output=1) if price else None
    )


def told(folder, text: str, **known) -> list[tuple[str, int, bool]]:
    facts = Facts(tools=lambda: ("shout", "whisper"), **known)
    return [(problem.message, problem.line, problem.warning) for problem in check_workflow(folder.load(text), facts)]


def test_models_of_agents_are_checked_where_they_are_named(folder):
    known = {"tiers": frozenset({"plain"}), "knows_model": lambda name: name == "dear"}

    assert told(folder, AGENTS, **known) == []
    (wrong,) = told(folder, AGENTS.replace("dear", "deer"), **known)
    assert wrong == ("unknown model or tier 'deer'", 4, False)


def test_a_managers_model_is_checked_too(folder):
    crew = "{process: hierarchical, manager: boss, tasks: [{description: x}]}"
    text = f"agents: {{a: {{role: x, goal: x}}}}\nstages:\n  s: {{crew: {crew}}}\n"
    (wrong,) = told(folder, text, knows_model=lambda name: False)

    assert wrong == ("unknown model or tier 'boss'", 4, False)


def test_tools_of_agents_and_of_tasks_are_checked_where_they_stand(folder):
    text = AGENTS.replace("shout", "shoot").replace("whisper", "wisper")

    assert told(folder, text) == [
        ("no plugin offers a tool 'shoot'", 4, False),
        ("no plugin offers a tool 'wisper'", 8, False),
    ]


def test_what_stands_in_another_file_is_told_there(folder):
    folder.write("agents.yaml", "a:\n  role: x\n  goal: x\n  llm: deer\n  tools: [shoot]\n")
    text = "agents: agents.yaml\nstages: {s: {agent: a, prompt: x}}\n"
    workflow = folder.load(text)
    found = check_workflow(workflow, Facts(knows_model=lambda name: False))

    assert [(problem.file.rpartition("/")[2], problem.line, problem.column) for problem in found] == [
        ("agents.yaml", 4, 8),
        ("agents.yaml", 5, 11),
    ]


def test_a_tool_that_nobody_offers_is_told_where_it_stands_though_others_before_it_cannot_be_read(folder):
    folder.write("agents.yaml", "a:\n  role: x\n  goal: x\n  tools:\n    - one.two\n    - shout\n    - shoot\n")
    facts = Facts(tools=lambda: ("shout",), knows_model=lambda name: True)
    text = "agents: agents.yaml\nstages: {s: {agent: a, prompt: x}}\n"
    found = folder.problems(text, check=lambda workflow: check_workflow(workflow, facts))

    assert [(problem.line, problem.message) for problem in found] == [
        (5, "'one.two' names no tool"),
        (7, "no plugin offers a tool 'shoot'"),
    ]


def test_a_model_written_with_a_slash_is_told_of_with_a_colon(folder):
    def knows(name):
        return name == "openai:gpt-4o"

    workflow = folder.load(AGENTS.replace("dear", "openai/gpt-4o"))
    facts = Facts(tools=lambda: ("shout", "whisper"), tiers=frozenset({"plain"}), knows_model=knows, model_names=("openai",))
    hints = [problem.hint for problem in check_workflow(workflow, facts)]

    assert hints == ["write openai:gpt-4o: the provider stands before a colon"]


def test_models_that_call_no_tools_are_warned_of_where_agents_have_some(folder):
    blind = Cast(answering=(model("blind", tools=False),))
    found = told(folder, AGENTS, cast=lambda stage, default: blind)

    assert [message for message, _, warning in found if warning] == [
        "local:blind cannot call tools, and the agent 'a' has some",
        "local:blind cannot call tools, and the agent 'b' has some",
    ]


def test_models_of_agents_count_where_a_budget_needs_prices(folder):
    def cast(stage, default):
        return Cast(answering=(model(str(stage.model), price=stage.model != "dear"),))

    (warning,) = told(folder, "budget: {usd: 1}" + AGENTS, cast=cast)

    assert "the price of local:dear is not known" in warning[0]


def test_the_runner_is_asked_for_only_where_there_are_agents(folder):
    def runner():
        raise AssertionError

    assert told(folder, "stages: {s: {prompt: x}}\n", runner=runner) == []


@pytest.mark.parametrize("starting", [True, False])
def test_a_runner_that_lacks_something_is_told_of_at_the_first_stage(folder, starting):
    found = told(folder, AGENTS, runner=lambda: (None, "install choir"), starting=starting)

    assert found == [("install choir", 7, not starting)]


def test_what_agents_need_is_known_of_a_workflow(folder):
    workflow = folder.load(AGENTS)

    assert has_agents(workflow)
    assert plugin_tools(workflow) == {"shout", "whisper"}
    assert models_of_agents(workflow.stages["two"].body) == ("dear",)


def test_a_run_reads_its_agents_from_what_it_kept(folder):
    folder.write("agents.yaml", "a: {role: x, goal: x}\n")
    before = folder.load("agents: agents.yaml\nstages: {s: {agent: a, prompt: x}}\n")
    folder.write("agents.yaml", "b: {role: y, goal: y}\n")

    after = folder.load("agents: agents.yaml\nstages: {s: {agent: a, prompt: x}}\n", files=before.files)

    assert after.agents == before.agents


def test_broken_file_of_agents_is_one_problem(folder):
    folder.write("agents.yaml", "a: {role: On {x}, goal: x}\n")

    (problem,) = folder.problems("agents: agents.yaml\nstages: {s: {agent: a, prompt: x}}\n")

    assert problem.file.endswith("agents.yaml")
