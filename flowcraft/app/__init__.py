"""FlowCraft: the one place where the parts are wired together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowcraft.app.flowcraft import FlowCraft

if TYPE_CHECKING:
    from flowcraft.app.results import RunResult

__all__ = ["FlowCraft", "RunResult"]


def __getattr__(name: str) -> object:
    if name != "RunResult":
        raise AttributeError(f"module 'flowcraft.app' has no attribute {name!r}")
    from flowcraft.app.results import RunResult  # it brings the engine

    return RunResult
