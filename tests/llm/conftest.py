"""Models that do as they are told, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import fields
from random import Random
from typing import Any

import pytest

from flowcraft.llm.chain import Chain, ChainLabels
from flowcraft.llm.composer import ChainSpec, Workshop, compose
from flowcraft.llm.health import HealthBoard
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.policies.hedge import HedgeBudget
from flowcraft.llm.policies.recording import Recorder
from flowcraft.llm.ports import CallRecord
from flowcraft.llm.registry import ProviderSection, Registry
from flowcraft.llm.rules import Policies
from flowcraft.llm.sharing.answers import AnswerBook
from flowcraft.llm.sharing.gates import Limiter
from flowcraft.llm.sharing.stores import Stores
from flowcraft.plugin import Capabilities, ChatRequest, ChatResponse, Done, ModelInfo, Preset, Provider, TextDelta, Usage
from flowcraft.redaction import Redactor
from flowcraft.testing.clock import VirtualTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Any]:
    return {"virtual": VirtualTimeLoop}


class Hang:
    """The model does not answer."""


class Slow:
    """The model takes its time, then does what comes next."""

    def __init__(self, seconds: float, then: Any = "late") -> None:
        self.seconds = seconds
        self.then = then


class Fails:
    """The model fails in this way: each time with an error of its own."""

    def __init__(self, kind: type[Exception], message: str = "no", **more: Any) -> None:
        self.kind = kind
        self.message = message
        self.more = more

    def __repr__(self) -> str:
        return f"{self.kind.__name__}({self.more or ''})"


class Cut:
    """A stream that shows some pieces and then does something else: an error, a hang, or the end without a word."""

    def __init__(self, *pieces: str, then: Any = None) -> None:
        self.pieces = pieces
        self.then = then


class Fake(Provider):
    """Plays a script per model: the last entry goes on for ever."""

    name = "fake"

    def __init__(self, scripts: Mapping[str, Sequence[Any]], section: str = "fake") -> None:
        super().__init__(section=section)
        self.scripts = {model: list(script) for model, script in scripts.items()}
        self.asked: list[tuple[str, ChatRequest]] = []
        self.closed: list[str] = []

    def next_of(self, model: str, request: ChatRequest) -> Any:
        self.asked.append((model, request))
        script = self.scripts[model]
        return script.pop(0) if len(script) > 1 else script[0]

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        return await self.play(self.next_of(model, request))

    async def play(self, act: Any) -> ChatResponse:
        if isinstance(act, Slow):
            await asyncio.sleep(act.seconds)
            return await self.play(act.then)
        if isinstance(act, Hang):
            await asyncio.Event().wait()
        if isinstance(act, Fails):
            raise act.kind(act.message, **act.more)
        if isinstance(act, BaseException):
            raise act
        if isinstance(act, Cut):
            return await self.play("".join(act.pieces) if act.then is None else act.then)
        return answer(act)

    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
        act = self.next_of(model, request)
        try:
            pieces = act.pieces if isinstance(act, Cut) else ()
            for piece in pieces:
                yield TextDelta(piece)
            if isinstance(act, Cut):
                if act.then is None:
                    return
                act = act.then
            response = await self.play(act)
            for word in response.text.split(" "):
                yield TextDelta(word)
            yield Done(response)
        finally:
            self.closed.append(model)


def answer(act: Any) -> ChatResponse:
    if isinstance(act, ChatResponse):
        return act
    return ChatResponse(text=act, usage=Usage(input=1_000_000, output=1_000_000))


class Whole(Fake):
    """Has no stream of its own."""

    stream = Provider.stream


class Heavy(Fake):
    """Has something to load."""

    async def prepare(self) -> None:
        await asyncio.sleep(7)


class Offline(Fake):
    name = "offline"
    offline = True


class Sink:
    def __init__(self, statistics: Statistics) -> None:
        self.records: list[CallRecord] = []
        self.statistics = statistics

    def record(self, record: CallRecord) -> None:
        self.records.append(record)
        self.statistics.record(record)


class NoPlugins:
    def provider(self, name: str) -> Preset | None:
        return None

    def provider_class(self, name: str) -> type[Provider]:
        raise AssertionError(name)

    def models(self, provider: str, config: Mapping[str, Any]) -> Sequence[ModelInfo]:
        return ()


class FakeRegistry(Registry):
    """Knows the models of one fake, and one that is offline; what it does not know has no provider."""

    def __init__(self, fake: Fake, offline: Offline | None, infos: Mapping[str, ModelInfo]) -> None:
        super().__init__((), NoPlugins())
        self.fakes = [provider for provider in (fake, offline) if provider is not None]
        self.infos_by_model = infos

    def find(self, name: str) -> Any:
        from flowcraft.llm.registry import Found

        for fake in self.fakes:
            if name in fake.scripts:
                info = self.infos_by_model.get(name, ModelInfo(model=name, provider=fake.section, offline=fake.offline))
                return Found(info=info, source=Made(fake))
        return Found(info=ModelInfo(model=name, provider="nowhere"), skip="its provider has no key")


class Made:
    def __init__(self, provider: Provider) -> None:
        self.made: Provider | None = None
        self.provider = provider
        self.section = ProviderSection(name=provider.section, timeouts=provider.timeouts)
        self.secrets: frozenset[str] = frozenset()

    def get(self) -> Provider:
        self.made = self.provider
        return self.provider


class Stage:
    """A chain with everything around it that a test may want to look at."""

    def __init__(self, chain: Chain, fake: Fake, sink: Sink, shop: Workshop, warnings: list[str]) -> None:
        self.warnings = warnings
        self.chain = chain
        self.fake = fake
        self.sink = sink
        self.shop = shop

    def outcomes(self, attempts: Sequence[Any]) -> list[tuple[str, str]]:
        return [(attempt.model, attempt.outcome) for attempt in attempts]


@pytest.fixture
def staged() -> Callable[..., Stage]:
    """Make a chain of fake models: ``staged({"a": [error, "answer"], "b": ["hello"]}, retries=1)``."""

    def make(
        scripts: Mapping[str, Sequence[Any]],
        *,
        models: Sequence[tuple[str, str]] | None = None,
        infos: Mapping[str, ModelInfo] | None = None,
        offline: Sequence[Any] | None = None,
        secrets: Sequence[str] = (),
        shop: Workshop | None = None,
        kind: type[Fake] = Fake,
        seed: int = 0,
        judges: Mapping[str, Any] | None = None,
        mender: Any = None,
        stores: Stores | None = None,
        clock: Callable[[], float] = lambda: 1_700_000_000.0,
        **spec: Any,
    ) -> Stage:
        fake = kind(scripts)
        statistics = shop.statistics if shop else Statistics()
        sink = Sink(statistics)
        warnings: list[str] = []
        stand_in = None if offline is None else Offline({"offline": offline}, section="offline")
        registry = FakeRegistry(fake, stand_in, infos or {})
        stores = stores or Stores()
        shop = Workshop(
            registry=registry,
            recorder=Recorder(sink, clock=clock),
            statistics=statistics,
            health=shop.health if shop else HealthBoard(),
            hedges=shop.hedges if shop else HedgeBudget(),
            redactor=Redactor(secrets),
            warn=warnings.append,
            spending=stores.spending,
            limiter=Limiter(stores.limits, clock, warnings.append),
            answers=AnswerBook(stores.answers, clock, warnings.append),
            random=Random(seed),
            judges=dict(judges or {}).get,
        )
        named = models or [("primary", name) for name in scripts]
        if offline is not None:
            named = [*named, ("offline", "offline")]
        spec.setdefault("labels", ChainLabels(tier="test", stage="review", task="coding"))
        chosen = {item.name: spec.pop(item.name) for item in fields(Policies) if item.name in spec}
        policies = Policies(**{"continuation": "fail", **chosen})
        chain = compose(ChainSpec(models=tuple(named), policies=policies, **spec), shop, mender)
        return Stage(chain, fake, sink, shop, warnings)

    return make


def known(model: str, context: int | None = None, **capabilities: bool) -> ModelInfo:
    return ModelInfo(model=model, provider="fake", context=context, capabilities=Capabilities(**capabilities))


@pytest.fixture
def acts() -> Any:
    """The things a fake model can do."""

    class Acts:
        hang = Hang()
        slow = Slow
        fails = Fails
        fake = Fake
        cut = Cut
        whole = Whole
        heavy = Heavy
        fake = Fake

    return Acts


@pytest.fixture
def info_of() -> Callable[..., ModelInfo]:
    return known
