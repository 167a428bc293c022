"""CrewAI's messages, tools and usage, to ours and back. Knows the shapes alone: the library is not needed for it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.attempts import Attempt, Usage
from flowcraft.plugin import ChatResponse, Image, Message, Part, Text, ToolCall, ToolResult, ToolSpec

DELEGATIONS = frozenset({"delegate_work_to_coworker", "ask_question_to_coworker"})
"""Tools by which one agent sets another to work, which cannot be at two tasks at once."""

_MARK = "\ue000"
_PLACES = re.compile(r"\{(?=(?:goal|role|backstory|input|tool_names|tools)\})")
_MASKED = re.compile(_PLACES.pattern.replace("(?=", f"{_MARK}(?="))


def masked(text: str) -> str:
    """Return a text in which CrewAI finds none of the places that it fills in prompts (``{input}``, ``{role}``)."""
    return _PLACES.sub("{" + _MARK, text)


def plain(text: str) -> str:
    """Return a masked text as it was."""
    return _MASKED.sub("{", text)


def coworker_name(role: str) -> str:
    """Return what a role is known by where work is handed out: without quotes, and brackets, which CrewAI takes for a list."""
    name = " ".join(plain(role).replace('"', "").split()).casefold()
    while name.startswith("[") and name.endswith("]"):
        name = name[1:-1].partition(",")[0].strip()
    return name


def unmasked(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return messages with the texts as they were."""
    return tuple(replace(message, parts=tuple(map(_unmasked, message.parts))) for message in messages)


def _unmasked(part: Part) -> Part:
    return replace(part, text=plain(part.text)) if isinstance(part, Text) else part


def as_text(messages: Sequence[Message]) -> str:
    """Return messages as people read them: who says it and what, calls of tools and their results too."""
    return "\n\n".join(f"{message.role}: {' '.join(map(_shown, message.parts))}" for message in messages)


def _shown(part: Part) -> str:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, ToolCall):
        return f"calls {part.name} {part.arguments}"
    return part.content if isinstance(part, ToolResult) else f"({type(part).__name__.lower()})"


def messages_of(given: str | Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Return CrewAI's messages, which are OpenAI's, as ours. Raises ValueError for what is none."""
    if isinstance(given, str):
        return (Message.user(given),)
    return tuple(_message(item) for item in given)


def tools_of(given: Iterable[Mapping[str, Any]] | None) -> tuple[ToolSpec, ...]:
    """Return OpenAI's descriptions of tools as ours."""
    return tuple(_tool(item) for item in given or ())


def calls_for_crewai(response: ChatResponse) -> list[dict[str, Any]]:
    """Return the calls of tools that CrewAI is to carry out: all of them, but only the first where one is a delegation."""
    calls = response.tool_calls
    if any(call.name in DELEGATIONS for call in calls):
        calls = calls[:1]
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _named(call.arguments)}}
        for call in calls
    ]


def _named(arguments: str) -> str:
    """Return the arguments of a call as an object: CrewAI fails of a list or a word, whose model is to be told instead."""
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        return arguments  # of this CrewAI tells the model
    return arguments if isinstance(value, dict | None) else json.dumps({"arguments": value}, ensure_ascii=False)


def usage_for_crewai(usage: Usage) -> dict[str, int]:
    """Return tokens by the names that CrewAI knows."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "cached_prompt_tokens": usage.cached,
        "reasoning_tokens": usage.reasoning,
        "cache_creation_tokens": usage.cache_write,
    }


def billed(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return the attempts that used tokens: of models that answered, failed, lost or judged."""
    return [attempt for attempt in attempts if attempt.usage.total]


def _message(item: Mapping[str, Any]) -> Message:
    role, content = item.get("role"), item.get("content")
    if role == "tool":
        result = ToolResult(id=str(item.get("tool_call_id") or ""), content=_text(content), name=str(item.get("name") or ""))
        return Message(role="tool", parts=(result,))
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"a message's role is system, user, assistant or tool, not {role!r}")
    calls = tuple(_call(call) for call in item.get("tool_calls") or ())
    return Message(role=role, parts=(*_parts(content), *calls))


def _parts(content: Any) -> tuple[Part, ...]:
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(text=content),)
    if not isinstance(content, Sequence):
        raise ValueError(f"a message's content is text or a list of parts, not {type(content).__name__}")
    return tuple(_part(part) for part in content)


def _part(part: Any) -> Part:
    if isinstance(part, str):
        return Text(text=part)
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in ("text", "input_text"):
        return Text(text=str(part.get("text", "")))
    if kind in ("image_url", "input_image"):
        given = part.get("image_url")
        return _image(str(given.get("url", "") if isinstance(given, Mapping) else given))
    raise ValueError(f"a part of a message is of type 'text' or 'image_url', not {kind!r}")


def _image(url: str) -> Image:
    head, _, data = url.partition(",")
    if not head.startswith("data:"):
        return Image(url=url)
    try:
        return Image(data=base64.b64decode(data, validate=True), media_type=head[5:].partition(";")[0])
    except binascii.Error as error:
        raise ValueError(f"the data of an image is no base64: {error}") from None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    return "" if content is None else json.dumps(content, ensure_ascii=False, default=str)


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function") or {}
    arguments = function.get("arguments") or "{}"
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(id=str(call.get("id") or ""), name=str(function.get("name") or ""), arguments=text)


def _tool(item: Mapping[str, Any]) -> ToolSpec:
    function = item.get("function") or item
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return ToolSpec(name=function["name"], description=function.get("description") or "", parameters=parameters)
