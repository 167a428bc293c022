"""A stage's templates with values put in: what its body is given, and what its hash is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flowcraft.engine.bodies.attachments import attached
from flowcraft.engine.bodies.crews import AGENTS, agent_ask, crew_ask
from flowcraft.engine.bodies.group import GroupAsk
from flowcraft.engine.bodies.prompt import PromptAsk
from flowcraft.engine.bodies.run import RunAsk
from flowcraft.engine.bodies.shell import ShellAsk
from flowcraft.engine.bodies.uses import UsesAsk
from flowcraft.engine.context import ApproveAsk
from flowcraft.engine.ports import Quality
from flowcraft.plugin.stages import StageBody
from flowcraft.source import parse_duration
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.template import Template, inserted, render_value
from flowcraft.workflow.loading.stage_settings import completed_params, params_mistakes
from flowcraft.workflow.schema import Approve, Crew, Group, Plugin, Prompt, Run, Shell, Stage, Uses, agents_of

Scope = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The options of a body and the other settings of a stage, rendered. ``timeout`` and ``cache`` are in seconds."""

    options: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    quality: Quality = field(default_factory=Quality)
    timeout: float | None = None
    cache: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The latest try of a stage with ``until``: its value, and what the stage's judge said of it."""

    value: Any
    judge: Mapping[str, Any] | None = None


def render(stage: Stage, scope: Scope, bodies: Mapping[str, type[StageBody]], latest: Latest | None = None) -> Rendered:
    """Render all that ``stage`` hands to its body; ``latest`` is the try before this one."""
    return Rendered(
        options=_options(stage, scope, bodies, latest),
        arguments=render_value(stage.with_, scope) if stage.with_ else {},
        params=rendered_params(stage, scope),
        model=_text(stage.model, scope),
        quality=_quality(stage, scope),
        timeout=_seconds("timeout", stage.timeout, scope),
        cache=_seconds("cache", stage.cache, scope),
    )


def asked(stage: Stage, rendered: Rendered, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``stage`` asks for as JSON-like data: the part of the hash that resume compares.

    ``arguments`` is the rendered ``with`` with names in place of environment values: a renewed token asks for the same.
    """
    body = stage.body
    asks: dict[str, Any] = {"with": arguments, "params": rendered.params, "model": rendered.model}
    if rendered.quality != Quality():
        asks["quality"] = asdict(rendered.quality)
    if isinstance(body, Prompt):
        asks["prompt"], asks["system"] = rendered.options.prompt, rendered.options.system
        if rendered.options.previous is not None:
            asks["previous"], asks["reasons"] = rendered.options.previous, list(rendered.options.reasons)
        if rendered.options.attach:
            asks["attach"] = [[one.kind, one.what] for one in rendered.options.attach]
        if body.tools:
            asks["tools"] = [name.written for name in body.tools]
        if rendered.options.agent is not None:
            asks["agent"] = rendered.options.agent.data()
    elif isinstance(body, Crew):
        asks["crew"] = rendered.options.data()
    elif isinstance(body, Run):
        asks["run"] = body.target
    elif isinstance(body, Shell):
        asks["shell"] = body.command
    elif isinstance(body, Uses):
        asks["uses"] = body.path
    elif isinstance(body, Approve):
        asks["approve"] = rendered.options.data()
    elif isinstance(body, Group):
        asks["stages"] = list(body.stages)  # each of them says what it asks for
    else:
        asks[body.key] = rendered.options.model_dump(mode="json")
    return asks


def rendered_params(stage: Stage, scope: Scope) -> Mapping[str, Any]:
    """Return the params of a stage, what comes as a whole over what is written. Raises ExpressionError."""
    params = render_value(stage.params, scope) if stage.params else {}
    given = stage.params_from.render(scope) if stage.params_from is not None else None
    if mistakes := params_mistakes(given):
        raise ExpressionError(mistakes[0])
    return completed_params(given, params) if given else params


def _options(stage: Stage, scope: Scope, bodies: Mapping[str, type[StageBody]], latest: Latest | None) -> Any:
    body = stage.body
    if isinstance(body, Prompt):
        return replace(_prompt(stage.name, body, scope, latest), attach=attached(stage, body.attach, scope))
    if isinstance(body, Crew):
        return crew_ask(body, scope)
    if isinstance(body, Approve):
        question = body.question.text(scope)
        return ApproveAsk(question=question, choices=body.choices, rejects=body.rejects, form=body.form)
    if isinstance(body, Group):
        return GroupAsk(stages=body.stages, names=scope)
    if isinstance(body, Run):
        return RunAsk(module=body.module, function=body.function)
    if isinstance(body, Shell):
        return ShellAsk(command=body.command, text=body.text)
    if isinstance(body, Uses):
        return UsesAsk(path=body.path, workflow=body.workflow)
    assert isinstance(body, Plugin)
    return bodies[body.key].Options.model_validate(render_value(body.options, scope))


def _prompt(name: str, body: Prompt, scope: Scope, latest: Latest | None) -> PromptAsk:
    """Return the texts of a prompt; its latest try goes along unless it says itself what it needs of it."""
    agent = agent_ask(body.agent, scope) if body.agent is not None else None
    system = body.system.text(scope) if body.system else None
    templates = (body.prompt, body.system) if body.system else (body.prompt,)
    own = {mentioned for template in templates for part in template.expressions for mentioned in part.names}
    if latest is None or own & {name, "judge"}:
        return PromptAsk(prompt=body.prompt.text(scope), system=system, tools=body.tools, agent=agent)
    reasons = tuple(latest.judge["reasons"]) if latest.judge is not None else ()
    return PromptAsk(
        prompt=body.prompt.text(scope),
        system=system,
        tools=body.tools,
        previous=inserted(latest.value),
        reasons=reasons,
        agent=agent,
    )


def _quality(stage: Stage, scope: Scope) -> Quality:
    if agents_of(stage.body):
        return AGENTS
    judge = stage.judge
    return Quality(
        strategy=stage.strategy,
        judge=judge.model if judge is not None else None,
        rubric=judge.rubric.text(scope) if judge is not None else "",
        confidence=stage.confidence,
        tools=isinstance(stage.body, Prompt) and bool(stage.body.tools),
    )


def _text(value: str | Template | None, scope: Scope) -> str | None:
    return value.text(scope) if isinstance(value, Template) else value


def _seconds(key: str, value: float | Template | None, scope: Scope) -> float | None:
    if not isinstance(value, Template):
        return value
    told = value.render(scope)
    try:
        return parse_duration(told)
    except (ValueError, TypeError) as error:
        raise ExpressionError(f"{key}: {error}") from None


def parallel(stage: Stage, scope: Scope) -> int:
    """Return how many elements may be worked on at a time."""
    if not isinstance(stage.parallel, Template):
        return stage.parallel
    told = stage.parallel.render(scope)
    if isinstance(told, bool) or not isinstance(told, int) or told < 1:
        raise ExpressionError(f"parallel: {told!r} is no whole number of at least 1")
    return told


def most_tries(stage: Stage, scope: Scope) -> int:
    """Return how often a stage with ``until`` is tried at most."""
    if not isinstance(stage.max, Template):
        return stage.max or 1
    told = stage.max.render(scope)
    if isinstance(told, bool) or not isinstance(told, int) or told < 1:
        raise ExpressionError(f"max: {told!r} is no whole number of at least 1")
    return told
