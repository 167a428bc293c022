"""One HTTP/1.1 connection of the test server, byte by byte: it must be able to stop anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal, Protocol

from flowcraft.testing.script import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request as the server got it. Header names are in lower case; ``connection`` counts connections from 1."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any = None
    connection: int = 0
    number: int = 0

    @property
    def model(self) -> str:
        """The model that was asked."""
        return str(self.body.get("model", "")) if isinstance(self.body, dict) else ""

    @property
    def stream(self) -> bool:
        """Whether a stream was asked for."""
        return isinstance(self.body, dict) and self.body.get("stream") is True


@dataclass(slots=True, kw_only=True)
class Answer:
    """What goes out: pieces of body, and where to hang, or to cut the connection."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    streamed: bool = False
    delay: float = 0.0
    hang_at: Place | None = None
    cut_at: Place | Literal["end"] | None = None

    def head(self) -> bytes:
        """Return status line and headers."""
        phrase = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        length = {"Transfer-Encoding": "chunked"} if self.streamed else {"Content-Length": str(sum(map(len, self.pieces)))}
        lines = [f"HTTP/1.1 {self.status} {phrase}", *(f"{name}: {value}" for name, value in (self.headers | length).items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def prepare(self, bytes_per_write: int) -> None:
        """Cut the body where its script wants it cut."""
        if "character" in (self.hang_at, self.cut_at):
            body = b"".join(self.pieces)
            inside = next((index for index, byte in enumerate(body) if byte >= 0xC0), 0) + 1
            self.pieces = [body[:inside], body[inside:]]
        elif bytes_per_write:
            body = b"".join(self.pieces)
            self.pieces = [body[start : start + bytes_per_write] for start in range(0, len(body), bytes_per_write)]
        elif not self.streamed and len(self.pieces) == 1 and {"chunk"} & {self.hang_at, self.cut_at}:
            half = len(self.pieces[0]) // 2
            self.pieces = [self.pieces[0][:half], self.pieces[0][half:]]


class Host(Protocol):
    """What a connection asks of its server. All on the server's loop."""

    def opened(self, connection: HttpConnection) -> int:
        """Count a connection and return its number."""
        ...

    def closed(self, connection: HttpConnection) -> None:
        """Take leave of a connection."""
        ...

    def begin(self, request: ReceivedRequest) -> Answer:
        """Record a request and say what to answer."""
        ...

    def end(self, request: ReceivedRequest, *, abandoned: bool) -> None:
        """Note that an answer is over, or that the client went away before it was."""
        ...

    async def released(self) -> None:
        """Return when hanging answers may go on."""
        ...


class HttpConnection(asyncio.Protocol):
    """Reads requests one after the other and writes what its server says."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._answering: ReceivedRequest | None = None
        self._number = 0
        self._cut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._number = self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop answering; a client that left before the end is counted."""
        if self._answering is not None and not self._cut:
            self._host.end(self._answering, abandoned=True)
            self._answering = None
        if self._task is not None:
            self._task.cancel()
        self._host.closed(self)

    def data_received(self, data: bytes) -> None:
        """Collect a request and answer it once it is whole."""
        self._buffer += data
        self._next()

    def close(self) -> None:
        """Close from the server's side."""
        self._cut = True
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        if self._answering is not None or self._cut:
            return
        request = self._take()
        if request is not None:
            self._answering = request
            self._task = asyncio.get_running_loop().create_task(self._answer(request))

    def _take(self) -> ReceivedRequest | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        start = end + 4
        if len(self._buffer) < start + length:
            return None
        body = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        method, path, _ = first.split(" ", 2)
        return ReceivedRequest(method=method, path=path, headers=headers, body=_json(body), connection=self._number)

    async def _answer(self, request: ReceivedRequest) -> None:
        answer = self._host.begin(request)
        transport = self._transport
        assert transport is not None
        if await self._stops(answer, "connect"):
            return
        whole = not (answer.streamed or answer.delay or answer.hang_at or answer.cut_at or len(answer.pieces) > 1)
        if whole:
            transport.write(answer.head() + b"".join(answer.pieces))
        else:
            transport.write(answer.head())
            if await self._stops(answer, "headers") or not await self._send(answer, transport):
                return
        self._answering = None
        self._host.end(request, abandoned=False)
        self._next()

    async def _send(self, answer: Answer, transport: asyncio.Transport) -> bool:
        for index, piece in enumerate(answer.pieces):
            if answer.delay:
                await asyncio.sleep(answer.delay)
            elif index:
                await asyncio.sleep(0)  # lets the piece before go out on its own
            transport.write(_framed(piece) if answer.streamed else piece)
            if index == 0 and (await self._stops(answer, "chunk") or await self._stops(answer, "character")):
                return False
        if await self._stops(answer, "end"):
            return False
        if answer.streamed:
            transport.write(b"0\r\n\r\n")
        return True

    async def _stops(self, answer: Answer, place: Place | Literal["end"]) -> bool:
        if answer.hang_at == place:
            await self._host.released()
        if answer.cut_at != place:
            return False
        self._cut = True
        if self._answering is not None:
            self._host.end(self._answering, abandoned=False)
            self._answering = None
        if self._transport is not None:
            self._transport.close()
        return True


def _framed(piece: bytes) -> bytes:
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


def joined(pieces: Iterable[bytes]) -> list[bytes]:
    """Return the pieces as a list without empty ones: an empty chunk would end the body."""
    return [piece for piece in pieces if piece]
