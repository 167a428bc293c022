from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from flowcraft.plugin import Timeouts
from flowcraft.testing import FaultServer
from flowcraft_anthropic.config import AnthropicConfig
from flowcraft_anthropic.provider import AnthropicProvider

Make = Callable[..., AnthropicProvider]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
async def make(server: FaultServer) -> AsyncIterator[Make]:
    """Makes providers of the server, and closes them."""
    made: list[AnthropicProvider] = []

    def build(timeouts: Timeouts | None = None, **config: Any) -> AnthropicProvider:
        made.append(AnthropicProvider(AnthropicConfig(**{"base_url": server.url, **config}), section="here", timeouts=timeouts))
        return made[-1]

    yield build
    for provider in made:
        await provider.aclose()


@pytest.fixture
def provider(make: Make) -> AnthropicProvider:
    return make()


@pytest.fixture
def unaccepted() -> Iterator[str]:
    """The address of a server whose queue of connections is full: connecting hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        host, port = listener.getsockname()
        waiting = []
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((host, port))
            waiting.append(client)
        yield f"http://{host}:{port}"
        for client in waiting:
            client.close()
