"""``prompt``: one question to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from flowcraft.engine.bodies.attachments import Attached, load
from flowcraft.engine.bodies.crews import AgentAsk, carry_out_crew, one_task
from flowcraft.engine.context import Context
from flowcraft.engine.tooling import ask_with_tools
from flowcraft.errors import StageFailed
from flowcraft.plugin.chat import ChatRequest, ReasoningSpec
from flowcraft.plugin.messages import Message, Part, Text
from flowcraft.plugin.stages import StageBody
from flowcraft.workflow.schema import ToolName

_OWN = frozenset({"messages", "tools", "output", "extra", "scope", "metadata"})
_KNOWN = frozenset(item.name for item in fields(ChatRequest)) - _OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptAsk:
    """The rendered texts of a prompt, and the names of its tools.

    ``previous`` is the answer that did not pass, ``reasons`` say what was wrong with it.
    """

    prompt: str
    system: str | None = None
    tools: tuple[ToolName, ...] = ()
    previous: str | None = None
    reasons: tuple[str, ...] = ()
    attach: tuple[Attached, ...] = ()
    agent: AgentAsk | None = None

    def task(self) -> str:
        """Return what an agent is told to do: the prompt, and what was wrong with the try before."""
        if self.previous is None:
            return self.prompt
        return f"{self.prompt}\n\nYour answer before:\n{self.previous or '(nothing)'}\n\n{self._again()}"

    def _again(self) -> str:
        wrong = "".join(f"\n- {reason}" for reason in self.reasons)
        return f"This does not do yet.{' What is wrong with it:' if wrong else ''}{wrong}\nAnswer again, and better."

    def messages(self, media: tuple[Part, ...]) -> tuple[Message, ...]:
        """Return what is said to the model; ``media`` are the contents of what is attached."""
        head = (Message.system(self.system),) if self.system else ()
        asked = Message(role="user", parts=(*media, Text(text=self.prompt)))
        if self.previous is None:
            return (*head, asked)
        return (*head, asked, Message.assistant(self.previous or "(nothing)"), Message.user(self._again()))


class PromptBody(StageBody):
    """Asks the stage's chain once, with tools until it answers; the answer is text, or a value of the stage's output type."""

    key: ClassVar[str] = "prompt"
    takes: ClassVar[frozenset[str]] = frozenset(
        {"output", "model", "params", "system", "attach", "agent", "tools", "strategy", "judge", "confidence"}
    )

    async def run(self, options: PromptAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Ask and return the answer; with an agent, let it do what is asked."""
        if options.agent is not None:
            return await carry_out_crew(one_task(options.agent, context.stage, options.task(), options.tools), context)
        wants_text = context.output is None or context.output.schema == {"type": "string"}
        media = await load(options.attach, context) if options.attach else ()
        request = ChatRequest(
            messages=options.messages(media),
            output=None if wants_text else context.output,
            **request_params(context.params),
        )
        if options.tools:
            response = await ask_with_tools(request, options.tools, context)
        else:
            response = await context.llm().chat(request)
        context.answered(response)
        if wants_text and response.tool_calls and not response.text:
            raise StageFailed(f"the model calls {response.tool_calls[0].name!r} in place of an answer, and has no tools")
        return response.text if wants_text else response.parsed


def request_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``params`` as fields of a request; what no field is for (``min_p``, ``grammar``) goes into ``extra``."""
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in params.items():
        if name == "extra":
            extra |= value or {}
        elif name not in _KNOWN:
            extra.setdefault(name, value)
        elif name == "stop":
            known[name] = (value,) if isinstance(value, str) else tuple(value or ())
        elif name == "reasoning" and isinstance(value, dict):
            known[name] = ReasoningSpec(effort=value.get("effort"), budget=value.get("budget"))
        elif name == "reasoning":
            known[name] = ReasoningSpec(effort=value)
        else:
            known[name] = tuple(value) if isinstance(value, list) else value
    if extra:
        known["extra"] = extra
    return known
