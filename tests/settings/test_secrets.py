"""Secrets are known, masked wherever settings are shown, and not kept with a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft.errors import SettingsError
from flowcraft.redaction import Redactor
from flowcraft.settings import Settings

pytestmark = pytest.mark.integration

Load = Callable[..., Settings]

TEXT = """
storage: postgresql+psycopg://runner:st0rage-secret@db/flow
llm:
  cheap_model: mine:m
  acme_token: t0ken-of-acme
providers:
  mine: {base_url: 'https://u:url-secret@host/${FOLDER}', api_key: '${MINE_KEY}', region: '${REGION:-north}'}
  plain: {api_key: literal-secret, headers: {Authorization: header-secret, Accept: text/html}, models: [m, n]}
  open: {base_url: 'http://${HOST_PASSWORD}@x', type: openai}
service: {webhooks: {secret: webhook-secret}}
"""
ENV = {
    "MINE_KEY": "environment-secret",
    "OPENAI_API_KEY": "openai-secret",
    "LLM_ENDPOINT": "http://localhost:1",
    "LLM_API_KEY": "endpoint-secret",
    "LLM_MODEL": "chat",
    "LANGFUSE_SECRET_KEY": "langfuse-secret",
    "REDIS_PASSWORD": "redis-secret",
    "HOST_PASSWORD": "host-secret",
    "FOLDER": "v1",
}
SECRETS = {
    *("st0rage-secret", "t0ken-of-acme", "url-secret", "environment-secret", "literal-secret", "header-secret"),
    *("webhook-secret", "openai-secret", "endpoint-secret", "langfuse-secret", "redis-secret", "host-secret"),
}


def test_every_secret_is_known(load: Load) -> None:
    assert load(TEXT, env=ENV).secrets == SECRETS


def test_no_secret_is_shown(load: Load) -> None:
    settings = load(TEXT, env=ENV)
    shown = repr(settings) + str(settings) + str(settings.explain()) + str(settings.warnings)
    shown += json.dumps(settings.snapshot())
    assert [secret for secret in SECRETS if secret in shown] == []
    assert "'Accept': 'text/html'" in repr(settings)


def test_a_secret_in_the_line_of_a_mistake_is_hidden(load: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        load("providers: {mine: {api_key: literal-secret, timeouts: {conect: 1}}}\n")
    assert "{api_key: **************, timeouts: {conect: 1}}" in str(caught.value)
    assert "literal-secret" not in str(caught.value)


def test_a_short_secret_is_warned_about(load: Load) -> None:
    (warning,) = load("providers: {mine: {api_key: '${K}'}}\n", env={"K": "abc"}).warnings
    assert str(warning).startswith("settings.yaml:1:29: warning: providers.mine.api_key has fewer than 6 characters")


def test_a_run_gets_its_settings_back_with_keys_read_anew(load: Load) -> None:
    settings = load(TEXT, env=ENV)
    stored = json.loads(json.dumps(Redactor(settings.secrets).value(settings.snapshot())))
    again = Settings.from_snapshot(stored, {**ENV, "MINE_KEY": "renewed-secret"}, current=settings)
    assert again.key("mine") == "renewed-secret"
    assert again.key("default") == "endpoint-secret"
    assert again.key("plain") == "literal-secret"
    assert again.storage == settings.storage
    assert again.llm == settings.llm
    assert again.configured_providers() == settings.configured_providers()
    assert again.providers["mine"].config["region"] == "north"
    assert again.providers["open"] == settings.providers["open"]
    assert again.loose_keys("acme") == {"token"}
    assert sorted(again.snapshot()["left_out"]) == sorted(settings.snapshot()["left_out"])
    assert again.snapshot()["data"] == settings.snapshot()["data"]
    assert {entry.source.split()[0] for entry in again.explain()} == {"default", "run", "environment"}


def test_a_run_keeps_values_of_the_environment_as_they_were(load: Load) -> None:
    text = "llm: {default_model: '${MODEL}', timeout: 5}\nproviders: {mine: {base_url: 'http://${HOST}'}}\n"
    settings = load(text, env={"MODEL": "then", "HOST": "a", "LLM_TEMPERATURE": "0.5"})
    again = Settings.from_snapshot(settings.snapshot(), {"MODEL": "now", "HOST": "b", "LLM_TEMPERATURE": "0.9"})
    assert again.llm.default_model == "then"
    assert again.providers["mine"].config["base_url"] == "http://a"
    assert again.llm.params.temperature == 0.5
    assert again == settings


def test_a_key_that_is_gone_makes_its_provider_unconfigured(load: Load) -> None:
    text = "providers: {a: {api_key: '${K}', base_url: x}, b: {api_key: literal-key, base_url: x}, c: {base_url: x}}\n"
    settings = load(text, env={"K": "from-environment"})
    assert settings.configured_providers() == ("a", "b", "c")
    again = Settings.from_snapshot(settings.snapshot(), {})
    assert again.configured_providers() == ("c",)
    assert again.unconfigured("a") == "K is not set"
    assert again.unconfigured("b") == "providers.b.api_key is not set"


def test_the_files_own_text_is_expanded_only_once(load: Load) -> None:
    settings = load("llm: {aliases: {a: '${NAME}'}}\n", env={"NAME": "${OTHER}", "OTHER": "x"})
    assert settings.llm.aliases == {"a": "${OTHER}"}


def test_settings_of_another_version_are_refused() -> None:
    with pytest.raises(SettingsError, match="version 99"):
        Settings.from_snapshot({"v": 99}, {})


def test_a_secret_in_dotenv_is_a_secret(load: Load, tmp_path: Path) -> None:
    settings = load(dotenv="OPENROUTER_API_KEY=dotenv-secret\n")
    assert settings.secrets == {"dotenv-secret"}
    entry = next(entry for entry in settings.explain() if entry.key == "providers.openrouter.api_key")
    assert (entry.value, entry.source) == ("***", ".env OPENROUTER_API_KEY")
