"""For tests of workflows and plugins: a fake provider, a server that fails on demand, and the contract of providers."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcraft.testing.contract import ProviderContract
    from flowcraft.testing.pooling import PooledContract
    from flowcraft.testing.provider import Chunks, FakeProvider, Hang
    from flowcraft.testing.recordings import replay
    from flowcraft.testing.script import Fault, Reply
    from flowcraft.testing.server import FaultServer

__all__ = ["Chunks", "FakeProvider", "Fault", "FaultServer", "Hang", "PooledContract", "ProviderContract", "Reply", "replay"]

_CONTRACTS = (f"{__name__}.contract", f"{__name__}.pooling")


def __getattr__(name: str) -> Any:
    # Resolved on first use: the contracts need pytest, everything else must not.
    homes = {
        "Chunks": "provider",
        "FakeProvider": "provider",
        "Fault": "script",
        "FaultServer": "server",
        "Hang": "provider",
        "PooledContract": "pooling",
        "ProviderContract": "contract",
        "Reply": "script",
        "replay": "recordings",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{homes[name]}"
    if home in _CONTRACTS and sys.modules.keys().isdisjoint(_CONTRACTS):
        import_module("pytest").register_assert_rewrite(*_CONTRACTS)  # a failure shows the values
    return getattr(import_module(home), name)
