"""The vendor's SDK on one event loop, without its retries and its models of answers."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from flowcraft.plugin import Timeouts
from flowcraft_anthropic.config import AnthropicConfig
from flowcraft_anthropic.errors import translate

if TYPE_CHECKING:
    from anthropic import AsyncStream

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept: servers commonly close theirs after 5."""

FAR = 24 * 3600.0
"""Seconds to read: how long an answer may take is the caller's business."""

MESSAGES = "/v1/messages"

REUSED: ContextVar[bool] = ContextVar("flowcraft_anthropic_reused", default=False)
"""Whether the current task's request went out on a pooled connection."""

T = TypeVar("T")


def load() -> None:
    """Import what clients are made of; it takes a second the first time."""
    import_module("anthropic")
    import_module("aiohttp")


class Client:
    """Sends bodies and returns what came back as plain data. Raises our errors only."""

    def __init__(self, config: AnthropicConfig, timeouts: Timeouts) -> None:
        import aiohttp
        import anthropic

        # Whose AsyncClient the SDK's client is tells which httpx it speaks.
        base = next(base for base in anthropic.DefaultAioHttpClient.__mro__ if base.__name__ == "AsyncClient")
        http = import_module(base.__module__.partition(".")[0])
        timeout = anthropic.Timeout(FAR, connect=timeouts.connect, write=timeouts.write)
        transport = anthropic.DefaultAioHttpClient(
            timeout=timeout, limits=http.Limits(max_connections=1000, keepalive_expiry=KEEP_ALIVE)
        )
        base_url, headers = _headers(config)
        self._sdk = anthropic.AsyncAnthropic(
            api_key="none",
            base_url=base_url,
            max_retries=0,
            timeout=timeout,
            http_client=transport,
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
        self._failures = (anthropic.AnthropicError, http.HTTPError, http.StreamError, aiohttp.ClientError, OSError, ValueError)
        self._lost = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
        self._stream_cls = anthropic.AsyncStream[object]
        self._watch(transport, aiohttp.TraceConfig())

    async def post(self, body: dict[str, Any]) -> Any:
        """Return the answer to ``body``."""
        return await self._send(lambda: self._sdk.post(MESSAGES, body=body, cast_to=object, options=self._options))

    async def open(self, body: dict[str, Any]) -> AsyncStream[Any]:
        """Return the answer to ``body`` as a stream of events, to be read with ``next_event`` and closed."""
        stream_cls: Any = self._stream_cls
        return await self._send(
            lambda: self._sdk.post(
                MESSAGES, body=body, cast_to=object, options=self._options, stream=True, stream_cls=stream_cls
            )
        )

    async def get(self, path: str) -> Any:
        """Return what is at ``path``."""
        return await self._send(lambda: self._sdk.get(path, cast_to=object, options=self._options))

    async def next_event(self, stream: AsyncStream[Any]) -> Any:
        """Return the next event, None at the end."""
        try:
            return await anext(stream, None)
        except self._failures as error:
            raise translate(error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._sdk.close()

    async def _send(self, call: Callable[[], Awaitable[T]]) -> T:
        REUSED.set(False)
        try:
            return await call()
        except self._failures as error:
            if not self._died_idle(error):
                raise translate(error) from error
        try:
            return await call()
        except self._failures as error:
            raise translate(error) from error

    def _died_idle(self, error: BaseException) -> bool:
        # A pooled connection that the server closed while it was idle, found out by the next request on it: nothing of an
        # answer has come, and on a new connection it was never sent.
        if not REUSED.get():
            return False
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, self._lost):
                return True
            cause = cause.__cause__
        return False

    def _watch(self, transport: Any, trace: Any) -> None:
        # Which connection a request got is known to aiohttp alone. The transport makes its session on first use; made here,
        # it can be asked to tell. An SDK that is built otherwise loses only the replacement.
        inner = getattr(transport, "_transport", None)
        make = getattr(inner, "get_client", None)
        if inner is None or make is None:
            return

        async def reused(*_: Any) -> None:
            REUSED.set(True)

        trace.on_connection_reuseconn.append(reused)
        trace.freeze()
        inner.client = make()
        inner.client.trace_configs.append(trace)


def _headers(config: AnthropicConfig) -> tuple[str, dict[str, str]]:
    """Return the address without the user and password in it, for addresses are logged, and what every request is sent with."""
    url = urlsplit(config.base_url)
    headers = {"anthropic-version": config.api_version}
    base_url = config.base_url
    if url.username is not None or url.password is not None:
        told = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(told.encode()).decode()}"
        base_url = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))
    if config.api_key:
        key = config.api_key.get_secret_value()
        if config.key_header == "authorization":
            headers["Authorization"] = f"Bearer {key}"
        else:
            headers["X-Api-Key"] = key
    return base_url, {**headers, **config.headers}
