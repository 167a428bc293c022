"""``run``: a Python function, sync or async."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from flowcraft.engine.context import Context
from flowcraft.engine.functions import is_async, load_function
from flowcraft.engine.order import first_error
from flowcraft.errors import FlowCraftError, StageFailed
from flowcraft.plugin.stages import StageBody


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAsk:
    """Which function."""

    module: str
    function: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A function and what is known of it.

    ``not_null`` are the parameters whose annotations take no null, ``fits`` the names of arguments that it is known to take.
    """

    function: Callable[..., Any]
    signature: inspect.Signature | None
    is_async: bool
    not_null: frozenset[str] = frozenset()
    fits: set[tuple[str, ...]] = field(default_factory=set)

    def check(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Raise StageFailed unless the function takes these arguments."""
        for given in self.not_null:
            if given in arguments and arguments[given] is None:
                raise StageFailed(f"{name}: the parameter '{given}' takes no null; say what counts then: default(..., ...)")
        names = tuple(arguments)
        if self.signature is None or names in self.fits:
            return
        try:
            self.signature.bind(**arguments)
        except TypeError as error:
            raise StageFailed(f"{name}: {error}; 'with' gives: {', '.join(names) or 'nothing'}") from None
        self.fits.add(names)


class RunBody(StageBody):
    """Calls the function with the rendered ``with`` as keyword arguments; synchronous ones run on a thread."""

    key: ClassVar[str] = "run"
    takes: ClassVar[frozenset[str]] = frozenset({"with", "output"})

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, RunAsk], _Loaded] = {}
        self._loading: dict[tuple[str, RunAsk], asyncio.Future[_Loaded]] = {}

    async def _load(self, context: Context, options: RunAsk) -> _Loaded:
        """Return the function, looked up once, though a thousand stages ask at the same time."""
        key = (context.folder, options)
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.ensure_future(_load(context, options))
            loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._loaded[key] = await asyncio.shield(loading)
        return self._loaded[key]

    async def run(self, options: RunAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Call the function and return its result."""
        name = f"{options.module}:{options.function}"
        try:
            loaded = self._loaded.get((context.folder, options)) or await self._load(context, options)
            loaded.check(name, context.arguments)
            call = functools.partial(loaded.function, **context.arguments)
            if loaded.is_async:
                return await call()
            result = await context.threads.run(call)
            return await result if inspect.isawaitable(result) else result
        except FlowCraftError as error:
            if error.__cause__ is not None:
                context.emit(f"{name} failed", level="error", traceback=_traceback(error.__cause__))
            raise
        except (Exception, SystemExit) as error:
            context.emit(f"{name} failed", level="error", traceback=_traceback(error.__cause__ or error))
            raise StageFailed(_told(name, error, context.folder)) from error


async def _load(context: Context, options: RunAsk) -> _Loaded:
    # An import may take long: on a thread.
    find = functools.partial(load_function, context.folder, options.module, options.function)
    function = await context.threads.run(find)
    signature = _signature(function)
    return _Loaded(function=function, signature=signature, is_async=is_async(function), not_null=_not_null(function, signature))


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:
        return None  # built in C: no signature to check


def _not_null(function: Callable[..., Any], signature: inspect.Signature | None) -> frozenset[str]:
    """Return the parameters that take no null by their annotations, as far as the check of a file understands these too."""
    try:
        hints = typing.get_type_hints(function) if signature is not None else {}
    except (NameError, TypeError, AttributeError, ValueError, SyntaxError):
        return frozenset()  # an annotation for readers alone
    parameters = signature.parameters if signature is not None else {}
    taken = {name for name, parameter in parameters.items() if parameter.default is not None}
    return frozenset(name for name in taken if name in hints and _refuses_null(hints[name]))


def _refuses_null(hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return all(map(_refuses_null, parts))
    if origin is typing.Literal:
        return None not in parts
    return (origin or hint) in (str, int, float, bool, list, dict)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _told(name: str, error: BaseException, folder: str) -> str:
    """Return class, message and the place in the user's code of what went wrong first."""
    if isinstance(error, BaseExceptionGroup):
        error = first_error(error)
    if error.__cause__ is not None and not isinstance(error.__cause__, Exception):
        error = error.__cause__  # what a thread handed on
    ours = str(Path(__file__).parent.parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    users = [frame for frame in frames if frame.filename.startswith(folder)] or frames
    place = f" ({users[-1].filename}:{users[-1].lineno})" if users else ""
    message = str(error)
    return f"{name}: {type(error).__name__}{': ' + message if message else ''}{place}"
