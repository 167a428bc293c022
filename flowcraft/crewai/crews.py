"""A crew of a workflow as one of CrewAI's: agents, tasks and tools made anew for each go of a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crewai import Crew, Process, Task
from crewai.tools import BaseTool
from crewai.utilities.i18n import get_i18n
from crewai.utilities.string_utils import sanitize_tool_name
from pydantic import BaseModel, PrivateAttr

from flowcraft.crewai.llm import llm_of
from flowcraft.crewai.loop import StageAgent
from flowcraft.crewai.shapes import arguments_class, output_class
from flowcraft.crewai.stage import Caller
from flowcraft.crewai.translate import coworker_name, masked
from flowcraft.crewai.work import Work
from flowcraft.errors import StageFailed
from flowcraft.llm.tool_loop import Gate, Untrusted
from flowcraft.plugin import Agent as Described
from flowcraft.plugin import AgentCrew, AgentTask, OutputSpec, StageContext, Tool

EXPECTED = "A complete answer to what is asked."
"""What a task is to give where nobody says it."""


class _NothingKept:
    """Stands for the file in which CrewAI keeps what tasks gave last: a stage keeps it in its run."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: None


class StageCrew(Crew):  # type: ignore[misc, unused-ignore]  # the library has types only where it is installed
    """A crew that keeps nothing outside of the run."""

    _task_output_handler: Any = PrivateAttr(default_factory=_NothingKept)


class StageTool(BaseTool):  # type: ignore[misc, unused-ignore]  # the library has types only where it is installed
    """A tool of ours, called as a piece of the stage."""

    _caller: Caller = PrivateAttr()
    _tool: Tool = PrivateAttr()

    def _run(self, **arguments: Any) -> str:
        return self._caller.use(self._tool, arguments)


@dataclass(frozen=True, slots=True)
class Made:
    """A crew that can be kicked off, and who asks for it."""

    crew: Any
    callers: list[Caller]


class Maker:
    """Makes CrewAI's crew of ours for one go of a stage."""

    def __init__(self, crew: AgentCrew, context: StageContext, work: Work) -> None:
        self._crew = crew
        self._stage = (context, work)
        self._read = Untrusted()
        self._callers: dict[str, Caller] = {}
        self._led = crew.process == "hierarchical"

    def make(self, output: OutputSpec | None) -> Made:
        """Return the crew. Raises StageFailed where CrewAI cannot carry it out."""
        crew, (context, _) = self._crew, self._stage
        _check_roles(crew)
        agents = {name: self._agent(agent, name) for name, agent in crew.agents.items()}
        manager = self._manager() if self._led else None
        tasks: dict[str, Any] = {}
        for number, task in enumerate(crew.tasks, 1):
            shape = output_class(output) if output is not None and number == len(crew.tasks) else None
            tasks[task.name] = self._task(task, agents, tasks, shape)
        made = StageCrew(
            name=context.stage,
            agents=list(agents.values()),
            tasks=list(tasks.values()),
            process=Process.hierarchical if self._led else Process.sequential,
            manager_agent=manager,
            verbose=False,
            cache=False,  # of an agent's, too: it has one only where the crew gives it one
            memory=False,
            tracing=False,
        )
        return Made(made, list(self._callers.values()))

    def _agent(self, agent: Described, key: str, **more: Any) -> Any:
        caller = self._caller(key, agent.model, agent.allowed, tells=bool(agent.options.get("verbose")))
        options = {name: value for name, value in agent.options.items() if name != "verbose"}
        _check_templates(key, options)
        limits = {} if agent.max_iter is None else {"max_iter": agent.max_iter}
        return StageAgent(
            role=masked(agent.role),
            goal=masked(agent.goal),
            backstory=masked(agent.backstory),
            llm=llm_of(caller, {}),
            tools=self._tools(caller, agent.tools),
            allow_delegation=agent.allow_delegation,
            verbose=False,
            max_retry_limit=0,
            use_better_compaction=False,  # it would put names of temporary files into prompts
            **limits,
            **options,
            **more,
        )

    def _caller(self, key: str, model: str | None, allowed: frozenset[str], *, tells: bool) -> Caller:
        tools: dict[str, Tool] = {}
        gate = Gate(tools, allowed, self._read)
        caller = self._callers[key] = Caller(key, model, self._stage, (gate, tools), tells=tells)
        return caller

    def _manager(self) -> Any:
        """Return who leads: the agent that the file names, or CrewAI's own on the model that it names."""
        lead = self._crew.manager
        key = "manager"
        while key in self._crew.agents:
            key += "_"
        if isinstance(lead, Described):
            if lead.tools:
                raise StageFailed(f"the manager '{lead.name}' of a crew takes no tools of its own; give them to its agents")
            return self._agent(lead, lead.name if lead.name not in self._crew.agents else key)
        words = get_i18n().retrieve
        told = {name: words("hierarchical_manager_agent", name) for name in ("role", "goal", "backstory")}
        allowed = frozenset[str]().union(*(agent.allowed for agent in self._crew.agents.values()))
        return self._agent(Described(name=key, model=lead, allowed=allowed, allow_delegation=True, **told), key)

    def _task(
        self, task: AgentTask, agents: Mapping[str, Any], before: Mapping[str, Any], shape: type[BaseModel] | None
    ) -> Any:
        context = {} if task.context is None else {"context": [before[name] for name in task.context]}
        made = Task(
            name=task.name,
            description=task.description,
            expected_output=task.expected_output or EXPECTED,
            agent=agents.get(task.agent),
            output_pydantic=shape,
            markdown=bool(task.options.get("markdown")),
            **context,
        )
        if task.tools or self._led:  # CrewAI would give a manager the tools of the agent that a task is meant for
            key = next(reversed(self._callers)) if self._led else task.agent
            made.tools = self._tools(self._callers[key], task.tools)
            if not self._led:
                own = agents[task.agent].tools
                names = {tool.name for tool in own}
                made.tools = [*own, *(tool for tool in made.tools if tool.name not in names)]
        return made

    def _tools(self, caller: Caller, tools: Sequence[Tool]) -> list[Any]:
        return [self._tool(caller, tool) for tool in tools]

    def _tool(self, caller: Caller, tool: Tool) -> Any:
        name = sanitize_tool_name(tool.spec.name)
        other = caller.tools.setdefault(name, tool)
        if other.spec.name != tool.spec.name:
            told = f"CrewAI takes {tool.spec.name!r} and {other.spec.name!r} for one name"
            raise StageFailed(f"the agent '{caller.key}' has two tools that are called alike: {told}")
        caller.tools[tool.spec.name] = tool
        made = StageTool(name=name, description=tool.spec.description or name, args_schema=arguments_class(tool.spec))
        made._caller, made._tool = caller, tool
        return made


def _check_roles(crew: AgentCrew) -> None:
    """Raise StageFailed where work is handed to one of two: CrewAI knows coworkers by their roles, and takes the first."""
    handing = [agent.name for agent in crew.agents.values() if agent.allow_delegation]
    for chief in [*handing, None] if crew.process == "hierarchical" else handing:
        known: dict[str, str] = {}
        for agent in crew.agents.values():
            role = coworker_name(agent.role)
            if agent.name != chief and known.setdefault(role, agent.name) != agent.name:
                two = f"'{known[role]}' and '{agent.name}'"
                raise StageFailed(f"the agents {two} have one role, by which work is handed out: {agent.role}; give them two")


def _check_templates(key: str, options: Mapping[str, Any]) -> None:
    """Raise StageFailed for templates that CrewAI would pass over, or fail of."""
    for name, mark in (("system", "System"), ("prompt", "Prompt"), ("response", "Response")):
        text = options.get(f"{name}_template")
        if text is not None and f"{{{{ .{mark} }}}}" not in text:
            raise StageFailed(f"the {name}_template of the agent '{key}' lacks {{{{ .{mark} }}}}, where CrewAI puts its text")
    given = {name for name in ("system_template", "prompt_template") if options.get(name)}
    if len(given) == 1 or (options.get("response_template") and not given):
        raise StageFailed(f"the agent '{key}' needs both system_template and prompt_template: CrewAI takes neither alone")
