"""The vendor's SDK on one event loop, without its retries and its models of answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowcraft.plugin import Timeouts
from flowcraft.plugin.http import Pool, without_credentials
from flowcraft_anthropic.config import AnthropicConfig
from flowcraft_anthropic.errors import translate

if TYPE_CHECKING:
    from anthropic import AsyncStream

MESSAGES = "/v1/messages"


def load() -> None:
    """Import what clients are made of; it takes a second the first time."""
    import_module("anthropic")
    import_module("aiohttp")


class Client:
    """Sends bodies and returns what came back as plain data. Raises our errors only."""

    def __init__(self, config: AnthropicConfig, timeouts: Timeouts) -> None:
        import anthropic

        self._pool = Pool(anthropic, anthropic.AnthropicError, timeouts, translate)
        base_url, headers = _headers(config)
        self._sdk = anthropic.AsyncAnthropic(
            api_key="none",
            base_url=base_url,
            max_retries=0,
            timeout=self._pool.timeout,
            http_client=self._pool.client,
            open_telemetry=False,
        )
        # Given here, and not as arguments, key and headers come from settings alone: not from ANTHROPIC_* variables or
        # profiles that are meant for another server.
        self._sdk.api_key = None
        self._sdk.auth_token = None
        self._sdk._custom_headers = headers
        known = {name.lower() for name in headers}
        unsent = {name: anthropic.Omit() for name in ("X-Api-Key", "Authorization") if name.lower() not in known}
        self._options: Any = {"headers": unsent} if len(unsent) > 1 else {}
        self._stream_cls = anthropic.AsyncStream[object]

    async def post(self, body: dict[str, Any]) -> Any:
        """Return the answer to ``body``."""
        return await self._pool.send(lambda: self._sdk.post(MESSAGES, body=body, cast_to=object, options=self._options))

    async def open(self, body: dict[str, Any]) -> AsyncStream[Any]:
        """Return the answer to ``body`` as a stream of events, to be read with ``next_event`` and closed."""
        stream_cls: Any = self._stream_cls
        return await self._pool.send(
            lambda: self._sdk.post(
                MESSAGES, body=body, cast_to=object, options=self._options, stream=True, stream_cls=stream_cls
            )
        )

    async def get(self, path: str) -> Any:
        """Return what is at ``path``."""
        return await self._pool.send(lambda: self._sdk.get(path, cast_to=object, options=self._options))

    async def next_event(self, stream: AsyncStream[Any]) -> Any:
        """Return the next event, None at the end."""
        return await self._pool.following(stream)

    async def close(self) -> None:
        """Close all connections."""
        await self._sdk.close()


def _headers(config: AnthropicConfig) -> tuple[str, dict[str, str]]:
    """Return the address without the user and password in it, and what every request is sent with."""
    base_url, credentials = without_credentials(config.base_url)
    headers = {"anthropic-version": config.api_version, **credentials}
    if config.api_key:
        key = config.api_key.get_secret_value()
        if config.key_header == "authorization":
            headers["Authorization"] = f"Bearer {key}"
        else:
            headers["X-Api-Key"] = key
    return base_url, {**headers, **config.headers}
