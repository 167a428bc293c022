"""A crew's calls as pieces of a stage: each question to a model, each call of a tool."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from flowcraft.crewai.asking import Facts, Heard
from flowcraft.crewai.failures import refusal_of, refused
from flowcraft.crewai.translate import as_text, unmasked
from flowcraft.crewai.work import Work, on_thread
from flowcraft.errors import LLMError, RunDiverged, StageFailed
from flowcraft.llm import Chain
from flowcraft.llm.tool_calls import carry_out
from flowcraft.llm.tool_loop import Gate
from flowcraft.plugin import ChatRequest, ChatResponse, Message, StageContext, Tool, ToolCall, ToolResult, ToolSpec
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.wire import content_hash, from_json, to_json

FACTS: Final = "crewai"
"""Where a stage records which version of the library began it, and what is known of the models of its agents."""

LONGEST_TOLD: Final = 2_000
"""Characters of an answer or a result that the run's log shows of an agent that is verbose."""

LONGEST_LINE: Final = 160
"""Characters of it that stand in the line of who watches the run."""


class Caller:
    """One agent of a crew, as one go of a stage sees it: what it asks and which tools it calls, each a piece.

    ``key`` is what the agent is called in the file: its calls are ``KEY/call[n]``, its tools' ``KEY/call[n]/tool[k]``. Answers
    for the agent's FlowCraftLLM, one question at a time.
    """

    def __init__(
        self, key: str, model: str | None, stage: tuple[StageContext, Work], gate: tuple[Gate, dict[str, Tool]], *, tells: bool
    ) -> None:
        self.name = f"flowcraft/{key}"
        self.key = key
        self._model = model
        self._context, self._work = stage
        self._gate, self.tools = gate
        self._tells = tells
        self._facts = Facts()
        self._heard: tuple[Message, ...] = ()
        self._calls = 0
        self._uses = 0

    # -- what is asked of models

    def facts(self) -> Facts:
        """Return what was known of the agent's models when the stage began."""
        return self._facts

    def learn(self, facts: Facts) -> None:
        """Take what is known of the agent's models."""
        self._facts = facts

    def look(self) -> Facts:
        """Return what is known now of the agent's models."""
        llm: LLM | None = self._context.llm(self._model)
        while llm is not None and not isinstance(llm, Chain):
            llm = getattr(llm, "inner", None)
        return Facts() if llm is None else Facts.of(llm, llm)

    def ask(self, request: ChatRequest, heard: Heard | None = None) -> ChatResponse:
        """Answer for a thread of the crew's."""
        return self._answer(self._work.do(self._question(request)), request)

    async def ask_async(self, request: ChatRequest, heard: Heard | None = None) -> ChatResponse:
        """Answer for a loop of the crew's."""
        return self._answer(await self._work.do_async(self._question(request)), request)

    def _question(self, request: ChatRequest) -> Callable[[], Any]:
        self._calls += 1
        self._uses = 0
        part, asked = f"{self.key}/call[{self._calls}]", self._as_written(request)
        # As in a prompt: a tool that was mended is the same tool.
        what = {"agent": self.key, "prompt": self._prompt(asked), "tools": [spec.name for spec in asked.tools]}

        async def ask() -> object:
            try:
                response = await self._chat(asked)
            except LLMError as error:
                refusal = refusal_of(error, tools=bool(asked.tools))
                if refusal is None:
                    raise
                return {"refused": refusal}
            self._tell_answer(response)
            return to_json(response)

        return lambda: self._context.pieces.do(part, what, ask)

    def _prompt(self, asked: ChatRequest) -> str:
        """Return what is asked as people read it later: what is new to the agent, and a digest of all of the request."""
        before, self._heard = self._heard, asked.messages
        known = len(before) if asked.messages[: len(before)] == before else 0
        return f"{as_text(asked.messages[known:])}\n\n(in all: {content_hash(replace(asked, tools=()))})"

    async def _chat(self, asked: ChatRequest) -> ChatResponse:
        """Return an answer. Calls of tools where there are none, of which CrewAI fails, are none: it is asked for twice."""
        for _ in range(2):
            response = await self._context.llm(self._model).chat(asked)
            if asked.tools or not response.tool_calls:
                return response
            if response.text:
                return replace(response, parts=tuple(part for part in response.parts if not isinstance(part, ToolCall)))
        raise StageFailed(
            f"the agent '{self.key}' calls {response.tool_calls[0].name!r} in place of an answer, and has no tools"
        )

    def _answer(self, recorded: Mapping[str, Any], request: ChatRequest) -> ChatResponse:
        if "refused" in recorded:
            raise refused(recorded["refused"])
        response: ChatResponse = from_json(recorded)
        # CrewAI carries several calls out at once, in no order that would come again.
        later = {id(call) for call in response.tool_calls[1:]}
        return replace(response, parts=tuple(part for part in response.parts if id(part) not in later)) if later else response

    def _as_written(self, request: ChatRequest) -> ChatRequest:
        """Return a request with its texts as they were and the tools' own schemas, which CrewAI rewrites; one call at once."""
        request = replace(request, messages=unmasked(request.messages))
        if not request.tools:
            return request
        specs = tuple(self._spec(spec) for spec in request.tools)
        return replace(request, tools=specs, parallel_tools=False)

    def _spec(self, spec: ToolSpec) -> ToolSpec:
        tool = self.tools.get(spec.name)
        return spec if tool is None else replace(tool.spec, name=spec.name)

    # -- what tools do

    def use(self, tool: Tool, arguments: Mapping[str, Any]) -> str:
        """Return what a tool says, for a thread of the crew's."""
        part = f"{self.key}/call[{self._calls}]/tool[{self._uses}]"
        self._uses += 1
        wish = ToolCall(id="", name=tool.spec.name, arguments=json.dumps(arguments, ensure_ascii=False))

        async def use(turn: int, place: int, wish: ToolCall) -> ToolResult:
            what = {"tool": wish.name, "arguments": wish.arguments}
            result: ToolResult = from_json(await self._context.pieces.do(part, what, carry))
            return result

        async def carry() -> object:
            result = await carry_out({tool.spec.name: tool}, wish, thread=on_thread, on_error=self._failed)
            self._tell(f"is told by {wish.name}", result.content)
            return to_json(result)

        result = self._work.do(lambda: self._gate.passed(use, self._calls, 0, wish))
        self._gate.note([wish])
        return result.content

    def _failed(self, wish: ToolCall, error: BaseException) -> None:
        told = "".join(traceback.format_exception(error))
        message = f"{self.key}: the tool {wish.name} failed: {type(error).__name__}"
        self._context.emit(message, level="error", traceback=told)

    # -- how it ends

    def give_up(self, error: Exception) -> None:
        """End the crew's work for good. Raises Ended."""
        self._work.end(error)

    # -- what is said of it

    def _tell_answer(self, response: ChatResponse) -> None:
        for call in response.tool_calls[:1]:
            self._tell(f"calls {call.name}", call.arguments)
        if not response.tool_calls:
            self._tell("says", response.text)

    def _tell(self, what: str, text: str) -> None:
        if self._tells:
            line = " ".join(text.split())
            shown = line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…"
            rest = {} if shown == text else {"text": text[:LONGEST_TOLD]}
            self._context.emit(f"{self.key} {what}: {shown or '(nothing)'}", **rest)

    def check_end(self) -> None:
        """Raise RunDiverged where the run recorded more of this agent than it asked for this time."""
        for part in (f"{self.key}/call[{self._calls + 1}]", f"{self.key}/call[{self._calls}]/tool[{self._uses}]"):
            if self._context.pieces.known(part):
                raise RunDiverged(
                    f"the agent '{self.key}' ended without what this run recorded of it ({part}); it no longer does as it did: "
                    "start a new run",
                    run=self._context.run,
                    stage=self._context.path,
                )


async def begin(callers: list[Caller], context: StageContext, version: str) -> None:
    """Record what the stage begins with, or go on with what is recorded. Raises RunDiverged for another version."""

    async def look() -> object:
        return {caller.key: asdict(caller.look()) for caller in callers}

    what = {"crewai": version, "agents": [caller.key for caller in callers]}
    try:
        known = await context.pieces.do(FACTS, what, look)
    except RunDiverged as error:
        told = f"the agents of this stage began with another version of the library crewai than is installed: {error.message}"
        raise RunDiverged(told, run=error.run, stage=error.stage) from None
    for caller in callers:
        caller.learn(Facts(**known[caller.key]))
