"""Which chain answers: tiers, roles, stages, names, and when `offline` stands in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft.settings import Settings, load_settings, tier_names

pytestmark = pytest.mark.integration

Load = Callable[..., Settings]
SEEDS = Path(__file__).parent / "seeds"

FULL = """
llm:
  default_model: d
  cheap_model: c
  expensive_model: e
  expensive_stages: [hard]
  model_roles: {primary: [p1, p2], fallback: [f]}
  aliases: {nick: p1}
  tiers: {quick: [q, nick], roles: {reserve: [r], primary: [p1]}, one: o}
providers:
  mine: {base_url: http://x}
"""


def chain(settings: Settings, **asked: str) -> tuple[str, tuple[str, ...]]:
    choice = settings.chain_for(**asked)
    return choice.tier, choice.names


@pytest.mark.parametrize(
    ("asked", "tier", "names"),
    [
        ({}, "cheap", ("c", "p1", "p2", "f")),
        ({"model": "default"}, "cheap", ("c", "p1", "p2", "f")),
        ({"model": "cheap"}, "cheap", ("c", "p1", "p2", "f")),
        ({"model": "expensive"}, "expensive", ("e", "p1", "p2", "f", "c")),
        ({"stage": "hard"}, "expensive", ("e", "p1", "p2", "f", "c")),
        ({"stage": "easy"}, "cheap", ("c", "p1", "p2", "f")),
        ({"stage": "hard", "model": "quick"}, "quick", ("q", "p1")),
        ({"stage": "hard", "defaults_model": "quick"}, "expensive", ("e", "p1", "p2", "f", "c")),
        ({"stage": "easy", "defaults_model": "quick"}, "quick", ("q", "p1")),
        ({"model": "roles"}, "roles", ("p1", "r")),
        ({"model": "one"}, "one", ("o",)),
        ({"model": "nick"}, "", ("p1",)),
        ({"model": "mine:some/model:free"}, "", ("mine:some/model:free",)),
        ({"model": "offline"}, "", ("offline",)),
    ],
)
def test_which_chain(load: Load, asked: dict[str, str], tier: str, names: tuple[str, ...]) -> None:
    assert chain(load(FULL), **asked) == (tier, names)


def test_roles_keep_their_order_and_their_names(load: Load) -> None:
    settings = load("llm: {model_roles: {fallback: [d], reserve: [c], duplicate: [b, a], primary: [a]}}\n")
    assert settings.chain_for().roles == (("primary", ("a",)), ("duplicate", ("b",)), ("reserve", ("c",)), ("fallback", ("d",)))


@pytest.mark.parametrize(
    ("text", "tier", "names"),
    [
        ("llm: {model_roles: {primary: [p]}, default_model: d}", "default", ("p",)),
        ("llm: {default_model: d}", "default", ("d",)),
        ("llm: {cheap_model: c, default_model: d}", "cheap", ("c",)),
        ("llm: {model_roles: [p, q]}", "default", ("p", "q")),
        ("llm: {expensive_model: e}\nproviders: {mine: {base_url: x}}", "default", ("mine",)),
        ("providers: {b: {base_url: x}, a: {base_url: y}}", "default", ("b",)),
        ("providers: {b: {base_url: x}, default: {base_url: y}}", "default", ("default",)),
        ("providers: {b: {api_key: '${NO}'}, a: {base_url: y}}", "default", ("a",)),
    ],
)
def test_the_default_tier(load: Load, text: str, tier: str, names: tuple[str, ...]) -> None:
    assert chain(load(text)) == (tier, names)


def test_an_expensive_tier_without_a_model_of_its_own_is_the_default_tier(load: Load) -> None:
    settings = load("llm: {model_roles: [p], expensive_stages: [hard]}\n")
    assert chain(settings, stage="hard") == ("expensive", ("p",))


def test_providers_count_in_order(load: Load) -> None:
    env = {"DASHSCOPE_API_KEY": "k-123456", "OPENAI_API_KEY": "k-234567", "LLM_ENDPOINT": "http://x"}
    text = "providers: {zed: {base_url: z}, openrouter: {}, google: {base_url: g}, qwen: {}}\n"
    assert load(text, env=env).configured_providers() == ("default", "zed", "google", "qwen", "openai")


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("", False),
        ("llm: {timeout: 3, default_provider: openai}", False),
        ("llm: {default_model: m}", True),
        ("llm: {expensive_model: m}", True),
        ("llm: {model_roles: [m]}", True),
        ("llm: {tiers: {a: m}}", True),
        ("llm: {aliases: {a: m}}", True),
        ("providers: {openai: }", True),
        ("providers: {mine: {api_key: '${NO}'}}", True),
    ],
)
def test_offline_stands_in_only_while_nothing_is_declared(load: Load, text: str, declared: bool) -> None:
    settings = load(text)
    assert settings.declared is declared
    assert ("offline" in settings.chain_for().names) is not declared
    assert ("offline" in settings.chain_for(model="some-model").names) is not declared


def test_offline_never_and_always(load: Load) -> None:
    assert load("llm: {offline: never}").chain_for().roles == ()
    assert load("llm: {offline: allow, default_model: m}").chain_for().names == ("m", "offline")
    assert load("llm: {offline: allow}").chain_for(model="offline").names == ("offline",)


def test_a_vendors_key_goes_to_no_other_server(load: Load) -> None:
    text = "providers: {local: {type: openai, base_url: http://x}, work: {type: openai}, openai: {base_url: http://y}}\n"
    settings = load(text, env={"OPENAI_API_KEY": "sk-1234567"})
    assert settings.key("local") is None
    assert settings.key("work") == "sk-1234567"
    assert settings.key("openai") == "sk-1234567"
    assert settings.key("nobody") is None
    assert load(text).unconfigured("work") == "OPENAI_API_KEY is not set"


def test_tier_names_are_told(load: Load) -> None:
    assert tier_names(load(FULL)) == {"default", "cheap", "expensive", "quick", "roles", "one"}


def test_the_first_seeds_file_loads_unchanged() -> None:
    settings = load_settings(SEEDS / "providers.yaml", environ={"DASHSCOPE_API_KEY": "k-123456"})
    assert chain(settings) == ("cheap", ("qwen3-coder-plus",))
    assert chain(settings, stage="security_review") == ("expensive", ("kiro-cli", "qwen3-coder-plus"))
    assert settings.configured_providers() == ("qwen",)
    assert settings.providers["qwen"].config == {"oauth_path": "~/.qwen/oauth_creds.json"}
    assert settings.loose_keys("qwen") == {"oauth_path"}
    assert settings.warnings == ()


def test_the_second_seeds_file_loads_unchanged() -> None:
    settings = load_settings(SEEDS / "llm_settings.yaml", environ={"OPENROUTER_API_KEY": "k-123456"})
    assert chain(settings)[1][:3] == (
        "meta-llama/llama-3.2-1b-instruct",
        "microsoft/phi-3-mini-128k-instruct",
        "meta-llama/llama-3.2-3b-instruct",
    )
    assert [role for role, _ in settings.chain_for().roles] == ["primary", "duplicate", "reserve", "fallback"]
    assert settings.configured_providers() == ("openrouter",)
    assert settings.key("openrouter") == "k-123456"
    assert (settings.llm.timeout, settings.llm.retry_attempts, settings.llm.strategy) == (200, 1, "best_of_two")
    notes = {entry.key: entry.note for entry in settings.explain() if entry.source != "default"}
    assert notes["llm.strategy"] == ""
    assert notes["llm.timeout"] == ""


@pytest.mark.parametrize(("file", "reason"), [("providers", "DASHSCOPE_API_KEY"), ("llm_settings", "OPENROUTER_API_KEY")])
def test_a_seeds_file_without_its_key_is_declared_but_not_configured(file: str, reason: str) -> None:
    settings = load_settings(SEEDS / f"{file}.yaml", environ={})
    assert settings.declared
    assert settings.configured_providers() == ()
    assert [settings.unconfigured(name) for name in settings.providers] == [f"{reason} is not set"]
    assert "offline" not in settings.chain_for().names
