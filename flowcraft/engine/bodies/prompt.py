"""``prompt``: one question to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from flowcraft.engine.context import Context
from flowcraft.plugin.chat import ChatRequest, ReasoningSpec
from flowcraft.plugin.messages import Message
from flowcraft.plugin.stages import StageBody

_OWN = frozenset({"messages", "tools", "output", "extra", "scope", "metadata"})
_KNOWN = frozenset(item.name for item in fields(ChatRequest)) - _OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptAsk:
    """The rendered texts of a prompt."""

    prompt: str
    system: str | None = None


class PromptBody(StageBody):
    """Asks the stage's chain once; the answer is text, or a value of the stage's output type."""

    key: ClassVar[str] = "prompt"
    takes: ClassVar[frozenset[str]] = frozenset({"output", "model", "params", "system", "strategy", "judge", "confidence"})

    async def run(self, options: PromptAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Ask and return the answer."""
        wants_text = context.output is None or context.output.schema == {"type": "string"}
        messages: tuple[Message, ...] = (Message.user(options.prompt),)
        if options.system:
            messages = (Message.system(options.system), *messages)
        request = ChatRequest(
            messages=messages,
            output=None if wants_text else context.output,
            **request_params(context.params),
        )
        response = await context.llm().chat(request)
        context.answered(response)
        return response.text if wants_text else response.parsed


def request_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``params`` as fields of a request; what no field is for (``min_p``, ``grammar``) goes into ``extra``."""
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in params.items():
        if name not in _KNOWN:
            extra[name] = value
        elif name == "stop":
            known[name] = (value,) if isinstance(value, str) else tuple(value or ())
        elif name == "reasoning" and isinstance(value, dict):
            known[name] = ReasoningSpec(effort=value.get("effort"), budget=value.get("budget"))
        elif name == "reasoning":
            known[name] = ReasoningSpec(effort=value)
        else:
            known[name] = tuple(value) if isinstance(value, list) else value
    if extra:
        known["extra"] = {**extra, **known.get("extra", {})}
    return known
