"""OpenAI and every OpenAI-compatible endpoint as a provider. This module holds the hooks alone: no SDK loads here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft.plugin import ModelInfo, Preset, hookimpl

PROVIDER = "flowcraft_openai.provider:OpenAIProvider"


@hookimpl
def flowcraft_providers() -> Mapping[str, Preset]:
    """Return the provider under its presets."""
    return {
        "openai": Preset(
            provider=PROVIDER,
            config={"base_url": "https://api.openai.com/v1"},
            key_env="OPENAI_API_KEY",
            default_model="gpt-5.4-mini",
        ),
        "openrouter": Preset(
            provider=PROVIDER,
            config={"base_url": "https://openrouter.ai/api/v1", "reasoning_style": "openrouter", "reasoning_key": "reasoning"},
            key_env="OPENROUTER_API_KEY",
            default_model="openai/gpt-5.4-mini",
        ),
        "qwen": Preset(
            provider=PROVIDER,
            config={"base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1", "reasoning_style": "qwen"},
            key_env="DASHSCOPE_API_KEY",
            default_model="qwen3-coder-plus",
        ),
    }


@hookimpl
def flowcraft_models(provider: str, config: Mapping[str, Any]) -> Sequence[ModelInfo]:
    """Return what is known of well-known models, for a provider that is one of these vendors' own endpoints."""
    from flowcraft_openai.models import known_models

    return known_models(provider, str(config.get("base_url") or ""))
