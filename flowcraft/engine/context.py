"""What a body is given: the concrete stage context."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowcraft.engine.pieces.book import StagePieces
from flowcraft.engine.ports import Quality
from flowcraft.engine.threads import DaemonPool
from flowcraft.errors import PluginError, StageFailed, ToolUnavailable
from flowcraft.plugin.agents import AgentRunner
from flowcraft.plugin.chat import ChatRequest, ChatResponse, OutputSpec, Scope, StreamEvent
from flowcraft.plugin.llm import LLM
from flowcraft.redaction import Redactor

if TYPE_CHECKING:
    from flowcraft.tools import Toolbox
    from flowcraft.workflow.schema import Stage, ToolName, Workflow
    from flowcraft.workflow.types.type import Fields


class LeavesValue(StageFailed):
    """A failure that leaves a value, which counts where the stage goes on in spite of it."""

    def __init__(self, message: str, value: Any) -> None:
        super().__init__(message)
        self.value = value


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveAsk:
    """What is asked; ``rejects`` says that the choice 'reject' fails the stage."""

    question: str
    choices: Mapping[str, str]
    rejects: bool
    form: Fields | None = None

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        form = self.form.json_schema() if self.form is not None else None
        return {"question": self.question, "choices": list(self.choices), "rejects": self.rejects, "form": form}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The tools that a prompt is given; ``allowed`` may write and reach out whatever others wrote."""

    tools: Toolbox
    allowed: frozenset[str]


GiveTools = Callable[[Sequence["ToolName"]], Awaitable[Given]]
RunWorkflow = Callable[["Workflow", Mapping[str, Any], str], Any]
AskPeople = Callable[[ApproveAsk], Awaitable[Mapping[str, Any]]]
RunStages = Callable[[Mapping[str, "Stage"], Mapping[str, Any], str], Any]


async def _nobody(ask: ApproveAsk) -> Mapping[str, Any]:
    raise StageFailed("there is nobody here to ask")


def _no_runner() -> AgentRunner:
    raise PluginError("there is no agent runner here")


async def _no_tools(names: Sequence[ToolName]) -> Given:
    raise ToolUnavailable(f"there are no tools here: {', '.join(name.written for name in names)}")


class Placed:
    """An LLM whose calls belong to one stage of one run: counted there, paid from its budget, over by its end."""

    def __init__(self, llm: LLM, scope: Scope) -> None:
        self._llm = llm
        self._scope = scope

    @property
    def inner(self) -> LLM:
        """The LLM itself."""
        return self._llm

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer ``request``."""
        return await self._llm.chat(self._placed(request))

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer ``request`` as events."""
        return self._llm.stream(self._placed(request))

    def _placed(self, request: ChatRequest) -> ChatRequest:
        own, given = self._scope, request.scope
        ends = [end for end in (own.deadline, given.deadline) if end is not None]
        return request.within(run=own.run, path=own.path, stage=own.stage, budget=own.budget, deadline=min(ends, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One go of one stage or element, as its body sees it. ``deadline`` is the latest end on the loop's clock.

    ``budget`` is what the run may spend by its own file. ``arguments`` is the rendered ``with``, ``params`` the rendered
    ``params``; ``folder`` is that of the workflow file, ``started_in`` the one where the run was started; ``environment``
    holds the values of the names that the file lists under ``env``, ``redactor`` takes secrets out.
    ``quality`` is how good an answer is wanted of the stage's own chain; ``answered`` takes the answer that counts.
    ``run_workflow(workflow, inputs, path)`` carries another workflow out as a part of this run,
    ``run_stages(stages, names, path)`` the stages of a group, which see these names; ``tools(names)`` gives the tools that the
    file names, ``ask`` what people chose, ``runner`` who carries agents out. ``others`` is how good an answer is wanted of
    other chains than the stage's own.
    """

    run: str
    path: str
    stage: str
    pieces: StagePieces
    chain: Callable[[str | None, Quality], LLM]
    say: Callable[..., None]
    answered: Callable[[ChatResponse], None]
    run_workflow: RunWorkflow
    run_stages: RunStages
    threads: DaemonPool
    tools: GiveTools = _no_tools
    ask: AskPeople = _nobody
    runner: Callable[[], AgentRunner] = _no_runner
    deadline: float | None = None
    output: OutputSpec | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    quality: Quality = field(default_factory=Quality)
    others: Quality = field(default_factory=Quality)
    folder: str = ""
    started_in: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    redactor: Redactor = field(default_factory=Redactor)
    budget: Mapping[str, float] = field(default_factory=dict)

    def llm(self, model: str | None = None) -> LLM:
        """Return the chain of this stage, or that of a tier, alias or model."""
        chain = self.chain(self.model, self.quality) if model is None else self.chain(model, self.others)
        scope = Scope(run=self.run, path=self.path, stage=self.stage, deadline=self.deadline, budget=self.budget)
        return Placed(chain, scope)

    def emit(self, message: str, **data: Any) -> None:
        """Let those who watch the run know."""
        self.say(message, **data)
