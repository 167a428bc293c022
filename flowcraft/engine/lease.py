"""Who owns a run: a process with a beat counter. No clocks are compared; a counter that stands still is a dead process."""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from flowcraft.engine.ports import ProcessRow, RunStore
from flowcraft.errors import StoreError

BEAT_SECONDS = 2.0
LEASE_SECONDS = 10.0
LONGEST_LOOK_SECONDS = 1.5 * BEAT_SECONDS
"""No more than this counts as watched between two looks of a vigil."""
IDLE_BEATS = 10
"""After so many beats without a run the beat pauses until there is one again."""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return what the system tells of a process behind its name, which stands in brackets and may hold anything."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _started(pid: int) -> str:
    """Return the start time of a process in ticks since boot, empty where it is not known."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def this_process() -> ProcessRow:
    """Return what identifies this process on its machine; empty where the system does not tell."""
    pid = os.getpid()
    return ProcessRow(
        id=uuid.uuid4().hex,
        host=platform.node(),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        namespace=_namespace(),
        pid=pid,
        started=_started(pid),
    )


def is_gone(process: ProcessRow) -> bool:
    """Say whether ``process`` is known not to run any more; False also means unknown."""
    here = this_process()
    known = process.boot and process.namespace and process.started
    if not known or (process.boot, process.namespace) != (here.boot, here.namespace):
        return False
    fields = _stat(process.pid)
    if len(fields) > 19:
        return fields[0] in ("Z", "X") or fields[19] != process.started  # a zombie, or another process by the same number
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What watching another process found: ``dead``, or that it still beats."""

    dead: bool
    seconds: float


def watch(store: RunStore, process: str, *, pause: Callable[[float], object] = time.sleep) -> Watch:
    """Watch the counter of ``process`` until it moves or has stood still for a whole lease, in running time of one's own.

    A ``pause`` that returns something true gives the watch up.
    """
    first = store.process(process)
    waited = 0.0
    while first is not None and waited < LEASE_SECONDS:
        if pause(BEAT_SECONDS / 4):
            return Watch(dead=False, seconds=waited)
        waited += BEAT_SECONDS / 4
        now = store.process(process)
        if now is None or is_gone(now):
            return Watch(dead=True, seconds=waited)
        if now.beat != first.beat:
            return Watch(dead=False, seconds=waited)
    return Watch(dead=True, seconds=waited)


class Vigil:
    """Watches many counters at once, look by look, in running time of one's own. ``now`` gives seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[str, tuple[int, float, float]] = {}

    def stands_still(self, key: str, count: int) -> bool:
        """Say whether the counter ``key``, which stands at ``count`` now, has stood still for a whole lease of looks."""
        now = self._now()
        before, still, looked = self._seen.get(key, (count, 0.0, now))
        # While this process itself was stopped it has watched nothing.
        still = still + min(now - looked, LONGEST_LOOK_SECONDS) if count == before else 0.0
        self._seen[key] = (count, still, now)
        return still >= LEASE_SECONDS

    def keep(self, keys: Container[str]) -> None:
        """Forget all counters but these."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}


class Owner:
    """The process that we are, as an owner of runs. Beats on a thread of its own as long as it owns any.

    ``on_wanted(run, wanted)`` is called on that thread when somebody wants something of a run (``cancel``); ``busy`` says
    whether any run is carried out here. ``gaps`` counts how often a beat came so late that another process may have taken runs
    over meanwhile.
    """

    def __init__(self, store: RunStore, on_wanted: Callable[[str, str], None], busy: Callable[[], bool] = lambda: True) -> None:
        self._store = store
        self._on_wanted = on_wanted
        self._busy = busy
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._beaten = time.monotonic()
        self.gaps = 0
        self.process = this_process()

    @property
    def id(self) -> str:
        """The id of this process among owners."""
        return self.process.id

    def start(self) -> None:
        """Enter this process and begin to beat; later calls do nothing but end a pause."""
        with self._lock:
            if self._thread is not None:
                if not self._awake.is_set():
                    self.beat()
                    self._awake.set()
                return
            self._awake.set()
            self._store.join(self.process)
            self._beaten = time.monotonic()
            self._stop.clear()
            self._thread = threading.Thread(target=self._serve, name="flowcraft-beat", daemon=True)
            self._thread.start()

    @property
    def fresh(self) -> bool:
        """Whether the last beat is younger than half the lease: only then may new work start unchecked."""
        return time.monotonic() - self._beaten < LEASE_SECONDS / 2

    def beat(self) -> None:
        """Raise the counter now, and hand out what is wanted."""
        begun = time.monotonic()
        if not self.fresh:
            self.gaps += 1
        wanted = self._store.beat(self.process)
        self._beaten = begun
        for run, what in wanted.items():
            self._on_wanted(run, what)

    def _serve(self) -> None:
        quiet = 0
        while not self._stop.wait(BEAT_SECONDS):
            quiet = 0 if self._busy() else quiet + 1
            if quiet >= IDLE_BEATS:
                quiet = 0
                self._awake.clear()
                self._awake.wait()
                continue
            try:
                self.beat()
            except StoreError:
                continue  # a busy database is asked again; without beats nothing new starts

    def stop(self) -> None:
        """End the beat and take this process off the list."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set()
        self._awake.set()
        thread.join()
        self._store.leave(self.id)
