"""Whatever models do: an answer if one of them is well, in time, of few calls, each told once. Random faults, virtual time."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from flowcraft.attempts import Attempt
from flowcraft.errors import (
    AuthenticationFailed,
    BudgetExceeded,
    CapabilityMissing,
    ChainExhausted,
    ContentFiltered,
    ContextTooLong,
    FlowCraftError,
    InvalidOutput,
    InvalidRequest,
    ModelNotFound,
    ModelNotLoaded,
    PluginError,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.ports import CallRecord
from flowcraft.llm.rules import CascadeRules, HedgeRules
from flowcraft.plugin import ChatResponse, Done, OutputSpec, Progress, Timeouts, ToolSpec
from flowcraft.testing.clock import run_virtual

pytestmark = pytest.mark.unit

GOOD = '{"n": 1}'
SHAPE = OutputSpec(schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
TOOL = ToolSpec(name="look", description="looks")
ROLES = ("primary", "duplicate", "reserve", "fallback")
NAMES = "abcd"
DEADLINE = 40.0
SOON = (0.0, 0.5, 1.0)
"""Seconds that a healthy model may take: the last of four still has 1.25 when three before it hung."""

ERRORS = (
    AuthenticationFailed,
    ContentFiltered,
    ContextTooLong,
    InvalidOutput,
    InvalidRequest,
    KeyError,
    ModelNotFound,
    ModelNotLoaded,
    OSError,
    PluginError,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    TimeoutError,
)


@dataclass(frozen=True)
class Act:
    """One thing that a model does, as data: it is made anew for every example."""

    kind: str
    error: type[Exception] | None = None
    after: float | None = None
    then: Act | None = None

    def __repr__(self) -> str:
        told = [self.kind, self.error.__name__ if self.error else "", "" if self.after is None else f"{self.after:g} s"]
        return " ".join(filter(None, told)) + (f" then {self.then!r}" if self.then else "")

    def made(self, acts: Any) -> Any:
        then = None if self.then is None else self.then.made(acts)
        if self.kind == "fails" and self.error is not None:
            return acts.fails(self.error, **({} if self.after is None else {"retry_after": self.after}))
        made = {
            "answers": lambda: GOOD,
            "empty": lambda: "",
            "prose": lambda: "seven",
            "hangs": lambda: acts.hang,
            "slow": lambda: acts.slow(self.after, then),
            "cut": lambda: acts.cut('{"n"', ": ", then=then),
        }
        return made[self.kind]()


@dataclass(frozen=True)
class Model:
    name: str
    role: str
    script: tuple[Act, ...]
    lacks_tools: bool = False

    @property
    def healthy(self) -> bool:
        first = self.script[0]
        soon = first.kind == "slow" and first.after in SOON and first.then == Act("answers")
        return len(self.script) == 1 and (first == Act("answers") or soon)


@dataclass(frozen=True)
class Case:
    models: tuple[Model, ...]
    strategy: str
    continuation: str
    timeout: float
    retries: int
    repair: bool
    mends: bool
    stream: bool
    typed: bool
    tools: bool
    answers: int
    pause: float


fails = st.one_of(
    st.sampled_from(ERRORS).map(lambda error: Act("fails", error)),
    st.sampled_from([0.0, 0.4, 3.0, 1000.0]).map(lambda after: Act("fails", RateLimited, after)),
)
plain = st.one_of(st.sampled_from([Act("answers"), Act("empty"), Act("prose"), Act("hangs")]), fails)
slow = st.builds(lambda after, then: Act("slow", after=after, then=then), st.sampled_from([0.5, 1.0, 9.0, 35.0, 300.0]), plain)
cut = st.builds(lambda then: Act("cut", then=then), st.none() | fails | st.just(Act("hangs")))
act = plain | slow | cut
healthy = st.sampled_from(SOON).map(lambda after: (Act("slow", after=after, then=Act("answers")),))
script = st.one_of(st.lists(act, min_size=1, max_size=4).map(tuple), healthy)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = NAMES[: draw(st.integers(1, 4))]
    roles = sorted(draw(st.lists(st.sampled_from(ROLES), min_size=len(names), max_size=len(names))), key=ROLES.index)
    models = [Model(name, role, draw(script), draw(st.booleans())) for name, role in zip(names, roles, strict=True)]
    if draw(st.booleans()) and draw(st.booleans()):
        ends = Act("fails", BudgetExceeded)
        models.append(Model("x", models[-1].role, (ends,)))
    return Case(
        models=tuple(models),
        strategy=draw(st.sampled_from(["single", "hedge", "best_of_two", "cascade"])),
        timeout=draw(st.sampled_from([15.0, 100.0])),
        continuation=draw(st.sampled_from(["restart", "continue", "keep", "unstreamed", "fail"])),
        retries=draw(st.integers(0, 2)),
        repair=draw(st.booleans()),
        mends=draw(st.booleans()),
        stream=draw(st.booleans()),
        typed=draw(st.booleans()),
        tools=draw(st.booleans()),
        answers=draw(st.integers(1, 3)),
        pause=draw(st.sampled_from([0.0, 5.0, 45.0])),
    )


@dataclass
class Told:
    """What became of one answer."""

    seconds: float = 0.0
    response: ChatResponse | None = None
    error: BaseException | None = None
    shown: bool = False


class Play:
    """A chain of such models, asked as the case says."""

    def __init__(self, case: Case, staged: Any, acts: Any, info_of: Any) -> None:
        self.case = case

        class Impatient(acts.fake):  # type: ignore[misc, name-defined]
            """Its streams may not stop for long: a stream that hangs after its first piece is to leave time for others."""

            def __init__(self, scripts: Any) -> None:
                super().__init__(scripts)
                self.timeouts = Timeouts(idle=2.0)

        mending = staged({"m": ["seven", GOOD]}, retries=case.retries, repair=False) if case.mends else None
        self.stage = staged(
            {model.name: [act.made(acts) for act in model.script] for model in case.models},
            models=[(model.role, model.name) for model in case.models],
            infos={model.name: info_of(model.name, tools=not model.lacks_tools) for model in case.models},
            mender=mending.chain.llm if mending else None,
            kind=Impatient,
            timeout=case.timeout,
            deadline=DEADLINE,
            retries=case.retries,
            repair=case.repair,
            strategy=case.strategy,
            continuation=case.continuation,
            hedge=HedgeRules(max_share=1.0),
            cascade=CascadeRules(escalation=tuple((model.role, model.name) for model in case.models[1:])),
        )
        self.stages = [self.stage, mending] if mending else [self.stage]
        for model in case.models:
            teach(self.stage.shop.statistics, model.name)

    async def answer(self) -> Told:
        """Ask once, and look at all that must hold of every answer."""
        before = [(len(stage.fake.asked), len(stage.fake.closed), len(stage.sink.records)) for stage in self.stages]
        told = await self._asked()
        assert told.seconds <= DEADLINE + 1e-6
        assert asyncio.all_tasks() == {asyncio.current_task()}
        for stage, (asked, closed, records) in zip(self.stages, before, strict=True):
            calls = [name for name, _ in stage.fake.asked[asked:]]
            attempts = [record.attempt for record in stage.sink.records[records:] if record.attempt.outcome != "skipped"]
            assert Counter(calls) == Counter(attempt.model for attempt in attempts)
            if stage is self.stage:
                if self.case.strategy in ("single", "hedge"):  # the others have calls that judge and compare besides
                    assert max(Counter(calls).values(), default=0) <= 2 * (self.case.retries + 1)
                streams = Counter(attempt.model for attempt in attempts if attempt.streamed)
                assert Counter(stage.fake.closed[closed:]) == streams
        return told

    async def _asked(self) -> Told:
        loop = asyncio.get_running_loop()
        began, told = loop.time(), Told()
        params: dict[str, Any] = {"output": SHAPE} if self.case.typed else {}
        params |= {"tools": (TOOL,)} if self.case.tools else {}
        try:
            if self.case.stream:
                async with self.stage.chain.stream("how many?", **params) as events:
                    async for event in events:
                        told.shown |= not isinstance(event, Progress | Done)
                    told.response = events.response
            else:
                told.response = await self.stage.chain.chat("how many?", **params)
        except FlowCraftError as error:
            told.error = error
        told.seconds = loop.time() - began
        return told


def teach(statistics: Statistics, model: str) -> None:
    """Let all know that this model answers in a second."""
    for number in range(40):
        streamed = bool(number % 2)
        attempt = Attempt(model=model, provider="fake", seconds=1.0, first_token=1.0 if streamed else None, streamed=streamed)
        statistics.record(CallRecord(id=f"{model}{number}", attempt=attempt))


def judge(case: Case, told: Told) -> None:
    """Say whether what became of an answer is what must become of it."""
    note(f"{told}")
    event(f"{case.strategy} {type(told.error).__name__ if told.error else chr(111) + chr(107)}")
    ended = isinstance(told.error, BudgetExceeded)
    assert not ended or any(model.name == "x" for model in case.models)
    if told.response is not None:
        assert told.response.text
        assert not case.typed or told.response.parsed == {"n": 1}
        assert not case.tools or not told.response.model or told.response.model not in incapable(case)
        return
    capable = [model for model in case.models if model.healthy and not (case.tools and model.lacks_tools)]
    assert not capable or ended or (told.shown and case.continuation in ("fail", "keep"))
    if not ended and not told.shown:
        assert isinstance(told.error, ChainExhausted | CapabilityMissing)


def incapable(case: Case) -> set[str]:
    return {model.name for model in case.models if model.lacks_tools}


async def play(case: Case, staged: Any, acts: Any, info_of: Any) -> None:
    begun: list[AsyncGenerator[Any, None]] = []
    first, last = sys.get_asyncgen_hooks()

    def begins(generator: AsyncGenerator[Any, None]) -> None:
        begun.append(generator)
        assert first is not None
        first(generator)

    sys.set_asyncgen_hooks(firstiter=begins, finalizer=last)
    try:
        playing = Play(case, staged, acts, info_of)
        for _ in range(case.answers):
            judge(case, await playing.answer())
            assert not [generator for generator in begun if generator.ag_frame is not None]
            begun.clear()
            await asyncio.sleep(case.pause)
    finally:
        sys.set_asyncgen_hooks(firstiter=first, finalizer=last)


@pytest.mark.no_cover
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_whatever_models_do(case: Case, staged: Any, acts: Any, info_of: Any) -> None:
    run_virtual(play(case, staged, acts, info_of))
