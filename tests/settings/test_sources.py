"""Where settings come from, and which source comes before which."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flowcraft.errors import SettingsError
from flowcraft.settings import LLMSettings, Settings, load_settings

pytestmark = pytest.mark.integration

Load = Callable[..., Settings]


def source(settings: Settings, key: str) -> str:
    return next(entry.source for entry in settings.explain() if entry.key == key)


def test_without_any_source_everything_is_default(load: Load) -> None:
    settings = load()
    assert settings == Settings()
    assert settings.file == ""
    assert settings.llm.timeout == 200
    assert settings.llm.answer_deadline == 400
    assert {entry.source for entry in settings.explain()} == {"default"}


def test_arguments_come_before_environment_before_dotenv_before_file_before_defaults(load: Load) -> None:
    file = "llm: {timeout: 1, retry_attempts: 1, default_model: file, cheap_model: file}\n"
    dotenv = "FLOWCRAFT_LLM__TIMEOUT=2\nFLOWCRAFT_LLM__RETRY_ATTEMPTS=2\nLLM_DEFAULT_MODEL=dotenv\n"
    env = {"FLOWCRAFT_LLM__TIMEOUT": "3", "FLOWCRAFT_LLM__RETRY_ATTEMPTS": "3"}
    settings = load(file, env=env, dotenv=dotenv, llm={"timeout": 4})
    assert (settings.llm.timeout, settings.llm.retry_attempts) == (4, 3)
    assert (settings.llm.default_model, settings.llm.cheap_model) == ("dotenv", "file")
    assert [
        source(settings, f"llm.{key}") for key in ("timeout", "retry_attempts", "default_model", "cheap_model", "order")
    ] == [
        "argument",
        "environment FLOWCRAFT_LLM__RETRY_ATTEMPTS",
        ".env LLM_DEFAULT_MODEL",
        "settings.yaml:1",
        "default",
    ]


def test_the_file_is_looked_up_in_order(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    for name, model in (("config/llm_settings.yaml", "a"), ("settings.yaml", "b"), ("other.yaml", "c"), ("given.yaml", "d")):
        (tmp_path / name).write_text(f"llm: {{default_model: {model}}}\n")
        if name == "other.yaml":
            settings = load_settings(environ={"FLOWCRAFT_SETTINGS": name}, cwd=tmp_path)
        elif name == "given.yaml":
            settings = load_settings(name, environ={"FLOWCRAFT_SETTINGS": "other.yaml"}, cwd=tmp_path)
        else:
            settings = load_settings(environ={}, cwd=tmp_path)
        assert (settings.llm.default_model, settings.file) == (model, name)


def test_dotenv_may_name_the_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("llm: {timeout: 9}\n")
    assert load(dotenv="FLOWCRAFT_SETTINGS=mine.yaml\n").llm.timeout == 9


def test_a_file_that_was_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"settings file nowhere\.yaml cannot be read: No such file"):
        load_settings("nowhere.yaml", environ={}, cwd=tmp_path)


def test_the_working_directory_and_the_process_environment_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.yaml").write_text("llm: {default_model: here}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLOWCRAFT_LLM__TIMEOUT", "7")
    settings = load_settings()
    assert (settings.llm.default_model, settings.llm.timeout) == ("here", 7)


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "llm:\nproviders:\nlog:\n", "llm: {params: , tiers: }\n"])
def test_a_file_that_declares_nothing_is_all_defaults(load: Load, text: str) -> None:
    settings = load(text)
    assert settings == Settings()
    assert not settings.declared


def test_the_repositorys_own_files_declare_nothing() -> None:
    root = Path(__file__).resolve().parents[2]
    settings = load_settings(root / "settings.yaml", environ={}, cwd=root)
    assert not settings.declared
    assert settings == Settings()
    assert all(line.startswith("#") or not line for line in (root / ".env.example").read_text().splitlines())


def test_names_in_values_are_expanded(load: Load) -> None:
    text = """
    storage: sqlite:///${FOLDER}/runs.db
    llm: {timeout: "${TIMEOUT:-45}", default_model: "${MODEL:-}x"}
    providers: {mine: {headers: {Authorization: "Bearer ${TOKEN}"}, list: ["${FOLDER}", b]}}
    """
    settings = load(text, env={"FOLDER": "data", "TOKEN": "abcdefgh"})
    assert settings.storage == "sqlite:///data/runs.db"
    assert (settings.llm.timeout, settings.llm.default_model) == (45, "x")
    assert settings.providers["mine"].config == {"headers": {"Authorization": "Bearer abcdefgh"}, "list": ["data", "b"]}
    assert source(settings, "storage") == "settings.yaml:2 (FOLDER)"


def test_a_missing_name_makes_that_provider_unconfigured_and_nothing_else(load: Load) -> None:
    text = "providers: {one: {api_key: '${ONE_KEY}', base_url: 'http://one'}, two: {base_url: 'http://two'}}\n"
    settings = load(text, env={"ONE_KEY": ""})
    assert settings.configured_providers() == ("two",)
    assert settings.unconfigured("one") == "ONE_KEY is not set"
    assert "api_key" not in settings.providers["one"].config
    entry = next(entry for entry in settings.explain() if entry.key == "providers.one.api_key")
    assert entry.note == "ONE_KEY not set: provider 'one' is not configured"


def test_a_name_from_dotenv_is_expanded_too(load: Load) -> None:
    settings = load("providers: {one: {api_key: '${ONE_KEY}'}}\n", dotenv="ONE_KEY='quoted key'  # a comment\n")
    assert settings.key("one") == "quoted key"


def test_nested_names_reach_every_key(load: Load) -> None:
    env = {
        "FLOWCRAFT_STORAGE": "sqlite:///x.db",
        "FLOWCRAFT_LLM__MODEL_ROLES__PRIMARY": "a, b",
        "FLOWCRAFT_LLM__TIERS": '{"quick": ["c"], "slow": "d"}',
        "FLOWCRAFT_PROVIDERS__LOCAL__BASE_URL": "http://localhost:1234/v1",
        "FLOWCRAFT_PROVIDERS__LOCAL__MODELS": "m1,m2",
        "FLOWCRAFT_LLM__QWEN_OAUTH_PATH": "~/creds.json",
        "FLOWCRAFT_PLUGINS": "one",
        "FLOWCRAFT_LLM__PARAMS__STREAM": "false",
    }
    settings = load("llm: {model_roles: {primary: [z], reserve: [y]}}\n", env=env)
    assert settings.storage == "sqlite:///x.db"
    assert settings.llm.model_roles.listed() == (("primary", ("a", "b")), ("reserve", ("y",)))
    assert settings.llm.tiers["quick"].primary == ("c",)
    assert settings.llm.tiers["slow"].primary == ("d",)
    assert settings.providers["local"].config == {"base_url": "http://localhost:1234/v1"}
    assert list(settings.providers["local"].models) == ["m1", "m2"]
    assert settings.providers["qwen"].config == {"oauth_path": "~/creds.json"}
    assert settings.plugins.allow is None
    assert settings.llm.params.stream is False


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("", []),
        ("models:", []),
        ("models: []", []),
        ("models: [a, b:free]", ["a", "b:free"]),
        ("models: {a: {context: 10}, b: }", ["a", "b"]),
        ("models: one", ["one"]),
    ],
)
def test_models_of_a_provider_may_be_a_mapping_a_list_or_nothing(load: Load, models: str, expected: list[str]) -> None:
    settings = load(f"providers:\n  mine:\n    base_url: http://x\n    {models}\n")
    assert list(settings.providers["mine"].models) == expected


def test_settings_can_be_made_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "from the environment")
    settings = Settings(
        llm=LLMSettings(timeout=3, default_model="m"),
        providers={"mine": {"type": "openai", "api_key": "${MY_KEY}", "models": ["m"]}},
    )
    assert settings.llm.timeout == 3
    assert settings.key("mine") == "from the environment"
    assert settings.chain_for().names == ("m",)
    assert source(settings, "llm.timeout") == "argument"
    with pytest.raises(SettingsError, match=r"llm\.timeout must be more than 0, not 0"):
        Settings(llm={"timeout": 0})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().storage = "elsewhere"  # type: ignore[misc]


def test_a_key_that_others_can_read_is_warned_about(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("providers:\n  mine: {api_key: sk-literal-key}\n  other: {api_key: '${K}'}\n")
    file.chmod(0o644)
    (warning,) = load_settings(environ={"K": "sk-from-environment"}, cwd=tmp_path).warnings
    assert str(warning).startswith(
        "settings.yaml:2:19: warning: providers.mine.api_key is written into a file that others can read"
    )
    file.chmod(0o600)
    assert load_settings(environ={"K": "sk-from-environment"}, cwd=tmp_path).warnings == ()


def test_a_broken_dotenv_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_settings(environ={}, cwd=tmp_path)


def test_the_environment_that_was_read_is_kept(load: Load) -> None:
    settings = load(env={"A": "1", "B": ""}, dotenv="A=2\nB=3\nC=4\n")
    assert {name: settings.environment[name] for name in "ABC"} == {"A": "1", "B": "3", "C": "4"}
    assert dict(Settings().environment) == dict(os.environ)


@pytest.mark.parametrize(
    ("llm", "key", "acts"),
    [
        ("order: fastest", "llm.order", True),
        ("order: cheapest", "llm.order", True),
        ("order: best", "llm.order", True),
        ("strategy: single", "llm.strategy", True),
        ("strategy: hedge", "llm.strategy", True),
        ("hedge: {max_share: 0.1}", "llm.hedge.max_share", True),
        ("continuation: fail", "llm.continuation", True),
        ("continuation: keep", "llm.continuation", True),
        ("warn_streams: false", "llm.warn_streams", True),
        ("params: {stream: true}", "llm.params.stream", False),
        ("params: {seed: 7}", "llm.params.seed", True),
        ("structured: {mode: text}", "llm.structured.mode", True),
        ("structured: {mode: grammar}", "llm.structured.mode", False),
        ("structured: {repair: false}", "llm.structured.repair", True),
        ("breaker: {open: 5}", "llm.breaker.open", True),
        ("budget: {usd_per_run: 1}", "llm.budget.usd_per_run", True),
    ],
)
def test_what_does_not_act_yet_is_told(load: Load, llm: str, key: str, acts: bool) -> None:
    entries = {entry.key: entry for entry in load(f"llm: {{{llm}}}").explain()}
    assert (entries[key].note == "") is acts


def test_params_become_fields_of_a_request() -> None:
    params = Settings(llm={"params": {"temperature": 0, "min_p": 0.1, "stream": True, "extra": {"top_k": 5}}}).llm.params

    assert params.request() == {"temperature": 0.0, "extra": {"min_p": 0.1, "top_k": 5}}
