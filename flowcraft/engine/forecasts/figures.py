"""What a forecast says: calls, tokens, money and time of a run and of each of its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from flowcraft.engine.forecasts.ranges import NOTHING, Range
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.workflow.schema import Stage, Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A model that is asked in each try of a stage, and how often. ``output`` and ``seconds`` are those of its calls so far.

    ``waits`` is how many of its calls one after the other the try waits for: 0 where it is asked beside another one.
    """

    model: ModelInfo
    calls: Range
    waits: Range | None = None
    output: Range | None = None
    seconds: Range | None = None


Asks = Callable[[Stage, Workflow], Sequence[Ask]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """What one stage is going to take in all.

    ``units`` is how often its body is carried out, ``usd`` None where a price is unknown, ``seconds`` what one time takes.
    ``basis`` says what the figures rest on.
    """

    path: str
    body: str
    units: Range
    calls: Range = NOTHING
    input: Range = NOTHING
    output: Range = NOTHING
    usd: Range | None = NOTHING
    seconds: Range = NOTHING
    basis: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run is going to take. ``usd`` is the sum of what is known; ``unpriced`` names the models whose price is not.

    ``runs`` is the number of earlier runs that it rests on, ``defaults`` say what was assumed for lack of knowledge, ``budget``
    what of the file's budget would be reached.
    """

    workflow: str
    runs: int = 0
    calls: Range = NOTHING
    input: Range = NOTHING
    output: Range = NOTHING
    usd: Range = NOTHING
    seconds: Range = NOTHING
    unpriced: tuple[str, ...] = ()
    stages: tuple[StageForecast, ...] = ()
    defaults: tuple[str, ...] = ()
    budget: tuple[str, ...] = ()

    @property
    def tokens(self) -> Range:
        """Input and output together."""
        return self.input + self.output


@dataclass(slots=True)
class Found:
    """What is gathered on the way to a forecast: stages by path, assumptions, models without a price."""

    stages: dict[str, StageForecast] = field(default_factory=dict)
    defaults: dict[str, None] = field(default_factory=dict)
    unpriced: dict[str, None] = field(default_factory=dict)

    def assume(self, text: str) -> None:
        """Say once what is assumed for lack of knowledge."""
        self.defaults[text] = None

    def add(self, one: StageForecast) -> None:
        """Add what a stage takes to what it takes elsewhere."""
        before = self.stages.get(one.path)
        if before is not None:
            usd = None if before.usd is None or one.usd is None else before.usd + one.usd
            one = replace(
                one,
                units=before.units + one.units,
                calls=before.calls + one.calls,
                input=before.input + one.input,
                output=before.output + one.output,
                usd=usd,
            )
        self.stages[one.path] = one
