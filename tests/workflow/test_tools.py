"""The key ``tools`` of a prompt."""

from __future__ import annotations

import pytest

from flowcraft.llm.casting import Casting
from flowcraft.plugin.capabilities import Capabilities, ModelInfo
from flowcraft.workflow import Facts, check_workflow
from flowcraft.workflow.schema import ToolName

pytestmark = pytest.mark.unit

STEPS = """
def search(words: str) -> str:
    raise RuntimeError("nothing is called by a check")
raise RuntimeError("nothing is imported by a check")
"""


@pytest.fixture
def tooled(folder):
    folder.write("steps.py", STEPS)
    return folder


def test_functions_and_plugins_tools_are_named(tooled):
    body = tooled.load("stages: {a: {prompt: hello, tools: [steps:search, look_up]}}\n").stages["a"].body

    assert body.tools == (
        ToolName(written="steps:search", module="steps", function="search"),
        ToolName(written="look_up"),
    )


@pytest.mark.parametrize("nothing", ["[]", "null"])
def test_no_tools_are_none(folder, nothing):
    assert folder.load(f"stages: {{a: {{prompt: hello, tools: {nothing}}}}}\n").stages["a"].body.tools == ()


def test_tool_that_no_plugin_offers_is_a_problem_at_its_place(tooled):
    workflow = tooled.load("stages:\n  a:\n    prompt: hello\n    tools: [steps:search, look]\n")

    (problem,) = check_workflow(workflow, Facts(tools=lambda: ("look_up", "write")))

    assert (problem.line, problem.column) == (5, 27)
    assert problem.message == "no plugin offers a tool 'look'"
    assert "look_up" in problem.hint
    assert not check_workflow(workflow, Facts(tools=lambda: ("look",)))


def test_plugins_are_not_asked_where_no_tool_of_theirs_is_named(tooled):
    def never() -> tuple[str, ...]:
        raise AssertionError("plugins were asked")

    assert not check_workflow(tooled.load("stages: {a: {prompt: hello, tools: [steps:search]}}\n"), Facts(tools=never))


def test_models_must_be_able_to_call_tools(tooled):
    small = ModelInfo(model="small", provider="local", capabilities=Capabilities(tools=False))

    workflow = tooled.load("stages: {a: {prompt: hello, tools: [steps:search]}}\n")
    (problem,) = check_workflow(workflow, Facts(cast=lambda stage, default: Casting(answering=(small,))))

    assert problem.message == "local:small cannot do what stage 'a' needs: tools"
    assert not problem.warning


@pytest.mark.parametrize(("default", "strategy"), [("best_of_two", None), ("cascade", "cascade")])
def test_best_of_two_as_a_default_is_not_applied_to_a_prompt_with_tools(tooled, default, strategy):
    workflow = tooled.load(
        f"""
        defaults: {{strategy: {default}}}
        stages:
          a: {{prompt: hello, tools: [steps:search]}}
          b: {{prompt: hello}}
        """
    )

    assert workflow.stages["a"].strategy == strategy
    assert workflow.stages["b"].strategy == default


SERVERS = """
    inputs: {where: string}
    env: [TOKEN]
    mcp:
      library: {command: serve, args: ["${{ inputs.where }}"], env: {KEY: "${{ env.TOKEN }}"}}
      web: {url: "https://example.org/mcp", headers: {Authorization: "Bearer ${{ env.TOKEN }}"}}
    stages: {a: {prompt: hello, tools: [mcp:library, mcp:web/search]}}
"""


def test_servers_are_named_by_the_tools_of_prompts(folder):
    workflow = folder.load(SERVERS)

    assert list(workflow.servers) == ["library", "web"]
    assert workflow.stages["a"].body.tools == (
        ToolName(written="mcp:library", server="library"),
        ToolName(written="mcp:web/search", server="web", tool="search"),
    )
    assert workflow.warnings == ()


@pytest.mark.parametrize("starting", [True, False])
def test_servers_without_their_library_are_a_problem_where_a_run_starts(folder, starting):
    (problem,) = check_workflow(folder.load(SERVERS), Facts(serves=False, starting=starting))

    assert problem.message == "MCP servers need a library that is not installed"
    assert problem.warning is not starting
