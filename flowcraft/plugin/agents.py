"""Agent runners: other frameworks' agents as stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from flowcraft.plugin.stages import StageContext
from flowcraft.plugin.tools import Tool

Process = Literal["sequential", "hierarchical"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent as a workflow file describes it, its texts rendered and its tools found.

    ``name`` is its key in the file. ``model`` is a tier, an alias or a model; None: the stage's own. ``allowed`` names the
    tools, its own and those of its tasks, that may write though something untrusted was read. ``options`` are the words of
    ``agent_words`` that the file says. The ``call`` of its tools, and of a task's, is to be awaited, whatever the function is.
    """

    name: str
    role: str
    goal: str
    backstory: str = ""
    model: str | None = None
    tools: Sequence[Tool] = ()
    allowed: frozenset[str] = frozenset()
    allow_delegation: bool = False
    max_iter: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTask:
    """What an agent is to do. ``context`` names the tasks whose results it is given; None: as the runner does by itself.

    ``agent`` is empty where a manager hands tasks out.
    """

    name: str
    description: str
    expected_output: str = ""
    agent: str = ""
    context: Sequence[str] | None = None
    tools: Sequence[Tool] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCrew:
    """Agents by name and their tasks in order; one agent with one task is a crew too.

    ``manager`` is the agent, or the model (a tier, an alias or a model; None: the stage's own), that leads a hierarchical crew.
    """

    agents: Mapping[str, Agent]
    tasks: Sequence[AgentTask]
    process: Process = "sequential"
    manager: Agent | str | None = None


class AgentRunner(Protocol):
    """Carries crews out. ``name`` is how settings choose it (``agents.runner``).

    ``agent_words`` and ``task_words`` are those of the words ``verbose system_template prompt_template response_template`` of
    agents, and ``markdown`` of tasks, that it understands; ``flowcraft validate`` warns of the others.
    """

    name: ClassVar[str]
    agent_words: ClassVar[frozenset[str]]
    task_words: ClassVar[frozenset[str]]

    def missing(self) -> str:
        """Return what must be installed first, with the command; nothing where all is there. Imports nothing heavy."""
        ...

    def prepare(self) -> None:
        """Load what takes long; called on a thread as soon as a run is seen to need it."""
        ...

    async def run(self, crew: AgentCrew, context: StageContext) -> Any:
        """Carry the crew out and return what its last task gives; with ``context.output``, a value of that schema.

        Every question to a model (``context.llm(agent.model)``) and every tool call is a piece
        (``context.pieces.do("AGENT/call[n]", ...)``), so that a run that was killed goes on where it was. What makes a replay
        diverge is RunDiverged. Cancelled, it asks nothing more.
        """
        ...
