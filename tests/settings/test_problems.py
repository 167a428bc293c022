"""What is wrong in a file: all of it at once, each with its place, its line, and the nearest right name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from flowcraft.errors import SettingsError
from flowcraft.plugin import ProviderConfig
from flowcraft.settings import Settings

pytestmark = pytest.mark.integration

Load = Callable[..., Settings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llm: {timout: 3}", "settings.yaml:1:7: unknown key 'timout' in llm; did you mean 'timeout'?"),
        ("lmm: {}", "settings.yaml:1:1: unknown key 'lmm' in settings; did you mean 'llm'?"),
        ("model_roles: {}", "settings.yaml:1:1: unknown key 'model_roles' in settings; is llm.model_roles meant?"),
        ("breaker_window: 1", "settings.yaml:1:1: unknown key 'breaker_window' in settings (it has: agents, llm, log,"),
        ("timeout: 3", "settings.yaml:1:1: unknown key 'timeout' in settings; is llm.timeout meant?"),
        ("llm: {strategy: best_of_tow}", "settings.yaml:1:17: llm.strategy must be one of single, best_of_two, cascade, hedge"),
        ("llm: {timeout: soon}", "settings.yaml:1:16: llm.timeout cannot be used: 'soon' is no duration"),
        ("llm: {timeout: true}", "settings.yaml:1:16: llm.timeout cannot be used: must be a duration"),
        ("llm: {timeout: -1}", "settings.yaml:1:16: llm.timeout must be more than 0, not -1"),
        ("llm: {retry_attempts: 1.5}", "settings.yaml:1:23: llm.retry_attempts must be a whole number, not 1.5"),
        ("llm: {default_model: 5}", "settings.yaml:1:22: llm.default_model must be text, not 5"),
        ("llm: {warn_streams: [a]}", "settings.yaml:1:21: llm.warn_streams must be true or false, not a list"),
        ("llm: [a]", "settings.yaml:1:6: llm must be a mapping (key: value), not a list"),
        ("llm: {aliases: [a]}", "settings.yaml:1:16: llm.aliases must be a mapping (key: value), not a list"),
        ("llm: {aliases: {a: [b]}}", "settings.yaml:1:20: llm.aliases.a must be text, not a list"),
        ("llm: {model_roles: {primary: {a: 1}}}", "settings.yaml:1:30: llm.model_roles.primary must be a list, not a mapping"),
        ("llm:\n  model_roles:\n    primary: [a, 2]", "settings.yaml:3:18: llm.model_roles.primary.1 must be text, not 2"),
        ("llm: {tiers: {quick: {primry: [a]}}}", "settings.yaml:1:23: unknown key 'primry' in llm.tiers.quick; did you mean"),
        (
            "llm: {tiers: {cheap: [a]}}",
            "settings.yaml:1:15: llm.tiers.cheap cannot be used: tier 'cheap' is made of other keys",
        ),
        ("llm: {breaker: {share: 2}}", "settings.yaml:1:24: llm.breaker.share must be at most 1, not 2"),
        ("providers: [a]", "settings.yaml:1:12: providers must be a mapping"),
        ("providers: {mine: 3}", "settings.yaml:1:19: providers.mine must be a mapping (key: value), not 3"),
        ("providers: {mine: {timeouts: {conect: 1}}}", "settings.yaml:1:31: unknown key 'conect' in providers.mine.timeouts"),
        ("providers: {m: {models: [{a: 1}]}}", "settings.yaml:1:25: providers.m.models must be a mapping"),
        (
            "providers: {m: {models: {'a.b': {price: {input: 3}}}}}",
            "settings.yaml:1:41: providers.m.models.\"a.b\".price needs the key 'output'",
        ),
        ("- a\n- b", "settings.yaml:1:1: settings must be a mapping (key: value)"),
        ("storage: ${DB}", "settings.yaml:1:10: DB is not set, and storage needs it; write ${DB:-default} to do without"),
        ("llm: {timeout: 3", "settings.yaml:1:"),
        ("llm:\n\ttimeout: 3", "settings.yaml:2:1: a tab in the indentation"),
        ("llm: {timeout: 1, timeout: 2}", "settings.yaml:1:19: the key 'timeout' stands twice"),
    ],
)
def test_a_problem_has_its_place(load: Load, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text)
    assert str(caught.value.problems[0]).startswith(expected)
    assert caught.value.problems[0].excerpt == text.splitlines()[caught.value.problems[0].line - 1].replace("\t", " ")


def test_all_problems_come_at_once_in_the_order_of_the_file(load: Load) -> None:
    text = """
storage: ${DB}
llm:
  timout: 3
  order: quick
providers:
  mine: {timeouts: {idle: long}}
"""
    with pytest.raises(SettingsError) as caught:
        load(text, env={"LLM_TEMPERATURE": "warm", "SERVER_PORT": "x"})
    assert [problem.line for problem in caught.value.problems] == [0, 0, 2, 4, 5, 7]
    assert "    4 |   timout: 3\n      |   ^^^^^^" in str(caught.value)


def test_a_wrong_secret_is_not_repeated(load: Load) -> None:
    with pytest.raises(SettingsError) as caught:
        load(env={"FLOWCRAFT_SERVICE__WEBHOOKS__SECRET": "[1, 2, 34567]"})
    assert "34567" not in str(caught.value)


class Config(ProviderConfig):
    base_url: str = ""
    retries: int = 0
    nested: dict[str, int] | None = None


def test_a_plugins_own_keys_are_told_at_their_place(load: Load) -> None:
    settings = load("providers:\n  mine:\n    base_urll: x\n    retries: many\n    nested: {a: b}\n")
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(settings.providers["mine"].config)
    problems = settings.provider_problems("mine", caught.value, Config)
    assert sorted(str(problem).splitlines()[0] for problem in problems) == [
        "settings.yaml:3:5: unknown key 'base_urll' in providers.mine; did you mean 'base_url'?",
        "settings.yaml:4:14: providers.mine.retries must be a whole number, not 'many'",
        "settings.yaml:5:17: providers.mine.nested.a must be a whole number, not 'b'",
    ]


def test_a_problem_can_be_told_at_any_key(load: Load) -> None:
    settings = load("providers:\n  mine: {base_url: x}\n", env={"LLM_ENDPOINT": "http://x"})
    assert settings.problem_at(("providers", "mine", "base_url"), "no such host").place == "settings.yaml:2:20"
    assert settings.problem_at(("providers", "mine", "missing"), "is missing").line == 2
    assert (
        str(settings.problem_at(("providers", "default", "base_url"), "no such host"))
        == "LLM_ENDPOINT (environment): no such host"
    )
    assert str(Settings(storage="x").problem_at(("storage",), "no such database")) == "no such database"


def test_keys_of_a_provider_may_stand_in_llm(load: Load) -> None:
    settings = load("llm:\n  openai_base_url: http://x\n  kiro_cli_command: kiro\n  acme_region: north\n")
    assert settings.providers["openai"].config == {"base_url": "http://x"}
    assert settings.providers["kiro-cli"].config == {"command": "kiro"}
    assert settings.providers["acme"].config == {"region": "north"}
    assert settings.loose_keys("acme") == {"region"}
    assert settings.loose_keys("elsewhere") == frozenset()
    (warning,) = settings.warnings
    assert str(warning).splitlines()[0] == (
        "settings.yaml:4:16: warning: llm.acme_region is kept as a key of provider 'acme', which has no section"
    )
    assert settings.problem_at(("providers", "openai", "base_url"), "x").place == "settings.yaml:2:20"


def test_a_section_comes_before_what_llm_says_of_it(load: Load) -> None:
    settings = load("llm: {mine_base_url: a, mine_key_file: c}\nproviders: {mine: {base_url: b}}\n")
    assert settings.providers["mine"].config == {"base_url": "b", "key_file": "c"}
    assert settings.warnings == ()
