"""FlowCraft: the one place where the parts are wired together."""

from flowcraft.app.flowcraft import FlowCraft
from flowcraft.app.results import RunResult

__all__ = ["FlowCraft", "RunResult"]
