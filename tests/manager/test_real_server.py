"""The chain over a real connection to a server that fails in every way of the table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.errors import ChainExhausted, InvalidOutput
from flowcraft.manager import LLMManager
from flowcraft.plugin import OutputSpec, TextDelta
from flowcraft.settings import load_settings
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = pytest.mark.integration

FAULTS: dict[str, tuple[Any, str]] = {
    "limit": (Fault.rate_limit(600), "RateLimited"),
    "quota": (Fault.quota(), "QuotaExhausted"),
    "key": (Fault.unauthorized(), "AuthenticationFailed"),
    "model": (Fault.model_not_found(), "ModelNotFound"),
    "request": (Fault.bad_request(), "InvalidRequest"),
    "down": (Fault.of_status(503), "ProviderUnavailable"),
    "cut": (Fault(cut_at="headers"), "ProviderUnavailable"),
    "unreachable": (Fault(cut_at="connect"), "ProviderUnavailable"),
    "empty": (Reply(""), "InvalidOutput"),
    "long": (Fault.context_too_long(), "ContextTooLong"),
    "filter": (Fault.content_filter(), "ContentFiltered"),
    "garbage": (Fault.garbage(), "ProviderUnavailable"),
    "html": (Fault.not_json(), "ProviderUnavailable"),
    "nothing": (Fault.empty_body(), "ProviderUnavailable"),
    "inside": (Fault.error_in_answer(), "ProviderUnavailable"),
}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key="sk-test-0123456789") as server:
        yield server


def managed(server: FaultServer, folder: Path, models: list[str], **llm: Any) -> LLMManager:
    page = {
        "storage": f"sqlite:///{folder}/calls.db",
        "llm": {"model_roles": {"primary": models}, "retry_attempts": 0, "structured": {"repair": False}, **llm},
        "providers": {"local": {"type": "openai", "base_url": server.url, "api_key": "${LOCAL_KEY}"}},
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps(page))
    return LLMManager(load_settings(file, environ={"LOCAL_KEY": "sk-test-0123456789"}, cwd=folder))


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_chain_answers_while_one_model_is_healthy_and_tells_the_story(
    server: FaultServer, tmp_path: Path, streamed: bool
) -> None:
    for model, (fault, _) in FAULTS.items():
        server.script(model, fault)
    server.script("good", "Здравствуй, мир 🙂")
    async with managed(server, tmp_path, [*FAULTS, "good"]) as manager:
        if streamed:
            async with manager.llm().stream("hi") as stream:
                text = "".join([event.text async for event in stream if isinstance(event, TextDelta)])
            response = stream.response
            assert response is not None
            assert text == response.text
        else:
            response = await manager.llm().chat("hi")
    assert response.text == "Здравствуй, мир 🙂"
    story = [(attempt.model, attempt.outcome) for attempt in response.attempts]
    assert story == [*((model, outcome) for model, (_, outcome) in FAULTS.items()), ("good", "ok")]


async def test_a_model_that_hangs_does_not_keep_the_healthy_one_from_answering(server: FaultServer, tmp_path: Path) -> None:
    server.script("stuck", Fault(hang_at="headers"))
    server.script("good", "here")
    async with managed(server, tmp_path, ["stuck", "good"], timeout=0.5, deadline=60) as manager:
        await manager.llm("local:good").chat("warm up")  # the first call of all loads the SDK, which takes its time
        response = await manager.llm().chat("hi")
        await asyncio.to_thread(server.wait_until, lambda: server.abandoned("stuck") == 1)
    assert [attempt.outcome for attempt in response.attempts] == ["ProviderTimeout", "ok"]


async def test_an_exhausted_chain_says_so_in_one_message(server: FaultServer, tmp_path: Path) -> None:
    server.script("a", Fault.of_status(500))
    server.script("b", Fault.unauthorized())
    async with managed(server, tmp_path, ["a", "b"]) as manager:
        with pytest.raises(ChainExhausted) as caught:
            await manager.llm().chat("hi")
    lines = str(caught.value).splitlines()
    assert lines[0] == "no model answered; tried in this order:"
    assert [line.split(":")[2].split()[0] for line in lines[1:]] == ["ProviderUnavailable", "AuthenticationFailed"]


async def test_a_stream_that_is_closed_early_closes_its_connection(server: FaultServer, tmp_path: Path) -> None:
    server.script("a", Fault(hang_at="chunk"))
    async with managed(server, tmp_path, ["a"]) as manager:
        async with manager.llm().stream("hi") as stream:
            assert isinstance(await anext(stream), TextDelta)
        await asyncio.to_thread(server.wait_until, lambda: server.abandoned("a") == 1)


def test_clients_belong_to_their_loop(server: FaultServer, tmp_path: Path) -> None:
    server.script("a", "hello")
    manager = managed(server, tmp_path, ["a"])
    assert [asyncio.run(manager.generate_response("hi")).content for _ in range(3)] == ["hello"] * 3
    asyncio.run(manager.aclose())
    assert server.open_connections == 0


async def test_a_typed_answer_over_the_wire(server: FaultServer, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    server.script("a", "```json\n{'n': 7}\n```")
    server.script("b", "seven")
    async with managed(server, tmp_path, ["a"]) as manager:
        assert (await manager.llm().chat("how many?", output=OutputSpec(schema=schema))).parsed == {"n": 7}
        with pytest.raises(ChainExhausted) as caught:
            await manager.llm("local:b").chat("how many?", output=OutputSpec(schema=schema))
    assert isinstance(caught.value.__cause__, InvalidOutput)


def test_the_seeds_settings_load_unchanged_and_answer(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
llm:
  default_provider: openrouter
  default_model: meta-llama/llama-3.2-1b-instruct
  timeout: 200
  retry_attempts: 1
  strategy: "best_of_two"
  model_roles:
    primary: ["meta-llama/llama-3.2-1b-instruct", "microsoft/phi-3-mini-128k-instruct"]
    fallback: ["kwaipilot/kat-coder-pro:free", "undi95/remm-slerp-l2-13b"]
providers:
  openrouter:
    base_url: BASE
    api_key: ${OPENROUTER_API_KEY}
    models:
"""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "llm_settings.yaml").write_text(text.replace("BASE", server.url))
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-test-0123456789")
    monkeypatch.chdir(tmp_path)
    server.script("meta-llama/llama-3.2-1b-instruct", Fault.of_status(400))
    server.script("microsoft/phi-3-mini-128k-instruct", "Привет!")
    manager = LLMManager("config/llm_settings.yaml")
    response = asyncio.run(manager.generate_response(prompt="Привет, как дела?", use_fastest=True, use_parallel=True))
    asyncio.run(manager.aclose())
    assert (response.success, response.content) == (True, "Привет!")
    assert response.model_name == "microsoft/phi-3-mini-128k-instruct"
    assert "best_of_two" in response.notes[0]


def of_environment(folder: Path, **environ: str) -> LLMManager:
    return LLMManager(load_settings(environ={"FLOWCRAFT_STORAGE": f"sqlite:///{folder}/calls.db", **environ}, cwd=folder))


async def test_an_endpoint_alone_answers_by_the_first_model_that_it_lists(server: FaultServer, tmp_path: Path) -> None:
    server.script("a-model", "from a")
    server.script("b-model", "from b")
    async with of_environment(tmp_path, LLM_ENDPOINT=server.root, LLM_API_KEY=server.api_key or "") as manager:
        response = await manager.llm().chat("hi")
    assert (response.provider, response.model, response.text) == ("default", "a-model", "from a")


async def test_an_endpoint_answers_by_the_model_that_the_environment_names(server: FaultServer, tmp_path: Path) -> None:
    server.script("a-model", "from a")
    server.script("b-model", "from b")
    environ = {"LLM_ENDPOINT": server.root, "LLM_API_KEY": server.api_key or "", "LLM_MODEL": "b-model"}
    async with of_environment(tmp_path, **environ) as manager:
        response = await manager.llm().chat("hi")
    assert (response.model, response.text) == ("b-model", "from b")


def test_a_presets_default_model_counts_at_its_own_address_alone(tmp_path: Path) -> None:
    def default(base_url: str) -> str:
        environ = {
            "OPENAI_API_KEY": "sk-test-0123456789",
            **({"FLOWCRAFT_PROVIDERS__OPENAI__BASE_URL": base_url} if base_url else {}),
        }
        return of_environment(tmp_path, **environ).llm().links[0].info.model

    own = default("")
    assert own.startswith("gpt-")
    assert default("https://api.openai.com") == own
    assert default("http://127.0.0.1:8080/v1") == "*"
