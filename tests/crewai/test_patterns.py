"""What CrewAI's documentation shows runs unchanged on our LLMs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flowcraft.plugin import ToolCall
from flowcraft.testing import FaultServer, Reply
from flowcraft.testing.connection import ReceivedRequest

pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

from crewai import Agent, Crew, Process, Task
from crewai.flow.flow import Flow, listen, router, start
from crewai.project import CrewBase, agent, crew, task
from crewai.tools import BaseTool

pytestmark = [
    pytest.mark.crewai,
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # CrewAI reads what it and pydantic have deprecated
]

Make = Callable[..., Any]


class Report(BaseModel):
    title: str
    points: list[str]


class Search(BaseTool):
    name: str = "search"
    description: str = "Search the library"

    def _run(self, words: str) -> str:
        return f"found: {words}"


def spoken(request: ReceivedRequest) -> str:
    return json.dumps(request.body["messages"], ensure_ascii=False)


def two_agents(first: Any, **more: Any) -> tuple[Agent, Agent]:
    researcher = Agent(role="Researcher", goal="Find facts about {topic}", backstory="Curious", llm=first, **more)
    writer = Agent(role="Writer", goal="Write about {topic}", backstory="Clear", llm=copy.copy(first), **more)
    return researcher, writer


def two_tasks(researcher: Agent, writer: Agent) -> list[Task]:
    research = Task(description="Research {topic}", expected_output="facts", agent=researcher)
    return [research, Task(description="Write of {topic}", expected_output="text", agent=writer, context=[research])]


def test_a_sequential_crew(server: FaultServer, llm: Make) -> None:
    server.script("a", "facts about bees", "an essay")
    researcher, writer = two_agents(llm())
    made = Crew(agents=[researcher, writer], tasks=two_tasks(researcher, writer), process=Process.sequential)
    result = made.kickoff(inputs={"topic": "bees"})
    assert result.raw == "an essay"
    assert [output.raw for output in result.tasks_output] == ["facts about bees", "an essay"]
    assert "facts about bees" in spoken(server.requests[1])
    assert result.token_usage.successful_requests == 2


def test_a_hierarchical_crew_whose_manager_delegates(server: FaultServer, llm: Make) -> None:
    def boss(request: ReceivedRequest) -> str | Reply:
        if any(message["role"] == "tool" for message in request.body["messages"]):
            return "all is done: " + request.body["messages"][-1]["content"][:40]
        work = {"task": "Research bees", "context": "none", "coworker": "Researcher"}
        call = ToolCall(id="c1", name="delegate_work_to_coworker", arguments=json.dumps(work))
        return Reply(tool_calls=(call,))

    server.script("boss", boss)
    server.script("a", "facts about bees")
    researcher, writer = two_agents(llm(), allow_delegation=False)
    manager = llm("boss")
    task = Task(description="Write of bees", expected_output="text")
    made = Crew(agents=[researcher, writer], tasks=[task], process=Process.hierarchical, manager_llm=manager)
    result = made.kickoff(inputs={"topic": "bees"})
    assert result.raw.startswith("all is done")
    assert "Research bees" in spoken(next(request for request in server.requests if request.model == "a"))
    assert result.token_usage.successful_requests == server.count() == 3


def test_tools_and_structured_output(server: FaultServer, llm: Make) -> None:
    server.script(
        "a",
        Reply(tool_calls=(ToolCall(id="c1", name="search", arguments='{"words": "bees"}'),)),
        "bees are many",
        '{"title": "Bees", "points": ["many"]}',
    )
    one = Agent(role="Researcher", goal="Find", backstory="Curious", llm=llm(), tools=[Search()])
    task = Task(description="Report", expected_output="a report", agent=one, output_pydantic=Report)
    result = Crew(agents=[one], tasks=[task]).kickoff()
    assert result.pydantic == Report(title="Bees", points=["many"])
    assert result["title"] == "Bees"
    assert "found: bees" in spoken(server.requests[1])


async def test_async_kickoff(server: FaultServer, llm: Make) -> None:
    server.script("a", "facts", "an essay")
    researcher, writer = two_agents(llm())
    made = Crew(agents=[researcher, writer], tasks=two_tasks(researcher, writer))
    assert (await made.kickoff_async(inputs={"topic": "bees"})).raw == "an essay"


def test_tasks_at_once(server: FaultServer, llm: Make) -> None:
    server.script("a", lambda request: "essay" if "Write" in spoken(request) else "fact")
    researcher, writer = two_agents(llm())
    first = Task(description="Research", expected_output="facts", agent=researcher, async_execution=True)
    second = Task(description="Write", expected_output="text", agent=writer, context=[first])
    assert Crew(agents=[researcher, writer], tasks=[first, second]).kickoff(inputs={"topic": "x"}).raw == "essay"


def test_kickoff_for_each_counts_every_use_once(server: FaultServer, llm: Make) -> None:
    server.script("a", lambda request: "of bees" if "of bees" in spoken(request) else "of ants")
    one = Agent(role="Writer", goal="Write", backstory="Clear", llm=llm())
    made = Crew(agents=[one], tasks=[Task(description="Write of {topic}", expected_output="text", agent=one)])
    results = made.kickoff_for_each(inputs=[{"topic": "bees"}, {"topic": "ants"}, {"topic": "bees"}])
    assert [result.raw for result in results] == ["of bees", "of ants", "of bees"]
    assert made.usage_metrics is not None
    assert made.usage_metrics.successful_requests == server.count() == 3


async def test_kickoff_for_each_at_once(server: FaultServer, llm: Make) -> None:
    server.script("a", lambda request: "of bees" if "of bees" in spoken(request) else "of ants")
    one = Agent(role="Writer", goal="Write", backstory="Clear", llm=llm())
    made = Crew(agents=[one], tasks=[Task(description="Write of {topic}", expected_output="text", agent=one)])
    results = await made.kickoff_for_each_async(inputs=[{"topic": "bees"}, {"topic": "ants"}])
    assert [result.raw for result in results] == ["of bees", "of ants"]


def test_an_agent_alone(server: FaultServer, llm: Make) -> None:
    server.script("a", '{"title": "Bees", "points": []}')
    one = Agent(role="Writer", goal="Write", backstory="Clear", llm=llm())
    assert one.kickoff("Report of bees", response_format=Report).pydantic == Report(title="Bees", points=[])


def test_a_flow_that_uses_a_crew(server: FaultServer, llm: Make) -> None:
    server.script("a", "bees", "an essay of bees")
    made = llm()

    class Writing(Flow):  # type: ignore[type-arg, misc, unused-ignore]
        @start()
        def topic(self) -> str:
            return str(made.call("Name a topic"))

        @router(topic)
        def decide(self, topic: str) -> str:
            self.state["topic"] = topic
            return "write"

        @listen("write")
        def essay(self) -> str:
            one = Agent(role="Writer", goal="Write", backstory="Clear", llm=made)
            task = Task(description="Write of {topic}", expected_output="text", agent=one)
            return str(Crew(agents=[one], tasks=[task]).kickoff(inputs={"topic": self.state["topic"]}).raw)

    assert Writing().kickoff() == "an essay of bees"
    assert "Write of bees" in spoken(server.requests[-1])


def test_a_crew_of_a_class_and_its_files(server: FaultServer, llm: Make, tmp_path: Path) -> None:
    server.script("a", "an essay")
    made = llm()
    (tmp_path / "agents.yaml").write_text("writer: {role: Writer, goal: Write, backstory: Clear}\n")
    (tmp_path / "tasks.yaml").write_text("essay: {description: Write, expected_output: text, agent: writer}\n")

    @CrewBase
    class Writers:
        agents: list[Any]
        tasks: list[Any]
        agents_config: Any = str(tmp_path / "agents.yaml")
        tasks_config: Any = str(tmp_path / "tasks.yaml")

        @agent
        def writer(self) -> Agent:
            return Agent(config=self.agents_config["writer"], llm=made)

        @task
        def essay(self) -> Task:
            return Task(config=self.tasks_config["essay"])

        @crew
        def crew(self) -> Crew:
            return Crew(agents=self.agents, tasks=self.tasks)

    assert Writers().crew().kickoff().raw == "an essay"
