"""``crew``: several agents, carried out by an agent runner."""

from __future__ import annotations

from typing import Any, ClassVar

from flowcraft.engine.bodies.crews import CrewAsk, carry_out_crew
from flowcraft.engine.context import Context
from flowcraft.plugin.stages import StageBody


class CrewBody(StageBody):
    """Lets agents work on their tasks and gives what the last task gives: text, or a value of the stage's output type."""

    key: ClassVar[str] = "crew"
    takes: ClassVar[frozenset[str]] = frozenset({"output", "model"})

    async def run(self, options: CrewAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Carry the crew out."""
        return await carry_out_crew(options, context)
