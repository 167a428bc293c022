"""The engine: carries runs out. Knows models by ``llm``'s protocol and storage by ``ports.py``."""

from flowcraft.engine.finale import PREFIX as FINALLY
from flowcraft.engine.fork import Fork
from flowcraft.engine.ground import is_judge, stage_of
from flowcraft.engine.job import Job, Spent, StageReport
from flowcraft.engine.ports import (
    ENDED,
    AttemptRow,
    Case,
    EventRow,
    Models,
    NewRun,
    Piece,
    ProcessRow,
    Quality,
    RunRow,
    RunStore,
    SegmentStart,
    StateChange,
)
from flowcraft.engine.reuse import Before, taken_from
from flowcraft.engine.run import Engine, OnWait
from flowcraft.engine.waiting import Answer, Approval

__all__ = [
    "ENDED",
    "FINALLY",
    "Answer",
    "Approval",
    "AttemptRow",
    "Before",
    "Case",
    "Engine",
    "EventRow",
    "Fork",
    "Job",
    "Models",
    "NewRun",
    "OnWait",
    "Piece",
    "ProcessRow",
    "Quality",
    "RunRow",
    "RunStore",
    "SegmentStart",
    "Spent",
    "StageReport",
    "StateChange",
    "is_judge",
    "stage_of",
    "taken_from",
]
