"""One client per event loop, closed by that loop's own shutdown."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

C = TypeVar("C")


async def _close(client: Any) -> None:
    close = getattr(client, "aclose", None) or getattr(client, "close", None)
    if close is None:
        return
    done = close()
    if inspect.isawaitable(done):
        await done


class PerLoop(Generic[C]):
    """Keeps one client per running loop.

    An async generator that was started on the loop holds the client; ``asyncio.run`` closes such generators when it
    ends, and with it the client. A weak map by loop would never free: the client refers to its loop.
    """

    def __init__(self) -> None:
        self._held: dict[asyncio.AbstractEventLoop, tuple[C, AsyncGenerator[None, None]]] = {}
        self._lock = threading.Lock()

    async def get(self, make: Callable[[], C]) -> C:
        """Return this loop's client, made by ``make`` on first use."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        if held is not None:
            return held[0]
        client = make()
        keeper = self._keep(loop, client)
        # The generator runs to its first yield without suspending, so no other task can come between.
        await anext(keeper)
        with self._lock:
            for closed in [known for known in self._held if known.is_closed()]:
                del self._held[closed]
            self._held[loop] = (client, keeper)
        return client

    async def _keep(self, loop: asyncio.AbstractEventLoop, client: C) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(loop, None)
            await _close(client)

    async def aclose(self) -> None:
        """Close the clients of this loop and of all loops that still run."""
        here = asyncio.get_running_loop()
        with self._lock:
            held = list(self._held.items())
        for loop, (_, keeper) in held:
            if loop is here:
                await keeper.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(keeper.aclose(), loop))
            else:
                with self._lock:
                    self._held.pop(loop, None)
