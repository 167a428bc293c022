"""What is known of models: by their names, of well-known ones from here, of others from what their server lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from flowcraft.plugin import Capabilities, ModelInfo, Price
from flowcraft_anthropic.config import LATEST

HOST = "api.anthropic.com"
VENDOR = "anthropic"
FAMILY = "claude"
FIRST = "2023-06-01"
"""The version of the API that took a temperature; later ones refuse it."""

NAME = re.compile(
    r"claude-(?:(?P<line>[a-z]+)-(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?"
    r"|(?P<old>\d)(?:[-.](?P<old_minor>\d))?-(?P<old_line>[a-z]+))"
)
"""``claude-sonnet-4-5-20250929`` and the older ``claude-3-7-sonnet``; a date is no version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a model's name says of what it takes; None where the name says nothing.

    ``adaptive`` and ``budget`` are the two ways to ask for thinking, ``silent`` says that thinking can be turned off.
    ``sampling`` is about temperature and top_p, under the API's first version alone.
    """

    adaptive: bool | None = None
    budget: bool | None = None
    silent: bool = True
    effort: bool | None = None
    sampling: bool | None = None
    prefill: bool | None = None
    schema: bool | None = None


def traits(model: str) -> Traits:
    """Return what the name of ``model`` says."""
    found = NAME.search(model)
    if not found:
        return Traits()
    line = found["line"] or found["old_line"]
    version = (int(found["major"] or found["old"]), int(found["minor"] or found["old_minor"] or 0))
    return Traits(
        adaptive=version >= (4, 6),
        budget=(3, 7) <= version <= (4, 6),
        silent=not (line in ("fable", "mythos") or (line == "opus" and version >= (5, 5))),
        effort=version >= (4, 6) or (line, version) == ("opus", (4, 5)),
        sampling=version <= ((4, 5) if line == "haiku" else (4, 6)),
        prefill=version <= (4, 5),
        schema=version >= (4, 5),
    )


def max_output(model: str) -> int | None:
    """Return the most tokens that a well-known model writes, None for others."""
    return next((known.max_output for known in _models(LATEST) if _is(model, known.model)), None)


def samples(model: str, api_version: str) -> bool | None:
    """Return whether ``model`` takes a temperature; None where nobody knows."""
    return traits(model).sampling if api_version <= FIRST or FAMILY not in model else False


def known_models(provider: str, config: Mapping[str, Any]) -> Sequence[ModelInfo]:
    """Return the well-known models at the vendor's own address, or of ``provider`` by name where no address is given."""
    base_url = str(config.get("base_url") or "")
    here = urlsplit(base_url).hostname == HOST if base_url else provider == VENDOR
    version = str(config.get("api_version") or LATEST)
    return [replace(model, provider=provider) for model in _models(version)] if here else ()


def listed_model(item: Mapping[str, Any], provider: str) -> ModelInfo:
    """Return what a server's list says of one model."""
    able = item.get("capabilities")
    able = able if isinstance(able, Mapping) else {}
    name = str(item["id"])
    told = Capabilities(
        images=_supported(able, "image_input"),
        files=_supported(able, "pdf_input"),
        json_schema=_supported(able, "structured_outputs"),
        reasoning=_supported(able, "thinking"),
    )
    return ModelInfo(
        model=name,
        provider=provider,
        capabilities=told.over(Capabilities(prefill=traits(name).prefill)),
        context=_whole(item.get("max_input_tokens")),
        max_output=_whole(item.get("max_tokens")),
        family=FAMILY if NAME.search(name) else "",
    )


def _supported(able: Mapping[str, Any], name: str) -> bool | None:
    told = able.get(name)
    supported = told.get("supported") if isinstance(told, Mapping) else None
    return supported if isinstance(supported, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _is(model: str, known: str) -> bool:
    """Whether ``model`` is ``known``, or a dated snapshot of it."""
    return model == known or re.fullmatch(rf"{re.escape(known)}[-@]\d{{8}}", model) is not None


def _models(version: str) -> Sequence[ModelInfo]:
    def claude(name: str, context: int, output: int | None, price: Price | None) -> ModelInfo:
        told = traits(name)
        able = Capabilities(
            stream=True,
            tools=True,
            parallel_tools=True,
            tool_choice=True,
            json_schema=told.schema,
            stop=True,
            system=True,
            images=True,
            files=True,
            reasoning=True,
            cache_hints=True,
            prefill=told.prefill,
            temperature=samples(name, version),
        )
        return ModelInfo(model=name, capabilities=able, context=context, max_output=output, price=price, family=FAMILY)

    def price(into: float, out: float, cached: float) -> Price:
        return Price(input=into, output=out, cached=cached, cache_write=into * 1.25)

    million, most = 1_000_000, 128_000
    # The price of haiku-5-5 and of sonnet-4-5 depends on the length of the input: none is given here.
    return (
        claude("claude-fable-5-2", million, None, price(8, 40, 0.2)),
        claude("claude-fable-5-1", million, most, price(10, 50, 0.25)),
        claude("claude-opus-5-5", million, most, price(4, 20, 0.2)),
        claude("claude-sonnet-5-5", million, most, price(2, 10, 0.1)),
        claude("claude-haiku-5-5", million, most, None),
        claude("claude-fable-5", million, most, price(10, 50, 1)),
        claude("claude-opus-5", million, most, price(5, 25, 0.5)),
        claude("claude-sonnet-5", million, most, price(2, 10, 0.2)),
        claude("claude-opus-4-8", million, most, price(5, 25, 0.5)),
        claude("claude-opus-4-7", million, most, price(5, 25, 0.5)),
        claude("claude-opus-4-6", million, most, price(5, 25, 0.5)),
        claude("claude-sonnet-4-6", million, most, price(3, 15, 0.3)),
        claude("claude-opus-4-5", 200_000, 64_000, price(5, 25, 0.5)),
        claude("claude-haiku-4-5", 200_000, 64_000, price(1, 5, 0.1)),
        claude("claude-sonnet-4-5", 200_000, 64_000, None),
    )
