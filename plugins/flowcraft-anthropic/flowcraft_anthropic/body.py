"""A request as the body of /v1/messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flowcraft.plugin import ChatRequest, InvalidRequest
from flowcraft_anthropic.config import AnthropicConfig
from flowcraft_anthropic.content import MARK, MARKS_MAX, Block, limit_marks, plain, system, turns
from flowcraft_anthropic.models import Traits, max_output, samples, traits
from flowcraft_anthropic.schema import closed_schema, instruction

MAX_TOKENS = 8192
"""The limit of answers of a model that nothing is known of; the API wants one."""

LONGEST = 16_384
"""That of well-known models, which could write up to 128,000: as much as a budget reserves for an answer, and as comes within
the usual time limit of a call."""

LEAST_BUDGET = 1024
"""The fewest tokens that a model may be given to think."""

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_768, "max": 32_768}
"""An effort in tokens, for models that know budgets alone."""

EFFORTS = {"minimal": "low"}

CHOICES = {"auto": "auto", "none": "none", "required": "any"}

LIFETIMES = ("5m", "1h")

UNKNOWN = ("seed", "n", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")
"""What this API has no field for."""


@dataclass(slots=True)
class Asked:
    """What is sent, what of the request could not be, and white space of the prefix that the answer begins with."""

    body: dict[str, Any]
    left_out: list[str] = field(default_factory=list)
    blank: str = ""


def ask(model: str, request: ChatRequest, config: AnthropicConfig, section: str) -> Asked:
    """Return the body; ``section`` and ``model`` decide whose reasoning may be sent back. Raises InvalidRequest."""
    told = traits(model)
    asked = Asked({"model": model})
    body = asked.body
    said, messages = system(request.messages), turns(request.messages, section, model)
    if request.output is not None:
        _shape(request, told, asked, said)
    if not messages:
        said, messages = [], [{"role": "user", "content": said}] if said else []
    if not messages:
        raise InvalidRequest("the request holds nothing to answer: every message is empty")
    body["max_tokens"] = request.max_tokens or config.max_tokens or _limit(model, request)
    if request.prefix:
        sent = request.prefix.rstrip()  # the vendor refuses white space at the end
        asked.blank = request.prefix[len(sent) :]
        if sent:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": sent}]})
    elif request.reasoning is not None:
        _reasoning(model, request, config, asked)
    _marks(request, said, messages, body)
    if said:
        body["system"] = plain(said)
    body["messages"] = [{**turn, "content": plain(turn["content"])} for turn in messages]
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    body.update(_tools(request))
    _sampling(model, request, config, asked)
    asked.left_out += [name for name in UNKNOWN if _wanted(name, getattr(request, name))]
    body.update({**config.extra_body, **request.extra})
    return asked


def _limit(model: str, request: ChatRequest) -> int:
    """Return the limit of an answer where nobody names one: more where an effort is asked for, for thoughts count too."""
    own = max_output(model)
    if own is None:
        return MAX_TOKENS
    effort = request.reasoning.effort if request.reasoning else None
    return min(own, LONGEST + BUDGETS.get(effort or "", 0))


def _wanted(name: str, value: float | None) -> bool:
    # One answer, no penalty and no logprobs is what comes anyway.
    return value is not None and (name == "seed" or value != (1 if name == "n" else 0))


def _shape(request: ChatRequest, told: Traits, asked: Asked, said: list[Block]) -> None:
    assert request.output is not None
    schema = request.output.schema
    if schema == {"type": "object"}:
        return  # any JSON: there is nothing to hold an answer to, and whoever wants it says so in words
    closed = None if told.schema is False or request.prefix else closed_schema(schema)
    if closed is None:
        said.append({"type": "text", "text": instruction(schema)})
    else:
        asked.body["output_config"] = {"format": {"type": "json_schema", "schema": closed}}


def _reasoning(model: str, request: ChatRequest, config: AnthropicConfig, asked: Asked) -> None:
    assert request.reasoning is not None
    effort, budget = request.reasoning.effort, request.reasoning.budget
    told = traits(model)
    body = asked.body
    if effort == "none" or (effort is None and budget == 0):
        if told.silent:
            body["thinking"] = {"type": "disabled"}
        else:
            asked.left_out.append("reasoning")
        return
    if config.thinking == "auto":
        adaptive = told.adaptive if told.adaptive is not None else budget is None
        by_budget = not adaptive or (budget is not None and told.budget is True)
    else:
        by_budget = config.thinking == "budget"
    if by_budget and told.budget is not False and request.tools and request.tool_choice not in (None, "auto", "none"):
        asked.left_out.append("reasoning")  # the vendor refuses budgets beside a call that must be made
        return
    if by_budget and told.budget is not False:
        _budget(request, body, max_output(model), budget or BUDGETS.get(effort or "", BUDGETS["medium"]))
    elif by_budget and told.adaptive is False:
        asked.left_out.append("reasoning")  # a model from before thinking
        return
    else:
        # Summarised, as a reader wants it: the newest models would send none of it.
        body["thinking"] = {"type": "adaptive", **({"display": "summarized"} if told.adaptive else {})}
        if budget is not None:
            asked.left_out.append("reasoning.budget")
    if effort is not None and told.effort is not False:
        body["output_config"] = {**body.get("output_config", {}), "effort": EFFORTS.get(effort, effort)}


def _budget(request: ChatRequest, body: dict[str, Any], most: int | None, budget: int) -> None:
    asked_for = request.reasoning.budget if request.reasoning else None
    if budget < LEAST_BUDGET:
        raise InvalidRequest(f"this API takes reasoning budgets from {LEAST_BUDGET} tokens, not {budget}")
    if request.max_tokens is None:
        wanted = max(body["max_tokens"], budget + MAX_TOKENS)
        body["max_tokens"] = wanted if most is None else min(wanted, most)
    elif asked_for is None:
        budget = min(budget, max(LEAST_BUDGET, request.max_tokens // 2))
    if budget >= body["max_tokens"]:
        raise InvalidRequest(
            f"thinking counts towards max_tokens: with {body['max_tokens']} of these a budget of {budget} leaves no answer"
        )
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _marks(request: ChatRequest, said: list[Block], messages: list[dict[str, Any]], body: dict[str, Any]) -> None:
    most = MARKS_MAX
    if request.cache_hint:
        lifetime = {"ttl": request.cache_hint} if request.cache_hint in LIFETIMES else {}
        body["cache_control"] = {**MARK, **lifetime}
        most -= 1
    limit_marks([*said, *(block for turn in messages for block in turn["content"])], most)


def _tools(request: ChatRequest) -> Iterator[tuple[str, Any]]:
    if not request.tools:
        return
    yield (
        "tools",
        [
            {"name": tool.name, "description": tool.description, "input_schema": {"type": "object", **tool.parameters}}
            for tool in request.tools
        ],
    )
    choice = request.tool_choice
    chosen: dict[str, Any] = {}
    if choice is not None:
        chosen = {"type": CHOICES[choice]} if choice in CHOICES else {"type": "tool", "name": choice}
    if request.parallel_tools is False and chosen.get("type") != "none":
        chosen = {"type": "auto", **chosen, "disable_parallel_tool_use": True}
    if chosen:
        yield "tool_choice", chosen


def _sampling(model: str, request: ChatRequest, config: AnthropicConfig, asked: Asked) -> None:
    given = [name for name in ("temperature", "top_p") if getattr(request, name) is not None]
    thinks = asked.body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    # Where nobody knows, another vendor's model stands behind this API: its own server takes or refuses them.
    for name in given:
        if samples(model, config.api_version) is False or thinks or (name == "top_p" and "temperature" in given):
            asked.left_out.append(name)
        else:
            asked.body[name] = getattr(request, name)
