"""``approve``: a question to a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from flowcraft.engine.context import Context
from flowcraft.plugin.stages import StageBody

if TYPE_CHECKING:
    from flowcraft.workflow.types.type import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveAsk:
    """What is asked; ``rejects`` says that the choice 'reject' fails the stage."""

    question: str
    choices: Mapping[str, str]
    rejects: bool
    form: Fields | None = None

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        form = self.form.json_schema() if self.form is not None else None
        return {"question": self.question, "choices": list(self.choices), "rejects": self.rejects, "form": form}


class ApproveBody(StageBody):
    """Asks people; gives what they chose, once they did."""

    key: ClassVar[str] = "approve"
    takes: ClassVar[frozenset[str]] = frozenset({"choices", "output"})

    async def run(self, options: ApproveAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Return what was chosen."""
        return await context.ask(options)
