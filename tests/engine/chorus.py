"""An agent runner as a plugin brings it: a tiny agent framework of its own, which asks the model until it calls no tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from flowcraft.plugin import (
    Agent,
    AgentCrew,
    AgentTask,
    ChatRequest,
    Message,
    StageContext,
    ToolResult,
    content_hash,
    from_json,
    hookimpl,
    to_json,
)


class Chorus:
    name: ClassVar[str] = "chorus"
    agent_words: ClassVar[frozenset[str]] = frozenset({"verbose"})
    task_words: ClassVar[frozenset[str]] = frozenset()

    def missing(self) -> str:
        return ""

    def prepare(self) -> None:
        """Nothing takes long."""

    async def run(self, crew: AgentCrew, context: StageContext) -> Any:
        results: dict[str, Any] = {}
        for number, task in enumerate(crew.tasks, 1):
            agent = crew.agents[task.agent or next(iter(crew.agents))]
            last = number == len(crew.tasks)
            results[task.name] = await self._done(agent, task, context, results, last)
        return results[crew.tasks[-1].name]

    async def _done(self, agent: Agent, task: AgentTask, context: StageContext, before: Mapping[str, Any], last: bool) -> Any:
        tools = {tool.spec.name: tool for tool in (*agent.tools, *task.tools)}
        known = "".join(f"\n{before[name]}" for name in task.context or ())
        messages = [Message.system(f"{agent.role}. {agent.goal}"), Message.user(f"{task.description}{known}")]
        output = context.output if last else None
        for turn in range(1, (agent.max_iter or 25) + 1):
            specs = tuple(tool.spec for tool in tools.values())
            request = ChatRequest(messages=tuple(messages), tools=specs, output=output)
            part = f"{agent.name}/{task.name}[{turn}]"
            asked = {"asked": content_hash(request)}
            response = from_json(await context.pieces.do(part, asked, partial(self._ask, agent, request, context)))
            if not response.tool_calls:
                return response.parsed if output is not None else response.text
            messages.append(response.message)
            for place, call in enumerate(response.tool_calls):
                part, what = f"{agent.name}/{task.name}[{turn}]/tool[{place}]", {"tool": call.name, "arguments": call.arguments}
                result = await context.pieces.do(part, what, partial(tools[call.name].call, **json.loads(call.arguments)))
                messages.append(Message(role="tool", parts=(ToolResult(id=call.id, name=call.name, content=str(result)),)))
        raise RuntimeError(f"{agent.name} came to no end")

    async def _ask(self, agent: Agent, request: ChatRequest, context: StageContext) -> Any:
        return to_json(await context.llm(agent.model).chat(request))


@hookimpl
def flowcraft_agent_runners() -> list[type]:
    return [Chorus]
