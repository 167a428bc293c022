"""What providers over HTTP have in common, whichever vendor's SDK they speak through; no SDK is imported here.

For plugins that depend on aiohttp: it is imported when it is needed. Used by `flowcraft-openai` and `flowcraft-anthropic`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from flowcraft.errors import InvalidRequest, ProviderError, ProviderTimeout, ProviderUnavailable
from flowcraft.plugin.provider import Timeouts

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept: servers commonly close theirs after 5."""

CONNECTIONS = 1000
"""Most connections of one provider on one loop."""

FAR = 24 * 3600.0
"""Seconds to read: how long an answer may take is the chain's business."""

REUSED: ContextVar[bool] = ContextVar("flowcraft_http_reused", default=False)
"""Whether the current task's request went out on a pooled connection."""

T = TypeVar("T")


class Pool:
    """The connections of one SDK on one loop, and what goes through them; raises our errors only.

    ``sdk`` is the module of an SDK that has ``DefaultAioHttpClient`` and ``Timeout``, ``failure`` the class of its errors.
    ``translate`` makes one of ours of whatever it or its transport raised. Give ``client`` and ``timeout`` to the SDK's client.
    """

    def __init__(
        self,
        sdk: Any,
        failure: type[Exception],
        timeouts: Timeouts,
        translate: Callable[[BaseException], ProviderError],
    ) -> None:
        import aiohttp  # heavy, and no dependency of the core

        # One SDK speaks httpx, another httpx2: whose AsyncClient its client is tells which.
        base = next(base for base in sdk.DefaultAioHttpClient.__mro__ if base.__name__ == "AsyncClient")
        http = import_module(base.__module__.partition(".")[0])
        self.timeout = sdk.Timeout(FAR, connect=timeouts.connect, write=timeouts.write)
        limits = http.Limits(max_connections=CONNECTIONS, keepalive_expiry=KEEP_ALIVE)
        self.client = sdk.DefaultAioHttpClient(timeout=self.timeout, limits=limits)
        self._failures = (failure, http.HTTPError, http.StreamError, aiohttp.ClientError, OSError, ValueError)
        self._lost = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)
        self._translate = translate
        self._watch(aiohttp.TraceConfig())

    async def send(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what ``call`` returns. It is called once more where its pooled connection turned out to be closed."""
        REUSED.set(False)
        try:
            return await call()
        except self._failures as error:
            if not self._died_idle(error):
                raise self._translate(error) from error
        try:
            return await call()
        except self._failures as error:
            raise self._translate(error) from error

    async def following(self, stream: AsyncIterator[T]) -> T | None:
        """Return what comes next of a stream, None at its end."""
        try:
            return await anext(stream, None)
        except self._failures as error:
            raise self._translate(error) from error

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

    def _watch(self, trace: Any) -> None:
        # Which connection a request got is known to aiohttp alone. The transport makes its session on first use; made here,
        # it can be asked to tell. An SDK that is built otherwise loses only the replacement.
        inner = getattr(self.client, "_transport", None)
        make = getattr(inner, "get_client", None)
        if inner is None or make is None:
            return

        async def reused(*_: Any) -> None:
            REUSED.set(True)

        trace.on_connection_reuseconn.append(reused)
        trace.freeze()
        inner.client = make()
        inner.client.trace_configs.append(trace)


def without_credentials(base_url: str) -> tuple[str, dict[str, str]]:
    """Return the address without the user and password in it, for addresses are logged, and the header that tells them."""
    url = urlsplit(base_url)
    if url.username is None and url.password is None:
        return base_url, {}
    told = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    bare = url._replace(netloc=url.netloc.rpartition("@")[2])
    return urlunsplit(bare), {"Authorization": f"Basic {base64.b64encode(told.encode()).decode()}"}


def no_answer(error: BaseException) -> ProviderError:
    """Return our error for one that is no answer of the server's: a lost connection, or something that nobody can read."""
    causes = _causes(error)
    broken = next((cause for cause in causes if isinstance(cause, ValueError)), None)
    if isinstance(broken, UnicodeEncodeError):
        return InvalidRequest("the request holds text that is no valid Unicode (a lone surrogate)")
    if broken is not None:
        return ProviderUnavailable(_unreadable(broken))
    return _lost(causes)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, told in milliseconds, seconds or as a date."""
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    told = headers.get("retry-after")
    seconds = _number(told)
    if seconds is not None or not told:
        return seconds
    until = _date(told)
    if until is None:
        return None
    # The server's own clock, where it tells it: ours may be off by minutes.
    now = _date(headers.get("date", "")) or time.time()
    return max(0.0, until - now)


def told_error(body: Any) -> Mapping[str, Any]:
    """Return what the body of an answer says of an error, however it is wrapped; empty where it says nothing."""
    if not isinstance(body, Mapping):
        return {}
    error = body.get("error", body)
    if isinstance(error, Mapping):
        return error
    return {"message": str(error)}


def short(text: str, limit: int = 500) -> str:
    """Return ``text`` as one line of at most ``limit`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def _unreadable(broken: ValueError) -> str:
    if not isinstance(broken, json.JSONDecodeError):
        return f"the server sent something that is no valid answer: {short(str(broken))}"
    return f"the server answered with {f'no JSON: {short(broken.doc, 80)}' if broken.doc.strip() else 'an empty body'}"


def _lost(causes: Sequence[BaseException]) -> ProviderError:
    import aiohttp  # loaded with the pool by now

    # The SDK's transport calls every lost connection a time-out; the error beneath tells the two apart.
    beneath = next((cause for cause in causes if isinstance(cause, aiohttp.ClientError)), causes[-1])
    if isinstance(beneath, TimeoutError):
        return ProviderTimeout("the server did not take the connection in time", billed=False)
    if isinstance(beneath, aiohttp.ClientPayloadError):
        return ProviderUnavailable("the connection was cut in the middle of the answer", billed=True)
    if isinstance(beneath, aiohttp.ServerDisconnectedError):
        return ProviderUnavailable("the server closed the connection before it answered")
    return ProviderUnavailable(f"no connection: {short(str(beneath)) or type(beneath).__name__}")


def _causes(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
