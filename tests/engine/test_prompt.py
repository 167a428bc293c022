"""``prompt``: a question to the chain that settings, file and stage choose."""

from __future__ import annotations

import pytest

from flowcraft.app.stage_models import StageModels
from flowcraft.errors import ProviderUnavailable, WorkflowError
from flowcraft.plugin import ChatResponse, ToolCall

pytestmark = pytest.mark.integration


async def test_prompt_and_system_reach_the_model_and_its_text_is_the_value(project):
    result = await project.ask(
        """
        inputs: {name: string}
        stages:
          greet:
            system: "Speak like ${{ inputs.name }}"
            prompt: "Greet ${{ inputs.name }}"
            params: {temperature: 0.2, min_p: 0.1}
        """,
        "Привет!",
        name="Анна",
    )

    (request,) = project.fake.requests
    assert result.outputs == {"greet": "Привет!"}
    assert [(message.role, message.text) for message in request.messages] == [
        ("system", "Speak like Анна"),
        ("user", "Greet Анна"),
    ]
    assert request.temperature == 0.2
    assert request.extra == {"min_p": 0.1}


@pytest.mark.parametrize(
    ("output", "answer", "value"),
    [
        ("string", "plain text", "plain text"),
        ("{score: number, tags: [string]}", '{"score": 1, "tags": ["a"], "more": 1}', {"score": 1, "tags": ["a"]}),
        ("{score: number, note: string | null}", '{"score": 1}', {"score": 1, "note": None}),
        ('"[string]"', '["a", "b"]', ["a", "b"]),
        ("low | high", "high", "high"),
        ("integer", "```json\n7\n```", 7),
    ],
)
async def test_output_type_makes_a_value_of_the_answer(project, output, answer, value):
    result = await project.ask(f"stages: {{ask: {{prompt: Score it, output: {output}}}}}", answer)

    assert result.error == ""
    assert result.outputs == {"ask": value}


async def test_settings_are_asked_once_for_the_chain_of_all_elements(project, monkeypatch):
    asked, written = [], StageModels.written
    monkeypatch.setattr(StageModels, "written", lambda self, *key: asked.append(key) or written(self, *key))
    result = await project.ask("stages: {ask: {each: [a, b, c], parallel: 1, prompt: '${{ item }}'}}", "x", "y", "z")

    assert result.outputs == {"ask": ["x", "y", "z"]}
    assert len([key for key in asked if key[1] == "ask"]) == 2  # once to see whose plugins the run uses


async def test_call_of_a_tool_where_there_are_none_is_no_answer(project):
    call = ChatResponse(parts=(ToolCall(id="1", name="look", arguments="{}"),), finish_reason="tool_calls")
    result = await project.ask("stages: {ask: {prompt: Look it up}}", call)

    assert (result.state, result.outputs) == ("failed", None)
    assert "the model calls 'look' in place of an answer, and has no tools" in result.error


async def test_answer_that_never_fits_fails_the_stage_field_by_field(project):
    result = await project.ask("stages: {ask: {prompt: Score it, output: {score: number}}}", '{"score": "high"}')

    assert result.state == "failed"
    assert "score" in result.error


async def test_chain_that_is_exhausted_fails_the_stage_and_tells_every_attempt(project):
    result = await project.ask("stages: {ask: {prompt: Hello}}", ProviderUnavailable("the server burns"))

    assert result.state == "failed"
    assert "the server burns" in result.error
    assert result.calls >= 1


async def test_stage_model_comes_before_everything(project):
    from flowcraft.testing import FakeProvider

    project.fake = FakeProvider()
    llm = {"default_model": "fake:one", "expensive_model": "fake:dear", "expensive_stages": ["review"]}
    async with project.open(llm=llm, providers={"fake": {}}) as flow:
        await project.run(
            """
            defaults: {model: "fake:file"}
            stages:
              review: {prompt: settings send this one to the expensive tier}
              own: {needs: [review], model: "fake:own", prompt: its own}
              other: {needs: [own], prompt: the default of the file}
            """,
            flow,
        )

    assert [asked.model for asked in project.fake.asked] == ["dear", "own", "file"]


async def test_one_model_in_place_of_all(project):
    project.fake.script("other", "from other")
    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        path = project.write("flow.yaml", 'flowcraft: 1\nstages: {ask: {model: "fake:two", prompt: Hello}}\n')
        result = await flow.run(path, model="fake:other")

    assert result.outputs == {"ask": "from other"}
    assert result.stages["ask"]["model"] == "other"


async def test_unknown_model_is_an_error_before_anything_runs(project):
    with pytest.raises(WorkflowError, match="nowhere"):
        await project.run('stages: {ask: {model: "nowhere", prompt: Hello}}')


async def test_usage_and_price_are_summed_per_stage_and_run(project):
    from flowcraft.testing import FakeProvider

    project.fake = FakeProvider("three words here")
    price = {"input": 1_000_000, "output": 2_000_000}
    providers = {"fake": {"models": {"one": {"price": price}}}}
    async with project.open(llm={"default_model": "fake:one"}, providers=providers) as flow:
        result = await project.run("stages: {ask: {each: [1, 2], prompt: two words}}", flow)

    assert result.stages["ask"]["tokens"] == 10
    assert result.usd == pytest.approx(2 * 2 * 1 + 2 * 3 * 2)
    assert result.stages["ask"]["usd"] == result.usd


async def test_offline_answers_where_nothing_is_configured_and_says_so(project):
    result = await project.run("stages: {ask: {prompt: What is this? It is a test of words.}}")

    assert result.offline
    assert not result.instead
    assert result.outputs["ask"]
