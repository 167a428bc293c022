"""``approve``: a question to a person."""

from __future__ import annotations

from typing import Any, ClassVar

from flowcraft.engine.context import ApproveAsk, Context
from flowcraft.plugin.stages import StageBody


class ApproveBody(StageBody):
    """Asks people; gives what they chose, once they did."""

    key: ClassVar[str] = "approve"
    takes: ClassVar[frozenset[str]] = frozenset({"choices", "output"})

    async def run(self, options: ApproveAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Return what was chosen."""
        return await context.ask(options)
