"""The chain over a real connection to a server that fails in every way of the table."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from flowcraft.errors import ChainExhausted, InvalidOutput
from flowcraft.events import Bus, Event
from flowcraft.llm.ports import CallRecord
from flowcraft.manager import LLMManager
from flowcraft.plugin import OutputSpec, TextDelta
from flowcraft.settings import load_settings
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft_openai.client import load

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


def managed(
    server: FaultServer, folder: Path, models: list[str], sinks: Any = (), bus: Bus | None = None, **llm: Any
) -> LLMManager:
    load()  # the SDK takes a second, which is more than some tests give a model
    page = {
        "storage": f"sqlite:///{folder}/calls.db",
        "llm": {"model_roles": {"primary": models}, "retry_attempts": 0, "structured": {"repair": False}, **llm},
        "providers": {"local": {"type": "openai", "base_url": server.url, "api_key": "${LOCAL_KEY}"}},
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps(page))
    settings = load_settings(file, environ={"LOCAL_KEY": "sk-test-0123456789"}, cwd=folder)
    return LLMManager(settings, sinks=sinks, bus=bus)


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


ROLES = {"fallback": ["f"], "reserve": ["r"], "duplicate": ["d1", "d2"], "primary": ["p1", "p2"]}


async def test_every_model_of_a_role_comes_before_the_next_role(server: FaultServer, tmp_path: Path) -> None:
    for model in ("p1", "p2", "d1", "d2", "r"):
        server.script(model, Fault.failure(500))
    server.script("f", "at last")
    async with managed(server, tmp_path, [], model_roles=ROLES) as manager:
        response = await manager.llm().chat("hi")
    story = [(attempt.role, attempt.model, attempt.outcome) for attempt in response.attempts]
    assert story == [
        ("primary", "p1", "ProviderUnavailable"),
        ("primary", "p2", "ProviderUnavailable"),
        ("duplicate", "d1", "ProviderUnavailable"),
        ("duplicate", "d2", "ProviderUnavailable"),
        ("reserve", "r", "ProviderUnavailable"),
        ("fallback", "f", "ok"),
    ]
    assert [request.model for request in server.requests] == ["p1", "p2", "d1", "d2", "r", "f"]


@pytest.mark.parametrize("place", ["connect", "headers"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_models_that_hang_before_the_first_byte_do_not_keep_the_healthy_one_from_answering(
    server: FaultServer, tmp_path: Path, streamed: bool, place: Any
) -> None:
    for model in ("a", "b"):
        server.script(model, Fault.hang(place))
    server.script("good", "here")
    async with managed(server, tmp_path, ["a", "b", "good"], timeout=2, deadline=60) as manager:
        await manager.llm("local:good").chat("hi")  # loads the SDK, which may take longer than a model is given
        if streamed:
            async with manager.llm().stream("hi") as stream:
                text = "".join([event.text async for event in stream if isinstance(event, TextDelta)])
            assert stream.response is not None
            attempts = stream.response.attempts
        else:
            response = await manager.llm().chat("hi")
            text, attempts = response.text, response.attempts
        await server.until(lambda: server.abandoned() == 2)
    assert text == "here"
    assert [attempt.outcome for attempt in attempts] == ["ProviderTimeout"] * 2 + ["ok"]


async def test_a_chat_that_is_cancelled_closes_its_connection_and_is_told_as_cancelled(
    server: FaultServer, tmp_path: Path
) -> None:
    server.script("a", Fault.hang("headers"))
    records: list[CallRecord] = []
    async with managed(server, tmp_path, ["a", "b"], sinks=(records.append,)) as manager:
        task = asyncio.ensure_future(manager.llm().chat("hi"))
        await server.until(lambda: server.running("a") == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda: server.abandoned("a") == 1 and not server.open_connections)
    assert [(record.attempt.model, record.attempt.outcome) for record in records] == [("a", "cancelled")]
    assert server.count("b") == 0


async def test_nothing_is_left_behind_after_close(server: FaultServer, tmp_path: Path) -> None:
    server.script("bad", Fault.failure(503), Fault.cut("chunk"), Fault.hang("headers"), "fine")
    server.script("slow", Fault.hang("chunk"))
    tasks, threads = asyncio.all_tasks(), {thread.name for thread in threading.enumerate()}
    async with managed(server, tmp_path, ["bad", "good"], timeout=5) as manager:

        async def early() -> None:
            async with manager.llm("local:slow").stream("hi") as stream:
                await anext(stream)

        answers = [asyncio.ensure_future(manager.llm().chat(f"call {number}")) for number in range(30)]
        cancelled = [asyncio.ensure_future(manager.llm("local:slow").chat("hi")) for _ in range(5)]
        await server.until(lambda: server.running("slow") == 5)
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*answers, *(early() for _ in range(5)))
        await asyncio.gather(*cancelled, return_exceptions=True)
    await server.until(lambda: not server.open_connections)
    left = asyncio.all_tasks() - tasks
    if left:
        _, left = await asyncio.wait(left, timeout=60)
    assert not left
    # The loop's own executor keeps its threads.
    assert {thread.name.rpartition("_")[0] for thread in threading.enumerate() if thread.name not in threads} <= {"asyncio"}


def stored(folder: Path) -> list[str]:
    """The bytes of the database's files, as text."""
    return [file.read_bytes().decode("latin-1") for file in folder.glob("calls.db*")]


async def test_no_key_gets_out_whatever_the_server_says_of_it(
    server: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = server.api_key or ""
    bearer = base64.b64encode(f"user:{key}".encode()).decode()
    told = f"bad key {key}, {key.encode().hex()}, {quote(key)}, {bearer}"
    server.script("a", Fault.of_status(401, told, code=key))
    server.script("b", Fault.of_status(503, told))
    server.script("c", Fault(raw=json.dumps({"error": {"message": told, "code": 500}}).encode()))
    server.script("d", Fault(raw=told.encode(), content_type="text/html"))
    events: list[Event] = []
    bus = Bus()
    bus.subscribe(events.append)
    manager = managed(server, tmp_path, ["a", "b", "c", "d"], bus=bus)
    with caplog.at_level(logging.DEBUG), pytest.raises(ChainExhausted) as caught:
        await manager.llm().chat("hi")
    with pytest.raises(ChainExhausted) as streamed:
        await anext(manager.llm("local:b").stream("hi"))
    answer = await manager.generate_response("hi")
    await manager.aclose()
    shown = [str(caught.value), repr(caught.value), repr(caught.value.attempts), str(streamed.value), answer.error]
    shown += [repr(event) for event in events]
    shown += ["".join(traceback.format_exception(error)) for error in (caught.value, streamed.value)]
    shown += [caplog.text, *stored(tmp_path)]
    assert "bad key ***" in str(caught.value)
    assert any("bad key ***" in text for text in stored(tmp_path))
    assert len(events) == 9
    for form in (key, key.encode().hex(), bearer[8:-2]):
        assert not [text for text in shown if form in text]


async def test_a_model_that_hangs_does_not_keep_the_healthy_one_from_answering(server: FaultServer, tmp_path: Path) -> None:
    server.script("stuck", Fault(hang_at="headers"))
    server.script("good", "here")
    async with managed(server, tmp_path, ["stuck", "good"], timeout=2, deadline=60) as manager:
        await manager.llm("local:good").chat("hi")  # loads the SDK, which may take longer than a model is given
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


def test_threads_with_loops_of_their_own_share_a_manager(server: FaultServer, tmp_path: Path) -> None:
    server.script("a", Fault.failure(503), "hello", Fault.cut("chunk"), "hello")
    manager = managed(server, tmp_path, ["a", "b"])

    async def ask(number: int) -> set[str]:
        answers = await asyncio.gather(*(manager.llm().chat(f"call {number}") for _ in range(10)))
        return {answer.text for answer in answers} - {"hello"}

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda number: asyncio.run(ask(number)), range(8)))
    assert all(texts <= {f"call {number}"} for number, texts in enumerate(told))
    assert sum(known.calls for known in manager.statistics()) == server.count()
    asyncio.run(manager.aclose())
    server.wait_until(lambda: not server.open_connections)


async def test_a_typed_answer_over_the_wire(server: FaultServer, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    server.script("a", "```json\n{'n': 7}\n```")
    server.script("b", "seven")
    async with managed(server, tmp_path, ["a"]) as manager:
        assert (await manager.llm().chat("how many?", output=OutputSpec(schema=schema))).parsed == {"n": 7}
        with pytest.raises(ChainExhausted) as caught:
            await manager.llm("local:b").chat("how many?", output=OutputSpec(schema=schema))
    assert isinstance(caught.value.__cause__, InvalidOutput)


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
