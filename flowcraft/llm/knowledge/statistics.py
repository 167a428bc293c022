"""What is known of models from their calls: at once in memory, kept across restarts by a thread that writes in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from bisect import bisect_left, insort
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.errors import FlowCraftError
from flowcraft.llm.knowledge.lateness import Lateness
from flowcraft.llm.knowledge.ratings import Ratings, Standing
from flowcraft.llm.knowledge.speed import Basis, Key, Knowledge, Speed
from flowcraft.llm.ports import CallRecord, CallStore, ModelStatistics, VerdictRecord, VerdictStore

WINDOW = 1000
"""Calls of a model over which percentiles are taken."""
BATCH = 200
PAUSE = 0.5
"""Records are saved as soon as ``BATCH`` of them wait, and ``PAUSE`` seconds after the first at the latest. The store takes
milliseconds for that, so what a killed process loses is less than a second old."""
REREAD = 5.0
"""Seconds after which the rows of other processes are read again."""
MOST_WAITING = 50_000
"""Records that wait while the store fails; the oldest give way."""
MOST_OWN = 10 * WINDOW
"""Ids of own records that are known when the store gives them back: it gives the last calls of each model."""
VERDICTS = 20_000
"""Verdicts that a process takes in from the store when it starts: the last ones."""


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the least of the ordered values that at least ``share`` of them do not exceed; None of none."""
    if not ordered:
        return None
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


class _Model:
    """The calls of one model: the last ones kept, and every one ``counted`` by its labels where no store does that."""

    def __init__(self, counted: bool) -> None:
        self._counted = counted
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.usd: dict[tuple[str, str], float] = defaultdict(float)
        self.calls: deque[CallRecord] = deque()
        self.count = 0
        self.lateness = Lateness()
        self.times: list[float] = []

    def add(self, record: CallRecord) -> None:
        attempt = record.attempt
        self.count += 1
        if self._counted:
            self.outcomes[record.stage, record.task, attempt.outcome] += 1
            if attempt.usd is not None:
                self.usd[record.stage, record.task] += attempt.usd
        self.calls.append(record)
        if attempt.outcome == "ok":
            insort(self.times, attempt.seconds)
        if len(self.calls) > WINDOW:
            oldest = self.calls.popleft().attempt
            if oldest.outcome == "ok":
                del self.times[bisect_left(self.times, oldest.seconds)]

    def summary(self, provider: str, model: str, stage: str | None, task: str | None) -> ModelStatistics:
        def meant(of_stage: str, of_task: str) -> bool:
            return stage in (None, of_stage) and task in (None, of_task)

        counts: Counter[str] = Counter()
        for (of_stage, of_task, outcome), number in self.outcomes.items():
            if meant(of_stage, of_task):
                counts[outcome] += number
        answered = [call.attempt for call in self.calls if call.attempt.outcome == "ok" and meant(call.stage, call.task)]
        times = sorted(attempt.seconds for attempt in answered)
        firsts = sorted(attempt.first_token for attempt in answered if attempt.first_token is not None)
        spent = [usd for labels, usd in self.usd.items() if meant(*labels)]
        errors = {outcome: number for outcome, number in counts.items() if outcome not in ("ok", "cancelled")}
        return ModelStatistics(
            model=model,
            provider=provider,
            calls=counts.total(),
            successes=counts["ok"],
            errors=sum(errors.values()),
            errors_by_class=errors,
            last_response_time=answered[-1].seconds if answered else None,
            p50=percentile(times, 0.50),
            p95=percentile(times, 0.95),
            p99=percentile(times, 0.99),
            ttft=percentile(firsts, 0.50),
            tokens_per_second=sum(attempt.usage.output for attempt in answered) / sum(times) if sum(times) else None,
            usd=sum(spent) if spent else None,
        )


class Statistics:
    """A CallSink that counts. Skips and offline answers are no calls to a model and are left out.

    With a ``store`` records are saved by a thread of its own, which starts with the first record, and what other processes
    saved counts too; ``verdicts`` is the same for judges' verdicts. Safe to share by threads and loops; ``close`` saves what
    still waits. ``ratings`` and ``standing`` are what verdicts say of models.
    """

    def __init__(
        self,
        store: CallStore | None = None,
        *,
        verdicts: VerdictStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ratings = Ratings()
        self.standing = Standing()
        self._store = store
        self._verdicts = verdicts
        self._clock = clock
        self._lock = threading.Lock()
        self._models: dict[Key, _Model] = {}
        self._speed: Speed | None = None
        self._news: list[CallRecord] = []
        self._own: OrderedDict[str, None] = OrderedDict()
        self._own_verdicts: OrderedDict[str, None] = OrderedDict()
        self._row = 0
        self._verdict_row = 0
        self._read: float | None = None
        self._writer = None if store is None and verdicts is None else _Writer(_saves(store, verdicts))
        if self._writer is not None:
            # Whoever forgets to close loses nothing: neither when this object goes, nor when the program ends.
            weakref.finalize(self, self._writer.close)

    def record(self, record: CallRecord) -> None:
        """Take one record: known at once, saved soon."""
        if record.attempt.outcome == "skipped" or record.attempt.offline:
            return
        with self._lock:
            self._add(record)
            if self._store is not None:
                _remember(self._own, record.id, MOST_OWN)
        if self._writer is not None and self._store is not None:
            self._writer.put(record)

    def judged(self, verdict: VerdictRecord) -> None:
        """Take one verdict: known at once, saved soon."""
        self._learn(verdict)
        if self._writer is not None and self._verdicts is not None:
            with self._lock:
                _remember(self._own_verdicts, verdict.id, VERDICTS)
            self._writer.put(verdict)

    async def refresh(self) -> None:
        """Take in what other processes saved, on a thread, if it is time to. A store that fails changes nothing."""
        if self._stale():
            try:
                await asyncio.to_thread(self.reread)
            except FlowCraftError as error:
                logging.getLogger("flowcraft").warning("call records cannot be read for now: %s", error)

    def speed(self, models: Sequence[Key], stage: str = "", task: str = "") -> Knowledge:
        """Return what memory knows of how fast models answer: in a stage, in a task, or over all, as far as there are calls."""
        with self._lock:
            return self._learned().known(models, stage, task)

    def unheard(self, stage: str = "", task: str = "") -> Sequence[Basis]:
        """Return which of these labels, ``stage`` or ``task``, no call in memory bears: perhaps it is misspelt."""
        with self._lock:
            return self._learned().unheard(stage, task)

    def median(self, provider: str, model: str) -> float | None:
        """Return the median of the seconds that the model's last answers took; None without any. May read the store."""
        self.reread()
        with self._lock:
            known = self._models.get((provider, model))
            return percentile(known.times, 0.5) if known is not None else None

    def late_after(self, provider: str, model: str, *, streamed: bool, stage: str = "") -> float | None:
        """Return after how many seconds an answer of the model, or its stream's first event, is late; None without data."""
        with self._lock:
            known = self._models.get((provider, model))
            return None if known is None else known.lateness.after(known.calls, known.count, streamed=streamed, stage=stage)

    def all(self, stage: str | None = None, task: str | None = None) -> list[ModelStatistics]:
        """Return the statistics of every model, of the calls of one stage, one task, or both, if given.

        Reads the store, so it may take milliseconds. ``wins`` are those of one stage or one task; a tie is half a win.
        """
        self.flush()
        self._reread_verdicts()
        if self._store is not None:
            found = sorted(self._store.statistics(stage, task), key=lambda known: (known.provider, known.model))
        else:
            with self._lock:
                found = [known.summary(*key, stage, task) for key, known in sorted(self._models.items())]
        return [self._with_wins(known, stage, task) for known in found if known.calls]

    def _with_wins(self, known: ModelStatistics, stage: str | None, task: str | None) -> ModelStatistics:
        wins = self.ratings.wins(f"{known.provider}:{known.model}", stage, task)
        return replace(known, wins=wins) if wins else known

    def flush(self) -> None:
        """Save what waits."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Save what waits and end the thread. Records that come later are saved by a new one."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, record: CallRecord) -> None:
        key = (record.attempt.provider, record.attempt.model)
        known = self._models.get(key)
        if known is None:
            known = self._models[key] = _Model(counted=self._store is None)
        known.add(record)
        if self._speed is not None:
            self._news.append(record)
            if len(self._news) > 5 * WINDOW:
                # Nobody asks any more; whoever does so again learns from the last calls of each model.
                self._speed, self._news = None, []

    def _learned(self) -> Speed:
        """Return what is known of models' speed. Calls are worked in when it is asked for, and not while they are recorded."""
        if self._speed is None:
            self._speed = Speed()
            last = (call for known in self._models.values() for call in known.calls)
            self._news = sorted(last, key=lambda call: call.attempt.started)
        for record in self._news:
            self._speed.add(record)
        self._news.clear()
        return self._speed

    def _stale(self) -> bool:
        if self._store is None and self._verdicts is None:
            return False
        return self._read is None or self._clock() - self._read >= REREAD

    def reread(self) -> None:
        """Take in what the store holds of other processes and earlier days, at most every few seconds. Raises StoreError."""
        if not self._stale():
            return
        self._read = self._clock()
        self._reread_verdicts()
        if self._store is None:
            return
        after = self._row
        row, records = self._store.latest(WINDOW, after)
        with self._lock:
            if self._row != after:
                return  # another thread has taken these in meanwhile
            self._row = row
            for record in records:
                if record.id in self._own:
                    del self._own[record.id]
                elif not record.attempt.offline:
                    self._add(record)

    def _reread_verdicts(self) -> None:
        if self._verdicts is None:
            return
        after = self._verdict_row
        row, found = self._verdicts.latest(VERDICTS, after)
        with self._lock:
            if self._verdict_row != after:
                return  # as above
            self._verdict_row = row
            verdicts = list(found)
            others = [verdict for verdict in verdicts if verdict.id not in self._own_verdicts]
            for verdict in verdicts:
                self._own_verdicts.pop(verdict.id, None)
        for verdict in others:
            self._learn(verdict)

    def _learn(self, verdict: VerdictRecord) -> None:
        self.ratings.add(verdict)
        self.standing.add(verdict)


def _remember(own: OrderedDict[str, None], id: str, most: int) -> None:
    """Keep the id of a record that the store will give back; of those never read back the oldest are forgotten."""
    own[id] = None
    if len(own) > most:
        own.popitem(last=False)


def _saves(store: CallStore | None, verdicts: VerdictStore | None) -> Callable[[Sequence[Any]], None]:
    """Return what saves a batch of call records and verdicts."""

    def save(batch: Sequence[Any]) -> None:
        calls = [record for record in batch if isinstance(record, CallRecord)]
        judged = [record for record in batch if isinstance(record, VerdictRecord)]
        if calls and store is not None:
            store.add(calls)
        if judged and verdicts is not None:
            verdicts.add(judged)

    return save


class _Writer:
    """The thread that saves records; it ends with ``close`` and starts again with the next record."""

    def __init__(self, save: Callable[[Sequence[Any]], None]) -> None:
        self._keep = save
        self._changed = threading.Condition()
        self._saving = threading.RLock()
        self._waiting: list[CallRecord | VerdictRecord] = []
        self._thread: threading.Thread | None = None
        self._failed = False

    def put(self, record: CallRecord | VerdictRecord) -> None:
        with self._changed:
            self._waiting.append(record)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flowcraft-statistics", daemon=True)
                self._thread.start()
            elif len(self._waiting) in (1, BATCH):
                self._changed.notify()

    def flush(self) -> None:
        with self._saving:
            with self._changed:
                batch, self._waiting = self._waiting, []
            if batch and not self._save(batch):
                with self._changed:
                    self._waiting = [*batch, *self._waiting][-MOST_WAITING:]

    def close(self) -> None:
        with self._changed:
            thread, self._thread = self._thread, None
            self._changed.notify_all()
        if thread is threading.current_thread():
            return
        if thread is not None:
            thread.join()
        self.flush()

    def _run(self) -> None:
        here = threading.current_thread()
        # The first record goes at once: opening the database takes its time, and what comes meanwhile goes with the second.
        pause = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._thread is not here)
                self._changed.wait_for(lambda: len(self._waiting) >= BATCH or self._thread is not here, pause)
                closed = self._thread is not here
            began = time.monotonic()
            self.flush()
            if closed:
                return
            pause = max(0.0, PAUSE - (time.monotonic() - began))

    def _save(self, batch: Sequence[CallRecord | VerdictRecord]) -> bool:
        try:
            self._keep(batch)
        except Exception as error:  # noqa: BLE001 - a background task: losing statistics must not end the program
            if not self._failed:
                logging.getLogger("flowcraft").warning("call records cannot be saved for now: %s", error)
            self._failed = True
            return False
        self._failed = False
        return True
