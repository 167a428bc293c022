"""Agents and crews with values put in, their tools found, handed to the runner that carries them out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from flowcraft.engine.ports import Quality
from flowcraft.errors import StageFailed
from flowcraft.plugin import agents as plugin
from flowcraft.plugin.tools import Tool
from flowcraft.tools import Toolbox
from flowcraft.workflow.schema import Agent, Crew, Task, ToolName

if TYPE_CHECKING:
    from flowcraft.engine.context import Context
    from flowcraft.engine.threads import DaemonPool

Scope = Mapping[str, Any]

AGENTS = Quality(strategy="single", tools=True)
"""How agents ask: one model's answer, which nobody asks for again, because it may call tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAsk:
    """An agent, its texts rendered."""

    name: str
    role: str
    goal: str
    backstory: str
    model: str | None
    tools: tuple[ToolName, ...]
    allow_delegation: bool
    max_iter: int | None
    options: Mapping[str, Any]

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data, tools as they are written."""
        return {**asdict(self), "tools": [tool.written for tool in self.tools]}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAsk:
    """A task, its texts rendered."""

    name: str
    description: str
    expected_output: str
    agent: str
    context: tuple[str, ...] | None
    tools: tuple[ToolName, ...]
    options: Mapping[str, Any]

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data, tools as they are written."""
        return {**asdict(self), "tools": [tool.written for tool in self.tools]}


@dataclass(frozen=True, slots=True, kw_only=True)
class CrewAsk:
    """A crew, all of its texts rendered."""

    agents: tuple[AgentAsk, ...]
    tasks: tuple[TaskAsk, ...]
    process: plugin.Process
    manager: AgentAsk | str | None

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are named besides the stage's own, each once."""
        lead = self.manager.model if isinstance(self.manager, AgentAsk) else self.manager
        named = [*(agent.model for agent in self.agents), lead]
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data, tools as they are written."""
        lead = self.manager
        return {
            "agents": [agent.data() for agent in self.agents],
            "tasks": [task.data() for task in self.tasks],
            "process": self.process,
            "manager": lead.data() if isinstance(lead, AgentAsk) else lead,
        }


def agent_ask(agent: Agent, scope: Scope) -> AgentAsk:
    """Return an agent with values put in. Raises ExpressionError."""
    return AgentAsk(
        name=agent.name,
        role=agent.role.text(scope),
        goal=agent.goal.text(scope),
        backstory=agent.backstory.text(scope) if agent.backstory is not None else "",
        model=agent.model,
        tools=agent.tools,
        allow_delegation=agent.allow_delegation,
        max_iter=agent.max_iter,
        options=agent.options,
    )


def crew_ask(crew: Crew, scope: Scope) -> CrewAsk:
    """Return a crew with values put in. Raises ExpressionError."""
    lead = crew.manager
    return CrewAsk(
        agents=tuple(agent_ask(agent, scope) for agent in crew.agents.values()),
        tasks=tuple(_task_ask(task, scope) for task in crew.tasks),
        process=crew.process,
        manager=agent_ask(lead, scope) if isinstance(lead, Agent) else lead,
    )


def _task_ask(task: Task, scope: Scope) -> TaskAsk:
    return TaskAsk(
        name=task.name,
        description=task.description.text(scope),
        expected_output=task.expected_output.text(scope) if task.expected_output is not None else "",
        agent=task.agent,
        context=task.context,
        tools=task.tools,
        options=task.options,
    )


def one_task(agent: AgentAsk, name: str, description: str, tools: tuple[ToolName, ...]) -> CrewAsk:
    """Return the crew of one agent that has one task."""
    task = TaskAsk(
        name=name, description=description, expected_output="", agent=agent.name, context=None, tools=tools, options={}
    )
    return CrewAsk(agents=(agent,), tasks=(task,), process="sequential", manager=None)


def models_named(options: Any) -> tuple[str, ...]:
    """Return the models that the agents of a rendered body name besides the stage's own."""
    if isinstance(options, CrewAsk):
        return options.models
    agent = getattr(options, "agent", None)
    return (agent.model,) if isinstance(agent, AgentAsk) and agent.model is not None else ()


async def carry_out_crew(ask: CrewAsk, context: Context) -> Any:
    """Let the runner of the settings carry a crew out; return what its last task gives."""
    if context.output is not None and context.output.schema == {"type": "string"}:
        context = replace(context, output=None)
    crew = await _crew(ask, context)
    value = await context.runner().run(crew, context)
    if context.output is None and not isinstance(value, str):
        raise StageFailed(f"the agents gave {type(value).__name__} instead of text")
    return value


async def _crew(ask: CrewAsk, context: Context) -> plugin.AgentCrew:
    """Return a crew with its tools, functions loaded and servers asked."""
    of_tasks = [await _tools(task.tools, context) for task in ask.tasks]
    agents: dict[str, plugin.Agent] = {}
    for agent in ask.agents:
        own = [given for task, given in zip(ask.tasks, of_tasks, strict=True) if task.agent in ("", agent.name)]
        agents[agent.name] = await _agent(agent, own, context)
    lead = ask.manager
    return plugin.AgentCrew(
        agents=agents,
        tasks=[
            plugin.AgentTask(
                name=task.name,
                description=task.description,
                expected_output=task.expected_output,
                agent=task.agent,
                context=task.context,
                tools=tools,
                options=task.options,
            )
            for task, (tools, _) in zip(ask.tasks, of_tasks, strict=True)
        ],
        process=ask.process,
        manager=await _agent(lead, [], context) if isinstance(lead, AgentAsk) else lead,
    )


async def _agent(agent: AgentAsk, tasks: Sequence[tuple[Sequence[Tool], frozenset[str]]], context: Context) -> plugin.Agent:
    """Return an agent with its tools; ``tasks`` are the tools of its tasks, which it may use as its own."""
    tools, allowed = await _tools(agent.tools, context)
    for others, _ in tasks:
        _check_together(agent.name, tools, others)
    return plugin.Agent(
        name=agent.name,
        role=agent.role,
        goal=agent.goal,
        backstory=agent.backstory,
        model=agent.model,
        tools=tools,
        allowed=allowed.union(*(given for _, given in tasks)),
        allow_delegation=agent.allow_delegation,
        max_iter=agent.max_iter,
        options=agent.options,
    )


def _check_together(agent: str, own: Sequence[Tool], others: Sequence[Tool]) -> None:
    try:
        Toolbox(*own, *(tool for tool in others if all(tool.call is not known.call for known in own)))
    except ValueError as error:
        raise StageFailed(f"agent {agent}: {error}") from None


async def _tools(names: Sequence[ToolName], context: Context) -> tuple[Sequence[Tool], frozenset[str]]:
    if not names:
        return (), frozenset()
    given = await context.tools(names)
    return tuple(_awaited(tool, context.threads) for tool in given.tools), given.allowed


def _awaited(tool: Tool, threads: DaemonPool) -> Tool:
    """Return a tool whose ``call`` is awaited, whatever its function is: a synchronous one goes to a thread."""
    if inspect.iscoroutinefunction(tool.call):
        return tool

    async def call(**arguments: Any) -> Any:
        value = await threads.run(functools.partial(tool.call, **arguments))
        return await value if inspect.isawaitable(value) else value

    return replace(tool, call=call)
