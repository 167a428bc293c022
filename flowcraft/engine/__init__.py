"""The engine: carries runs out. Knows models by ``llm``'s protocol and storage by ``ports.py``."""

from flowcraft.engine.pieces.fork import Fork
from flowcraft.engine.pieces.reuse import Before, taken_from
from flowcraft.engine.ports import (
    ATTEND,
    CANCEL,
    ENDED,
    AttemptRow,
    Case,
    EventRow,
    Loose,
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
from flowcraft.engine.runs.engine import Engine, OnWait, RunAlive
from flowcraft.engine.stages.ground import is_judge, stage_of
from flowcraft.engine.stages.job import Job, Spent, StageReport
from flowcraft.engine.waiting import Answer, Approval
from flowcraft.workflow.words import FINALLY

__all__ = [
    "ATTEND",
    "CANCEL",
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
    "Loose",
    "Models",
    "NewRun",
    "OnWait",
    "Piece",
    "ProcessRow",
    "Quality",
    "RunAlive",
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
