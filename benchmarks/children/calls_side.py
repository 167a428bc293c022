"""One side of `benchmarks/calls.py`: `python -m ... SIDE URL CALLS AT_ONCE FOLDER` asks a loopback server and prints JSON.

Every side asks the same question, takes the text out of the answer, and stands in with a second model where it can.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

QUESTION = "What is the answer?"
WARM = 100
Ask = Callable[[], Awaitable[str]]
Side = Callable[[str, str], Any]


@asynccontextmanager
async def aiohttp_side(url: str, folder: str) -> AsyncIterator[Ask]:
    import aiohttp

    body = {"model": "one", "messages": [{"role": "user", "content": QUESTION}]}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000)) as session:

        async def ask() -> str:
            async with session.post(f"{url}/chat/completions", json=body, headers={"Authorization": "Bearer k"}) as answer:
                return str((await answer.json())["choices"][0]["message"]["content"])

        yield ask


@asynccontextmanager
async def sdk_side(url: str, folder: str) -> AsyncIterator[Ask]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:

        async def ask() -> str:
            answer = await client.chat.completions.create(model="one", messages=[{"role": "user", "content": QUESTION}])
            return answer.choices[0].message.content or ""

        yield ask


@asynccontextmanager
async def litellm_side(url: str, folder: str) -> AsyncIterator[Ask]:
    import litellm

    def deployment(name: str) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": "k"}}

    router = litellm.Router(
        model_list=[deployment("one"), deployment("two")], fallbacks=[{"one": ["two"]}], num_retries=0, set_verbose=False
    )

    async def ask() -> str:
        answer = await router.acompletion(model="one", messages=[{"role": "user", "content": QUESTION}])
        return str(answer.choices[0].message.content)

    yield ask


@asynccontextmanager
async def pydantic_ai_side(url: str, folder: str) -> AsyncIterator[Ask]:
    from pydantic_ai.direct import model_request
    from pydantic_ai.messages import ModelRequest
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=url, api_key="k")
    model = FallbackModel(OpenAIChatModel("one", provider=provider), OpenAIChatModel("two", provider=provider))

    async def ask() -> str:
        answer = await model_request(model, [ModelRequest.user_text_prompt(QUESTION)])
        return str(answer.parts[0].content)  # type: ignore[union-attr]

    yield ask


@asynccontextmanager
async def langchain_side(url: str, folder: str) -> AsyncIterator[Ask]:
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    def model(name: str) -> Any:
        return ChatOpenAI(model=name, base_url=url, api_key=SecretStr("k"), max_retries=0)

    chain = model("one").with_fallbacks([model("two")])

    async def ask() -> str:
        return str((await chain.ainvoke(QUESTION)).content)

    yield ask


@asynccontextmanager
async def flowcraft_side(url: str, folder: str) -> AsyncIterator[Ask]:
    async with manager(url, folder) as models:
        chain = models.llm()

        async def ask() -> str:
            return (await chain.chat(QUESTION)).text

        yield ask


@asynccontextmanager
async def provider_side(url: str, folder: str) -> AsyncIterator[Ask]:
    """The plugin's provider alone, without a chain around it."""
    from flowcraft.plugin import ChatRequest, Message
    from flowcraft_openai.config import OpenAIConfig
    from flowcraft_openai.provider import OpenAIProvider

    provider = OpenAIProvider(OpenAIConfig(base_url=url, api_key="k"), section="here")  # type: ignore[arg-type]

    async def ask() -> str:
        return (await provider.chat("one", ChatRequest(messages=(Message.user(QUESTION),)))).text

    yield ask
    await provider.aclose()


def manager(url: str, folder: str) -> Any:
    """A chain of two models, with a breaker each, whose calls are all recorded in a database."""
    from flowcraft import LLMManager
    from flowcraft.settings import load_settings

    file = Path(folder, "settings.yaml")
    file.write_text(
        f"storage: sqlite:///{folder}/calls.db\n"
        "llm:\n  model_roles: {primary: ['here:one'], reserve: ['here:two']}\n"
        f"providers:\n  here: {{type: openai, base_url: '{url}', api_key: k}}\n"
    )
    return LLMManager(load_settings(file, environ={}))


SIDES: dict[str, Side] = {
    "aiohttp": aiohttp_side,
    "flowcraft": flowcraft_side,
    "provider": provider_side,
    "sdk": sdk_side,
    "litellm": litellm_side,
    "pydantic_ai": pydantic_ai_side,
    "langchain": langchain_side,
}


def megabytes() -> float:
    """The resident size now; where the system does not tell, the largest so far."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


async def asked(ask: Ask, calls: int, at_once: int) -> float:
    """Ask `calls` times, `at_once` at a time, and return the seconds."""
    left = iter(range(calls))

    async def work() -> None:
        for _ in left:
            assert await ask()

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return time.perf_counter() - begun


async def calls_of(side: str, url: str, calls: int, at_once: int, folder: str) -> dict[str, float]:
    async with SIDES[side](url, folder) as ask:
        await asked(ask, WARM, at_once)
        seconds = await asked(ask, calls, at_once)
        one_by_one = []
        for _ in range(min(calls, 300)):
            begun = time.perf_counter()
            await ask()
            one_by_one.append(time.perf_counter() - begun)
    return {"per_second": calls / seconds, "one_ms": statistics.median(one_by_one) * 1000, "megabytes": megabytes()}


async def memory_of(url: str, calls: int, folder: str) -> dict[str, float]:
    """Resident size after a tenth of the calls and after all of them."""
    async with flowcraft_side(url, folder) as ask:
        await asked(ask, calls // 10, 32)
        early = megabytes()
        await asked(ask, calls - calls // 10, 32)
        return {"early": early, "late": megabytes()}


async def chunks_of(side: str, url: str, streams: int, folder: str) -> dict[str, float]:
    """Microseconds of one chunk in a long stream, read by the provider alone or by the whole chain around it."""
    from flowcraft.plugin import ChatRequest, Message, TextDelta

    async with manager(url, folder) as models:
        chain = models.llm()
        await chain.chat(QUESTION)
        provider = chain.links[0].llm and models._workshop.registry.source("here").get()
        request = ChatRequest(messages=(Message.user(QUESTION),))
        seconds, chunks = [], 0
        for number in range(streams + 1):
            events = provider.stream("one", request) if side == "provider" else chain.stream(request)
            begun, chunks = time.perf_counter(), 0
            async for event in events:
                chunks += isinstance(event, TextDelta)
            if number:  # the first one warms up
                seconds.append(time.perf_counter() - begun)
    return {"us": statistics.median(seconds) / chunks * 1e6}


async def main() -> None:
    side, url, count, at_once, folder = sys.argv[1:]
    if side == "memory":
        found = await memory_of(url, int(count), folder)
    elif side.startswith("chunks-"):
        found = await chunks_of(side.removeprefix("chunks-"), url, int(count), folder)
    else:
        found = await calls_of(side, url, int(count), int(at_once), folder)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
