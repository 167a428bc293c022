"""An agent runner as a plugin brings it: a tiny agent framework of its own, which asks the model until it calls no tool."""

import json
from functools import partial
from typing import Any

from flowcraft import plugin


class Chorus:
    name = "chorus"
    agent_words = frozenset({"verbose"})
    task_words: frozenset[str] = frozenset()

    def missing(self) -> str:
        return ""

    def prepare(self) -> None:
        """Nothing takes long."""

    async def run(self, crew: plugin.AgentCrew, context: plugin.StageContext) -> Any:
        results: dict[str, Any] = {}
        for task in crew.tasks:
            agent = crew.agents[task.agent or next(iter(crew.agents))]
            known = "".join(f"\n{results[name]}" for name in task.context or ())
            output = context.output if task is crew.tasks[-1] else None
            results[task.name] = await Worker(agent, task, context).work(f"{task.description}{known}", output)
        return results[crew.tasks[-1].name]


class Worker:
    def __init__(self, agent: plugin.Agent, task: plugin.AgentTask, context: plugin.StageContext) -> None:
        self.agent, self.context, self.place = agent, context, f"{agent.name}/{task.name}"
        self.tools = {tool.spec.name: tool for tool in (*agent.tools, *task.tools)}

    async def work(self, task: str, output: plugin.OutputSpec | None) -> Any:
        messages = (plugin.Message.system(f"{self.agent.role}. {self.agent.goal}"), plugin.Message.user(task))
        specs = tuple(tool.spec for tool in self.tools.values())
        for turn in range(1, (self.agent.max_iter or 25) + 1):
            part, request = f"{self.place}[{turn}]", plugin.ChatRequest(messages=messages, tools=specs, output=output)
            asked = {"asked": plugin.content_hash(request)}
            response = plugin.from_json(await self.context.pieces.do(part, asked, partial(self.ask, request)))
            if not response.tool_calls:
                return response.text if output is None else response.parsed
            messages = (*messages, response.message)
            for number, call in enumerate(response.tool_calls):
                what, use = [call.name, call.arguments], partial(self.tools[call.name].call, **json.loads(call.arguments))
                told = str(await self.context.pieces.do(f"{part}/tool[{number}]", what, use))
                result = plugin.ToolResult(id=call.id, name=call.name, content=told)
                messages = (*messages, plugin.Message(role="tool", parts=(result,)))
        raise RuntimeError(f"{self.agent.name} came to no end")

    async def ask(self, request: plugin.ChatRequest) -> Any:
        return plugin.to_json(await self.context.llm(self.agent.model).chat(request))


@plugin.hookimpl
def flowcraft_agent_runners() -> list[type]:
    return [Chorus]
