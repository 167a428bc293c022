"""What is known of models and of the environment, as far as a workflow is checked against it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flowcraft.plugin.agents import AgentRunner
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.workflow.schema import Stage


class Cast(Protocol):
    """Who may be asked for a stage, in which part; who can never be asked here is not among them.

    ``answering`` are the models of its chain, ``contestants`` those of best of two, ``judging`` who judges them, ``instead``
    who answers where a cheap answer is not sure enough.
    """

    @property
    def answering(self) -> tuple[ModelInfo, ...]:
        """The models of the chain."""
        ...

    @property
    def contestants(self) -> tuple[ModelInfo, ...]:
        """Who may contest."""
        ...

    @property
    def judging(self) -> tuple[ModelInfo, ...]:
        """Who may judge."""
        ...

    @property
    def instead(self) -> tuple[ModelInfo, ...]:
        """Who answers instead."""
        ...


def _unknown(name: str) -> bool | None:
    return None


def _nobody(stage: Stage, default: str | None) -> Cast | None:
    return None


def _none(stage: Stage, default: str | None) -> Sequence[str]:
    return ()


def _no_scorers(stage: Stage, default: str | None) -> Sequence[ModelInfo]:
    return ()


def _no_runner() -> tuple[AgentRunner | None, str]:
    return None, ""


def _letters(text: str) -> float:
    return len(text) / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of models and of the environment.

    ``knows_model`` says whether a model or alias exists, None where it cannot be known; ``model_names`` are those that are
    listed, for the nearest name, ``aliases`` the short ones among them. ``cast`` is asked with a stage and the file's default
    model, and returns who takes part in its answers, None where that is not known before the run; ``scorers`` who scores the
    tries of a stage with ``until`` and ``judge``, first come first. ``doubts`` is asked with the same, and returns what of the
    stage's strategy its models cannot carry out, or why its judge has nothing to do. ``tokens`` says about how many tokens a
    text has. ``knows_judge`` says whether a plugin
    offers a judge of that name, ``tools`` returns the names of the tools that plugins offer. ``serves``
    says whether MCP servers can be used here. ``runner`` returns who carries agents out, and what keeps it from that, with the
    command that mends it; it is asked only for a file that has agents.
    ``no_shell`` says why this machine carries out no command, nothing where it does. ``short_env`` are environment names whose
    value is too short to be hidden, ``unset_env`` those without a value. These, no shell, and models of which nobody here
    knows are problems where the run is ``starting``, else warnings: another machine may have
    what they need.
    """

    tiers: frozenset[str] = frozenset()
    knows_model: Callable[[str], bool | None] = _unknown
    model_names: tuple[str, ...] = ()
    aliases: frozenset[str] = frozenset()
    cast: Callable[[Stage, str | None], Cast | None] = _nobody
    scorers: Callable[[Stage, str | None], Sequence[ModelInfo]] = _no_scorers
    doubts: Callable[[Stage, str | None], Sequence[str]] = _none
    tokens: Callable[[str], float] = _letters
    knows_judge: Callable[[str], bool] = lambda name: False
    tools: Callable[[], Collection[str]] = tuple
    serves: bool = True
    runner: Callable[[], tuple[AgentRunner | None, str]] = _no_runner
    unset_env: frozenset[str] = field(default_factory=frozenset)
    short_env: frozenset[str] = field(default_factory=frozenset)
    no_shell: str = ""
    starting: bool = True
