"""``uses``: another workflow, as a part of this run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flowcraft.engine.context import Context
from flowcraft.plugin.stages import StageBody

if TYPE_CHECKING:
    from flowcraft.workflow.schema import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class UsesAsk:
    """Which workflow."""

    path: str
    workflow: Workflow


class UsesBody(StageBody):
    """Carries the other workflow out below this stage's path and returns its outputs."""

    key: ClassVar[str] = "uses"
    takes: ClassVar[frozenset[str]] = frozenset({"with"})

    async def run(self, options: UsesAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Run it and return its outputs."""
        return await context.run_workflow(options.workflow, context.arguments, context.path)
