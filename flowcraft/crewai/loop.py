"""CrewAI's agents as stages run them: texts stay as they are, no answer is never taken for one, and a value is the model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from crewai import Agent
from crewai.tools.agent_tools.ask_question_tool import AskQuestionTool
from crewai.tools.agent_tools.delegate_work_tool import DelegateWorkTool
from crewai.utilities.converter import get_conversion_instructions
from pydantic import BaseModel

from flowcraft.crewai.stage import Caller
from flowcraft.crewai.translate import coworker_name, masked, plain
from flowcraft.errors import InvalidOutput, StageFailed
from flowcraft.llm.parse import parse_output

GAVE_NOTHING: Final = "Finalize fallback"
"""How the thought begins that CrewAI gives an agent which came to no answer; what it says then would pass for one."""


class _Delegate(DelegateWorkTool):  # type: ignore[misc, unused-ignore]  # the library has types only where it is installed
    """Finds coworkers by their roles as they stand in the file."""

    def sanitize_agent_name(self, name: str) -> str:
        return coworker_name(name)


class _Ask(AskQuestionTool):  # type: ignore[misc, unused-ignore]  # as above
    """Finds coworkers by their roles as they stand in the file."""

    def sanitize_agent_name(self, name: str) -> str:
        return coworker_name(name)


class StageAgent(Agent):  # type: ignore[misc, unused-ignore]  # the library has types only where it is installed
    """Is told a task as it stands, without a look into it for places to fill; ends the stage where no answer came of it.

    Where a value of a schema is wanted and its text holds none, its model is asked for one, as a prompt's model is.
    """

    def get_delegation_tools(self, agents: Sequence[Any]) -> list[Any]:
        """Return what work is handed out with."""
        given = super().get_delegation_tools(agents)
        kinds = {DelegateWorkTool: _Delegate, AskQuestionTool: _Ask}
        return [
            kinds[type(tool)](agents=tool.agents, description=plain(tool.description)) if type(tool) in kinds else tool
            for tool in given
        ]

    def _execute_without_timeout(self, task_prompt: str, task: Any) -> Any:
        result = super()._execute_without_timeout(masked(task_prompt), task)
        answer = getattr(self.agent_executor.state, "current_answer", None)
        caller = self.llm._answers
        if isinstance(caller, Caller) and str(getattr(answer, "thought", "")).startswith(GAVE_NOTHING):
            caller.give_up(StageFailed(f"the agent '{caller.key}' came to no answer"))
        return result if task.output_pydantic is None or isinstance(result, BaseModel) else self._value(result, task)

    def _value(self, text: str, task: Any) -> Any:
        """Return the value that an answer holds. CrewAI would take the first braces in it, a schema that is quoted too."""
        shape = task.output_pydantic
        try:
            return shape.model_validate(parse_output(text, shape.model_json_schema()))
        except InvalidOutput:
            told = get_conversion_instructions(model=shape, llm=self.llm)
        messages = [{"role": "system", "content": told}, {"role": "user", "content": text}]
        return self.llm.call(messages, from_task=task, from_agent=self, response_model=shape)
