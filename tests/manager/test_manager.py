"""Which chain answers, and the manager's own calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowcraft.errors import ChainExhausted, PluginError, SettingsError
from flowcraft.events import Bus, CallFinished, Event, Said
from flowcraft.llm.ports import CallRecord
from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, ChatResponse, Message, Preset, Price, Provider, Scope
from flowcraft.settings import Settings

pytestmark = pytest.mark.api

Managed = Callable[..., LLMManager]

ROLES = """
llm:
  retry_attempts: 0
  model_roles:
    primary: [one, two]
    duplicate: [three]
    fallback: [echo:four]
  aliases: {quick: two}
providers:
  echo:
    models: {one: {price: {input: 1, output: 2}}, two: {}, three: {context: 1000}}
"""
TIERS = """
llm:
  cheap_model: small
  expensive_model: echo:large
  expensive_stages: [security_review]
  model_roles: {reserve: [spare]}
  tiers: {tiny: [nano]}
providers:
  echo: {models: [small, spare, nano]}
"""


def names(chain: Any) -> list[tuple[str, str]]:
    return [(link.role, link.info.id) for link in chain.links]


async def test_without_settings_offline_answers_and_says_so(managed: Managed) -> None:
    async with managed() as manager:
        response = await manager.llm().chat("Hello. What is this?")
    assert response.offline
    assert response.text
    assert names(manager.llm()) == [("offline", "offline:offline")]


async def test_roles_answer_in_order(managed: Managed) -> None:
    async with managed(ROLES) as manager:
        assert names(manager.llm()) == [
            ("primary", "echo:one"),
            ("primary", "echo:two"),
            ("duplicate", "echo:three"),
            ("fallback", "echo:four"),
        ]
        response = await manager.llm().chat("hi")
    assert (response.text, response.model, response.provider, response.usd) == ("one: hi", "one", "echo", 50e-6)


async def test_a_declared_provider_without_its_key_is_skipped_and_offline_does_not_stand_in(managed: Managed) -> None:
    text = "providers: {openrouter: {models: [some/model]}}\nllm: {default_model: some/model}"
    async with managed(text) as manager:
        with pytest.raises(ChainExhausted) as caught:
            await manager.llm().chat("hi")
    assert [(attempt.outcome, attempt.message) for attempt in caught.value.attempts] == [
        ("skipped", "OPENROUTER_API_KEY is not set")
    ]


async def test_offline_stands_in_last_where_it_is_allowed(managed: Managed) -> None:
    async with managed("llm: {offline: allow, retry_attempts: 0, default_model: a}\nproviders: {echo: {down: [a]}}") as manager:
        response = await manager.llm().chat("Hello there. How are you?")
    assert [(attempt.provider, attempt.outcome) for attempt in response.attempts] == [
        ("echo", "ProviderUnavailable"),
        ("offline", "ok"),
    ]


async def test_offline_never_stands_in_where_it_is_forbidden(managed: Managed) -> None:
    async with managed("llm: {offline: never}") as manager:
        with pytest.raises(ChainExhausted, match="the chain is empty"):
            await manager.llm().chat("hi")


def test_tiers_and_stages_choose_the_chain(managed: Managed) -> None:
    manager = managed(TIERS)
    cheap = [("cheap", "echo:small"), ("reserve", "echo:spare")]
    assert names(manager.llm()) == names(manager.llm("cheap")) == names(manager.llm(stage="coding")) == cheap
    expensive = [("expensive", "echo:large"), ("reserve", "echo:spare"), ("cheap", "echo:small")]
    assert names(manager.llm("expensive")) == names(manager.llm(stage="security_review")) == expensive
    assert names(manager.llm("tiny")) == [("primary", "echo:nano")]
    assert manager.tiers >= {"cheap", "expensive", "tiny"}


def test_models_are_found_by_id_alias_provider_and_colon(managed: Managed) -> None:
    manager = managed(ROLES)
    for name, model in {
        "three": "echo:three",
        "quick": "echo:two",
        "echo:x/y:free": "echo:x/y:free",
        "echo": "echo:one",
        "unheard-of": "echo:unheard-of",
        "offline": "offline:offline",
    }.items():
        assert names(manager.llm(name)) == [("model", model)]


def test_what_is_listed_is_meant_even_where_a_preset_has_such_a_name(managed: Managed) -> None:
    manager = managed("providers: {echo: {models: ['qwen:7b', 'openai']}}")
    assert names(manager.llm("qwen:7b")) == [("model", "echo:qwen:7b")]
    assert names(manager.llm("openai")) == [("model", "echo:openai")]
    assert names(manager.llm("qwen:14b")) == [("model", "qwen:14b")]


KEYED = Preset(provider="unused", key_env="ACME_API_KEY", default_model="std")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "acme-key-0123456789"),
        ("providers: {acme: {}}", "acme-key-0123456789"),
        ("providers: {acme: {prefix: x}}", "acme-key-0123456789"),
        ("providers: {acme: {api_key: a-key-of-its-own}}", "a-key-of-its-own"),
    ],
)
async def test_the_key_of_any_preset_comes_from_its_own_variable_and_is_a_secret(
    managed: Managed, echo: type[Provider], text: str, key: str
) -> None:
    manager = managed(f"llm: {{retry_attempts: 0}}\n{text}", {"ACME_API_KEY": "acme-key-0123456789"})
    down = {"down": ("std",)}
    manager.register_provider("acme", replace(KEYED, provider=echo, config=down))
    with pytest.raises(ChainExhausted) as caught:
        await manager.llm("acme").chat("hi")
    assert "std is down; key ***" in str(caught.value)
    assert key in manager.secrets
    await manager.aclose()


async def test_offline_does_not_stand_in_for_a_provider_that_the_program_registered(
    managed: Managed, echo: type[Provider]
) -> None:
    manager = managed("llm: {retry_attempts: 0}")
    manager.register_provider("mine", Preset(provider=echo, config={"down": ("std",)}, default_model="std"))
    for chain in (manager.llm(), manager.llm("mine")):
        assert names(chain)[0][1] == "mine:std"
        with pytest.raises(ChainExhausted):
            await chain.chat("hi")
    await manager.aclose()


def test_what_is_known_of_names(managed: Managed) -> None:
    manager = managed(ROLES)
    assert [manager.knows_model(name) for name in ("one", "quick", "echo", "offline", "echo:new", "new")] == [
        True,
        True,
        True,
        True,
        None,
        None,
    ]
    assert managed("llm: {offline: never}").knows_model("anything") is False
    assert set(manager.model_names) == {"quick", "one", "two", "three", "echo", "offline"}


CAPABLE = """
llm:
  cheap_model: small
  expensive_model: large
  expensive_stages: [hard]
providers:
  echo:
    models:
      small: {capabilities: {seed: false}}
      large: {capabilities: {seed: true, stop: false}}
      plain: {}
  openrouter: {models: [unreached]}
"""


def test_a_chain_lacks_only_what_all_its_models_lack(managed: Managed) -> None:
    manager = managed(CAPABLE)
    seed = frozenset({"seed"})
    assert manager.lacks(seed) == manager.lacks(seed, "cheap") == manager.lacks(seed, stage="easy") == "echo:small"
    assert manager.lacks(seed, "expensive") == manager.lacks(seed, stage="hard") == ""
    assert manager.lacks(frozenset({"seed", "stop"}), stage="hard") == "echo:large, echo:small"
    assert manager.lacks(seed, "plain") == ""
    assert manager.lacks(seed, "unreached") == ""
    assert manager.lacks(frozenset()) == ""


def test_settings_come_before_what_a_preset_knows_and_that_before_its_provider(managed: Managed) -> None:
    text = "providers: {openai: {models: {gpt-4.1: {context: 5, price: {input: 9, output: 9}, capabilities: {tools: false}}}}}"
    info = managed(text, {"OPENAI_API_KEY": "sk-0123456789"}).llm("openai:gpt-4.1").links[0].info
    known = info.capabilities
    assert (info.context, info.price, info.max_output) == (5, Price(input=9, output=9), 32_768)
    assert (known.tools, known.json_schema, known.list_models, known.video) == (False, True, True, None)
    wanted = ("context", "price", "max_output", "tools", "json_schema", "list_models")
    assert [info.sources[name] for name in wanted] == ["settings", "settings", "preset", "settings", "preset", "provider"]


async def test_what_is_not_known_of_a_model_is_warned_of_once(managed: Managed) -> None:
    events: list[Event] = []
    bus = Bus()
    bus.subscribe(events.append)
    async with managed(ROLES, bus=bus) as manager:
        for stage in ("a", "b", "b"):
            await manager.llm(stage=stage).chat("hi", logprobs=True)
    said = [event.message for event in events if isinstance(event, Said)]
    assert said == ["it is not known whether echo:one can do: logprobs; it is asked nevertheless"]


def test_models_lists_the_chain_and_then_the_rest(managed: Managed) -> None:
    rows = managed(ROLES + "    prefix: '>'\n").models()
    assert (rows[0][0], rows[0][1].id) == ("primary", "echo:one")
    facts = {info.model: info for _, info, _ in rows}
    assert facts["one"].price is not None
    assert facts["one"].sources["price"] == "settings"
    assert facts["three"].context == 1000


async def test_a_server_that_lists_its_models_gives_its_first(managed: Managed, lister: type[Provider]) -> None:
    manager = managed("providers: {server: {type: lister}}")
    manager.register_provider("lister", lister)
    response = await manager.llm().chat("hi")
    assert (response.model, response.text) == ("first", "first: hi")
    assert response.attempts[0].model == "first"
    await manager.aclose()


async def test_a_provider_that_lists_nothing_answers_by_its_own_name(managed: Managed, echo: type[Provider]) -> None:
    manager = managed()

    @manager.register_provider("mine")
    class Mine(Provider):
        name = "mine"

        async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
            return ChatResponse(text=f"{model} says {request.last_text}")

    assert (await manager.llm().chat("hi")).text == "mine says hi"
    assert (await manager.llm("mine:x").chat("hi")).text == "x says hi"
    assert Mine.name == "mine"
    await manager.aclose()


async def test_a_preset_brings_its_config_and_default_model(managed: Managed, echo: type[Provider]) -> None:
    manager = managed("providers: {pre: {}}")
    manager.register_provider("pre", Preset(provider=echo, config={"prefix": "* "}, default_model="std"))
    assert (await manager.llm().chat("hi")).text == "* std: hi"
    await manager.aclose()


def test_a_wrong_key_of_a_plugin_names_its_place_and_the_nearest_right_one(managed: Managed) -> None:
    with pytest.raises(SettingsError) as caught:
        managed("providers:\n  echo:\n    prefx: x\n").llm()
    (problem,) = caught.value.problems
    assert (
        str(problem)
        .splitlines()[0]
        .endswith("settings.yaml:3:5: unknown key 'prefx' in providers.echo; did you mean 'prefix'?")
    )


UNSENDABLE = "sk-ключ-0123456789"


async def test_a_bad_key_in_the_environment_is_told_by_its_name_and_harms_nobody_else(managed: Managed) -> None:
    async with managed(ROLES, {"OPENAI_API_KEY": UNSENDABLE}) as manager:
        assert (await manager.llm().chat("hi")).text == "one: hi"
        assert manager.knows_model("three") is True
        with pytest.raises(ChainExhausted) as caught:
            await manager.llm("openai:gpt-4.1").chat("hi")
    (attempt,) = caught.value.attempts
    assert attempt.outcome == "skipped"
    assert attempt.message.startswith("OPENAI_API_KEY (environment): ")
    assert UNSENDABLE not in str(caught.value)


def test_a_bad_key_of_a_section_is_an_error_that_names_where_it_comes_from(managed: Managed) -> None:
    with pytest.raises(SettingsError, match=r"^OPENAI_API_KEY \(environment\): ") as caught:
        managed("providers: {openai: {}}", {"OPENAI_API_KEY": UNSENDABLE}).llm()
    assert UNSENDABLE not in str(caught.value)
    with pytest.raises(SettingsError, match=r"settings.yaml:1:31: ") as caught:
        managed("providers: {openai: {api_key: '${MINE}'}}", {"MINE": UNSENDABLE}).llm()
    assert UNSENDABLE not in str(caught.value)


def test_an_unknown_capability_names_its_place(managed: Managed) -> None:
    with pytest.raises(SettingsError, match=r"settings.yaml:1:\d+: there is no capability 'tolls'; did you mean 'tools'"):
        managed("providers: {echo: {models: {a: {capabilities: {tolls: true}}}}}")


@pytest.mark.parametrize("options", [{"strategy": "best_of_tow"}, {"require": ["tolls"]}])
def test_unknown_words_are_refused_with_the_nearest_right_one(managed: Managed, options: Any) -> None:
    with pytest.raises(SettingsError, match="did you mean"):
        managed(ROLES).llm(**options)


def test_an_unknown_provider_says_so_in_the_chain(managed: Managed) -> None:
    chain = managed("providers: {acme: {url: x}}\nllm: {default_model: a}").llm()
    assert "no installed plugin offers the provider 'acme'" in chain.links[0].skip


def test_a_misspelled_default_provider_says_so_in_the_chain(managed: Managed) -> None:
    chain = managed("providers: {echo: {}}\nllm: {default_provider: ecko, default_model: a}").llm()
    assert "llm.default_provider is 'ecko', which is neither a section" in chain.links[0].skip


def test_a_built_in_cannot_be_replaced(managed: Managed, echo: type[Provider]) -> None:
    with pytest.raises(PluginError, match="built in"):
        managed().register_provider("offline", echo)


async def test_params_of_settings_are_defaults(managed: Managed) -> None:
    manager = managed(ROLES.replace("aliases", "params: {temperature: 0.2, stop: [END], stream: true}\n  aliases"))
    assert manager.written()["params"] == {"temperature": 0.2, "stop": ("END",)}
    await manager.llm().chat("hi")
    await manager.aclose()


def test_the_written_chain_is_that_of_the_settings_alone(managed: Managed) -> None:
    written = managed(ROLES).written()
    assert written["roles"] == [["primary", ["one", "two"]], ["duplicate", ["three"]], ["fallback", ["echo:four"]]]
    assert managed("providers: {echo: {}}").written()["roles"] == []
    assert managed().written()["roles"] == []
    assert managed().written("echo:x")["roles"] == [["model", ["echo:x"]]]


def test_chains_are_composed_once(managed: Managed) -> None:
    manager = managed(ROLES)
    assert manager.llm(stage="a") is manager.llm(stage="a")
    assert manager.llm(stage="a") is not manager.llm(stage="b")
    confined = manager.llm(allow={"three"})
    assert names(confined) == [("duplicate", "echo:three")]


async def test_every_call_reaches_the_sinks_and_the_bus(managed: Managed) -> None:
    records: list[CallRecord] = []
    events: list[Event] = []
    bus = Bus()
    bus.subscribe(events.append)
    manager = managed(ROLES, sinks=(records.append,), bus=bus)
    scope = Scope(run="r", path="p")
    await manager.llm(stage="s", task="t").chat(ChatRequest(messages=(Message.user("hi"),), scope=scope))
    await manager.aclose()
    assert [(record.stage, record.task, record.run, record.path) for record in records] == [("s", "t", "r", "p")]
    assert [(event.run, event.path, event.attempt.model) for event in events if isinstance(event, CallFinished)] == [
        ("r", "p", "one")
    ]


async def test_what_a_chain_cannot_carry_out_runs_as_single_and_is_said_once(managed: Managed) -> None:
    events: list[Event] = []
    bus = Bus()
    bus.subscribe(events.append)
    manager = managed("llm: {default_model: a}\nproviders: {echo: {models: [a]}}", bus=bus)
    first = await manager.generate_response("hi", use_parallel=True)
    await manager.generate_response("ho", use_parallel=True)
    assert first.content == "a: hi"
    assert [note[:43] for note in first.notes] == ["strategy best_of_two needs two models that "]
    assert [event.message for event in events if isinstance(event, Said)] == list(first.notes)
    await manager.aclose()


async def test_a_secret_in_a_providers_error_is_masked_everywhere(managed: Managed) -> None:
    secret = "sk-planted-0123456789"
    records: list[CallRecord] = []
    text = "llm: {retry_attempts: 0, default_model: a}\nproviders: {echo: {down: [a], api_key: '${ECHO_KEY}'}}"
    manager = managed(text, {"ECHO_KEY": secret}, sinks=(records.append,))
    answer = await manager.generate_response("hi")
    await manager.aclose()
    assert "a is down; key ***" in answer.error
    assert secret not in repr((answer, records))


async def test_another_model_may_mend_typed_answers(managed: Managed) -> None:
    text = ROLES.replace("aliases", "structured: {repair_model: 'mender:m'}\n  aliases")
    text += '  mender: {type: echo, says: \'{"name": "Ada"}\'}\n'
    async with managed(text) as manager:
        response = await manager.llm().chat("who?", output=_person())
    assert response.parsed == {"name": "Ada"}
    assert [attempt.outcome for attempt in response.attempts][:2] == ["InvalidOutput", "ok"]


def _person() -> Any:
    from flowcraft.plugin import OutputSpec

    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    return OutputSpec(schema=schema)


def test_the_managers_own_calls_work_without_a_loop_around_them(managed: Managed) -> None:
    manager = managed(ROLES)
    for _ in range(3):
        answer = asyncio.run(manager.generate_response("hi", use_fastest=False))
        assert (answer.success, answer.content, answer.model_name, answer.error) == (True, "one: hi", "one", "")
    asyncio.run(manager.aclose())


async def test_an_error_is_told_and_not_raised(managed: Managed) -> None:
    async with managed("llm: {default_model: a, retry_attempts: 0}\nproviders: {echo: {down: [a]}}") as manager:
        answer = await manager.generate_response("hi", use_fastest=False)
    assert not answer.success
    assert "no model answered" in answer.error


async def test_the_fastest_model_is_the_one_that_is_expected_to_answer_first(managed: Managed) -> None:
    from flowcraft.attempts import Attempt

    async with managed(ROLES) as manager:
        assert manager.get_fastest_model().name == "one"
        for number, (model, seconds) in enumerate([("one", 3.0), ("two", 1.0)] * 30):
            attempt = Attempt(model=model, provider="echo", seconds=seconds)
            manager._statistics.record(CallRecord(id=f"call {number}", attempt=attempt))
        fastest = manager.get_fastest_model()
        assert (fastest.name, fastest.provider, fastest.response_time) == ("two", "echo", 1.0)
        assert (await manager.generate_response("hi")).model_name == "two"
        assert (await manager.generate_response("hi", use_fastest=False)).model_name == "one"


async def test_completions_go_to_the_stages_chain(managed: Managed) -> None:
    async with managed(TIERS) as manager:
        messages = [{"role": "user", "content": "hi"}]
        assert (await manager.chat_completion(messages)).text == "small: hi"
        assert (await manager.chat_completion(messages, stage_name="security_review")).text == "large: hi"
        assert [piece async for piece in manager.stream_completion(messages)] == ["small: hi"]


def test_the_current_model_of_a_stage(managed: Managed) -> None:
    manager = managed(TIERS)
    assert manager.get_current_model_info("coding") == {"provider": "echo", "model": "small", "type": "cheap"}
    assert manager.get_current_model_info("security_review") == {"provider": "echo", "model": "large", "type": "expensive"}
    assert managed("llm: {offline: never}").get_current_model_info() == {"provider": "", "model": "", "type": "default"}


async def test_statistics_outlive_the_manager(managed: Managed) -> None:
    async with managed(ROLES) as manager:
        for _ in range(3):
            await manager.llm(stage="review").chat("hi")
        await manager.llm("offline").chat("hi")
    async with managed(ROLES) as later:
        (known,) = later.statistics()
        assert (known.provider, known.model, known.calls, known.successes) == ("echo", "one", 3, 3)
        assert known.usd == pytest.approx(150e-6)
        assert later.statistics("review")[0].calls == 3
        assert later.statistics("other") == []
        assert later.get_fastest_model().response_time is not None


def test_a_manager_of_other_settings_shares_plugins_and_statistics(managed: Managed) -> None:
    manager = managed(ROLES)
    other = manager.with_settings(Settings(llm={"default_model": "echo:x"}))
    assert names(other.llm()) == [("default", "echo:x")]
    assert other.plugins is manager.plugins


def test_settings_may_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "llm_settings.yaml").write_text("llm: {timeout: 7}")
    assert LLMManager("config/llm_settings.yaml").settings.llm.timeout == 7
    assert LLMManager().settings.llm.timeout == 7


def test_a_preset_without_its_key_says_which_is_missing(managed: Managed) -> None:
    chain = managed().llm("openai:some-model")
    assert (chain.links[0].info.id, chain.links[0].skip) == ("openai:some-model", "OPENAI_API_KEY is not set")


def test_a_preset_needs_no_section_once_its_key_is_set(managed: Managed) -> None:
    manager = managed("llm: {default_model: 'qwen:x'}", {"DASHSCOPE_API_KEY": "sk-0123456789"})
    assert [(link.info.id, link.skip) for link in manager.llm().links] == [("qwen:x", "")]


def test_a_preset_that_no_plugin_offers_says_so(managed: Managed) -> None:
    chain = managed("llm: {expensive_model: kiro-cli}").llm("expensive")
    assert chain.links[0].skip == "no installed plugin offers the provider 'kiro-cli'"


def test_a_denied_plugin_says_so(managed: Managed) -> None:
    chain = managed("plugins: {deny: [openai]}\nllm: {default_model: 'openai:x'}").llm()
    assert "denied" in chain.links[0].skip


async def test_a_provider_whose_constructor_fails_does_not_end_the_chain(managed: Managed, echo: type[Provider]) -> None:
    class Broken(echo):  # type: ignore[valid-type,misc] # a fixture's class
        def __init__(self, *arguments: Any, **named: Any) -> None:
            raise ZeroDivisionError("oops")

    manager = managed("llm: {model_roles: {primary: ['broken:a', 'echo:b']}}\nproviders: {echo: {}}")
    manager.register_provider("broken", Broken)
    response = await manager.llm().chat("hi")
    await manager.aclose()
    assert response.text == "b: hi"
    assert "provider 'broken' cannot be made: ZeroDivisionError: oops" in response.attempts[0].message
