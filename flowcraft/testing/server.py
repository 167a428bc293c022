"""A local server of models that fails in every way on demand."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

from flowcraft.testing.connection import Answer, HttpConnection, ReceivedRequest, joined
from flowcraft.testing.dialect import Dialect, OpenAIDialect
from flowcraft.testing.messages import MessagesDialect
from flowcraft.testing.script import Fault, Reply, Step, cut_events

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"


class FaultServer:
    """Serves chat completions on 127.0.0.1, in a thread of its own, as its scripts say.

    ::

        with FaultServer() as server:
            server.script("model-a", Fault.rate_limit(2), Fault.failure(500), "hello")
            ...  # base_url=server.url

    The last step of a script repeats; a model without a script echoes the last message. With ``api_key``, other keys get
    401. ``listed`` replaces the body of the list of models; None takes the list away. Counters and records may be read from
    any thread.

    It speaks OpenAI's chat completions and embeddings, and Anthropic's Messages API, whichever is asked for; ``dialect`` is
    what it speaks where a request does not tell. A script is answered in both.
    """

    def __init__(self, *, api_key: str | None = None, dialect: Dialect | None = None) -> None:
        self.api_key = api_key
        self.listed: bytes | None = b""
        self.dialect: Dialect = dialect or OpenAIDialect()
        self._dialects: tuple[Dialect, ...] = (self.dialect, OpenAIDialect(), MessagesDialect())
        self._scripts: dict[str, deque[Step]] = {}
        self._changed = threading.Condition()
        self._requests: list[ReceivedRequest] = []
        self._abandoned: list[ReceivedRequest] = []
        self._running: list[ReceivedRequest] = []
        self._connections: set[HttpConnection] = set()
        self._accepted = 0
        self._peak = 0
        self._port = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._gate: asyncio.Event | None = None
        self._idle: asyncio.Event | None = None

    # -- life

    def start(self) -> FaultServer:
        """Start serving on a free port."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name="fault-server", daemon=True)
        self._thread.start()
        if not ready.wait(60):
            raise RuntimeError("the test server did not start within 60 s")
        return self

    def stop(self) -> None:
        """Close every connection and end the thread."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> FaultServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def root(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The base URL that an OpenAI client takes: ``http://127.0.0.1:port/v1``."""
        return f"{self.root}/v1"

    # -- scripts

    def script(self, model: str, *steps: Step) -> None:
        """Say what ``model`` answers, request by request; the last step repeats. Replaces its earlier script."""
        for step in steps:
            if not (isinstance(step, str | Reply | Fault) or callable(step)):
                raise TypeError(f"a step is a text, a Reply, a Fault or a function, not {type(step).__name__}")
        with self._changed:
            self._scripts[model] = deque(steps)

    def release(self) -> None:
        """Let all answers that hang now go on."""
        self._on_loop(self._open_gate)

    def close_connections(self) -> None:
        """Close every connection, idle or not, and return when that is done."""
        self._on_loop(self._close_all)
        self.wait_until(lambda: not self.open_connections)

    # -- what happened

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests so far, in order of arrival."""
        with self._changed:
            return list(self._requests)

    def count(self, model: str | None = None) -> int:
        """Return how many chats were asked for, of one model if given."""
        with self._changed:
            return sum(_is(request, model) for request in self._requests)

    def abandoned(self, model: str | None = None) -> int:
        """Return how many answers the client did not wait for to the end."""
        with self._changed:
            return sum(_is(request, model) for request in self._abandoned)

    def running(self, model: str | None = None) -> int:
        """Return how many requests are being answered right now."""
        with self._changed:
            return sum(_is(request, model) for request in self._running)

    @property
    def peak(self) -> int:
        """How many requests were being answered at once, at most."""
        return self._peak

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        with self._changed:
            return len(self._connections)

    @property
    def connections(self) -> int:
        """How many connections were ever made."""
        return self._accepted

    def wait_until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Block until ``condition`` holds, which is asked whenever something happens. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"the test server did not come to what was waited for within {timeout:g} s")

    async def until(self, condition: Callable[[], bool], timeout: float = 60.0) -> None:
        """Wait like ``wait_until`` without blocking the loop."""
        await asyncio.to_thread(self.wait_until, condition, timeout)

    # -- what connections ask (on the server's loop)

    def opened(self, connection: HttpConnection) -> int:
        """Count a connection and return its number."""
        with self._changed:
            self._connections.add(connection)
            self._accepted += 1
            self._changed.notify_all()
            return self._accepted

    def closed(self, connection: HttpConnection) -> None:
        """Forget a connection."""
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()
        if self._idle is not None and not self._connections:
            self._idle.set()

    def begin(self, request: ReceivedRequest) -> Answer:
        """Record a request and return what to answer."""
        with self._changed:
            self._requests.append(request)
            self._running.append(request)
            self._peak = max(self._peak, len(self._running))
            number = len(self._requests)
            self._changed.notify_all()
        try:
            return self._answer(request, number)
        except Exception as error:  # noqa: BLE001 - a test's own function failed: its client must see that, not a hang
            return self._plain(500, self._spoken(request).error({"message": f"the script failed: {error!r}", "type": "script"}))

    def end(self, request: ReceivedRequest, *, abandoned: bool) -> None:
        """Note that an answer is over."""
        with self._changed:
            self._running = [other for other in self._running if other is not request]
            if abandoned:
                self._abandoned.append(request)
            self._changed.notify_all()

    async def released(self) -> None:
        """Return after the next ``release()``."""
        assert self._gate is not None
        await self._gate.wait()

    # -- inside

    async def _serve(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._gate = asyncio.Event(), asyncio.Event()
        listener = await self._loop.create_server(lambda: HttpConnection(self), "127.0.0.1", 0, backlog=1024)
        self._port = listener.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        listener.close()
        self._idle = asyncio.Event()
        if self._connections:
            self._close_all()
            await self._idle.wait()

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is None or self._thread is None:
            raise RuntimeError("the test server does not run; use it as `with FaultServer() as server:`")
        self._loop.call_soon_threadsafe(call)

    def _open_gate(self) -> None:
        assert self._gate is not None
        gate, self._gate = self._gate, asyncio.Event()
        gate.set()

    def _close_all(self) -> None:
        for connection in list(self._connections):
            connection.close()

    def _spoken(self, request: ReceivedRequest) -> Dialect:
        path = request.path.partition("?")[0]
        return next((spoken for spoken in self._dialects if spoken.speaks(path, request.headers)), self.dialect)

    def _knows(self, headers: Mapping[str, str]) -> bool:
        key = self.api_key
        return key is None or headers.get("authorization") == f"Bearer {key}" or headers.get("x-api-key") == key

    def _answer(self, request: ReceivedRequest, number: int) -> Answer:
        path, _, query = request.path.partition("?")
        spoken = self._spoken(request)
        if not self._knows(request.headers):
            return self._plain(401, spoken.error(Fault.unauthorized().error or {}))
        if path == spoken.models_path and request.method == "GET" and self.listed is not None:
            return self._plain(200, self.listed or spoken.models(sorted(self._scripts), query))
        if path not in (spoken.chat_path, getattr(spoken, "embed_path", "")) or request.method != "POST":
            return self._plain(404, b'{"detail":"Not Found"}')
        if not isinstance(request.body, dict):
            return self._plain(400, spoken.error({"message": "the body is no JSON object", "type": "invalid_request_error"}))
        return self._scripted(self._step(request, spoken), request.body, number, spoken)

    def _step(self, request: ReceivedRequest, spoken: Dialect) -> Reply | Fault:
        with self._changed:
            steps = self._scripts.get(request.model)
            step: Any = (steps.popleft() if len(steps) > 1 else steps[0]) if steps else spoken.last_text(request.body)
        while callable(step):
            step = step(request)
        if isinstance(step, Reply | Fault):
            return step
        return Reply(str(step))

    def _scripted(self, step: Reply | Fault, body: Mapping[str, Any], number: int, spoken: Dialect) -> Answer:
        fault = step if isinstance(step, Fault) else Fault(reply=step)
        if fault.status != 200:
            told = spoken.error(fault.error or {}) if fault.raw is None else fault.raw
            return self._plain(fault.status, told, fault.headers)
        stream = body.get("stream") is True
        fault = _gone_on(fault, body, spoken)
        answer = Answer(streamed=stream, hang_at=fault.hang_at, cut_at=fault.cut_at, delay=fault.reply.delay)
        answer.headers = {"Content-Type": fault.content_type or (EVENTS if stream else JSON), **fault.headers}
        answer.pieces = joined(_pieces(fault, body, number, spoken))
        if fault.cut_after is not None:
            answer.cut_at = "end" if stream else "chunk"
        answer.prepare(fault.reply.bytes_per_write)
        return answer

    def _plain(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        return Answer(status=status, headers={"Content-Type": JSON, **(headers or {})}, pieces=[body])


def _gone_on(fault: Fault, body: Mapping[str, Any], spoken: Dialect) -> Fault:
    """Leave out what the request's last message says already, where that is the beginning of this answer."""
    messages = body.get("messages")
    if not (fault.reply.prefill and messages and messages[-1].get("role") == "assistant"):
        return fault
    return replace(fault, reply=fault.reply.after(spoken.last_text(body)))


def _pieces(fault: Fault, body: Mapping[str, Any], number: int, spoken: Dialect) -> list[bytes]:
    if fault.raw is not None:
        return [fault.raw]
    if body.get("stream") is not True:
        return [spoken.error(fault.error) if fault.error else spoken.body(fault.reply, body, number)]
    pieces = list(spoken.events(fault.reply, body, number))
    if fault.cut_after is not None:
        return cut_events(pieces, fault.reply.pieces, fault.cut_after)
    if fault.error:
        before = 1 if fault.error_at == "chunk" else 0
        return [*pieces[:before], spoken.error_event(fault.error)]
    return pieces


def _is(request: ReceivedRequest, model: str | None) -> bool:
    if request.method != "POST":
        return False
    return model is None or request.model == model
