"""Where calls wait for the limits of their model: in order within a process, and against all other processes.

Nothing awaits under a lock, and waiters of other loops are woken by ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from flowcraft.errors import CircuitOpen, StoreError
from flowcraft.llm.ports import Caller, Hold, LimitStore, Want
from flowcraft.llm.sharing.stores import MemoryLimits
from flowcraft.llm.sharing.threads import carried_out, taken
from flowcraft.plugin.chat import Scope

LOOK_AGAIN = 0.1
"""Seconds after which whoever waits looks again at the latest: another process may have given something back."""
LOOK_UP = 5.0
"""Seconds after which whoever is not the first looks whether he has become it, should nobody have told him."""
RENEW = 10.0
"""Seconds between two renewals of the places of calls under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A call that was let through: its id, the tokens reserved for it, and for how many seconds it was held back.

    It is not ``counted`` where the store failed.
    """

    call: str
    tokens: int
    wait: float = 0.0
    counted: bool = True


@dataclass(eq=False, slots=True)
class _Waiter:
    """One call in the queue of its gate."""

    loop: asyncio.AbstractEventLoop
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop is closed, so nobody waits there any more
            self.loop.call_soon_threadsafe(self.woken.set)

    async def sleep(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()


class Limiter:
    """All gates of one owner, and the places that their calls hold. ``clock`` tells seconds since the epoch.

    A store that fails keeps nobody from asking: limits then hold for nobody until it works again, and ``warn`` is told.
    """

    def __init__(
        self,
        store: LimitStore | None = None,
        clock: Callable[[], float] = time.time,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._store = store or MemoryLimits()
        self._clock = clock
        self._warn = warn
        self._lock = threading.Lock()
        self._gates: dict[tuple[Want, ...], Gate] = {}
        self._under_way: set[str] = set()
        self._renewing = False
        self._closed = threading.Event()

    def gate(self, wants: Sequence[Want]) -> Gate:
        """Return the gate that all calls with these limits pass through."""
        key = tuple(wants)
        with self._lock:
            gate = self._gates.get(key)
            if gate is None:
                gate = self._gates[key] = Gate(key, self)
            return gate

    def close(self) -> None:
        """End the thread that renews places."""
        self._closed.set()

    def now(self) -> float:
        """Return the seconds since the epoch."""
        return self._clock()

    async def take(self, caller: Caller, wants: Sequence[Want], until: float | None = None) -> Hold | bool:
        """Take room for a call and return True, or what holds it back; False if nobody can say.

        Raises TimeoutError where that is not known at ``until``.
        """
        return await taken(
            lambda: self._take(caller, wants), lambda got: self._leave(caller.id, wants, 1, caller.tokens, got), until
        )

    async def leave(
        self, call: str, wants: Sequence[Want], deadline: float | None, *, requests: int = 0, tokens: int = 0
    ) -> None:
        """End a call, or its turn, and give back what it did not take."""
        await carried_out(lambda: self._leave(call, wants, requests, tokens, True), deadline)

    def _take(self, caller: Caller, wants: Sequence[Want]) -> Hold | bool:
        try:
            hold = self._store.take(caller, wants, self._clock())
        except StoreError as error:
            self._warn(f"limits cannot be counted for now, models are asked without them: {error}")
            return False
        if hold is None and _has_places(wants):
            self._keep(caller.id)
        return True if hold is None else hold

    def _leave(self, call: str, wants: Sequence[Want], requests: int, tokens: int, got: Hold | bool) -> None:
        with self._lock:
            self._under_way.discard(call)
        try:
            if got is True and (requests or tokens):
                self._store.give_back(wants, requests, tokens)
            if _has_places(wants):
                self._store.leave(call)
        except StoreError as error:
            self._warn(f"limits cannot be counted for now: {error}")
        self._wake(wants)

    def _wake(self, wants: Sequence[Want]) -> None:
        names = {want.name for want in wants}
        with self._lock:
            gates = [gate for key, gate in self._gates.items() if any(want.name in names for want in key)]
        for gate in gates:
            gate.wake()

    def _keep(self, call: str) -> None:
        with self._lock:
            self._under_way.add(call)
            self._closed.clear()
            if self._renewing:
                return
            self._renewing = True
        threading.Thread(target=self._renew, name="flowcraft-limits", daemon=True).start()

    def _renew(self) -> None:
        while True:
            self._closed.wait(RENEW)
            with self._lock:  # the same in which calls are added: none comes in between and has nobody to renew it
                calls = list(self._under_way)
                if not calls or self._closed.is_set():
                    self._renewing = False
                    return
            try:
                self._store.renew(calls, self._clock())
            except StoreError as error:
                self._warn(f"limits cannot be counted for now: {error}")


class Gate:
    """The way to one model: lets calls through, first come, first served, as its limits have room."""

    def __init__(self, wants: Sequence[Want], limiter: Limiter) -> None:
        self.wants = tuple(wants)
        self.counts_tokens = any(want.tokens is not None for want in wants)
        self._limiter = limiter
        self._lock = threading.Lock()
        self._queue: deque[_Waiter] = deque()
        self._held: Hold | None = None

    async def enter(self, tokens: int, scope: Scope) -> Entry:
        """Wait for room and take it. Raises CircuitOpen where that does not fit into ``scope.until``."""
        waiter = _Waiter(asyncio.get_running_loop())
        call = os.urandom(12).hex()
        with self._lock:
            ahead = len(self._queue)
            self._queue.append(waiter)
        try:
            self._check_queue(ahead, scope, waiter.loop.time())
            began, counted = waiter.loop.time(), await self._turn(waiter, call, tokens, scope)
            wait = waiter.loop.time() - began
            return Entry(call=call, tokens=tokens, wait=wait, counted=counted)
        finally:
            with self._lock, suppress(ValueError):
                self._queue.remove(waiter)
            self.wake()

    async def leave(self, entry: Entry, requests: int, tokens: int, deadline: float | None = None) -> None:
        """End a call that took so many requests (0 or 1) and tokens, and give back what it did not take."""
        if entry.counted:
            left = entry.tokens - tokens
            await self._limiter.leave(entry.call, self.wants, deadline, requests=1 - requests, tokens=left)

    def wake(self) -> None:
        """Let the first who waits look again."""
        first = self._first()
        if first is not None:
            first.wake()

    def _first(self) -> _Waiter | None:
        with self._lock:
            while self._queue and self._queue[0].loop.is_closed():
                self._queue.popleft()  # its loop was closed before it could leave
            return self._queue[0] if self._queue else None

    async def _turn(self, waiter: _Waiter, call: str, tokens: int, scope: Scope) -> bool:
        """Wait until this one is the first, then for room. Whoever waits no longer gives his turn back."""
        waiter.woken.clear()
        while self._first() is not waiter:
            left = _left(scope, waiter.loop.time())
            if left is not None and left <= 0:
                raise CircuitOpen(self._told(self._held))
            await waiter.sleep(LOOK_UP if left is None else min(left, LOOK_UP))
            waiter.woken.clear()
        caller = Caller(id=call, tokens=tokens, since=self._limiter.now())
        try:
            return await self._room(waiter, caller, scope)
        except BaseException:
            if _has_places(self.wants):
                await self._limiter.leave(call, self.wants, scope.deadline)
            raise

    async def _room(self, waiter: _Waiter, caller: Caller, scope: Scope) -> bool:
        while True:
            waiter.woken.clear()
            try:
                got = await self._limiter.take(caller, self.wants, scope.until)
            except TimeoutError:
                raise CircuitOpen("its limits could not be looked up in time: the database is busy") from None
            if isinstance(got, bool):
                return got
            self._held = got
            await waiter.sleep(self._pause(got, scope, waiter.loop.time()))

    def _check_queue(self, ahead: int, scope: Scope, now: float) -> None:
        """Raise CircuitOpen at once where those in front alone take longer than there is time."""
        left = _left(scope, now)
        for want in self.wants:
            pace = want.requests
            if left is not None and pace is not None and (seconds := ahead * pace.interval - pace.burst) > left:
                raise CircuitOpen(self._told(Hold(name=want.name, unit="requests", seconds=seconds)))

    def _pause(self, hold: Hold, scope: Scope, now: float) -> float:
        """Return for how long to wait before one looks again; raises CircuitOpen where there is no time to wait."""
        left = _left(scope, now)
        if left is not None:
            # Places, and tokens that were reserved, are given back early: where no other model is left, that is waited for.
            fits = hold.seconds < left or (hold.unit != "requests" and scope.last)
            if left <= 0 or not fits:
                raise CircuitOpen(self._told(hold))
        pause = min(hold.seconds or LOOK_AGAIN, LOOK_AGAIN if hold.unit != "requests" else hold.seconds)
        return pause if left is None else min(pause, left)

    def _told(self, hold: Hold | None) -> str:
        of = next((want for want in self.wants if hold is not None and want.name == hold.name), self.wants[0])
        if hold is None:
            return f"others are waiting for the limits of {of.name}, for longer than this attempt may wait"
        if hold.unit == "concurrent":
            told = f"{of.concurrent} call{'s' if of.concurrent != 1 else ''} at a time: no place came free"
        else:
            told = f"{hold.unit} per minute: it may be asked again in {hold.seconds:.3g} s"
        return f"the limit of {of.name} is reached ({told}), which is longer than this attempt may wait"


def _left(scope: Scope, now: float) -> float | None:
    return None if scope.until is None else scope.until - now


def _has_places(wants: Sequence[Want]) -> bool:
    return any(want.concurrent is not None for want in wants)
