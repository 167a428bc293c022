"""Every environment name is read, shown, documented, and wrong values name it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowcraft.errors import SettingsError
from flowcraft.settings import PRESET_KEYS, Settings
from flowcraft.settings.environment import VARIABLES

pytestmark = pytest.mark.integration

Load = Callable[..., Settings]
ROOT = Path(__file__).resolve().parents[2]

EXPECTED: dict[str, tuple[str, str, Any]] = {
    "LLM_ENDPOINT": ("http://localhost:8080", "providers.default.base_url", "http://localhost:8080/v1"),
    "LLM_API_KEY": ("sk-1234567", "providers.default.api_key", "***"),
    "LLM_TOKEN": ("sk-1234567", "providers.default.api_key", "***"),
    "LLM_MODEL": ("chat", "providers.default.models.chat", {}),
    "LLM_TEMPERATURE": ("0.7", "llm.params.temperature", 0.7),
    "LLM_MAX_TOKENS": ("2000", "llm.params.max_tokens", 2000),
    "LLM_STREAM": ("false", "llm.params.stream", False),
    "LLM_LOGPROBS": ("true", "llm.params.logprobs", True),
    "LLM_TOP_LOGPROBS": ("5", "llm.params.top_logprobs", 5),
    "LLM_CONNECT_TIMEOUT": ("11", "providers.default.timeouts.connect", 11.0),
    "LLM_READ_TIMEOUT": ("300", "providers.default.timeouts.idle", 300.0),
    "LLM_WRITE_TIMEOUT": ("301", "providers.default.timeouts.write", 301.0),
    "LLM_OUTLINES_SO_MODE": ("true", "llm.structured.mode", "grammar"),
    "LLM_FORCE_OPENAI_STREAMING": ("true", "llm.continuation", "keep"),
    "LLM_SUPPRESS_STREAM_WARNINGS": ("true", "llm.warn_streams", False),
    "LLM_REPAIR_MODE": ("shadow", "llm.repair.mode", "shadow"),
    "LLM_PER_TOKEN_REPAIR_THRESHOLD": ("0.5", "llm.repair.token_threshold", 0.5),
    "LLM_MAX_ATTEMPTS_PER_TOKEN": ("9", "llm.repair.attempts_per_token", 9),
    "LLM_MAX_LIVE_REPAIRS": ("3", "llm.repair.max_repairs", 3),
    "LLM_SERVER_MIN_P": ("0.05", "llm.repair.server_min_p", 0.05),
    "LLM_DEFAULT_MODEL": ("Qwen/Qwen2.5-7B-Instruct", "llm.default_model", "Qwen/Qwen2.5-7B-Instruct"),
    "LLM_DEFAULT_EMBEDDING_MODEL": ("e5", "llm.embeddings.model", "e5"),
    "LLM_MAX_TOKENS_PER_REQUEST": ("4096", "service.limits.max_tokens_per_request", 4096),
    "LLM_MAX_CONCURRENT_REQUESTS": ("7", "service.limits.max_concurrent_requests", 7),
    "JSON_FIXER_ENABLED": ("false", "llm.structured.repair", False),
    "JSON_FIXER_MODEL": ("strong", "llm.structured.repair_model", "strong"),
    "SERVER_HOST": ("0.0.0.0", "service.host", "0.0.0.0"),
    "SERVER_PORT": ("8023", "service.port", 8023),
    "SERVER_WORKERS": ("4", "service.workers", 4),
    "APP_NAME": ("SOP LLM Service", "service.title", "SOP LLM Service"),
    "APP_ENV": ("production", "service.environment", "production"),
    "ENVIRONMENT": ("staging", "service.environment", "staging"),
    "DEBUG": ("true", "log.level", "debug"),
    "GPU_INDEX": ("1", "memory.gpu_index", 1),
    "MAX_VRAM_USAGE_PERCENT": ("90", "memory.max_vram_percent", 90.0),
    "VRAM_RESERVE_MB": ("512", "memory.vram_reserve_mb", 512),
    "MODELS_DIR": ("/models", "models_dir", "/models"),
    "LANGFUSE_PUBLIC_KEY": ("pk-1234567", "tracing.langfuse.public_key", "***"),
    "LANGFUSE_SECRET_KEY": ("sk-1234567", "tracing.langfuse.secret_key", "***"),
    "LANGFUSE_HOST": ("https://traces.example", "tracing.langfuse.host", "https://traces.example"),
    "REDIS_URL": ("redis://localhost:6379/0", "REDIS_URL", "redis://localhost:6379/0"),
    "REDIS_HOST": ("localhost", "REDIS_HOST", "localhost"),
    "REDIS_PORT": ("6379", "REDIS_PORT", "6379"),
    "REDIS_PASSWORD": ("hunter22", "REDIS_PASSWORD", "***"),
    "REDIS_DB": ("0", "REDIS_DB", "0"),
}


def test_no_name_is_left_out() -> None:
    assert set(EXPECTED) == {variable.name for variable in VARIABLES}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_name_is_read_and_shown_with_its_source(load: Load, name: str, place: str) -> None:
    text, key, value = EXPECTED[name]
    values = {"LLM_ENDPOINT": "http://localhost:8080"} | {name: text}
    if place == "environment":
        settings = load(env=values)
    else:
        settings = load(dotenv="".join(f"{name}='{value}'\n" for name, value in values.items()))
    entry = next(entry for entry in settings.explain() if entry.key == key)
    assert (entry.value, entry.source) == (value, f"{place} {name}")


@pytest.mark.parametrize(("preset", "name"), PRESET_KEYS)
def test_a_key_in_the_environment_configures_its_preset(load: Load, preset: str, name: str) -> None:
    settings = load(env={name: "sk-1234567"})
    assert settings.configured_providers() == (preset,)
    assert settings.key(preset) == "sk-1234567"
    assert settings.declared
    assert "sk-1234567" in settings.secrets
    entry = next(entry for entry in settings.explain() if entry.key == f"providers.{preset}.api_key")
    assert (entry.value, entry.source) == ("***", f"environment {name}")


@pytest.mark.parametrize("name", [*EXPECTED, *(name for _, name in PRESET_KEYS), "FLOWCRAFT_SETTINGS", "FLOWCRAFT_PLUGINS"])
def test_a_name_stands_in_the_example_and_in_the_reference(name: str) -> None:
    assert f"\n# {name}=" in (ROOT / ".env.example").read_text()
    assert f"`{name}`" in (ROOT / "docs/settings.md").read_text()


def test_three_names_alone_make_everything_work(load: Load) -> None:
    settings = load(env={"LLM_ENDPOINT": "http://localhost:8080", "LLM_TOKEN": "your-token", "LLM_MODEL": "chat"})
    assert settings.configured_providers() == ("default",)
    assert settings.providers["default"].type == "openai"
    assert settings.key("default") == "your-token"
    assert list(settings.providers["default"].models) == ["chat"]
    assert settings.chain_for().names == ("default",)
    assert not settings.offline_allowed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://localhost:8080/", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
        ("https://host/api", "https://host/api/v1"),
        ("https://host/api/v1/chat/completions", "https://host/api/v1"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai"),
    ],
)
def test_the_endpoint_may_end_in_v1_or_not(load: Load, given: str, expected: str) -> None:
    assert load(env={"LLM_ENDPOINT": given}).providers["default"].config["base_url"] == expected


def test_of_two_names_for_one_key_the_first_counts(load: Load) -> None:
    env = {"LLM_ENDPOINT": "http://x", "LLM_TOKEN": "token-1", "LLM_API_KEY": "key-123", "ENVIRONMENT": "a", "APP_ENV": "b"}
    settings = load(env=env)
    assert settings.key("default") == "key-123"
    assert settings.service.environment == "b"
    assert load(env={**env, "FLOWCRAFT_SERVICE__ENVIRONMENT": "c"}).service.environment == "c"


def test_an_empty_value_counts_as_not_set(load: Load) -> None:
    settings = load(env=dict.fromkeys(EXPECTED, "") | {name: "" for _, name in PRESET_KEYS})
    assert settings == Settings()
    assert settings.warnings == ()


def test_the_model_of_the_endpoint_comes_before_those_of_the_file(load: Load) -> None:
    text = "providers: {default: {type: other, base_url: http://file, models: [a, chat]}}\n"
    settings = load(text, env={"LLM_ENDPOINT": "http://env", "LLM_MODEL": "chat"})
    assert list(settings.providers["default"].models) == ["chat", "a"]
    assert settings.providers["default"].type == "other"


def test_without_an_endpoint_the_model_is_the_default_model_and_the_rest_is_told(load: Load) -> None:
    settings = load(env={"LLM_MODEL": "gpt-5", "LLM_API_KEY": "key-1234", "LLM_READ_TIMEOUT": "5"})
    assert settings.llm.default_model == "gpt-5"
    assert settings.providers == {}
    assert [str(warning) for warning in settings.warnings] == [
        "warning: LLM_API_KEY (environment) does nothing: LLM_ENDPOINT is not set",
        "warning: LLM_READ_TIMEOUT (environment) does nothing: LLM_ENDPOINT is not set",
    ]
    entry = next(entry for entry in settings.explain() if entry.source == "environment LLM_API_KEY")
    assert (entry.value, entry.note) == ("***", "not in force: LLM_ENDPOINT is not set")


def test_the_old_database_is_ignored_and_its_password_hidden(load: Load) -> None:
    settings = load(env={"REDIS_URL": "redis://user:pa55word@host/0"})
    (entry,) = [entry for entry in settings.explain() if entry.source != "default"]
    assert (entry.key, entry.value) == ("REDIS_URL", "redis://user:***@host/0")
    assert entry.note == "not in force: storage replaces it"


def test_words_that_others_put_into_debug_do_no_harm(load: Load) -> None:
    assert load(env={"DEBUG": "express:*"}).log.level == "info"
    assert load(env={"LLM_OUTLINES_SO_MODE": "0", "LLM_FORCE_OPENAI_STREAMING": "no"}) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LLM_TEMPERATURE", "warm", "LLM_TEMPERATURE (environment): llm.params.temperature must be a number, not 'warm'"),
        ("LLM_MAX_TOKENS", "0", "LLM_MAX_TOKENS (environment): llm.params.max_tokens must be at least 1, not '0'"),
        ("LLM_STREAM", "maybe", "LLM_STREAM (environment): llm.params.stream must be true or false, not 'maybe'"),
        ("LLM_ENDPOINT", "localhost:8080", "LLM_ENDPOINT (environment): must be an address like http://localhost:8080"),
        ("LLM_SUPPRESS_STREAM_WARNINGS", "2", "LLM_SUPPRESS_STREAM_WARNINGS (environment): must be true or false, not '2'"),
        ("SERVER_PORT", "80000", "SERVER_PORT (environment): service.port must be at most 65535, not '80000'"),
        (
            "FLOWCRAFT_LLM__TIMEOUT",
            "soon",
            "FLOWCRAFT_LLM__TIMEOUT (environment): llm.timeout cannot be used: 'soon' is no duration",
        ),
        (
            "FLOWCRAFT_LLM__TIMEOT",
            "3",
            "FLOWCRAFT_LLM__TIMEOT (environment): unknown key 'timeot' in llm; did you mean 'timeout'?",
        ),
        ("FLOWCRAFT_LLM__TIERS", "{broken", "FLOWCRAFT_LLM__TIERS (environment): this is not JSON"),
    ],
)
def test_a_wrong_value_names_the_variable(load: Load, name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(env={name: value})
    assert str(caught.value).startswith(message)


def test_an_unknown_name_of_ours_is_told(load: Load) -> None:
    (warning,) = load(env={"FLOWCRAFT_STORGE": "x"}).warnings
    told = "FLOWCRAFT_STORGE (environment) does nothing: settings have no 'storge'; did you mean 'storage'?"
    assert str(warning) == f"warning: {told}"


def test_a_key_without_its_plugin_configures_nothing_and_is_told(load: Load) -> None:
    settings = load(env={"ANTHROPIC_API_KEY": "sk-1234567", "OPENAI_API_KEY": "sk-7654321"}).with_providers(
        ["openai", "offline"]
    )
    assert settings.configured_providers() == ("openai",)
    alone = load(env={"ANTHROPIC_API_KEY": "sk-1234567"}).with_providers(["openai", "offline"])
    assert alone.configured_providers() == ()
    assert alone.chain_for().names == ("offline",)
    assert (
        str(alone.warnings[0]) == "warning: ANTHROPIC_API_KEY is set, but no installed plugin offers the provider 'anthropic'"
    )
