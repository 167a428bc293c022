"""What is a failure of a stage, and what a person reads of it."""

from __future__ import annotations

from flowcraft.engine.stages.job import Stopped, Waiting
from flowcraft.errors import ApprovalTimedOut, BudgetExceeded, FlowCraftError, Rejected, RunError, StageFailed, StoreError
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.types.type import TypeMismatch

LONGEST_MESSAGE = 20_000


class TimedOut(StageFailed):
    """The stage's own time ran out; it is not tried again."""


ENDS = (BudgetExceeded, Rejected, ApprovalTimedOut)
"""What ends the run wherever it happens: no 'on_error: continue' catches it, no 'retry' repeats it."""


def is_failure(error: BaseException) -> bool:
    """Say whether ``error`` is the failure of a stage, not the end of the run."""
    if isinstance(error, StageFailed):
        return True
    return isinstance(error, Exception) and not isinstance(error, RunError | StoreError | BudgetExceeded | Stopped | Waiting)


def explain(error: BaseException) -> str:
    """Return what a person reads of a failure."""
    if isinstance(error, TypeMismatch):
        return "; ".join(f"{item['field']}: {item['message']}" if item["field"] else item["message"] for item in error.details)
    if isinstance(error, FlowCraftError | ExpressionError):
        details = getattr(error, "details", ())
        told = "; ".join(f"{item.get('field', '')}: {item.get('message', '')}" for item in details)
        return f"{error} ({told})" if told else str(error)
    return f"{type(error).__name__}: {error}"
