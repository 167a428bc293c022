"""What tells secrets apart without telling them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping

from flowcraft.engine.threads import DaemonPool

_COST = 2**14
"""Of scrypt: what is derived of secrets cannot be tried out quickly."""


class Fingerprints:
    """Digests of the values of environment names, each made once in a segment: to derive one takes tens of milliseconds."""

    def __init__(self, threads: DaemonPool) -> None:
        self._threads = threads
        self._known: dict[str, str] = {}
        self._one_at_a_time = asyncio.Lock()

    async def of(self, values: Mapping[str, str | None]) -> str:
        """Return the digest of the values of these names."""
        told = json.dumps(sorted(values.items()))
        async with self._one_at_a_time:
            if told not in self._known:
                self._known[told] = await self._threads.run(lambda: _derived(told))
        return self._known[told]


def _derived(told: str) -> str:
    return hashlib.scrypt(told.encode(), salt=b"flowcraft outputs", n=_COST, r=8, p=1, dklen=16).hex()
