"""How large the texts of a prompt are, as far as that is known before they are rendered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowcraft.workflow.expressions.expression import Expression, ExpressionError
from flowcraft.workflow.expressions.template import Template, inserted, render_value
from flowcraft.workflow.schema import Prompt, Stage
from flowcraft.workflow.types.foreign import imports

Scope = Mapping[str, Any]
Count = Callable[[str], float]

MOST_ELEMENTS = 1_000
"""Elements of a list that are looked at."""


def known_tokens(stage: Stage, body: Prompt, scope: Scope, count: Count) -> float:
    """Return about how many tokens the prompt of ``stage`` has at least; of a list, the largest of its elements.

    ``scope`` holds the names whose values are known; what mentions others counts nothing.
    """
    output = stage.output
    schema = count(json.dumps(output.json_schema())) if output is not None and not imports(output) else 0.0
    return schema + known_texts_tokens(stage, (body.prompt, body.system), scope, count)


def known_texts_tokens(stage: Stage, texts: Sequence[Template | None], scope: Scope, count: Count) -> float:
    """Return about how many tokens ``texts`` of a stage have together at least; of a list, for the largest element."""
    given = [text for text in texts if text is not None]
    return max(sum(count(known_text(text, names)) for text in given) for names in element_scopes(stage, scope))


def known_text(template: Template, scope: Scope) -> str:
    """Return a template's text; what mentions names that ``scope`` lacks is left out."""
    return "".join(part if isinstance(part, str) else _inserted(part, scope) for part in template.parts)


def is_known(value: Any, scope: Scope) -> bool:
    """Say whether all that the templates in ``value`` mention is in ``scope``."""
    if isinstance(value, Template):
        return all(knows(part, scope) for part in value.expressions)
    if isinstance(value, Mapping):
        return all(is_known(part, scope) for part in value.values())
    return not isinstance(value, list | tuple) or all(is_known(part, scope) for part in value)


def known_value(template: Template, scope: Scope) -> Any:
    """Return what a template gives; None where that is not known, or wrong."""
    try:
        return template.render(scope) if is_known(template, scope) else None
    except ExpressionError:
        return None


def knows(expression: Expression, scope: Scope) -> bool:
    """Say whether all that an expression mentions is in ``scope``."""
    return not expression.run_stages and all(name in scope for name in expression.names)


def element_scopes(stage: Stage, scope: Scope) -> list[Scope]:
    """Return what is known in each element of ``stage``; without ``each``, or of an unknown list, ``scope`` alone."""
    items = elements(stage, scope)
    if not items:
        return [scope]
    return [{**scope, "item": item, "index": index} for index, item in enumerate(items[:MOST_ELEMENTS])]


def elements(stage: Stage, scope: Scope) -> list[Any] | None:
    """Return the elements of a stage with ``each``, None where they are not known."""
    each = stage.each
    try:
        if isinstance(each, Expression):
            given = each.evaluate(scope) if knows(each, scope) else ...
            return [] if given is None else given if isinstance(given, list) else None
        if each is None:
            return None
        return [render_value(part, scope) if is_known(part, scope) else None for part in each]
    except ExpressionError:
        return None


def _inserted(expression: Expression, scope: Scope) -> str:
    if not knows(expression, scope):
        return ""
    try:
        return inserted(expression.evaluate(scope))
    except ExpressionError:
        return ""
