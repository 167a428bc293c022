"""Anthropic, and every server that speaks its Messages API, as a provider. The hooks alone: no SDK loads here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft.plugin import ModelInfo, Preset, hookimpl


@hookimpl
def flowcraft_providers() -> Mapping[str, Preset]:
    """Return the provider under its preset."""
    return {
        "anthropic": Preset(
            provider="flowcraft_anthropic.provider:AnthropicProvider",
            config={"base_url": "https://api.anthropic.com"},
            key_env="ANTHROPIC_API_KEY",
            default_model="claude-sonnet-5-5",
        )
    }


@hookimpl
def flowcraft_models(provider: str, config: Mapping[str, Any]) -> Sequence[ModelInfo]:
    """Return what is known of well-known models, for a provider that is the vendor's own endpoint."""
    from flowcraft_anthropic.models import known_models

    return known_models(provider, config)
