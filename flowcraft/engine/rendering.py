"""A stage's templates with values put in: what its body is given, and what its hash is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flowcraft.engine.bodies.prompt import PromptAsk
from flowcraft.engine.bodies.run import RunAsk
from flowcraft.engine.bodies.uses import UsesAsk
from flowcraft.engine.ports import Quality
from flowcraft.plugin.stages import StageBody
from flowcraft.source import parse_duration
from flowcraft.workflow.expressions import ExpressionError
from flowcraft.workflow.schema import Plugin, Prompt, Run, Stage, Uses
from flowcraft.workflow.template import Template, render_value

Scope = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The options of a body and the other settings of a stage, rendered. ``timeout`` is in seconds."""

    options: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    quality: Quality = field(default_factory=Quality)
    timeout: float | None = None


def render(stage: Stage, scope: Scope, bodies: Mapping[str, type[StageBody]]) -> Rendered:
    """Render all that ``stage`` hands to its body."""
    return Rendered(
        options=_options(stage, scope, bodies),
        arguments=render_value(stage.with_, scope) if stage.with_ else {},
        params=render_value(stage.params, scope) if stage.params else {},
        model=_text(stage.model, scope),
        quality=_quality(stage, scope),
        timeout=_seconds(stage.timeout, scope),
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
    elif isinstance(body, Run):
        asks["run"] = body.target
    elif isinstance(body, Uses):
        asks["uses"] = body.path
    else:
        asks[body.key] = rendered.options.model_dump(mode="json")
    return asks


def _options(stage: Stage, scope: Scope, bodies: Mapping[str, type[StageBody]]) -> Any:
    body = stage.body
    if isinstance(body, Prompt):
        return PromptAsk(prompt=body.prompt.text(scope), system=body.system.text(scope) if body.system else None)
    if isinstance(body, Run):
        return RunAsk(module=body.module, function=body.function)
    if isinstance(body, Uses):
        return UsesAsk(path=body.path, workflow=body.workflow)
    assert isinstance(body, Plugin)
    return bodies[body.key].Options.model_validate(render_value(body.options, scope))


def _quality(stage: Stage, scope: Scope) -> Quality:
    judge = stage.judge
    return Quality(
        strategy=stage.strategy,
        judge=judge.model if judge is not None else None,
        rubric=judge.rubric.text(scope) if judge is not None else "",
        confidence=stage.confidence,
    )


def _text(value: str | Template | None, scope: Scope) -> str | None:
    return value.text(scope) if isinstance(value, Template) else value


def _seconds(value: float | Template | None, scope: Scope) -> float | None:
    if not isinstance(value, Template):
        return value
    told = value.render(scope)
    try:
        return parse_duration(told)
    except (ValueError, TypeError) as error:
        raise ExpressionError(f"timeout: {error}") from None


def parallel(stage: Stage, scope: Scope) -> int:
    """Return how many elements may be worked on at a time."""
    if not isinstance(stage.parallel, Template):
        return stage.parallel
    told = stage.parallel.render(scope)
    if isinstance(told, bool) or not isinstance(told, int) or told < 1:
        raise ExpressionError(f"parallel: {told!r} is no whole number of at least 1")
    return told
