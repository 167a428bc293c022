"""The vendor's SDK on one event loop, without its retries and its models of answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowcraft.plugin import Timeouts
from flowcraft.plugin.http import Pool, without_credentials
from flowcraft_openai.config import OpenAIConfig
from flowcraft_openai.errors import translate

if TYPE_CHECKING:
    from openai import AsyncStream

CHAT = "/chat/completions"


def load() -> None:
    """Import what clients are made of; it takes a second the first time."""
    openai = import_module("openai")
    # The SDK loads its parts when they are first named.
    for part in ("AsyncOpenAI", "DefaultAioHttpClient"):
        getattr(openai, part)
    import_module("aiohttp")


class Client:
    """Sends bodies and returns what came back as plain data. Raises our errors only."""

    def __init__(self, config: OpenAIConfig, timeouts: Timeouts) -> None:
        import openai

        self._pool = Pool(openai, openai.OpenAIError, timeouts, translate)
        base_url, headers = without_credentials(config.base_url)
        key = config.api_key.get_secret_value() if config.api_key else ""
        headers = {**headers, **({"Authorization": f"Bearer {key}"} if key else {}), **config.headers}
        # Given here, and not as api_key, the key cannot be replaced by OPENAI_* variables that are meant for another server.
        self._sdk = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=self._pool.timeout,
            default_headers=headers,
            http_client=self._pool.client,
        )
        self._sdk.organization = config.organization
        self._sdk.project = config.project
        authorized = any(name.lower() == "authorization" for name in headers)
        self._options: Any = {} if authorized else {"headers": {"Authorization": openai.Omit()}}
        self._stream_cls = openai.AsyncStream[object]

    async def post(self, body: dict[str, Any], path: str = CHAT) -> Any:
        """Return the answer to ``body``."""
        return await self._pool.send(lambda: self._sdk.post(path, body=body, cast_to=object, options=self._options))

    async def open(self, body: dict[str, Any]) -> AsyncStream[Any]:
        """Return the answer to ``body`` as a stream of chunks, to be read with ``next_chunk`` and closed."""
        stream_cls: Any = self._stream_cls
        return await self._pool.send(
            lambda: self._sdk.post(CHAT, body=body, cast_to=object, options=self._options, stream=True, stream_cls=stream_cls)
        )

    async def get(self, path: str) -> Any:
        """Return what is at ``path``."""
        return await self._pool.send(lambda: self._sdk.get(path, cast_to=object, options=self._options))

    async def next_chunk(self, stream: AsyncStream[Any]) -> Any:
        """Return the next chunk, None at the end."""
        return await self._pool.following(stream)

    async def close(self) -> None:
        """Close all connections."""
        await self._sdk.close()
