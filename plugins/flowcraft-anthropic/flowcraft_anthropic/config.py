"""What a section of settings may say of an endpoint that speaks the Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator

from flowcraft.plugin import ProviderConfig

OFFICIAL = "https://api.anthropic.com"
LATEST = "2026-10-21"


class AnthropicConfig(ProviderConfig):
    """Where the endpoint is, who asks, and where it differs from others."""

    base_url: str = Field(OFFICIAL, description="What stands before /v1/messages; /v1 at its end is taken off.")
    api_key: SecretStr | None = Field(None, description="Local servers often need none; without it no key is sent.")
    key_header: Literal["x-api-key", "authorization"] = Field(
        "x-api-key", description="Where the key goes: x-api-key, or authorization as a bearer token."
    )
    headers: Mapping[str, str] = Field(default_factory=dict, description="Further headers of every request.")
    extra_body: Mapping[str, Any] = Field(default_factory=dict, description="Further fields of every chat's body.")
    api_version: str = Field(
        LATEST,
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="anthropic-version; with 2023-06-01 older models take a temperature.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="The limit of answers where a request names none; by default 16384, of a model that is not known 8192.",
    )
    thinking: Literal["auto", "adaptive", "budget"] = Field(
        "auto", description="How a model is asked to think; auto goes by its name: budget up to 4.5, adaptive after that."
    )

    @field_validator("base_url")
    @classmethod
    def _bare(cls, value: str) -> str:
        url = urlsplit(value if "://" in value else f"http://{value}")
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{value!r} is no http(s) address")
        path = url.path.rstrip("/").removesuffix("/messages").removesuffix("/v1")
        return urlunsplit((url.scheme, url.netloc, path, url.query, ""))

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value().strip() if value else ""
        if not (key.isascii() and (key.isprintable() or not key)):
            raise ValueError("the key holds characters that no HTTP header can carry")
        return SecretStr(key) if key else None
