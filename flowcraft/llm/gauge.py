"""How sure one can be of an answer, by the best means that there is: its log probabilities, a second sample, a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flowcraft.errors import BudgetExceeded, LLMError
from flowcraft.llm.base import Link, copied_request, rescoped
from flowcraft.llm.confidence import agreement, comparable, sequence_confidence, value_of
from flowcraft.llm.policies.recording import Recorder
from flowcraft.llm.scoring import Scorer
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Scope
from flowcraft.plugin.llm import LLM


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A confidence from 0 to 1, None where it is not known; ``by`` is logprobs, agreement or judge, else empty."""

    value: float | None = None
    by: str = ""

    def reaches(self, threshold: float) -> bool:
        """Say whether an answer of this confidence stands. What is not known reaches nothing."""
        return self.value is not None and self.value >= threshold

    def __str__(self) -> str:
        return "not known" if self.value is None else f"{self.value:.2f}"


class Gauge:
    """Measures the confidence of answers that ``links`` gave.

    ``sampler`` gives further samples. Samples and judges are optional: what the budget refuses is left out, and told as a
    skip. Made-up answers (``offline``) have no confidence.
    """

    def __init__(self, sampler: LLM, scorer: Scorer, links: Sequence[Link], recorder: Recorder) -> None:
        self._sampler = sampler
        self._scorer = scorer
        self.links = tuple(links)
        self._recorder = recorder

    async def measure(self, request: ChatRequest, response: ChatResponse, others: list[ChatResponse]) -> Measured:
        """Return the confidence of ``response``; ``others`` are answers to the same request, to which samples are added.

        Of several the one counts that agrees best: an answer that came twice outweighs those that came once.
        """
        if response.offline:
            return Measured()
        known = of_tokens(response)
        if known.value is not None:
            return known
        value = value_of(request, response)
        # At temperature 0 a model only repeats itself: that two answers agree tells nothing.
        if request.temperature != 0 and comparable(value):
            if not others:
                others += await self._samples(request, response)
            if others:
                return Measured(value=max(agreement(value, value_of(request, other)) for other in others), by="agreement")
        return await self._judged(request, response)

    async def _samples(self, request: ChatRequest, response: ChatResponse) -> Sequence[ChatResponse]:
        answered = f"{response.provider}:{response.model}"
        try:
            sample = await self._sampler.chat(rescoped(copied_request(again(request, 1), n=None), prefer=answered))
        except LLMError:
            return ()  # what kept it from coming stands in the attempts
        except BudgetExceeded as error:
            asked = [link for link in self.links if link.info.id == answered] or self.links
            refuse(self._recorder, asked, f"a second sample is left out: {error.message}", request.scope)
            return ()
        return () if sample.offline else (sample,)

    async def _judged(self, request: ChatRequest, response: ChatResponse) -> Measured:
        try:
            score = await self._scorer.score(request, response)
        except BudgetExceeded as error:
            refuse(self._recorder, self._scorer.judges, f"the judge is left out: {error.message}", request.scope)
            score = None
        return Measured() if score is None else Measured(value=score, by="judge")


def of_tokens(response: ChatResponse) -> Measured:
    """Return what the log probabilities of an answer say."""
    value = None if response.offline else sequence_confidence(response.logprobs or ())
    return Measured() if value is None else Measured(value=value, by="logprobs")


def again(request: ChatRequest, go: int) -> ChatRequest:
    """Return ``request`` as it is asked the (``go`` + 1)th time: by another seed, where it names one."""
    return request if request.seed is None or not go else copied_request(request, seed=request.seed + go)


def refuse(recorder: Recorder, links: Sequence[Link], reason: str, scope: Scope) -> None:
    """Note that the first of ``links`` was not asked."""
    for link in links[:1]:
        recorder.skip(link.info, link.role, reason, scope)
