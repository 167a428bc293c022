"""The provider: the Messages API, whole answers and streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flowcraft.plugin import (
    Capabilities,
    ChatRequest,
    ChatResponse,
    ModelInfo,
    ModelNotFound,
    Provider,
    StreamEvent,
    with_files,
)
from flowcraft_anthropic.answer import EventReader, Reader, check
from flowcraft_anthropic.body import ask
from flowcraft_anthropic.config import AnthropicConfig
from flowcraft_anthropic.models import listed_model

if TYPE_CHECKING:
    from flowcraft_anthropic.client import Client

PAGE = 1000
PAGES_MAX = 100
"""A server that never comes to its last page is not followed for ever."""


class AnthropicProvider(Provider):
    """Anthropic, and every server that speaks its Messages API."""

    name = "anthropic"
    Config = AnthropicConfig
    capabilities = Capabilities(
        stream=True,
        tools=True,
        tool_choice=True,
        parallel_tools=True,
        system=True,
        stop=True,
        list_models=True,
        cache_hints=True,
        logprobs=False,
        seed=False,
        n=False,
        json_object=False,
        audio_in=False,
        audio_out=False,
        video=False,
    )
    config: AnthropicConfig
    _loaded = False

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        """Answer ``request`` by ``model``."""
        client = await self._client()
        asked = ask(model, await with_files(request), self.config, self.section)
        reader = Reader(model, self.section, blank=asked.blank, left_out=asked.left_out)
        return reader.response(await client.post(asked.body))

    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer as events. Closing the generator closes the connection."""
        client = await self._client()
        asked = ask(model, await with_files(request), self.config, self.section)
        reader = EventReader(model, self.section, blank=asked.blank, left_out=asked.left_out)
        events = await client.open({**asked.body, "stream": True})
        try:
            while (told := await client.next_event(events)) is not None:
                for event in reader.events(told):
                    yield event
        finally:
            await events.close()
        for event in reader.done():
            yield event

    async def prepare(self) -> None:
        """Load the SDK, on a thread: it takes a second."""
        await asyncio.to_thread(_load)
        self._loaded = True

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models that the server lists, page by page, with what it says of them."""
        found: list[ModelInfo] = []
        after = ""
        for _ in range(PAGES_MAX):
            page = await self._page(after)
            items = [item for item in page.get("data") or () if isinstance(item, Mapping) and item.get("id")]
            found += [listed_model(item, self.section) for item in items]
            last = str(page.get("last_id") or (items[-1]["id"] if items else ""))
            if not page.get("has_more") or last in ("", after):
                break
            after = last
        return tuple(found)

    async def health(self) -> None:
        """Raise what keeps the server from answering; a server without a list of models is taken for well."""
        try:
            await self._page()
        except ModelNotFound:
            return

    async def _page(self, after: str = "") -> Mapping[str, Any]:
        client = await self._client()
        query = urlencode({"limit": PAGE, **({"after_id": after} if after else {})})
        page: Any = await client.get(f"/v1/models?{query}")
        check(page)
        told: Mapping[str, Any] = page
        return told

    async def _client(self) -> Client:
        if not self._loaded:
            await self.prepare()
        client: Client = await self.client(self._make_client)
        return client

    def _make_client(self) -> Client:
        from flowcraft_anthropic.client import Client

        return Client(self.config, self.timeouts)


def _load() -> None:
    from flowcraft_anthropic.client import load

    load()
