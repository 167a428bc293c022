"""A server on the loopback that answers chat completions as fast as Python can: `python -m ... PORTFILE CHUNKS`.

Every answer is the same; a request with `"stream":true` gets CHUNKS chunks of one word. It serves until it is killed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

TEXT = "Every request gets this answer, which is as long as a sentence is."
USAGE = {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35}
BASE = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "m"}


def whole() -> bytes:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = json.dumps({**BASE, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def streamed(chunks: int) -> bytes:
    def data(delta: dict[str, str], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return "data: " + json.dumps({**BASE, "object": "chat.completion.chunk", "choices": [choice]}) + "\n\n"

    lines = [data({"role": "assistant", "content": ""}), *(data({"content": f"word{n} "}) for n in range(chunks))]
    usage = json.dumps({**BASE, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    body = "".join([*lines, data({}, "stop"), f"data: {usage}\n\n", "data: [DONE]\n\n"]).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


class Connection(asyncio.Protocol):
    """Reads requests by their length and writes the one answer there is."""

    def __init__(self, answer: bytes, stream: bytes) -> None:
        self._answer, self._stream = answer, stream
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._read) < end + 4 + length:
                return
            body, self._read = self._read[end + 4 : end + 4 + length], self._read[end + 4 + length :]
            wants_stream = b'"stream":true' in body.replace(b" ", b"")
            self._transport.write(self._stream if wants_stream else self._answer)  # type: ignore[attr-defined]


async def serve(port_file: Path, chunks: int) -> None:
    answer, stream = whole(), streamed(chunks)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answer, stream), "127.0.0.1", 0)
    port_file.write_text(str(server.sockets[0].getsockname()[1]))  # noqa: ASYNC240 - nobody is served yet
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
