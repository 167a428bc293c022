"""CrewAI's memory with vectors of ours: what was remembered is found again, by our models alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft.crewai import create_embedder_for_crewai
from flowcraft.errors import SettingsError
from flowcraft.plugin import Usage
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft.testing.connection import ReceivedRequest

crewai = pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

from crewai.memory.unified_memory import Memory  # noqa: E402

pytestmark = [
    pytest.mark.crewai,
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # CrewAI reads what it and pydantic have deprecated
]

Make = Callable[..., Any]


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Path]:
    def make(**page: Any) -> Path:
        file = tmp_path / "vectors.yaml"
        file.write_text(yaml.safe_dump({"storage": f"sqlite:///{tmp_path}/calls.db", **page}), "utf-8")
        return file

    return make


def local(server: FaultServer) -> dict[str, Any]:
    return {
        "providers": {"local": {"type": "openai", "base_url": server.url, "api_key": "key", "models": {"vec": {}, "a": {}}}},
        "llm": {"embeddings": {"model": "vec"}, "retry_attempts": 0, "model_roles": {"primary": ["local:a"]}},
    }


UNWELL = Fault.of_status(503, "Too many requests: rate limit reached")


def about_bees(llm: Any, spec: Any) -> Any:
    agent = crewai.Agent(role="Writer", goal="Write well", backstory="Has written for years", llm=llm)
    task = crewai.Task(description="Describe bees", expected_output="a sentence", agent=agent)
    return crewai.Crew(agents=[agent], tasks=[task], memory=True, embedder=spec)


def extracts(request: ReceivedRequest) -> bool:
    return "Extract memory statements" in json.dumps(request.body)


def embedded(server: FaultServer) -> list[str]:
    return [text for request in server.requests if request.model == "vec" for text in request.body["input"]]


@pytest.mark.parametrize("offline", [True, False])
def test_what_is_remembered_is_recalled(server: FaultServer, settings: Any, tmp_path: Path, llm: Make, offline: bool) -> None:
    page = {} if offline else local(server)
    spec = create_embedder_for_crewai(settings(**page), model="offline" if offline else None)
    memory = Memory(embedder=spec, llm=llm(), storage=str(tmp_path / "memory"))
    given = {"scope": "/", "categories": ["x"], "importance": 0.5}
    for text in ("bees make honey", "ships need wharves", "the moon pulls tides"):
        memory.remember(text, **given)
    found = memory.recall("honey of bees", depth="shallow", limit=1)
    assert [match.record.content for match in found] == ["bees make honey"]
    texts = ["bees make honey", "ships need wharves", "the moon pulls tides", "honey of bees"]
    assert sorted(embedded(server)) == ([] if offline else sorted(texts))
    assert server.count("a") == 0
    memory.close()


def test_crew_with_memory_asks_our_models_alone(server: FaultServer, settings: Any, llm: Make) -> None:
    def answer(request: Any) -> str:
        if extracts(request):
            return json.dumps({"memories": ["Bees make honey in summer."]})
        return "Bees make honey."

    server.script("a", answer)
    spec = create_embedder_for_crewai(settings(**local(server)))
    crew = about_bees(llm(), spec)
    assert crew.kickoff().raw == "Bees make honey."
    crew._memory.drain_writes()
    assert any("bees" in text.lower() for text in embedded(server))
    assert {request.model for request in server.requests if request.method == "POST"} == {"a", "vec"}
    crew._memory.close()


def remembered(request: ReceivedRequest) -> Reply:
    """What memory is answered: 1,100 tokens where it extracts, 11 elsewhere."""
    if extracts(request):
        return Reply(json.dumps({"memories": ["Bees make honey."]}), usage=Usage(input=1000, output=100))
    return Reply('{"suggested_scope": "/", "importance": 0.5}', usage=Usage(input=10, output=1))


def test_usage_of_a_crew_with_memory_is_what_the_server_counted(server: FaultServer, settings: Any, llm: Make) -> None:
    server.script("a", remembered)
    made = llm()
    crew = about_bees(made, create_embedder_for_crewai(settings(**local(server)), model="offline"))
    crew.kickoff()
    asked = [1100 if extracts(request) else 11 for request in server.requests]
    assert crew.usage_metrics.total_tokens == sum(asked) > 1100
    assert crew.usage_metrics.successful_requests == len(made.attempts) == len(asked)


def test_memory_of_a_crew_that_is_kicked_off_for_each_counts_with_the_agent_that_was_copied(
    server: FaultServer, settings: Any, llm: Make
) -> None:
    server.script("a", remembered)
    made = llm()
    crew = about_bees(made, create_embedder_for_crewai(settings(**local(server)), model="offline"))
    crew.kickoff_for_each(inputs=[{"x": "1"}, {"x": "2"}])
    crew._memory.drain_writes()
    asked = [1100 if extracts(request) else 11 for request in server.requests]
    assert sum(request > 11 for request in asked) == 2
    assert crew.usage_metrics.total_tokens + made.get_token_usage_summary().total_tokens == sum(asked)
    assert made.get_token_usage_summary().successful_requests == len(made.attempts) == len(asked) - 2


def test_memory_whose_questions_are_not_answered_costs_no_result(server: FaultServer, settings: Any, llm: Make) -> None:
    server.script("a", lambda request: "Bees make honey." if "Current Task" in json.dumps(request.body) else UNWELL)
    crew = about_bees(llm(), create_embedder_for_crewai(settings(**local(server)), model="offline"))
    assert crew.kickoff().raw == "Bees make honey."
    asked = [json.dumps(request.body) for request in server.requests]
    assert len(asked) == len(set(asked)) > 1, "no question is asked again"


def test_memory_without_vectors_costs_no_result(server: FaultServer, settings: Any, llm: Make) -> None:
    server.script("a", lambda request: json.dumps({"memories": []}) if extracts(request) else "Bees make honey.")
    server.script("vec", UNWELL)
    assert about_bees(llm(), create_embedder_for_crewai(settings(**local(server)))).kickoff().raw == "Bees make honey."
    assert server.count("vec") == 1


def test_failure_is_told_once_in_words_that_do_not_make_crewai_ask_again(server: FaultServer, settings: Any) -> None:
    server.script("vec", Fault.rate_limit(1000))
    function = create_embedder_for_crewai(settings(**local(server)))["config"]["embedding_callable"]()
    with pytest.raises(Exception, match="vec") as caught:
        function(["bees"])
    assert "rate limit" not in str(caught.value).lower()
    assert caught.value.__context__ is None
    assert server.count("vec") == 1


def test_model_for_vectors_must_be_named(server: FaultServer, settings: Any) -> None:
    page = local(server)
    del page["llm"]["embeddings"]
    with pytest.raises(SettingsError, match="embeddings"):
        create_embedder_for_crewai(settings(**page))
