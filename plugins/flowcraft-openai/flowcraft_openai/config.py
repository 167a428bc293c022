"""What a section of settings may say of an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator

from flowcraft.plugin import ProviderConfig

OFFICIAL = "https://api.openai.com/v1"


class OpenAIConfig(ProviderConfig):
    """Where the endpoint is, who asks, and where it differs from others."""

    base_url: str = Field(OFFICIAL, description="With or without /v1, which is added where the path is empty.")
    api_key: SecretStr | None = Field(None, description="Local servers often need none; without it no Authorization is sent.")
    organization: str | None = Field(None, description="Sent as OpenAI-Organization.")
    project: str | None = Field(None, description="Sent as OpenAI-Project.")
    headers: Mapping[str, str] = Field(default_factory=dict, description="Further headers of every request.")
    extra_body: Mapping[str, Any] = Field(default_factory=dict, description="Further fields of every chat's body.")
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        None, description="The name of the limit; by default max_completion_tokens at api.openai.com, max_tokens elsewhere."
    )
    stream_usage: bool = Field(True, description="Ask streams for their usage; off for servers that refuse stream_options.")
    prefix_body: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Further fields of a body whose answer is begun already, where the server needs them to go on from there.",
    )
    prefix_message: Mapping[str, Any] = Field(
        default_factory=dict, description="Further fields of the message that holds that beginning, likewise."
    )
    reasoning_style: Literal["effort", "openrouter", "qwen"] = Field(
        "effort", description="How an effort or a budget is asked: reasoning_effort, or as OpenRouter or Qwen take it."
    )
    reasoning_key: Literal["reasoning", "reasoning_content"] | None = Field(
        None, description="Send a model its own reasoning back under this key of its messages; by default it is not sent."
    )

    @field_validator("base_url")
    @classmethod
    def _complete(cls, value: str) -> str:
        url = urlsplit(value if "://" in value else f"http://{value}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{value!r} is no http(s) address")
        path = url.path.rstrip("/").removesuffix("/chat/completions")
        return urlunsplit((url.scheme, url.netloc, path or "/v1", url.query, ""))

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value().strip() if value else ""
        if not (key.isascii() and (key.isprintable() or not key)):
            raise ValueError("the key holds characters that no HTTP header can carry")
        return SecretStr(key) if key else None

    @property
    def limit_key(self) -> str:
        """The body's key of ``max_tokens``."""
        if self.max_tokens_key:
            return self.max_tokens_key
        return "max_completion_tokens" if urlsplit(self.base_url).hostname == "api.openai.com" else "max_tokens"
