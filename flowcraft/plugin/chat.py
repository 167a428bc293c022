"""One question to a model and its answer, whole or as a stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flowcraft.attempts import Attempt, Usage, spent_usd
from flowcraft.plugin.messages import Message, Part, Text, ToolCall
from flowcraft.plugin.tools import ToolSpec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """The JSON Schema that the answer must fit."""

    schema: Mapping[str, Any]
    name: str = "output"
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningSpec:
    """How much a model may think: an effort (``low medium high``) or a budget in tokens."""

    effort: str | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where a request belongs and how long it may take: never hashed, never sent.

    ``deadline`` is the latest end of the whole answer, ``until`` of this attempt (both on the loop's clock); ``last`` says
    that no other model is left, ``wait`` how many seconds this attempt was held back by a limit. ``run``, ``path``,
    ``stage`` and ``task`` are labels of the records; ``key`` is whose budget is spent besides, ``budget`` how much the run
    may spend (by ``usd``, ``tokens``, ``calls``) where it says so itself. ``ledger`` collects the attempts of one answer.
    ``prefer`` and ``avoid`` hold ``provider:model`` ids; of those in ``passed`` no skip is told. ``so_far`` is what the
    reader of a stream has already, from where the model is to go on. ``check`` is given every answer before it is written
    down: it returns the answer, with its value in ``parsed``, or raises InvalidOutput. ``lost`` says, when a stream is
    closed early, whether that is because another model answered first; ``held`` is told when this attempt begins to wait for
    a limit (True) and when that is over. ``embeds`` asks for vectors of the messages in place of an answer.
    """

    deadline: float | None = None
    until: float | None = None
    last: bool = False
    wait: float = 0.0
    run: str = ""
    path: str = ""
    stage: str = ""
    task: str = ""
    key: str = ""
    prefer: str = ""
    avoid: frozenset[str] = frozenset()
    passed: frozenset[str] = frozenset()
    so_far: str = ""
    budget: Mapping[str, float] = field(default_factory=dict)
    check: Callable[[ChatResponse], ChatResponse] | None = None
    lost: Callable[[], bool] | None = None
    held: Callable[[bool], None] | None = None
    ledger: list[Attempt] = field(default_factory=list)
    embeds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One question to a model. ``extra`` holds what one vendor alone has; it is hashed and passed through."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str | None = None
    parallel_tools: bool | None = None
    output: OutputSpec | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning: ReasoningSpec | None = None
    modalities: tuple[str, ...] = ()
    prefix: str = ""
    cache_hint: str | None = None
    user: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope, compare=False, repr=False)

    @property
    def last_text(self) -> str:
        """The text of the last message."""
        return self.messages[-1].text if self.messages else ""

    @property
    def system_text(self) -> str:
        """The text of all system messages."""
        return "\n\n".join(message.text for message in self.messages if message.role == "system")

    def within(self, **scope: Any) -> ChatRequest:
        """Return the same request with some fields of its scope replaced."""
        return replace(self, scope=replace(self.scope, **scope))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One token with its natural log probability, and the most likely alternatives."""

    token: str
    logprob: float
    bytes: bytes | None = None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several answers (``n`` > 1)."""

    text: str = ""
    parts: tuple[Part, ...] = ()
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResponse:
    """An answer. ``ChatResponse(text=...)`` alone is valid.

    ``usage`` and ``usd`` are those of the answer itself, ``spent_usd`` of all attempts; ``seconds`` and ``first_token``
    are seconds; ``parsed`` is the value of a structured answer.
    """

    text: str = ""
    parts: tuple[Part, ...] = ()
    model: str = ""
    provider: str = ""
    response_id: str = ""
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    usd: float | None = None
    seconds: float = 0.0
    first_token: float | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    confidence: float | None = None
    choices: tuple[Choice, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    parsed: Any = None
    offline: bool = False
    cached: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls among the parts."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def spent_usd(self) -> float | None:
        """USD of all attempts; None when no price is known."""
        return spent_usd(self.attempts)

    @property
    def message(self) -> Message:
        """The answer as a message of the conversation."""
        parts = self.parts
        if self.text and not any(isinstance(part, Text) for part in parts):
            parts = (Text(text=self.text), *parts)
        return Message(role="assistant", parts=parts)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of what the model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of a tool call; ``index`` is its place in the response."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A tool call that is complete."""

    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class AudioDelta:
    """More sound."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LogprobsDelta:
    """The log probabilities of the last tokens."""

    tokens: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Rollback:
    """The last ``characters`` of text are taken back."""

    characters: int


@dataclass(frozen=True, slots=True)
class Restart:
    """The answer begins anew: everything so far is void."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """From here on another model writes."""

    model: str
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Something is under way that is no part of the answer, such as a judge at work."""

    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """The whole answer. Comes exactly once, last."""

    response: ChatResponse


StreamEvent = (
    TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | ToolCallEvent
    | AudioDelta
    | LogprobsDelta
    | Rollback
    | Restart
    | Switch
    | Progress
    | Done
)


async def collect(stream: AsyncIterator[StreamEvent]) -> ChatResponse:
    """Return the response that the events of ``stream`` make; a stream without ``Done`` has raised."""
    async for event in stream:
        if isinstance(event, Done):
            return event.response
    raise RuntimeError("the stream ended without Done")
