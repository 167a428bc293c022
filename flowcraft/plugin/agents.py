"""Agent runners: other frameworks' agents as stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from flowcraft.plugin.stages import StageContext


class AgentRunner(Protocol):
    """Carries out one agent's task. ``agent`` holds role, goal, backstory and what else the file says."""

    name: ClassVar[str]

    async def run(self, agent: Mapping[str, Any], task: str, context: StageContext) -> Any:
        """Carry out ``task`` and return its result."""
        ...
