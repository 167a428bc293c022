"""``stages``: several stages in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flowcraft.engine.context import Context
from flowcraft.plugin.stages import StageBody

if TYPE_CHECKING:
    from flowcraft.workflow.schema import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAsk:
    """Which stages, and the names that they see besides their own."""

    stages: Mapping[str, Stage]
    names: Mapping[str, Any]


class GroupBody(StageBody):
    """Carries the stages out below this stage's path and returns their values by name."""

    key: ClassVar[str] = "stages"
    takes: ClassVar[frozenset[str]] = frozenset()

    async def run(self, options: GroupAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Run them and return their values."""
        return await context.run_stages(options.stages, options.names, context.path)
