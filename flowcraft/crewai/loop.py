"""CrewAI's agents as stages run them: texts stay as they are, and no answer is never taken for one."""

from __future__ import annotations

from typing import Any, Final

from crewai import Agent

from flowcraft.crewai.stage import Caller
from flowcraft.crewai.translate import masked
from flowcraft.errors import StageFailed

GAVE_NOTHING: Final = "Finalize fallback"
"""How the thought begins that CrewAI gives an agent which came to no answer; what it says then would pass for one."""


class StageAgent(Agent):  # type: ignore[misc, unused-ignore]  # the library has types only where it is installed
    """Is told a task as it stands, without a look into it for places to fill; ends the stage where no answer came of it."""

    def _execute_without_timeout(self, task_prompt: str, task: Any) -> Any:
        result = super()._execute_without_timeout(masked(task_prompt), task)
        answer = getattr(self.agent_executor.state, "current_answer", None)
        caller = self.llm._answers
        if isinstance(caller, Caller) and str(getattr(answer, "thought", "")).startswith(GAVE_NOTHING):
            caller.give_up(StageFailed(f"the agent '{caller.key}' came to no answer"))
        return result
