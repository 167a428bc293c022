"""Stage bodies: what a stage may do. A plugin's body keeps its options under its own key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from flowcraft.plugin.chat import OutputSpec
from flowcraft.plugin.llm import LLM


class Template:
    """Marks an option that is rendered before the body runs: ``Annotated[str, Template]``."""


class BodyOptions(BaseModel):
    """The options of a stage body. Subclass and add keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Pieces(Protocol):
    """Finished bits of work of a run. What is recorded is never done again."""

    async def do(self, part: str, what: Any, body: Callable[[], Awaitable[Any]]) -> Any:
        """Return the recorded result at ``part``, or carry out ``body`` and record what it returns.

        ``part`` is a path below the stage (``call[2]``); ``what`` is JSON-like and says what is asked: on resume another
        ``what`` at the same part is RunDiverged. The result is what reading its stored JSON gives back.
        """
        ...

    def known(self, part: str) -> bool:
        """Say whether this run has recorded something at ``part``."""
        ...


class StageContext(Protocol):
    """What a body sees of its run."""

    @property
    def run(self) -> str:
        """The run's id."""
        ...

    @property
    def path(self) -> str:
        """The path of this stage and element in the run."""
        ...

    @property
    def stage(self) -> str:
        """The stage's name."""
        ...

    @property
    def deadline(self) -> float | None:
        """The latest end, on the loop's clock."""
        ...

    @property
    def output(self) -> OutputSpec | None:
        """The schema that the stage's value must fit."""
        ...

    @property
    def pieces(self) -> Pieces:
        """The pieces below this stage."""
        ...

    def llm(self, model: str | None = None) -> LLM:
        """Return the chain of this stage, or that of a tier, alias or model."""
        ...

    def emit(self, message: str, **data: Any) -> None:
        """Let those who watch the run know."""
        ...


class StageBody:
    """What a stage does. ``key`` is the key in the workflow file, ``Options`` the shape of its value.

    ``takes`` names the stage keys beyond those of every body (``needs when each parallel timeout retry on_error``) that this
    body understands: of ``with output model params system``.
    """

    key: ClassVar[str] = ""
    Options: ClassVar[type[BaseModel]] = BodyOptions
    takes: ClassVar[frozenset[str]] = frozenset({"output"})
    schema: ClassVar[Mapping[str, Any] | None] = None

    async def run(self, options: Any, context: StageContext) -> Any:
        """Carry the stage out and return its value, JSON-like or pydantic."""
        raise NotImplementedError(f"{type(self).__name__} has no run()")
