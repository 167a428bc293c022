"""A request as the body of /chat/completions."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowcraft.plugin import (
    Audio,
    ChatRequest,
    File,
    Image,
    Media,
    Message,
    OutputSpec,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Video,
)
from flowcraft_openai.config import OpenAIConfig
from flowcraft_openai.schema import strict_schema

MEDIA_TYPES: Mapping[type[Media], str] = {Image: "image/png", Audio: "audio/wav", Video: "video/mp4", File: "application/pdf"}
AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "mp4": "m4a", "x-m4a": "m4a"}
CHOICES = frozenset({"auto", "none", "required"})


def chat_body(model: str, request: ChatRequest, config: OpenAIConfig, section: str) -> dict[str, Any]:
    """Return the body; ``section`` and ``model`` decide whose reasoning may be sent back."""
    body: dict[str, Any] = {"model": model, "messages": _messages(model, request, config, section)}
    plain = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        config.limit_key: request.max_tokens,
        "seed": request.seed,
        "n": request.n,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "logprobs": True if request.top_logprobs else request.logprobs,
        "top_logprobs": request.top_logprobs,
        "user": request.user,
        "stop": list(request.stop) or None,
        "modalities": list(request.modalities) or None,
    }
    body.update((key, value) for key, value in plain.items() if value is not None)
    body.update(_tools(request))
    if request.output is not None:
        body["response_format"] = _output(request.output)
    body.update(_reasoning(request, config))
    begun = config.prefix_body if request.prefix else {}
    return {**body, **config.extra_body, **begun, **request.extra}


def _messages(model: str, request: ChatRequest, config: OpenAIConfig, section: str) -> list[dict[str, Any]]:
    def own(part: Part) -> bool:
        return isinstance(part, Reasoning) and (part.provider, part.model) == (section, model)

    messages = [turn for message in request.messages for turn in _turns(message, config.reasoning_key, own)]
    if request.prefix:
        messages.append({"role": "assistant", "content": request.prefix, **config.prefix_message})
    return messages


def _turns(message: Message, reasoning_key: str | None, own: Callable[[Part], bool]) -> Iterator[dict[str, Any]]:
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.id, "content": result.content}
    rest = [part for part in message.parts if not isinstance(part, ToolResult | Reasoning)]
    if results and not rest:
        return
    turn: dict[str, Any] = {"role": message.role}
    if message.name:
        turn["name"] = message.name
    contents = [part for part in rest if isinstance(part, Text | Media)]
    calls = [part for part in rest if isinstance(part, ToolCall)]
    refusals = [part.text for part in rest if isinstance(part, Refusal)]
    if all(isinstance(part, Text) for part in contents):
        turn["content"] = message.text if contents or not (calls or refusals) else None
    else:
        turn["content"] = [_content(part) for part in contents]
    if refusals:
        turn["refusal"] = "".join(refusals)
    if calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in calls
        ]
    thoughts = [part.text for part in message.parts if isinstance(part, Reasoning) and own(part)]
    if thoughts and reasoning_key:
        turn[reasoning_key] = "".join(thoughts)
    yield turn


def _content(part: Text | Media) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    kind = _media_type(part)
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": _url(part, kind)}}
    if isinstance(part, Video):
        return {"type": "video_url", "video_url": {"url": _url(part, kind)}}
    if isinstance(part, Audio):
        subtype = kind.partition("/")[2]
        data = part.url or base64.b64encode(part.data or b"").decode()
        return {"type": "input_audio", "input_audio": {"data": data, "format": AUDIO_FORMATS.get(subtype, subtype)}}
    name = getattr(part, "name", "") or (
        Path(part.path).name if part.path else "file" + (mimetypes.guess_extension(kind) or "")
    )
    return {"type": "file", "file": {"filename": name, "file_data": _url(part, kind)}}


def _url(part: Media, kind: str) -> str:
    return part.url or f"data:{kind};base64,{base64.b64encode(part.data or b'').decode()}"


def _media_type(part: Media) -> str:
    name = part.path or part.url or getattr(part, "name", "")
    return part.media_type or mimetypes.guess_type(str(name))[0] or MEDIA_TYPES.get(type(part), "application/octet-stream")


def _tools(request: ChatRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    told: dict[str, Any] = {
        "tools": [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in request.tools
        ]
    }
    choice = request.tool_choice
    if choice is not None:
        told["tool_choice"] = choice if choice in CHOICES else {"type": "function", "function": {"name": choice}}
    if request.parallel_tools is not None:
        told["parallel_tool_calls"] = request.parallel_tools
    return told


def _output(output: OutputSpec) -> dict[str, Any]:
    if output.schema == {"type": "object"}:
        return {"type": "json_object"}
    schema = strict_schema(output.schema) if output.strict else None
    name = re.sub(r"[^A-Za-z0-9_-]", "_", output.name)[:64] or "output"
    shape = {"name": name, "schema": schema or dict(output.schema), "strict": schema is not None}
    return {"type": "json_schema", "json_schema": shape}


def _reasoning(request: ChatRequest, config: OpenAIConfig) -> dict[str, Any]:
    if request.reasoning is None:
        return {}
    effort, budget = request.reasoning.effort, request.reasoning.budget
    if config.reasoning_style == "openrouter":
        asked = {"effort": effort} if budget is None else {"max_tokens": budget}
        return {"reasoning": asked}
    if config.reasoning_style == "qwen":
        return {"enable_thinking": effort != "none"} | ({} if budget is None else {"thinking_budget": budget})
    return {} if effort is None else {"reasoning_effort": effort}
