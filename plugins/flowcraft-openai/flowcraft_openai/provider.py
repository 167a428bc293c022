"""The provider: one chat endpoint, whole answers and streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING

from flowcraft.plugin import (
    Capabilities,
    ChatRequest,
    ChatResponse,
    ModelInfo,
    ModelNotFound,
    Provider,
    StreamEvent,
    Vectors,
    with_files,
)
from flowcraft_openai.answer import ChunkReader, Reader, check, vectors_of
from flowcraft_openai.body import chat_body
from flowcraft_openai.config import OpenAIConfig
from flowcraft_openai.models import listed_model

EMBEDDINGS = "/embeddings"

if TYPE_CHECKING:
    from flowcraft_openai.client import Client


class OpenAIProvider(Provider):
    """OpenAI, and every server that speaks its chat completions."""

    name = "openai"
    Config = OpenAIConfig
    capabilities = Capabilities(stream=True, system=True, list_models=True, cache_hints=False)
    config: OpenAIConfig
    _loaded = False

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        """Answer ``request`` by ``model``."""
        client = await self._client()
        body = chat_body(model, await with_files(request), self.config, self.section)
        return Reader(model, self.section).response(await client.post(body))

    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer as events. Closing the generator closes the connection."""
        client = await self._client()
        body = chat_body(model, await with_files(request), self.config, self.section) | {"stream": True}
        if self.config.stream_usage:
            body.setdefault("stream_options", {"include_usage": True})
        reader = ChunkReader(model, self.section)
        chunks = await client.open(body)
        try:
            while (chunk := await client.next_chunk(chunks)) is not None:
                for event in reader.events(chunk):
                    yield event
        finally:
            await chunks.close()
        for event in reader.done():
            yield event

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text."""
        client = await self._client()
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        return vectors_of(await client.post(body, EMBEDDINGS))

    async def prepare(self) -> None:
        """Load the SDK, on a thread: it takes a second."""
        await asyncio.to_thread(_load)
        self._loaded = True

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the models that the server lists, with what it says of them."""
        client = await self._client()
        answer = await client.get("/models")
        check(answer)
        found = answer.get("data") or answer.get("models") or ()
        return tuple(listed_model(item, self.section) for item in found if isinstance(item, Mapping) and item.get("id"))

    async def health(self) -> None:
        """Raise what keeps the server from answering; a server without a list of models is taken for well."""
        try:
            await self.list_models()
        except ModelNotFound:
            return

    async def _client(self) -> Client:
        if not self._loaded:
            await self.prepare()
        client: Client = await self.client(self._make_client)
        return client

    def _make_client(self) -> Client:
        from flowcraft_openai.client import Client

        return Client(self.config, self.timeouts)


def _load() -> None:
    from flowcraft_openai.client import load

    load()
