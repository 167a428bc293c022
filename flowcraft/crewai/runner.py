"""CrewAI as an agent runner: crews of workflows, every question and every tool call a piece of their run."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from flowcraft.crewai.library import INSTALL, is_installed, load_library, not_loaded
from flowcraft.errors import FlowCraftError, StageFailed
from flowcraft.plugin import AgentCrew, OutputSpec, StageContext
from flowcraft.workflow.crew_words import AGENT_OPTIONS, TASK_OPTIONS


class CrewAIRunner:
    """Carries crews out by the library crewai.

    Durable: what a model answered and what a tool returned is recorded as ``AGENT/call[n]`` and ``AGENT/call[n]/tool[k]``, by
    the agents' keys in the file, before CrewAI goes on with it; after a kill the agents are led through what is recorded.
    """

    name: ClassVar[str] = "crewai"
    agent_words: ClassVar[frozenset[str]] = frozenset(AGENT_OPTIONS)
    task_words: ClassVar[frozenset[str]] = frozenset(TASK_OPTIONS)

    def missing(self) -> str:
        """Return the command that installs the library; nothing where it is there. Imports nothing."""
        return "" if is_installed() else f"the library crewai is not installed; install it with: {INSTALL}"

    def prepare(self) -> None:
        """Import the library, which takes seconds. Raises PluginError."""
        load_library()
        try:
            import_module("flowcraft.crewai.crews")
        except (ImportError, AttributeError) as error:  # another version of the library, which lacks what is used of it
            raise not_loaded(error) from error

    async def run(self, crew: AgentCrew, context: StageContext) -> Any:
        """Carry the crew out and return what its last task gives; with ``context.output``, a value of that schema.

        Raises what ended it: the error of a chain that is exhausted, BudgetExceeded, RunDiverged and so on; StageFailed
        where CrewAI itself gives up.
        """
        from flowcraft.crewai.work import Work, on_thread

        await on_thread(self.prepare)
        from crewai import __version__

        from flowcraft.crewai.crews import Maker
        from flowcraft.crewai.stage import begin

        work = Work()
        output = _typed(context.output)
        made = await on_thread(lambda: Maker(crew, context, work).make(output))
        await begin(made.callers, context, __version__)
        try:
            result = await work.run(made.crew.kickoff, f"flowcraft-crew-{context.path}")
        except FlowCraftError:
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise StageFailed(f"CrewAI gave up: {told}") from error
        for caller in made.callers:
            caller.check_end()
        if output is None or result.pydantic is None:
            return result.raw
        return result.pydantic.root


def _typed(output: OutputSpec | None) -> OutputSpec | None:
    """Return the schema that the last task's result must fit; None where it is text."""
    return None if output is None or output.schema == {"type": "string"} else output
