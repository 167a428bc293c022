"""What a run is doing, live on a terminal and as plain lines in a pipe: both made of the same events."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flowcraft.attempts import Attempt
from flowcraft.events import (
    AnswerChosen,
    ApprovalAnswered,
    ApprovalAsked,
    ApprovalWithdrawn,
    CallFinished,
    ElementFinished,
    Event,
    GoFailed,
    RunStarted,
    Said,
    StageFinished,
    StageStarted,
    TryFinished,
)

MARKS = {
    "pending": ("·", "dim"),
    "waiting": ("?", "yellow"),
    "running": ("▸", "cyan"),
    "done": ("✓", "green"),
    "reused": ("✓", "dim green"),
    "cached": ("✓", "dim green"),
    "skipped": ("-", "dim"),
    "failed": ("✗", "red"),
    "stopped": ("·", "dim"),
}


_PLACES = re.compile(r"\[\d+\]|[#~]\d+")
_JUDGE = "/judge"
"""Behind the path of a try: what its judge said. No stage has this name."""


@dataclass(slots=True, kw_only=True)
class Row:
    """One stage as it is shown. ``calls`` counts attempts at models; ``depth`` is how deep in ``uses`` it lies."""

    name: str
    depth: int = 0
    state: str = "pending"
    reason: str = ""
    model: str = ""
    offline: bool = False
    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    done: int = 0
    elements: int | None = None
    failed: int = 0
    tries: str = ""
    begun: float | None = None
    seconds: float = 0.0

    @property
    def time(self) -> float:
        """Seconds so far, or in all."""
        return time.monotonic() - self.begun if self.state == "running" and self.begun is not None else self.seconds

    def count(self, attempt: Attempt, *, judged: bool = False) -> None:
        """Take a call in; a judge's counts, and is not who answered."""
        if attempt.outcome == "skipped":
            return
        self.calls += 1
        self.tokens += attempt.usage.total
        if attempt.usd is not None:
            self.usd = (self.usd or 0.0) + attempt.usd
        if attempt.outcome == "ok" and not judged:
            self.model, self.offline = attempt.model, attempt.offline


@dataclass(slots=True)
class Progress:
    """The rows of a run, kept up to date by its events."""

    rows: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        with self.lock:
            self._take(event)

    def row(self, path: str) -> Row:
        """Return the row of a stage; those below the elements of a list share one."""
        stage = _PLACES.sub("", path)
        row = self.rows.get(stage)
        if row is None:
            row = self.rows[stage] = Row(name=stage.rpartition("/")[2], depth=stage.count("/"))
        return row

    def _take(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            for stage in event.stages:
                self.row(stage)
        elif isinstance(event, StageStarted):
            row = self.row(event.stage)
            row.state, row.begun, row.elements = "running", time.monotonic(), event.elements
        elif isinstance(event, ElementFinished):
            row = self.row(event.stage)
            row.done, row.elements = event.done, event.elements
        elif isinstance(event, TryFinished) and not event.passed and event.number < event.most:
            self.row(event.stage).tries = f"try {event.number + 1}/{event.most}"
        elif isinstance(event, StageFinished):
            row = self.row(event.stage)
            row.state, row.reason, row.seconds, row.failed = event.state, event.reason, event.seconds, event.errors
        elif isinstance(event, ApprovalAsked):
            self._asked(event.stage)
        elif isinstance(event, CallFinished):
            self._call(event)
        elif isinstance(event, AnswerChosen):
            self.row(event.path).model = event.model
        elif isinstance(event, Said) and event.level != "error":
            self.notes.append(event.message)

    def _asked(self, stage: str) -> None:
        """Let a stage wait, and those around it."""
        while stage:
            self.row(stage).state = "waiting"
            stage = stage.rpartition("/")[0]

    def _call(self, event: CallFinished) -> None:
        path = event.path or event.stage
        self.row(path.removesuffix(_JUDGE)).count(event.attempt, judged=path.endswith(_JUDGE))


_TITLES = ("", "stage", "state", "model", "calls", "tokens", "USD", "time")
_LEAST = {"stage": 16, "model": 10}
"""Characters that a column is given at least, where it could do with more."""


def table(progress: Progress, width: int | None = None) -> Table:
    """Return the rows as a table. Of figures for which ``width`` characters have no room, whole columns are left out."""
    with progress.lock:
        rows = [dict(zip(_TITLES, _cells(row), strict=True)) for row in _in_order(progress.rows)]
    widths = {title: max(len(title), *(row[title].cell_len for row in rows), 0) for title in _TITLES}
    least = {title: min(room, _LEAST.get(title, room)) for title, room in widths.items()}
    for title in ("tokens", "calls", "model", "USD", "time"):
        if width is not None and sum(least.values()) + 2 * len(least) > width:
            del least[title]
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in least:
        if title == "stage":
            found.add_column(title, overflow="fold")
        elif title in ("state", "model"):
            found.add_column(title, overflow="ellipsis", no_wrap=True)
        else:
            found.add_column(title, justify="right" if title else "left", no_wrap=True)
    for row in rows:
        found.add_row(*(row[title] for title in least))
    return found


def _in_order(rows: Mapping[str, Row]) -> Iterator[Row]:
    """Give each row, and those of the stages in it right behind it."""
    inner: dict[str, list[str]] = {}
    for stage in rows:
        around = stage.rpartition("/")[0]
        inner.setdefault(around if around in rows else "", []).append(stage)
    waiting = inner.get("", [])[::-1]
    while waiting:
        stage = waiting.pop()
        yield rows[stage]
        waiting += inner.get(stage, [])[::-1]


def _cells(row: Row) -> list[Text]:
    mark, style = MARKS.get(row.state, MARKS["pending"])
    state = row.state
    if row.elements is not None and row.state in ("running", "done"):
        state = f"{row.done}/{row.elements}" if row.state == "running" else f"done ({row.elements})"
        if row.failed and row.state == "done":
            state, style = f"{row.failed} of {row.elements} failed", "yellow"
    elif row.tries and row.state == "running":
        state = row.tries
    return [
        Text(mark, style=style),
        Text("  " * row.depth + row.name, style="bold" if row.state == "running" else ""),
        Text(state, style=style),
        Text(row.model, style="yellow" if row.offline else ""),
        Text(str(row.calls) if row.calls else ""),
        Text(f"{row.tokens:,}".replace(",", " ") if row.tokens else ""),
        Text(money(row.usd) if row.calls and row.usd is not None else ""),
        Text(f"{row.time:.1f} s" if row.state not in ("pending", "waiting") else "", style="dim"),
    ]


def money(usd: float | None) -> str:
    """Return USD with as many digits as small sums need; a dash where no price is known."""
    if usd is None:
        return "-"
    return f"{usd:.2f}" if usd >= 1 or usd == 0 else f"{usd:.4f}"


def _elements(count: int | None) -> str:
    return "" if count is None else f" ({count} element{'s' * (count != 1)})"


def approval_line(event: ApprovalAsked | ApprovalAnswered | ApprovalWithdrawn) -> str:
    """Return what is said of an approval in one line."""
    if isinstance(event, ApprovalAnswered):
        return f"{event.path}: {event.choice}, by {event.by}" + (f": {event.comment}" if event.comment else "")
    return f"{event.path}: " + ("waits for an answer" if isinstance(event, ApprovalAsked) else "withdrawn")


class LiveView:
    """Redraws the table as the run goes on; a context manager."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress()
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._rows)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.transient = not self.progress.rows  # of a run that never began nothing stays
        self._live.stop()

    def _rows(self) -> RenderableType:
        return table(self.progress, self._live.console.width) if self.progress.rows else ""

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        self.progress(event)
        if isinstance(event, GoFailed):
            self._live.console.print(Text(f"{event.path}: {event.error}; again in {event.pause:.1f} s", style="yellow"))
        elif isinstance(event, Said) and event.level in ("info", "warning"):
            self._live.console.print(Text(event.message, style="dim"))


class LineView:
    """Prints a line for each stage that begins or ends; a context manager."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress()
        self._console = console
        self._running: dict[str, Row] = {}

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Take one event in."""
        self.progress(event)
        self._count(event)
        line = self._line(event)
        if line:
            self._console.print(Text(line))

    def _count(self, event: Event) -> None:
        """Count for each stage by its whole path: one in a list of groups runs many times, also at once."""
        if isinstance(event, StageStarted):
            self._running[event.stage] = Row(name=event.stage, elements=event.elements)
        elif isinstance(event, CallFinished | AnswerChosen):
            path = event.path or event.stage
            around, _, name = path.removesuffix(_JUDGE).rpartition("/")
            row = self._running.get(f"{around}/{_PLACES.sub('', name)}".lstrip("/"))
            if row is not None and isinstance(event, CallFinished):
                row.count(event.attempt, judged=path.endswith(_JUDGE))
            elif row is not None and isinstance(event, AnswerChosen):
                row.model = event.model

    def _line(self, event: Event) -> str:
        if isinstance(event, StageStarted):
            return f"{event.stage}: started" + _elements(event.elements)
        if isinstance(event, StageFinished):
            return f"{event.stage}: {event.state}" + self._details(event)
        if isinstance(event, GoFailed):
            return f"{event.path}: go {event.go} failed: {event.error}; again in {event.pause:.1f} s"
        if isinstance(event, TryFinished):
            score = f" (score {event.score:.2f})" if event.score is not None else ""
            return f"{event.path}: {'passed' if event.passed else f'did not pass, try {event.number} of {event.most}'}{score}"
        if isinstance(event, ApprovalAsked | ApprovalAnswered | ApprovalWithdrawn):
            return approval_line(event)
        if isinstance(event, Said) and event.level in ("info", "warning"):
            return event.message
        return ""

    def _details(self, event: StageFinished) -> str:
        row = self._running.pop(event.stage, None) or Row(name=event.stage)
        if event.state == "skipped" or event.reason:
            first, *more = event.reason.strip().split("\n")  # of many lines those that say most; the run's end tells them all
            return f": {first}" + (f" ... {more[-1].strip()}" if more else "")
        told = [f"{event.seconds:.1f} s"]
        if row.model:
            told.append(row.model)
        if row.tokens:
            told.append(f"{row.tokens} tokens")
        if row.usd is not None:
            told.append(f"{money(row.usd)} USD")
        if event.errors:
            told.append(f"{event.errors} of {row.elements} failed" if row.elements else f"{event.errors} failed")
        return f" ({', '.join(told)})"
