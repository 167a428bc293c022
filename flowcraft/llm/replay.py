"""A whole answer as the events of a stream."""

from __future__ import annotations

from collections.abc import Iterator

from flowcraft.plugin.chat import ChatResponse, Done, LogprobsDelta, ReasoningDelta, StreamEvent, TextDelta, ToolCallEvent
from flowcraft.plugin.messages import Reasoning


def replayed(response: ChatResponse) -> Iterator[StreamEvent]:
    """Yield what a stream of ``response`` would have shown, ``Done`` last."""
    for part in response.parts:
        if isinstance(part, Reasoning) and part.text:
            yield ReasoningDelta(part.text)
    if response.text:
        yield TextDelta(response.text)
    if response.logprobs:
        yield LogprobsDelta(response.logprobs)
    for index, call in enumerate(response.tool_calls):
        yield ToolCallEvent(index, call)
    yield Done(response)
