"""``run``: a Python function, sync or async."""

from __future__ import annotations

import functools
import inspect
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from flowcraft.engine.context import Context
from flowcraft.engine.functions import is_async, load_function
from flowcraft.errors import FlowCraftError, StageFailed
from flowcraft.plugin.stages import StageBody


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAsk:
    """Which function."""

    module: str
    function: str


class RunBody(StageBody):
    """Calls the function with the rendered ``with`` as keyword arguments; synchronous ones run on a thread."""

    key: ClassVar[str] = "run"
    takes: ClassVar[frozenset[str]] = frozenset({"with", "output"})

    async def run(self, options: RunAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Call the function and return its result."""
        name = f"{options.module}:{options.function}"
        try:
            function = load_function(context.folder, options.module, options.function)
            call = functools.partial(function, **context.arguments)
            _check_arguments(name, function, context)
            if is_async(function):
                return await call()
            result = await context.threads.run(call)
            return await result if inspect.isawaitable(result) else result
        except FlowCraftError as error:
            if error.__cause__ is not None:
                context.emit(f"{name} failed", level="error", traceback=_traceback(error.__cause__))
            raise
        except Exception as error:
            context.emit(f"{name} failed", level="error", traceback=_traceback(error))
            raise StageFailed(_told(name, error)) from error


def _check_arguments(name: str, function: Any, context: Context) -> None:
    try:
        inspect.signature(function).bind(**context.arguments)
    except ValueError:
        return  # built in C: no signature to check
    except TypeError as error:
        raise StageFailed(f"{name}: {error}; 'with' gives: {', '.join(context.arguments) or 'nothing'}") from None


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _told(name: str, error: BaseException) -> str:
    """Return class, message and the innermost place of ``error`` in the user's code."""
    here = str(Path(__file__).parent.parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(here)]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    message = str(error)
    return f"{name}: {type(error).__name__}{': ' + message if message else ''}{place}"
