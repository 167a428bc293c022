"""How long a model takes until it answers, by what its calls say: the time behind which one that is not there yet is late.

A call that ended without an answer, because another model won, somebody cancelled it or it failed, says only that the
answer would have taken longer. It counts as such (censored), by the product-limit estimator: E. L. Kaplan and P. Meier,
Nonparametric Estimation from Incomplete Observations, JASA 53 (1958). Left out, those calls would make a model look the
faster the more often it loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flowcraft.llm.ports import JUDGE, CallRecord

SHARE = 0.95
"""A model is late when this share of its calls would have answered by now."""
ENOUGH = 20
"""Answers without which nobody knows when a model is late."""


class Observed(NamedTuple):
    """How many seconds a call took, and whether it answered then."""

    seconds: float
    answered: bool


def quantile(calls: Sequence[Observed], share: float) -> float | None:
    """Return by how many seconds ``share`` of the calls answer; None without any.

    Where too many did not answer to know, it is at least the longest time of any.
    """
    if not calls:
        return None
    ordered = sorted(calls, key=lambda call: (call.seconds, not call.answered))
    missing = 1.0
    for behind, call in enumerate(ordered):
        if call.answered:
            missing *= 1 - 1 / (len(ordered) - behind)
            if missing <= 1 - share + 1e-9:
                return call.seconds
    return ordered[-1].seconds


def observed(record: CallRecord) -> Observed:
    """Return what a call says: of a stream the time to its first event, else the time to its answer."""
    attempt = record.attempt
    if attempt.streamed and attempt.first_token is not None:
        return Observed(attempt.first_token, True)
    return Observed(attempt.seconds, attempt.outcome in ("ok", "InvalidOutput"))


class Lateness:
    """When one model is late: per stage where there is enough data, else over all. Its owner guards it by a lock.

    Calls as a judge are other work and do not count. What calls say is reckoned anew when a twentieth part of them is new.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[bool, str], tuple[int, float | None]] = {}

    def after(self, calls: Sequence[CallRecord], count: int, *, streamed: bool, stage: str = "") -> float | None:
        """Return after how many seconds the model is late; None while too few answers are known.

        ``calls`` are its last calls, ``count`` says how many there ever were.
        """
        of_stage = self._after(calls, count, streamed, stage) if stage else None
        return self._after(calls, count, streamed, "") if of_stage is None else of_stage

    def _after(self, calls: Sequence[CallRecord], count: int, streamed: bool, stage: str) -> float | None:
        reckoned, seconds = self._known.get((streamed, stage), (-1, None))
        if reckoned < 0 or (count - reckoned) * 20 >= len(calls):
            seconds = _late_after(calls, streamed, stage)
            self._known[streamed, stage] = (count, seconds)
        return seconds


def _late_after(calls: Sequence[CallRecord], streamed: bool, stage: str) -> float | None:
    answers = [call for call in calls if call.attempt.streamed == streamed and call.attempt.role != JUDGE]
    of_kind = [observed(call) for call in answers if not stage or call.stage == stage]
    return quantile(of_kind, SHARE) if sum(call.answered for call in of_kind) >= ENOUGH else None
