"""A stage as a runner sees it: chains on a server, and pieces that outlive it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft.errors import RunDiverged
from flowcraft.manager import LLMManager
from flowcraft.plugin import LLM, Agent, AgentCrew, AgentTask, OutputSpec, Tool, ToolSpec


@dataclass
class Book:
    """Pieces by their parts, as JSON; what is asked for is compared."""

    kept: dict[str, tuple[str, str]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    async def do(self, part: str, what: Any, body: Callable[[], Awaitable[Any]]) -> Any:
        asked = json.dumps(what, sort_keys=True)
        if part in self.kept:
            if self.kept[part][0] != asked:
                raise RunDiverged(f"{part} asks for {asked} instead of {self.kept[part][0]}")
            return json.loads(self.kept[part][1])
        value = json.dumps(await body())
        self.kept[part] = (asked, value)
        self.done.append(part)
        return json.loads(value)

    def known(self, part: str) -> bool:
        return part in self.kept


@dataclass
class Stage:
    """One go of a stage."""

    manager: LLMManager
    pieces: Book = field(default_factory=Book)
    output: OutputSpec | None = None
    said: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    run: str = "run"
    path: str = "draft"
    stage: str = "draft"
    deadline: float | None = None

    def llm(self, model: str | None = None) -> LLM:
        return self.manager.llm(model)

    def emit(self, message: str, **data: Any) -> None:
        self.said.append((message, data))


def tool_of(function: Callable[..., Any], **notes: Any) -> Tool:
    """Return a tool of a function of texts."""
    names = [name for name in function.__annotations__ if name != "return"]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
    return Tool(spec=ToolSpec(name=function.__name__, description="A tool", parameters=schema), call=function, **notes)


def agent(name: str, **more: Any) -> Agent:
    """Return an agent whose texts are its name."""
    return Agent(name=name, role=more.pop("role", name.title()), goal=f"Be a good {name}", backstory="Has always been", **more)


def crew_of(*agents: Agent, tasks: list[AgentTask] | None = None, **more: Any) -> AgentCrew:
    """Return a crew; without tasks, each agent has one."""
    given = tasks or [
        AgentTask(name=f"of_{one.name}", description=f"Do as a {one.name} does", agent=one.name) for one in agents
    ]
    return AgentCrew(agents={one.name: one for one in agents}, tasks=given, **more)
