"""Templates: text with ``${{ expression }}`` in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft.workflow.expressions.expression import Expression, ExpressionError, as_json

Scope = Mapping[str, Any]
OPENING = "${{"
ParseAt = Callable[[str, int], Expression]


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Text with expressions in it; ``parts`` are texts and expressions in turn."""

    source: str
    parts: tuple[str | Expression, ...]

    @property
    def whole(self) -> Expression | None:
        """The expression, if the template is exactly one."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Expression):
            return self.parts[0]
        return None

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions in it."""
        return tuple(part for part in self.parts if isinstance(part, Expression))

    def render(self, scope: Scope) -> Any:
        """Return the text, or the value itself where the template is exactly one expression."""
        whole = self.whole
        return whole.evaluate(scope) if whole is not None else self.text(scope)

    def text(self, scope: Scope) -> str:
        """Return the text, values inserted. What is inserted is never rendered again."""
        return "".join(part if isinstance(part, str) else inserted(part.evaluate(scope)) for part in self.parts)


def inserted(value: Any) -> str:
    """Return a value as it is inserted into text: text as it is, null as nothing, all else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else as_json(value)


def render_value(value: Any, scope: Scope) -> Any:
    """Return ``value`` with every template in it rendered, through mappings and lists."""
    if isinstance(value, str):
        return value
    if isinstance(value, Template):
        return value.render(scope)
    if isinstance(value, dict | Mapping):
        return {key: render_value(part, scope) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [render_value(part, scope) for part in value]
    return value


def parse_template(text: str, parse_at: ParseAt) -> tuple[Template, list[ExpressionError]]:
    """Return the template that ``text`` says, and what is wrong in it.

    ``parse_at`` makes an expression of a text and its offset; ``$${{`` writes ``${{``. An expression ends at the first ``}}``
    outside of quotes.
    """
    parts: list[str | Expression] = []
    errors: list[ExpressionError] = []
    literal, place = "", 0
    while (start := text.find(OPENING, place)) >= 0:
        if start > place and text[start - 1] == "$":
            literal += text[place : start - 1] + OPENING
            place = start + len(OPENING)
            continue
        literal += text[place:start]
        end = _end(text, start + len(OPENING))
        if end < 0:
            errors.append(
                ExpressionError("a '${{' that is not closed", "write '$${{' for the characters", offset=start, width=3)
            )
            return Template(source=text, parts=(text,)), errors
        if literal:
            parts.append(literal)
            literal = ""
        try:
            parts.append(parse_at(text[start + len(OPENING) : end], start + len(OPENING)))
        except ExpressionError as error:
            error.offset += start + len(OPENING)
            errors.append(error)
        place = end + 2
    literal += text[place:]
    if literal or not parts:
        parts.append(literal)
    return Template(source=text, parts=tuple(parts)), errors


def _end(text: str, place: int) -> int:
    """Return where the first ``}}`` outside of quotes stands, -1 without one."""
    quote = ""
    while place < len(text):
        character = text[place]
        if quote:
            if character == "\\":
                place += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif text.startswith("}}", place):
            return place
        place += 1
    return -1
