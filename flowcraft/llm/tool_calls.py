"""One call of a tool: its arguments checked, the tool called, its result as text. What goes wrong is told to the model."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flowcraft.errors import FlowCraftError, LLMError
from flowcraft.llm.parse import mismatches, told
from flowcraft.plugin.messages import ToolCall, ToolResult
from flowcraft.plugin.tools import Tool
from flowcraft.source import did_you_mean, listed

LONGEST_RESULT = 100_000
"""Characters of a result that a model is given; of a longer one the rest is left out, and that is said."""

LONGEST_ERROR = 2_000

Thread = Callable[[Callable[[], Any]], Awaitable[Any]]
OnError = Callable[[ToolCall, BaseException], None]


def _untold(call: ToolCall, error: BaseException) -> None:
    pass


async def carry_out(
    tools: Mapping[str, Tool], call: ToolCall, *, thread: Thread = asyncio.to_thread, on_error: OnError = _untold
) -> ToolResult:
    """Carry ``call`` out and return what the model is told: the result, or what was wrong.

    A synchronous tool runs by ``thread``; ``on_error`` is told what a tool raised. Errors of FlowCraft that are no language
    model's (a budget that is spent, a server that died) are raised: no model can mend them.
    """
    tool = tools.get(call.name)
    if tool is None:
        known = did_you_mean(call.name, tools) or f"the tools are: {listed(tools)}"
        return refused(call, f"there is no tool {call.name!r}; {known}")
    try:
        arguments = _arguments(call, tool.spec.parameters)
    except ValueError as error:
        return refused(call, str(error))
    try:
        content = result_text(await _called(tool.call, arguments, thread))
    except (Exception, SystemExit) as error:  # border: whatever a tool raises, the model is told
        if isinstance(error, FlowCraftError) and not isinstance(error, LLMError):
            raise
        on_error(call, error)
        message = str(error)
        return refused(call, f"{type(error).__name__}: {message}" if message else type(error).__name__)
    return ToolResult(id=call.id, name=call.name, content=content)


def refused(call: ToolCall, why: str) -> ToolResult:
    """Return the result of a call that failed or was not carried out."""
    return ToolResult(id=call.id, name=call.name, content=_bounded(f"error: {why}", LONGEST_ERROR), error=True)


def result_text(value: Any) -> str:
    """Return what a tool returned as text: text as it is, all else as JSON; what is too long for a model is cut."""
    if isinstance(value, str):
        return _bounded(value, LONGEST_RESULT)
    from pydantic_core import to_json

    return _bounded(to_json(value, fallback=str).decode(), LONGEST_RESULT)


def _bounded(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[{len(text) - most:,} of {len(text):,} characters are left out]"


def _arguments(call: ToolCall, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call; raise ValueError saying what of them does not fit the schema."""
    try:
        arguments = json.loads(call.arguments.strip() or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the arguments are no JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise ValueError("the arguments must be a JSON object")
    if wrong := mismatches(arguments, schema):
        raise ValueError(f"the arguments do not fit: {told(wrong)}")
    return arguments


async def _called(function: Callable[..., Any], arguments: Mapping[str, Any], thread: Thread) -> Any:
    call = functools.partial(function, **arguments)
    method = getattr(function, "__call__", None)  # noqa: B004 - not whether it can be called, but what is called
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method):
        return await call()
    value = await thread(call)
    return await value if inspect.isawaitable(value) else value
