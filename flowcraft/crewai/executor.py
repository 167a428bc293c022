"""The executor agent: one of CrewAI's that works in a project folder, and there alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from crewai import Agent
from crewai.tools import BaseTool
from pydantic import PrivateAttr

from flowcraft.bridge import Bridge
from flowcraft.crewai.shapes import arguments_class
from flowcraft.llm.tool_calls import carry_out
from flowcraft.plugin import Tool, ToolCall
from flowcraft.tools import Workspace

TEXTS: Final = {
    "role": "Executor",
    "goal": "Carry out what is asked by changing the files of the project, in small steps that can be checked",
    "backstory": (
        "You work in one project folder, by tools alone: list and search before you read, read before you change, "
        "change no more than is asked, and say at the end which files you changed. Paths begin in the project folder. "
        "What a tool refuses stays refused: do not try to get around it."
    ),
}
"""What the agent is told of itself, except where the caller says otherwise."""


class WorkspaceTool(BaseTool):  # type: ignore[misc, unused-ignore]  # the library has types only where it is installed
    """A tool of ours for an agent of CrewAI's. What goes wrong is told to the model; no result is taken from a cache."""

    _tool: Tool = PrivateAttr()

    def _run(self, **arguments: Any) -> str:
        call = ToolCall(id="", name=self._tool.spec.name, arguments=json.dumps(arguments, ensure_ascii=False))
        with Bridge() as bridge:  # the calling thread may have a loop that runs; interrupted, it ends what it waits for
            return bridge.run(self._carried(call))

    async def _carried(self, call: ToolCall) -> str:
        return (await carry_out({call.name: self._tool}, call)).content


def _never(arguments: Any = None, result: Any = None) -> bool:
    """Say that a result is not to be given again: a file may have changed since."""
    return False


def tools_for_crewai(tools: Sequence[Tool]) -> list[Any]:
    """Return tools of ours as tools of CrewAI's."""
    made = []
    for tool in tools:
        spec = tool.spec
        one = WorkspaceTool(
            name=spec.name, description=spec.description or spec.name, args_schema=arguments_class(spec), cache_function=_never
        )
        one._tool = tool
        made.append(one)
    return made


def executor(workspace: Workspace, llm: Any, options: dict[str, Any]) -> Any:
    """Return the agent; ``options`` are further ones of CrewAI's ``Agent``, its own ``tools`` stand beside ours."""
    more = {**TEXTS, "allow_delegation": False, "cache": False, "max_retry_limit": 0, **options}
    if llm is not None:
        more["llm"] = llm
    more["tools"] = [*tools_for_crewai(workspace.tools()), *more.get("tools", ())]
    return Agent(**more)
