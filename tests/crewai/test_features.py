"""What CrewAI has besides works unchanged on our LLMs: plans, guardrails, knowledge, feedback, kept flows, training."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from flowcraft.crewai import create_embedder_for_crewai
from flowcraft.plugin import ToolCall
from flowcraft.testing import FaultServer, Reply
from flowcraft.testing.connection import ReceivedRequest

crewai = pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

from crewai import Agent, Crew, Task  # noqa: E402
from crewai.events import LLMCallCompletedEvent, crewai_event_bus  # noqa: E402
from crewai.flow.flow import Flow, listen, start  # noqa: E402
from crewai.flow.human_feedback import human_feedback  # noqa: E402
from crewai.flow.persistence import persist  # noqa: E402
from crewai.knowledge.source.string_knowledge_source import StringKnowledgeSource  # noqa: E402
from crewai.tools import tool  # noqa: E402

pytestmark = [
    pytest.mark.crewai,
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # CrewAI reads what it and pydantic have deprecated
]

Make = Callable[..., Any]


class Report(BaseModel):
    title: str
    points: list[str]


def spoken(request: ReceivedRequest) -> str:
    return json.dumps(request.body["messages"], ensure_ascii=False)


def writer(llm: Any, **more: Any) -> Agent:
    return Agent(role="Writer", goal="Write well", backstory="Clear", llm=llm, **more)


def crew(agent: Agent, *, task: dict[str, Any] | None = None, **more: Any) -> Crew:
    return Crew(agents=[agent], tasks=[Task(description="Do it", expected_output="text", agent=agent, **(task or {}))], **more)


def call(tool: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=(ToolCall(id="c1", name=tool, arguments=json.dumps(arguments)),))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what a person types, line by line."""

    def types(*lines: str) -> None:
        left: Iterator[str] = iter(lines)
        monkeypatch.setattr("builtins.input", lambda *prompt: next(left))

    return types


# -- plans


def test_the_steps_of_an_agents_plan_are_taken_as_the_model_calls_for_them(server: FaultServer, llm: Make) -> None:
    step = {"step_number": 1, "description": "count the bees", "tool_to_use": None, "depends_on": []}
    seen = {"step_completed_successfully": True, "key_information_learned": "x", "remaining_plan_still_valid": True}

    def answer(request: ReceivedRequest) -> Reply | str:
        if "tools" in request.body:
            return call("create_reasoning_plan", plan="count", steps=[step], ready=True)
        return json.dumps(seen) if "response_format" in request.body or "JSON" in spoken(request) else "many"

    server.script("a", answer)
    assert crew(writer(llm(), reasoning=True, max_reasoning_attempts=1)).kickoff().raw == "many"
    asked = [spoken(request) for request in server.requests]
    assert "count the bees" in asked[1], "the plan is not asked for again in text"


def test_a_crew_plans_by_an_llm_of_its_own(server: FaultServer, llm: Make) -> None:
    plan = {"list_of_plans_per_task": [{"task_number": 1, "task": "Do it", "plan": "first count"}]}
    server.script("planner", json.dumps(plan))
    server.script("a", lambda request: "counted" if "first count" in spoken(request) else "guessed")
    planner = llm("planner")
    assert crew(writer(llm()), planning=True, planning_llm=planner).kickoff().raw == "counted"
    assert len(planner.attempts) == server.count("planner") == 1


# -- guardrails, callbacks, events


def test_a_guardrail_that_is_a_function(server: FaultServer, llm: Make) -> None:
    server.script("a", "short", "long enough")
    checked = crew(writer(llm()), task={"guardrail": lambda output: (len(output.raw) > 6, output.raw)})
    assert checked.kickoff().raw == "long enough"


def test_a_guardrail_in_words_is_asked_of_the_agents_llm(server: FaultServer, llm: Make) -> None:
    verdicts = iter(['{"valid": false, "feedback": "name the bees"}', '{"valid": true}'])
    texts = iter(["an essay", "an essay of bees"])
    server.script("a", lambda request: next(verdicts) if "Guardrail:" in spoken(request) else next(texts))
    result = crew(writer(llm()), task={"guardrail": "bees are named"}).kickoff()
    assert result.raw == "an essay of bees"
    assert result.token_usage.successful_requests == server.count() == 4


@pytest.mark.filterwarnings("ignore:function callbacks cannot be serialized")
def test_callbacks_and_listeners_are_told(server: FaultServer, llm: Make) -> None:
    @tool("count")
    def count() -> str:
        """Count the bees."""
        return "many"

    server.script("a", call("count"), "fine")
    told: list[Any] = []
    with crewai_event_bus.scoped_handlers():
        crewai_event_bus.on(LLMCallCompletedEvent)(lambda source, event: told.append((event.model, event.agent_role)))
        one = writer(llm(), tools=[count], step_callback=lambda step: told.append("step"))
        crew(one, task_callback=lambda output: told.append(output.raw)).kickoff()
        crewai_event_bus.flush()
    assert sorted(map(str, told)) == ["('flowcraft/default', 'Writer')"] * 2 + ["fine", "step"]


# -- agents alone, and their tools


async def test_an_agent_alone_is_asked_on_a_loop(server: FaultServer, llm: Make) -> None:
    server.script("a", '{"title": "Bees", "points": []}')
    result = await writer(llm()).kickoff_async("Report of bees", response_format=Report)
    assert result.pydantic == Report(title="Bees", points=[])


def test_tools_that_are_coroutines_and_tools_whose_result_is_the_answer(server: FaultServer, llm: Make) -> None:
    @tool("fetch", result_as_answer=True)
    async def fetch(name: str) -> str:
        """Fetch a page."""
        await asyncio.sleep(0)
        return f"page of {name}"

    server.script("a", call("fetch", name="bees"))
    assert crew(writer(llm(), tools=[fetch])).kickoff().raw == "page of bees"
    assert server.count() == 1


# -- knowledge


@pytest.mark.parametrize("where", ["crew", "agent"])
def test_knowledge_is_found_by_our_vectors(server: FaultServer, llm: Make, tmp_path: Path, where: str) -> None:
    file = tmp_path / "vectors.yaml"
    file.write_text(yaml.safe_dump({"storage": f"sqlite:///{tmp_path}/calls.db"}), "utf-8")
    known = {
        "knowledge_sources": [StringKnowledgeSource(content=f"Of the {where}: Ada keeps forty hives of bees.")],
        "embedder": create_embedder_for_crewai(file, model="offline"),
    }
    server.script("a", lambda request: "forty" if "forty hives" in spoken(request) else "Ada keeps hives of bees")
    one = writer(llm(), **(known if where == "agent" else {}))
    assert crew(one, **(known if where == "crew" else {})).kickoff().raw == "forty"


# -- people


def test_a_person_is_asked_for_feedback(server: FaultServer, llm: Make, typed: Callable[..., None]) -> None:
    server.script("a", "first", "second")
    typed("better, please", "")
    assert crew(writer(llm()), task={"human_input": True}).kickoff().raw == "second"


def test_a_flow_asks_our_llm_what_a_persons_feedback_means(server: FaultServer, llm: Make, typed: Callable[..., None]) -> None:
    server.script("a", '{"outcome": "approved"}')
    typed("looks good")
    made = llm()

    class Review(Flow):  # type: ignore[type-arg, misc, unused-ignore]
        @start()
        @human_feedback(message="Is it good?", emit=["approved", "rejected"], llm=made)
        def draft(self) -> str:
            return "a draft"

        @listen("approved")
        def publish(self) -> str:
            return "published"

        @listen("rejected")
        def drop(self) -> str:
            return "dropped"

    assert Review().kickoff() == "published"


def test_a_crew_is_trained_and_tested(
    server: FaultServer, llm: Make, typed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    learned = {"suggestions": ["be short"], "quality": 8.0, "final_summary": "good"}
    server.script("a", lambda request: json.dumps(learned) if "quality" in spoken(request) else "an essay")
    server.script("judge", '{"quality": 8.0}')
    typed("shorter, please", "", "")
    made = crew(writer(llm()))
    made.train(n_iterations=1, filename="trained.pkl", inputs={})
    assert (tmp_path / "trained.pkl").exists()
    made.test(n_iterations=1, eval_llm=llm("judge"), inputs={})
    assert server.count("judge") == 1


# -- flows and tasks that are gone on with


def test_a_flow_is_kept_and_gone_on_with(server: FaultServer, llm: Make, tmp_path: Path) -> None:
    from crewai.flow.persistence.sqlite import SQLiteFlowPersistence

    server.script("a", "bees")
    made = llm()

    class State(BaseModel):
        id: str = ""
        topics: list[str] = []

    @persist(SQLiteFlowPersistence(str(tmp_path / "flows.db")))
    class Topics(Flow[State]):  # type: ignore[misc, unused-ignore]
        @start()
        async def more(self) -> list[str]:
            self.state.topics.append(await made.acall("Name a topic"))
            return self.state.topics

    first = Topics()
    assert first.kickoff() == ["bees"]
    assert Topics().kickoff(inputs={"id": first.state.id}) == ["bees", "bees"]


def test_a_task_is_replayed(server: FaultServer, llm: Make) -> None:
    server.script("a", "an essay", "another essay")
    made = crew(writer(llm()))
    made.kickoff()
    assert made.replay(task_id=str(made.tasks[0].id)).raw == "another essay"
