from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from flowcraft.plugin import AuthenticationFailed, ChatRequest, Message, Preset, Price, ProviderUnavailable
from flowcraft.testing import FaultServer
from flowcraft_anthropic import flowcraft_models, flowcraft_providers
from flowcraft_anthropic import provider as module
from flowcraft_anthropic.config import AnthropicConfig
from flowcraft_anthropic.models import max_output, traits
from flowcraft_anthropic.provider import AnthropicProvider

pytestmark = pytest.mark.integration

ASK = ChatRequest(messages=(Message.user("How are you?"),))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com"),
        ("http://localhost:8080/v1/", "http://localhost:8080"),
        ("localhost:11434", "http://localhost:11434"),
        ("http://localhost:8080/v1/messages", "http://localhost:8080"),
        ("https://example.org/anthropic", "https://example.org/anthropic"),
    ],
)
def test_an_address_is_cut_to_what_stands_before_the_api(given: str, used: str) -> None:
    assert AnthropicConfig(base_url=given).base_url == used


@pytest.mark.parametrize("given", ["ftp://example.org", "http://", ""])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="no http"):
        AnthropicConfig(base_url=given)


@pytest.mark.parametrize("key", ["sk-\nx", "ключ"])
def test_a_key_that_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="no HTTP header can carry"):
        AnthropicConfig(api_key=key)


@pytest.mark.parametrize("config", [{"base_ulr": "x"}, {"api_version": "newest"}, {"max_tokens": 0}, {"thinking": "hard"}])
def test_what_makes_no_sense_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(config))):
        AnthropicConfig.model_validate(config)


def test_a_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(AnthropicConfig(api_key="sk-secret"))


@pytest.mark.parametrize(
    ("config", "key", "bearer"),
    [
        ({"api_key": " sk-test "}, "sk-test", None),
        ({"api_key": "sk-test", "key_header": "authorization"}, None, "Bearer sk-test"),
        ({"headers": {"Authorization": "Custom x"}}, None, "Custom x"),
        ({}, None, None),
    ],
)
async def test_a_key_is_sent_where_settings_say(
    server: FaultServer, make: Any, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], key: str | None, bearer: str | None
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"):
        monkeypatch.setenv(name, "leak")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Leak: leak")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    provider = make(**config)
    await provider.chat("model-a", ASK)
    await provider.list_models()
    for request in server.requests:
        assert (request.headers.get("x-api-key"), request.headers.get("authorization")) == (key, bearer)
        assert "leak" not in str(request.headers)


async def test_the_versions_header_and_further_ones_are_sent(server: FaultServer, make: Any) -> None:
    await make(api_version="2023-06-01", headers={"anthropic-beta": "new-2026-01-01"}).chat("model-a", ASK)
    headers = server.requests[-1].headers
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2023-06-01", "new-2026-01-01")
    await make().chat("model-a", ASK)
    assert server.requests[-1].headers["anthropic-version"] == "2026-10-21"


async def test_neither_key_nor_password_is_in_a_log(server: FaultServer, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await make(base_url=server.url.replace("//", "//me:pass%2Fword-secret@"), api_key="sk-secret").chat("model-a", ASK)
    headers = server.requests[-1].headers
    assert (headers["authorization"], headers["x-api-key"]) == ("Basic bWU6cGFzcy93b3JkLXNlY3JldA==", "sk-secret")
    assert server.root in caplog.text
    assert "secret" not in caplog.text


async def test_a_wrong_key_is_told_by_health(make: Any) -> None:
    with FaultServer(api_key="right") as locked:
        with pytest.raises(AuthenticationFailed):
            await make(base_url=locked.url, api_key="wrong").health()
        await make(base_url=locked.url, api_key="right").health()
        await make(base_url=locked.url, api_key="right", key_header="authorization").health()


async def test_models_are_listed_page_by_page(server: FaultServer, provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        server.script(f"model-{number}", "x")
    monkeypatch.setattr(module, "PAGE", 2)
    assert [(model.model, model.provider) for model in await provider.list_models()] == [
        (f"model-{number}", "here") for number in range(5)
    ]
    assert [request.path.partition("?")[2] for request in server.requests] == [
        "limit=2",
        "limit=2&after_id=model-1",
        "limit=2&after_id=model-3",
    ]


async def test_a_list_that_never_ends_is_left(server: FaultServer, provider: Any) -> None:
    server.listed = json.dumps({"data": [{"id": "m"}], "has_more": True, "last_id": "m"}).encode()
    assert len(await provider.list_models()) == 2
    server.listed = json.dumps({"data": [], "has_more": True}).encode()
    assert await provider.list_models() == ()


async def test_a_list_tells_windows_and_what_models_can(server: FaultServer, provider: Any) -> None:
    able = {"image_input": {"supported": True}, "pdf_input": {"supported": False}, "thinking": {}, "structured_outputs": None}
    item = {"id": "claude-haiku-4-5", "max_input_tokens": 200_000, "max_tokens": 64_000, "capabilities": able}
    server.listed = json.dumps({"data": [item, "odd", {}, {"id": "glm-5"}]}).encode()
    haiku, other = await provider.list_models()
    assert (haiku.context, haiku.max_output, haiku.family) == (200_000, 64_000, "claude")
    told = haiku.capabilities
    assert (told.images, told.files, told.reasoning, told.json_schema, told.prefill) == (True, False, None, None, True)
    assert (other.context, other.family, other.capabilities.prefill) == (None, "", None)


async def test_a_server_without_a_list_is_well(make: Any, server: FaultServer) -> None:
    server.listed = None
    await make().health()


async def test_a_failing_list_is_an_error(make: Any, server: FaultServer) -> None:
    server.listed = b'{"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}'
    with pytest.raises(ProviderUnavailable, match="busy"):
        await make().list_models()


def test_the_preset_names_address_key_and_a_known_model() -> None:
    (preset,) = flowcraft_providers().values()
    assert isinstance(preset, Preset)
    assert preset.key_env == "ANTHROPIC_API_KEY"
    assert AnthropicConfig.model_validate(preset.config) == AnthropicConfig()
    assert preset.default_model in {model.model for model in flowcraft_models("anthropic", preset.config)}


def test_models_are_known_at_their_vendors_address_alone() -> None:
    assert flowcraft_models("anthropic", {})
    assert flowcraft_models("mine", {"base_url": "https://api.anthropic.com"})[0].provider == "mine"
    assert not flowcraft_models("anthropic", {"base_url": "http://localhost:1234"})
    assert not flowcraft_models("mine", {})


def test_what_is_known_of_models() -> None:
    known = {model.model: model for model in flowcraft_models("anthropic", {})}
    assert {model.family for model in known.values()} == {"claude"}
    assert known["claude-opus-5-5"].price == Price(input=4, output=20, cached=0.2, cache_write=5)
    # Their prices depend on the length of the input.
    assert known["claude-haiku-5-5"].price is known["claude-sonnet-4-5"].price is None
    prefill = {name for name, model in known.items() if model.capabilities.prefill}
    assert prefill == {"claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-5"}
    assert {model.capabilities.temperature for model in known.values()} == {False}
    older = {model.model: model for model in flowcraft_models("anthropic", {"api_version": "2023-06-01"})}
    assert older["claude-haiku-4-5"].capabilities.temperature is True
    assert older["claude-opus-5"].capabilities.temperature is False


@pytest.mark.parametrize(
    ("name", "adaptive", "budget", "prefill"),
    [
        ("claude-sonnet-5-5", True, False, False),
        ("claude-opus-4-6", True, True, False),
        ("claude-sonnet-4-5-20250929", False, True, True),
        ("claude-sonnet-4-20250514", False, True, True),
        ("claude-opus-4@20250514", False, True, True),
        ("claude-3-7-sonnet-latest", False, True, True),
        ("claude-3-5-haiku-20241022", False, False, True),
        ("us.anthropic.claude-opus-4-8-v1:0", True, False, False),
        ("anthropic/claude-sonnet-4.6", True, True, False),
        ("claude-sonnet-11", True, False, False),
        ("claude-opus-10-2-20290101", True, False, False),
        ("claude-next", None, None, None),
        ("model-a", None, None, None),
    ],
)
def test_a_name_tells_how_old_a_model_is(name: str, adaptive: Any, budget: Any, prefill: Any) -> None:
    told = traits(name)
    assert (told.adaptive, told.budget, told.prefill) == (adaptive, budget, prefill)


def test_a_snapshot_writes_as_much_as_its_model() -> None:
    assert max_output("claude-haiku-4-5-20251001") == 64_000
    assert max_output("claude-haiku-4-5-mine") is None


def test_the_sdk_loads_with_the_first_call() -> None:
    program = (
        "import sys, flowcraft_anthropic, flowcraft_anthropic.provider; "
        "print([m for m in ('anthropic', 'aiohttp') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_config_makes_a_provider() -> None:
    provider = AnthropicProvider()
    assert (provider.section, provider.config.base_url) == ("anthropic", "https://api.anthropic.com")
