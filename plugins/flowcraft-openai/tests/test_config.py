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
from flowcraft_openai import flowcraft_models, flowcraft_providers
from flowcraft_openai.config import OpenAIConfig
from flowcraft_openai.provider import OpenAIProvider

pytestmark = pytest.mark.integration

ASK = ChatRequest(messages=(Message.user("How are you?"),))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://localhost:8080/", "http://localhost:8080/v1"),
        ("localhost:11434", "http://localhost:11434/v1"),
        ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/chat/completions", "http://localhost:8080/v1"),
        ("https://example.org/compatible-mode/v1", "https://example.org/compatible-mode/v1"),
    ],
)
def test_an_address_is_completed(given: str, used: str) -> None:
    assert OpenAIConfig(base_url=given).base_url == used


@pytest.mark.parametrize("given", ["ftp://example.org", "http://", ""])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="no http"):
        OpenAIConfig(base_url=given)


@pytest.mark.parametrize("key", ["sk-\nx", "ключ"])
def test_a_key_that_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="no HTTP header can carry"):
        OpenAIConfig(api_key=key)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        OpenAIConfig.model_validate({"base_ulr": "x"})


def test_the_limit_is_named_as_its_endpoint_wants() -> None:
    assert OpenAIConfig().limit_key == "max_completion_tokens"
    assert OpenAIConfig(base_url="http://localhost:1234").limit_key == "max_tokens"
    assert OpenAIConfig(max_tokens_key="max_tokens").limit_key == "max_tokens"


def test_a_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(OpenAIConfig(api_key="sk-secret"))


async def test_key_and_headers_are_sent(server: FaultServer, make: Any) -> None:
    await make(api_key=" sk-test ", organization="org-1", project="p-1", headers={"X-Team": "blue"}).chat("model-a", ASK)
    headers = server.requests[-1].headers
    assert headers["authorization"] == "Bearer sk-test"
    assert (headers["openai-organization"], headers["openai-project"], headers["x-team"]) == ("org-1", "p-1", "blue")


@pytest.mark.parametrize(("key", "sent"), [(None, "Basic bWU6cGFzcy93b3JkLXNlY3JldA=="), ("sk-test", "Bearer sk-test")])
async def test_credentials_in_the_address_are_a_header_and_in_no_log(
    server: FaultServer, make: Any, caplog: pytest.LogCaptureFixture, key: str | None, sent: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        await make(base_url=server.url.replace("//", "//me:pass%2Fword-secret@"), api_key=key).chat("model-a", ASK)
    assert server.requests[-1].headers["authorization"] == sent
    assert server.root in caplog.text
    assert "word-secret" not in caplog.text


async def test_the_environments_key_goes_to_nobody_else(
    server: FaultServer, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "leak")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    await make().chat("model-a", ASK)
    assert "authorization" not in server.requests[-1].headers
    assert "leak" not in str(server.requests[-1].headers)
    await make(api_key="mine").chat("model-a", ASK)
    assert server.requests[-1].headers["authorization"] == "Bearer mine"
    assert "leak" not in str(server.requests[-1].headers)


async def test_a_wrong_key_is_told_by_health(make: Any) -> None:
    with FaultServer(api_key="right") as locked:
        with pytest.raises(AuthenticationFailed):
            await make(base_url=locked.url, api_key="wrong").health()
        await make(base_url=locked.url, api_key="right").health()


async def test_models_are_listed_with_what_the_server_says(server: FaultServer, provider: Any) -> None:
    server.script("model-b", "x")
    server.script("model-a", "x")
    assert [(model.model, model.provider) for model in await provider.list_models()] == [
        ("model-a", "here"),
        ("model-b", "here"),
    ]


@pytest.mark.parametrize(
    ("item", "context", "price"),
    [
        ({"context_length": 4096}, 4096, None),
        ({"max_model_len": 8192}, 8192, None),
        ({"meta": {"n_ctx_train": 2048}}, 2048, None),
        ({"pricing": {"prompt": "0.000001", "completion": "0.000002"}}, None, Price(input=1.0, output=2.0)),
        ({"pricing": {"prompt": "-1", "completion": "-1"}}, None, None),
        ({"pricing": {"prompt": "free", "completion": "0"}}, None, None),
        ({"pricing": {"image": "0"}}, None, None),
    ],
)
async def test_a_list_tells_windows_and_prices(
    server: FaultServer, make: Any, item: dict[str, Any], context: Any, price: Any
) -> None:
    server.listed = json.dumps({"data": [{"id": "m", **item}, "odd", {}]}).encode()
    (model,) = await make().list_models()
    assert (model.context, model.price) == (context, price)


async def test_a_server_without_a_list_is_well(make: Any, server: FaultServer) -> None:
    server.listed = None
    await make().health()


def test_presets_name_address_key_and_model() -> None:
    presets = flowcraft_providers()
    assert {name: preset.key_env for name, preset in presets.items()} == {
        "openai": "OPENAI_API_KEY",
        "openrouter": "OPENROUTER_API_KEY",
        "qwen": "DASHSCOPE_API_KEY",
    }
    for name, preset in presets.items():
        assert isinstance(preset, Preset)
        config = OpenAIConfig.model_validate(preset.config)
        known = {model.model for model in flowcraft_models(provider=name, config=preset.config)}
        assert config.base_url == preset.config["base_url"]
        assert preset.default_model in known


def test_models_are_known_at_their_vendors_address_alone() -> None:
    assert flowcraft_models(provider="openai", config={})
    assert not flowcraft_models(provider="openai", config={"base_url": "http://localhost:1234/v1"})
    (mini,) = [model for model in flowcraft_models("openai", {}) if model.model == "gpt-4.1-mini"]
    assert mini.price == Price(input=0.4, cached=0.1, output=1.6)
    assert mini.capabilities.logprobs is True


def test_prices_that_depend_on_route_or_length_are_not_given() -> None:
    assert {model.price for model in flowcraft_models("openrouter", {})} == {None}
    assert {model.price for model in flowcraft_models("qwen", {})} == {None}
    prices = {model.model: model.price for model in flowcraft_models("openai", {})}
    assert prices["gpt-5.5"] is prices["gpt-5.4"] is None


def test_the_sdk_loads_with_the_first_call() -> None:
    program = (
        "import sys, flowcraft_openai, flowcraft_openai.provider; print([m for m in ('openai', 'aiohttp') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_config_makes_a_provider() -> None:
    provider = OpenAIProvider()
    assert (provider.section, provider.config.base_url) == ("openai", "https://api.openai.com/v1")


async def test_a_failing_list_is_an_error(make: Any, server: FaultServer) -> None:
    server.listed = b'{"error": {"code": 503, "message": "loading"}}'
    with pytest.raises(ProviderUnavailable, match="loading"):
        await make().list_models()
