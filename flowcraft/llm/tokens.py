"""How many tokens a request or a text has, about: enough to reserve budgets by, and to price calls that nobody answered for.

No vendor's tokenizer is asked, for none is known for most models, and counting has to take microseconds. The rules of thumb:

- text: a token for four characters, and a further 0.35 for each byte that UTF-8 needs beyond one a character. That makes
  0.25 tokens of a Latin letter, 0.6 of a Cyrillic, Greek, Arabic or accented one, 0.95 of a Chinese, Japanese, Korean or
  Indic one, 1.3 of an emoji. Tokenizers commonly need 0.2 to 0.3, 0.3 to 0.6, 0.6 to 1.1 and 1 to 3.
- JSON (tools, their arguments, schemas): a token for three characters, for its signs are tokens of their own.
- a message: 4 tokens for its frame; a tool: 8; the answer's frame: 3.
- media: by their size where it is known, else a usual one; see ``_MEDIA``.

The error is within a factor of two, mostly upwards: a reservation that is too large is given back, one that is too small
overspends.
"""

from __future__ import annotations

import json
from math import ceil
from typing import Any

from flowcraft.attempts import Usage
from flowcraft.plugin.chat import (
    AudioDelta,
    ChatRequest,
    ChatResponse,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from flowcraft.plugin.messages import (
    Audio,
    File,
    Image,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Video,
)

PER_CHARACTER = 0.25
PER_FURTHER_BYTE = 0.35
PER_JSON_CHARACTER = 1 / 3
PER_MESSAGE = 4
PER_TOOL = 8
PER_ANSWER = 3

_MEDIA: dict[type[Media], tuple[int, float, int]] = {
    Image: (1_000, 0.0, 1_000),
    Audio: (500, 1 / 1_000, 100),
    Video: (10_000, 1 / 1_000, 500),
    File: (3_000, 1 / 30, 100),
}
"""Of each kind: tokens where the size is not known; tokens per byte; the least. An image costs about the same whatever its
bytes; a second of speech is 16 KB and 10 to 30 tokens; a page of a document 50 KB and 1,500 to 3,000."""


def text_tokens(text: str) -> float:
    """Return about how many tokens ``text`` has."""
    characters = len(text)
    if text.isascii():
        return characters * PER_CHARACTER
    further = len(text.encode("utf-8", "surrogatepass")) - characters
    return characters * PER_CHARACTER + further * PER_FURTHER_BYTE


def json_tokens(text: str) -> float:
    """Return about how many tokens a text has that is JSON."""
    return text_tokens(text) + len(text) * (PER_JSON_CHARACTER - PER_CHARACTER)


def estimate_tokens(request: ChatRequest) -> int:
    """Return about how many tokens of input ``request`` is; takes a few microseconds for each message."""
    tokens = float(PER_ANSWER) + text_tokens(request.prefix)
    for message in request.messages:
        tokens += _of_message(message)
    for tool in request.tools:
        tokens += PER_TOOL + text_tokens(tool.name) + text_tokens(tool.description) + json_tokens(_json(tool.parameters))
    if request.output is not None:
        tokens += json_tokens(_json(request.output.schema))
    return int(tokens) + 1


def estimate_usage(request: ChatRequest, output: float = 0.0) -> Usage:
    """Return about what a call cost that was under way when it ended, and of which ``output`` tokens had come."""
    return Usage(input=estimate_tokens(request), output=ceil(output))


def event_tokens(event: StreamEvent) -> float:
    """Return about how many tokens of output ``event`` brought: one at least, if it brought content."""
    kind = type(event)  # every event of every stream comes by: isinstance takes three times as long
    if kind is TextDelta or kind is ReasoningDelta:
        text: str = event.text  # type: ignore[union-attr]  # both have one
        return max(1.0, text_tokens(text))
    if isinstance(event, ToolCallDelta):
        return max(1.0, text_tokens(event.name) + json_tokens(event.arguments))
    if isinstance(event, AudioDelta):
        return max(1.0, len(event.data) * _MEDIA[Audio][1])
    return 0.0


def answer_tokens(response: ChatResponse) -> int:
    """Return about how many tokens of output ``response`` is, where its vendor does not say."""
    return ceil(sum(_of_part(part) for part in response.message.parts))


def _of_message(message: Message) -> float:
    tokens = float(PER_MESSAGE)
    for part in message.parts:
        tokens += text_tokens(part.text) if type(part) is Text else _of_part(part)
    return tokens


def _of_part(part: Part) -> float:
    if isinstance(part, Text | Reasoning | Refusal):
        return text_tokens(part.text)
    if isinstance(part, ToolCall):
        return text_tokens(part.name) + json_tokens(part.arguments)
    if isinstance(part, ToolResult):
        looks = part.content[:64].lstrip()[:1]
        return json_tokens(part.content) if looks in ("{", "[") else text_tokens(part.content)
    return _of_media(part)


def _of_media(part: Media) -> float:
    unknown, per_byte, least = _MEDIA[type(part)]
    if part.data is None:
        return unknown
    if part.media_type.startswith("text/"):
        return len(part.data) * PER_CHARACTER
    return max(len(part.data) * per_byte, least)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
