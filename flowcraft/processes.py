"""Commands in process groups of their own, whose output is bounded and which leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

INHERITED = ("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")

GRACE_SECONDS = 2.0
"""How long what a command started may go on behind its end, or behind being told to end."""

MARK = "FLOWCRAFT_COMMAND"
"""The name of the environment by which what a command started is known."""

_REAP_SECONDS = 0.2
_ROUNDS = 50


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a command sees of the environment that FlowCraft runs in."""
    names = (*INHERITED, *PROXIES, *map(str.lower, PROXIES))
    return {name: environ[name] for name in names if name in environ}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is started: a bash with its options, its script, all that it sees of the environment, its folder and what it reads.

    ``arguments`` are what the script sees as ``$0``, ``$1`` and so on: no shell reads them.
    At most ``most_out`` bytes of its output are taken: beyond that it is killed. Of its errors the last ``most_err`` are kept.
    """

    bash: str
    options: tuple[str, ...]
    script: str
    environment: Mapping[str, str]
    folder: str
    arguments: tuple[str, ...] = ()
    stdin: bytes = b""
    most_out: int
    most_err: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended. ``code`` is 128 + n where signal n ended it; ``overflow`` says that its output was too large.

    ``left_out`` is how many bytes of its errors stood before those that were kept.
    """

    code: int
    out: bytes
    err: bytes
    overflow: bool = False
    left_out: int = 0


async def carry_out(command: Command) -> Outcome:
    """Carry ``command`` out in a group of its own, which is over when this returns or raises, however that comes about.

    Raises OSError where it cannot be started. Cancelled, the group is told to end (SIGTERM) and is killed after a moment.
    """
    group = _Group(command)
    try:
        await group.start()
        code = await group.process.wait()
    except asyncio.CancelledError:
        group.signal(signal.SIGTERM)
        raise
    finally:
        await group.end()
    return Outcome(
        code=code if code >= 0 else 128 - code,
        out=bytes(group.out.data),
        err=bytes(group.err.data),
        overflow=group.out.left_out > 0,
        left_out=group.err.left_out,
    )


def end_marked(mark: str) -> None:
    """Kill what left its group, as daemons do, and has ``mark`` in its environment still. Linux alone tells of it."""
    sought = f"{MARK}={mark}".encode()
    for _ in range(_ROUNDS):  # what is found may have started more meanwhile
        if not sum(_end_if_marked(int(name), sought) for name in _numbers()):
            return


def _numbers() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def _end_if_marked(number: int, sought: bytes) -> bool:
    """Kill a process if it is marked: by a handle, since its number may be another's by then."""
    try:
        handle = os.pidfd_open(number)
        try:
            with open(f"/proc/{number}/environ", "rb") as file:
                marked = sought in file.read().split(b"\0")
            if marked:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
    except OSError:
        return False  # it has ended, or is another user's
    return marked


# A part of the group holds on to a pipe that ends with this process, even where that is killed: then it kills the group.
# On the script's own first line, so that the numbers of its lines stay; the script's ``wait`` does not wait for it.
_GUARD = (
    "( trap '' HUP INT TERM; read -r _ <&{lifeline} || :; kill -KILL -- -$$ ) </dev/null >/dev/null 2>&1 & "
    "disown; exec {lifeline}<&-; "
)


class _Group:
    """A process, those that it starts, and the pipes to it."""

    process: asyncio.subprocess.Process

    def __init__(self, command: Command) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self.out = _Pipe(loop, command.most_out, self._overflow)
        self.err = _Pipe(loop, command.most_err)
        self._started = False
        self._lifeline = -1
        self._transports: list[asyncio.BaseTransport] = []

    async def start(self) -> None:
        """Start the process."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as ends:
            lifeline, self._lifeline = os.pipe()
            ends.callback(os.close, lifeline)
            outs = [await self._reading(loop, pipe, ends) for pipe in (self.out, self.err)]
            stdin = await self._writing(loop, ends) if self.command.stdin else asyncio.subprocess.DEVNULL
            self.process = await asyncio.create_subprocess_exec(
                self.command.bash,
                *self.command.options,
                *("-c", _GUARD.format(lifeline=lifeline) + self.command.script),
                *self.command.arguments,
                stdin=stdin,
                stdout=outs[0],
                stderr=outs[1],
                env=dict(self.command.environment),
                cwd=self.command.folder,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
            self._started = True

    async def _reading(self, loop: asyncio.AbstractEventLoop, pipe: _Pipe, ends: contextlib.ExitStack) -> int:
        ours, theirs = os.pipe()
        ends.callback(os.close, theirs)
        transport, _ = await loop.connect_read_pipe(lambda: pipe, os.fdopen(ours, "rb", 0))
        self._transports.append(transport)
        return theirs

    async def _writing(self, loop: asyncio.AbstractEventLoop, ends: contextlib.ExitStack) -> int:
        theirs, ours = os.pipe()
        ends.callback(os.close, theirs)
        transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(ours, "wb", 0))
        self._transports.append(transport)
        transport.write(self.command.stdin)
        transport.write_eof()
        return theirs

    def _overflow(self) -> None:
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, while its number is certain to be the group's."""
        if self._started and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    async def end(self) -> None:
        """Give what is left of the group a moment to end, then kill it; close the pipes."""
        try:
            if self._started:
                ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(self.process.wait()), self.out.closed, self.err.closed]
                await asyncio.wait(ends, timeout=GRACE_SECONDS)
        finally:
            self.signal(signal.SIGKILL)
            if self._lifeline >= 0:
                os.close(self._lifeline)  # the rest of the group ends by this, whoever of it is still there
        try:
            if self._started:
                await asyncio.wait({self.out.closed, self.err.closed}, timeout=GRACE_SECONDS)
                await self.process.wait()
                await self._reap()
        finally:
            for transport in self._transports:
                transport.close()

    async def _reap(self) -> None:
        """Take note of the end of the group's orphans, where this process is the one that inherits them (in a container)."""
        until = asyncio.get_running_loop().time() + _REAP_SECONDS
        while _orphans(self.process.pid) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.01)


def _orphans(group: int) -> bool:
    """Take note of one that ended; say whether there may be more."""
    try:
        os.waitpid(-group, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


class _Pipe(asyncio.Protocol):
    """What comes out of a process: up to ``most`` bytes, the last ones where nothing is said of an overflow."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int, overflow: Callable[[], None] | None = None) -> None:
        self.data = bytearray()
        self.left_out = 0
        self.closed: asyncio.Future[None] = loop.create_future()
        self._most = most
        self._overflow = overflow

    def data_received(self, data: bytes) -> None:
        """Take ``data`` in."""
        self.data += data
        excess = len(self.data) - self._most
        if excess <= 0:
            return
        self.left_out += excess
        del self.data[:excess]
        if self._overflow is not None:
            self._overflow()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come."""
        if not self.closed.done():
            self.closed.set_result(None)
