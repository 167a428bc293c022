"""What is known of models: of a few well-known ones from here, of others from what their server lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from flowcraft.plugin import Capabilities, ModelInfo, Price

HOSTS = {"api.openai.com": "openai", "openrouter.ai": "openrouter", "dashscope.aliyuncs.com": "qwen"}

MILLION = 1_000_000

CONTEXT_KEYS = ("context_length", "max_model_len", "max_context_length")
"""How OpenRouter, vLLM and LM Studio call the window."""


def known_models(provider: str, base_url: str) -> Sequence[ModelInfo]:
    """Return the well-known models of the vendor at ``base_url``, or called ``provider`` where no address is given."""
    vendor = HOSTS.get(urlsplit(base_url).hostname or "", "") if base_url else provider
    if vendor == "openai":
        return [replace(model, provider=provider) for model in _openai()]
    if vendor == "openrouter":
        # What an answer cost is told in the answer; windows and prices change with the route.
        routed = [replace(model, model=f"openai/{model.model}", price=None) for model in _openai()]
        return [replace(model, provider=provider) for model in (*routed, *_routed())]
    if vendor == "qwen":
        return [replace(model, provider=provider) for model in _qwen()]
    return ()


def listed_model(item: Mapping[str, Any], provider: str) -> ModelInfo:
    """Return what a server's list says of one model."""
    context = next((item[key] for key in CONTEXT_KEYS if isinstance(item.get(key), int)), None)
    meta = item.get("meta")
    if context is None and isinstance(meta, Mapping) and isinstance(meta.get("n_ctx_train"), int):
        context = meta["n_ctx_train"]  # llama.cpp
    return ModelInfo(model=str(item["id"]), provider=provider, context=context, price=_price(item.get("pricing")))


def _price(pricing: Any) -> Price | None:
    # OpenRouter: USD per token, as text; -1 where the price depends on the route.
    if not isinstance(pricing, Mapping):
        return None
    try:
        rates = {key: float(pricing[key]) * MILLION for key in ("prompt", "completion", "input_cache_read") if key in pricing}
    except (TypeError, ValueError):
        return None
    if "prompt" not in rates or "completion" not in rates or min(rates.values()) < 0:
        return None
    return Price(input=rates["prompt"], output=rates["completion"], cached=rates.get("input_cache_read"))


def _openai() -> Sequence[ModelInfo]:
    # Streaming, tools and schemas are common to all; the 5.x models refuse temperature and logprobs while they reason.
    common = Capabilities(
        stream=True,
        tools=True,
        parallel_tools=True,
        tool_choice=True,
        json_schema=True,
        json_object=True,
        system=True,
        images=True,
    )
    plain = replace(common, logprobs=True, temperature=True, seed=True, n=True, stop=True, reasoning=False)
    thinking = replace(common, reasoning=True)

    def gpt(name: str, able: Capabilities, context: int | None, output: int | None, price: Price | None) -> ModelInfo:
        top = 20 if able.logprobs else None
        return ModelInfo(
            model=name, capabilities=able, context=context, max_output=output, top_logprobs_max=top, price=price, family="gpt"
        )

    # The price of gpt-5.4 and gpt-5.5 depends on the length of the input: none is given here.
    return (
        gpt("gpt-5.5", thinking, None, None, None),
        gpt("gpt-5.4", thinking, None, None, None),
        gpt("gpt-5.4-mini", thinking, 400_000, 128_000, Price(input=0.75, cached=0.075, output=4.5)),
        gpt("gpt-4.1", plain, 1_047_576, 32_768, Price(input=2, cached=0.5, output=8)),
        gpt("gpt-4.1-mini", plain, 1_047_576, 32_768, Price(input=0.4, cached=0.1, output=1.6)),
        gpt("gpt-4o", plain, 128_000, 16_384, Price(input=2.5, cached=1.25, output=10)),
        gpt("gpt-4o-mini", plain, 128_000, 16_384, Price(input=0.15, cached=0.075, output=0.6)),
    )


def _routed() -> Sequence[ModelInfo]:
    return (
        ModelInfo(model="meta-llama/llama-3.2-1b-instruct", family="llama"),
        ModelInfo(model="meta-llama/llama-3.2-3b-instruct", family="llama"),
        ModelInfo(model="microsoft/phi-3-mini-128k-instruct", family="phi"),
        ModelInfo(model="google/gemma-2-27b-it", family="gemma"),
    )


def _qwen() -> Sequence[ModelInfo]:
    # Prices depend on the length of the input: none is given here. Which of them have a JSON mode is not known for sure.
    able = Capabilities(stream=True, tools=True, system=True, temperature=True)
    return (
        ModelInfo(model="qwen3-coder-plus", context=1_000_000, family="qwen", capabilities=able),
        ModelInfo(model="qwen3-coder-flash", family="qwen", capabilities=able),
        ModelInfo(model="qwen-plus", family="qwen", capabilities=able),
    )
