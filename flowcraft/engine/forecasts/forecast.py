"""What a run is going to take: calls, tokens, money and time, as ranges. Nothing is run, asked or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flowcraft.engine.forecasts.estimates import (
    ELEMENTS,
    OUTPUT,
    SECONDS,
    WORK,
    Scope,
    at_once,
    cost,
    goes_of_try,
    holds,
    in_seconds,
    in_tokens,
    is_carried_out,
    rendered,
    tokens_sent,
    whole,
    within,
)
from flowcraft.engine.forecasts.figures import Ask, Asks, Forecast, Found, StageForecast
from flowcraft.engine.forecasts.past import History, Past
from flowcraft.engine.forecasts.ranges import NOTHING, ONCE, Range, longest, total
from flowcraft.workflow.checks.sizes import elements, is_known, known_value
from flowcraft.workflow.expressions.expression import Expression, Name
from flowcraft.workflow.expressions.template import Template
from flowcraft.workflow.schema import Group, Stage, Uses, Workflow, agents_of, asks_models

DEEPEST = 4
"""How deep workflows that use themselves are followed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Stages that stand together, how often they are carried out, and what is known of names there.

    ``counts`` are the elements of the lists that stages with ``each`` give, as far as they were come by.
    """

    workflow: Workflow
    stages: Mapping[str, Stage]
    scope: Scope
    times: Range = ONCE
    prefix: str = ""
    depth: int = 0
    counts: dict[str, Range] = field(default_factory=dict)


def forecast(workflow: Workflow, inputs: Mapping[str, Any] | None, past: History, asks: Asks) -> Forecast:
    """Return what a run of ``workflow`` is going to take; ``inputs`` are those that are known already.

    ``asks`` says who is asked for a stage, and how often in each of its tries.
    """
    found = Found()
    teller = _Teller(past, asks, found)
    scope: Scope = {"inputs": inputs} if inputs is not None else {}
    seconds = teller.frame(_Frame(workflow=workflow, stages=workflow.stages, scope=scope))
    if workflow.finally_:
        seconds += teller.frame(_Frame(workflow=workflow, stages=workflow.finally_, scope=scope, prefix="finally/"))
    stages = tuple(found.stages.values())
    made = Forecast(
        workflow=workflow.name,
        runs=past.runs,
        calls=whole(total(stage.calls for stage in stages)),
        input=whole(total(stage.input for stage in stages)),
        output=whole(total(stage.output for stage in stages)),
        usd=total(stage.usd for stage in stages if stage.usd is not None),
        seconds=seconds,
        unpriced=tuple(found.unpriced),
        stages=tuple(_rounded(stage) for stage in stages),
        defaults=tuple(found.defaults),
    )
    return replace(made, budget=tuple(_reached(workflow.budget, made)))


class _Teller:
    """Goes through the stages of a workflow."""

    def __init__(self, past: History, asks: Asks, found: Found) -> None:
        self._past = past
        self._asks = asks
        self._found = found

    def frame(self, frame: _Frame) -> Range:
        """Take in the stages of ``frame``; return the seconds of carrying it out once, along its longest path."""
        ends: dict[str, Range] = {}
        for stage in _in_order(frame.stages):
            begun = longest(ends[name] for name in stage.depends if name in ends)
            ends[stage.name] = begun + self._stage(frame, stage)
        return longest(ends.values())

    def _stage(self, frame: _Frame, stage: Stage) -> Range:
        path = f"{frame.prefix}{stage.name}"
        past = self._past.stages.get(path)
        count, width = self._elements(frame, stage, path, past)
        if stage.each is not None and stage.when is None:
            frame.counts[stage.name] = count
        tries = self._tries(frame, stage, path, past)
        goes = goes_of_try(stage, past)
        units = count * tries * goes
        here = replace(frame, times=frame.times * units)
        if not here.times.high:
            self._found.add(StageForecast(path=path, body=stage.key, units=NOTHING, basis="not carried out"))
            return NOTHING
        if isinstance(stage.body, Group | Uses):
            one = self._inner(here, stage, path) + self._judge(here, stage, path, past)
        else:
            one = self._body(here, stage, path, past)
        element = within(stage, one * tries * goes)
        return at_once(element, count, width)

    def _elements(self, frame: _Frame, stage: Stage, path: str, past: Past | None) -> tuple[Range, int]:
        """Return how many elements a stage has each time, and how many are worked on at once."""
        chance = is_carried_out(stage, frame.scope)
        if stage.each is None:
            known = past.range("elements") if past is not None and chance is None else None
            if known is not None:
                return Range(low=min(known.low, 1), likely=min(known.likely, 1), high=min(known.high, 1)), 1
            return (ONCE if chance else NOTHING if chance is False else Range(low=0, likely=1, high=1)), 1
        given = known_value(stage.parallel, frame.scope) if isinstance(stage.parallel, Template) else stage.parallel
        width = given if isinstance(given, int) else 1
        if chance is False:
            return NOTHING, width
        items = elements(stage, frame.scope)
        if items is not None:
            return self._chosen(stage, items, frame.scope), width
        root = stage.each.root if isinstance(stage.each, Expression) else None
        if isinstance(root, Name) and root.name in frame.counts and stage.when is None:
            return frame.counts[root.name], width  # as many as the stage gives whose list it is
        if past is not None and (range_ := past.range("elements")) is not None:
            return range_, width
        self._found.assume(f"{path}: no history of its list: {ELEMENTS.low:g} to {ELEMENTS.high:g} elements (default)")
        return ELEMENTS, width

    def _chosen(self, stage: Stage, items: Sequence[Any], scope: Scope) -> Range:
        """Return how many of known elements are worked on, as far as ``when`` says it."""
        if stage.when is None or not stage.when_per_element:
            sure = stage.when is None or holds(stage.when, scope) is not None
            return Range(low=len(items) if sure else 0, likely=len(items), high=len(items))
        told = [holds(stage.when, {**scope, "item": item, "index": index}) for index, item in enumerate(items)]
        yes, may = sum(one is True for one in told), sum(one is None for one in told)
        return Range(low=yes, likely=yes + may, high=yes + may)

    def _tries(self, frame: _Frame, stage: Stage, path: str, past: Past | None) -> Range:
        if stage.until is None:
            return ONCE
        given = known_value(stage.max, frame.scope) if isinstance(stage.max, Template) else stage.max
        most = given if isinstance(given, int) else 3
        if past is not None and (range_ := past.range("tries")) is not None:
            return Range(low=max(1, min(range_.low, most)), likely=min(range_.likely, most), high=min(range_.high, most))
        self._found.assume(f"{path}: no history of its tries: 1 to {most} (default)")
        return Range(low=1, likely=min(2, most), high=most)

    def _inner(self, frame: _Frame, stage: Stage, path: str) -> Range:
        body = stage.body
        self._found.add(StageForecast(path=path, body=stage.key, units=whole(frame.times)))
        if isinstance(body, Group):
            known = {name: value for name, value in frame.scope.items() if name not in ("item", "index")}
            return self.frame(replace(frame, stages=body.stages, scope=known, prefix=f"{path}/"))
        assert isinstance(body, Uses)
        if frame.depth >= DEEPEST:
            self._found.assume(f"{path}: a workflow that uses itself is followed {DEEPEST} deep (default)")
            return NOTHING
        given = {name: rendered(value, frame.scope) for name, value in stage.with_.items() if is_known(value, frame.scope)}
        missing = [name for name in body.workflow.inputs if name not in given and name in stage.with_]
        defaults = {name: one.default for name, one in body.workflow.inputs.items() if name not in stage.with_}
        scope: Scope = {} if missing else {"inputs": {**defaults, **given}}
        inner = replace(
            frame,
            workflow=body.workflow,
            stages=body.workflow.stages,
            scope=scope,
            prefix=f"{path}/",
            depth=frame.depth + 1,
            counts={},
        )
        return self.frame(inner)

    def _judge(self, frame: _Frame, stage: Stage, path: str, past: Past | None) -> Range:
        """Take in the calls of a judge of a group or a part; return the seconds of one."""
        if stage.judge is None or stage.until is None:
            return NOTHING
        return self._body(frame, stage, path, past)

    def _body(self, frame: _Frame, stage: Stage, path: str, past: Past | None) -> Range:
        """Take in one stage's body; return the seconds of one try."""
        asks = self._asks(stage, frame.workflow) if asks_models(stage.body) or stage.judge is not None else ()
        if past is not None and past.seconds and (past.calls or not asks):
            return self._as_before(frame, stage, path, past, asks)
        if not asks:
            self._found.assume(f"{path}: no history: {in_seconds(WORK)} (default)")
            self._found.add(StageForecast(path=path, body=stage.key, units=whole(frame.times), seconds=WORK, basis="default"))
            return WORK
        return self._by_models(frame, stage, path, asks)

    def _as_before(self, frame: _Frame, stage: Stage, path: str, past: Past, asks: Sequence[Ask]) -> Range:
        calls, sent, came = (past.range(name) or NOTHING for name in ("calls", "input", "output"))
        usd = past.range("usd") if calls.high else NOTHING
        if usd is None:
            self._found.unpriced |= {ask.model.id: None for ask in asks if ask.model.price is None and not ask.model.offline}
        seconds = past.range("seconds") or WORK
        times = frame.times
        one = StageForecast(
            path=path,
            body=stage.key,
            units=whole(times),
            calls=calls * times,
            input=sent * times,
            output=came * times,
            usd=None if usd is None else usd * times,
            seconds=seconds,
            basis=f"{len(past.seconds)} earlier run{'s' * (len(past.seconds) != 1)}",
        )
        self._found.add(one)
        return seconds

    def _by_models(self, frame: _Frame, stage: Stage, path: str, asks: Sequence[Ask]) -> Range:
        """Take in a stage that never ran, by the size of its prompt and what its models are known for."""
        sent = tokens_sent(stage, frame.scope)
        calls = total(ask.calls for ask in asks)
        came = total(ask.calls * self._output(stage, ask) for ask in asks)
        prices = [cost(ask, sent, self._output(stage, ask)) for ask in asks]
        self._found.unpriced |= {
            ask.model.id: None for ask, usd in zip(asks, prices, strict=True) if usd is None and not ask.model.offline
        }
        usd = None if any(one is None for one in prices) else total(one for one in prices if one is not None)
        seconds = total((ask.waits or ask.calls) * (ask.seconds or SECONDS) for ask in asks)
        known = [ask.output is not None for ask in asks]
        basis = (
            "prompt measured; answers as those of the models so far" if all(known) else "prompt measured; answers by default"
        )
        self._found.assume(f"{path}: no history: {in_tokens(sent)} in for a call (measured from the prompt)")
        if agents_of(stage.body):
            self._found.assume(
                f"{path}: no history of its agents: {calls.low:g} to {calls.high:g} calls (1 to max_iter a task, default)"
            )
        if not all(known):
            self._found.assume(
                f"{path}: no history of its model: {in_tokens(OUTPUT)} out, {in_seconds(SECONDS)} a call (default)"
            )
        times = frame.times
        self._found.add(
            StageForecast(
                path=path,
                body=stage.key,
                units=whole(times),
                calls=calls * times,
                input=sent * calls * times,
                output=came * times,
                usd=None if usd is None else usd * times,
                seconds=seconds,
                basis=basis,
            )
        )
        return seconds

    def _output(self, stage: Stage, ask: Ask) -> Range:
        most = stage.params.get("max_tokens")
        usual = ask.output or OUTPUT
        if not isinstance(most, int) or isinstance(most, bool):
            return usual
        return Range(low=min(usual.low, most), likely=min(usual.likely, most), high=min(usual.high, most))


def _in_order(stages: Mapping[str, Stage]) -> Iterator[Stage]:
    """Yield stages behind those that they depend on."""
    done: set[str] = set()
    left = dict(stages)
    while left:
        ready = [name for name, stage in left.items() if not (set(stage.depends) & left.keys()) - {name}]
        for name in ready or list(left):
            done.add(name)
            yield left.pop(name)


def _rounded(stage: StageForecast) -> StageForecast:
    return replace(stage, calls=whole(stage.calls), input=whole(stage.input), output=whole(stage.output))


def _reached(budget: Mapping[str, Any], made: Forecast) -> Iterator[str]:
    units = {
        "usd": (made.usd, "USD"),
        "calls": (made.calls, "calls"),
        "tokens": (made.tokens, "tokens"),
        "time": (made.seconds, "s"),
    }
    for name, limit in budget.items():
        amount, unit = units[name]
        if amount.likely > limit:
            yield f"the budget of {limit:g} {unit} would be reached"
        elif amount.high > limit:
            yield f"the budget of {limit:g} {unit} may be reached"
