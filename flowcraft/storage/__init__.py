"""The stores over one SQL database: runs, calls and what belongs to them. The only room that imports SQLAlchemy."""

from flowcraft.storage.answers import SqlAnswers
from flowcraft.storage.calls import SqlCallStore
from flowcraft.storage.database import Database
from flowcraft.storage.export import Export, is_export, reopen, write_export
from flowcraft.storage.limits import SqlLimits
from flowcraft.storage.runs import SqlRunStore
from flowcraft.storage.spending import SqlSpending
from flowcraft.storage.verdicts import SqlVerdictStore

__all__ = [
    "Database",
    "Export",
    "SqlAnswers",
    "SqlCallStore",
    "SqlLimits",
    "SqlRunStore",
    "SqlSpending",
    "SqlVerdictStore",
    "is_export",
    "reopen",
    "write_export",
]
