"""Installed plugins: what they offer, when they are imported, and who may be."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from flowcraft.discovery import Plugins, discover
from flowcraft.errors import PluginError
from flowcraft.plugin import ChatRequest, Message, Preset, Provider
from flowcraft.tools import function_tool

pytestmark = pytest.mark.integration

Install = Callable[..., None]


def states(plugins: Plugins) -> dict[str, str]:
    return {state.name: state.state for state in plugins.states()}


def test_discovery_reads_metadata_and_imports_nothing(install: Install) -> None:
    install("quiet-plugin", providers=["quiet"])
    plugins = discover(environ={})
    assert "quiet" in plugins.provider_names()
    assert states(plugins)["quiet"] == "not imported"
    assert "quiet_plugin" not in sys.modules


def test_the_installed_distributions_are_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Finder:
        @staticmethod
        def find_spec(*_: object) -> None:
            return None

        @staticmethod
        def find_distributions(context: object) -> list[object]:
            asked.append(context)
            return []

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert "offline" in discover(environ={}).provider_names()
    assert len(asked) == 1


def test_a_provider_is_imported_when_it_is_asked_for_and_alone(install: Install) -> None:
    install("first-plugin", providers=["first"])
    install("second-plugin", providers=["second"])
    plugins = discover(environ={}, slow=60)
    assert plugins.provider_class("first").name == "first"
    assert states(plugins)["first"] == "ready"
    assert states(plugins)["second"] == "not imported"
    assert "second_plugin" not in sys.modules


async def test_the_ten_line_plugin_answers(install: Install) -> None:
    install("echo-plugin", providers=["echo"])
    provider = discover(environ={}).provider_class("echo")()
    answer = await provider.chat("any", ChatRequest(messages=(Message.user("Привет 👋"),)))
    assert answer.text == "Привет 👋"


def test_what_is_built_in_comes_through_the_same_entry_points() -> None:
    plugins = discover(environ={})
    offline = plugins.provider("offline")
    assert offline is not None
    assert offline.default_model == "offline"
    assert plugins.models("offline", {})[0].offline
    assert {"prompt", "run", "uses"} <= set(plugins.bodies())
    assert [state.distribution for state in plugins.states()][:2] == ["flowcraft", "flowcraft"]


def test_nobody_offers_an_unknown_provider() -> None:
    assert discover(environ={}).provider("no-such-provider") is None
    with pytest.raises(PluginError, match="no installed plugin offers the provider 'no-such-provider'"):
        discover(environ={}).provider_class("no-such-provider")


def test_a_module_behind_several_names_is_asked_once(install: Install) -> None:
    code = """
    from flowcraft.plugin import ModelInfo, Preset, Provider, hookimpl
    class Many(Provider):
        name = "many"
    @hookimpl
    def flowcraft_providers():
        return {"many": Many, "few": Preset(provider=Many, key_env="FEW_KEY", default_model="small")}
    @hookimpl
    def flowcraft_models(provider):
        return [ModelInfo(model="small", provider=provider)]
    """
    install("many-plugin", code, providers=["many", "few"])
    plugins = discover(environ={})
    few = plugins.provider("few")
    assert few is not None
    assert few.key_env == "FEW_KEY"
    assert [model.id for model in plugins.models("few", {})] == ["few:small"]
    assert plugins.provider_class("many").name == "many"


def test_plugins_for_runs_give_tools_sinks_commands_and_bodies(install: Install) -> None:
    code = """
    from flowcraft.plugin import Command, StageBody, Tool, ToolSpec, hookimpl
    class Wait(StageBody):
        key = "acme_wait"
    @hookimpl
    def flowcraft_stage_bodies():
        return [Wait]
    @hookimpl
    def flowcraft_tools():
        return [Tool(spec=ToolSpec(name="look"), call=lambda: 1)]
    @hookimpl
    def flowcraft_event_sinks():
        return [print]
    @hookimpl
    def flowcraft_commands():
        return [Command(name="acme", call="acme_plugin:main")]
    """
    install("acme-plugin", code, others=["acme"])
    plugins = discover(environ={})
    assert plugins.bodies()["acme_wait"].__name__ == "Wait"
    assert list(plugins.tools(function_tool)) == ["look"]
    assert plugins.sinks() == [print]
    assert [command.name for command in plugins.commands()] == ["acme"]


def test_a_function_is_a_tool_and_of_two_of_one_name_the_first_stays(install: Install) -> None:
    code = """
    from flowcraft.plugin import Tool, ToolSpec, hookimpl
    def look(words: str) -> str:
        \'\'\'Look it up.\'\'\'
        return words
    @hookimpl
    def flowcraft_tools():
        return [look, Tool(spec=ToolSpec(name="look"), call=look)]
    """
    install("acme-plugin", code, others=["acme"])
    plugins = discover(environ={})
    (made,) = plugins.tools(function_tool).values()
    assert made.spec.description == "Look it up."
    assert made.call(words="a") == "a"
    assert any("tool 'look' is offered by" in (state.error or "") for state in plugins.states())


def test_a_provider_that_only_a_plugin_for_runs_offers_is_found(install: Install) -> None:
    code = """
    from flowcraft.plugin import Provider, hookimpl
    class Hidden(Provider):
        name = "hidden"
    @hookimpl
    def flowcraft_providers():
        return {"hidden": "hidden_plugin:Hidden"}
    """
    install("hidden-plugin", code, others=["anything"])
    plugins = discover(environ={})
    assert "hidden" not in plugins.provider_names()
    assert plugins.provider_class("hidden").name == "hidden"
    assert "hidden" in plugins.provider_names()


@pytest.mark.parametrize(
    ("variable", "allow", "deny", "expected"),
    [
        ("", None, (), {"one": True, "two": True}),
        ("one", None, (), {"one": True, "two": False}),
        ("one-plugin", None, (), {"one": True, "two": False}),
        ("-two", None, (), {"one": True, "two": False}),
        ("one, two, -one_plugin", None, (), {"one": False, "two": True}),
        ("", ["two"], (), {"one": False, "two": True}),
        ("", [], (), {"one": False, "two": False}),
        ("", None, ["Two.Plugin"], {"one": True, "two": False}),
        ("one", ["two"], (), {"one": False, "two": False}),
    ],
)
def test_who_may_be_imported_is_decided_before_anything_is(
    install: Install, variable: str, allow: list[str] | None, deny: list[str], expected: dict[str, bool]
) -> None:
    install("one-plugin", providers=["one"])
    install("two-plugin", providers=["two"])
    plugins = discover(allow=allow, deny=deny, environ={"FLOWCRAFT_PLUGINS": variable}, slow=60)
    plugins.load_all()
    assert {name: states(plugins)[name] == "ready" for name in expected} == expected
    assert ("one_plugin" in sys.modules) is expected["one"]
    assert states(plugins)["offline"] == "ready"


def test_a_denied_provider_says_who_denied_it(install: Install) -> None:
    install("one-plugin", providers=["one"])
    with pytest.raises(PluginError, match=r"provider 'one' of one-plugin 1\.0 is denied: denied by -one in FLOWCRAFT_PLUGINS"):
        discover(environ={"FLOWCRAFT_PLUGINS": "-one"}).provider("one")
    with pytest.raises(PluginError, match=r"not among those allowed by plugins\.allow"):
        discover(allow=["else"], environ={}).provider("one")


def test_even_what_is_built_in_can_be_denied() -> None:
    with pytest.raises(PluginError, match=r"denied by plugins\.deny"):
        discover(deny=["offline"], environ={}).provider("offline")


def test_of_two_plugins_with_one_name_the_first_distribution_is_used(install: Install) -> None:
    install("beta-plugin", providers=["twin"])
    install("alpha-plugin", providers=["twin"])
    plugins = discover(environ={})
    assert plugins.provider_class("twin").__module__ == "alpha_plugin"
    other = next(state for state in plugins.states() if state.distribution == "beta-plugin")
    assert other.state == "denied"
    assert "offered by alpha-plugin already" in other.error
    assert discover(deny=["alpha-plugin"], environ={}).provider_class("twin").__module__ == "beta_plugin"


def test_a_plugin_is_asked_once_for_its_bodies(install: Install) -> None:
    code = """
    from flowcraft.plugin import StageBody, hookimpl
    class Wait(StageBody):
        key = "acme_wait"
    @hookimpl
    def flowcraft_stage_bodies():
        made.append(1)
        return [Wait]
    made = []
    """
    install("acme-plugin", code, others=["acme"])
    plugins = discover(environ={})
    wait = plugins.bodies()["acme_wait"]
    assert plugins.bodies()["acme_wait"] is wait
    assert len(sys.modules[wait.__module__].made) == 1


def test_nobody_overrides_what_is_built_in(install: Install) -> None:
    install("aaa-plugin", providers=["offline"])
    plugins = discover(environ={})
    plugins.load_all()
    assert plugins.provider_class("offline").__module__ == "flowcraft.builtin.offline"
    assert any(state.distribution == "aaa-plugin" and state.state == "denied" for state in plugins.states())


def test_a_stage_key_that_is_taken_stays_with_the_first(install: Install) -> None:
    code = """
    from flowcraft.plugin import StageBody, hookimpl
    class Prompt(StageBody):
        key = "prompt"
    @hookimpl
    def flowcraft_stage_bodies():
        return [Prompt]
    """
    install("aaa-plugin", code, others=["aaa"])
    plugins = discover(environ={})
    assert plugins.bodies()["prompt"].__module__.startswith("flowcraft.")
    assert plugins.bodies()["prompt"].__module__.startswith("flowcraft.")
    told = next(state.error for state in plugins.states() if state.name == "aaa")
    assert told == "stage key 'prompt' is taken by plugin 'bodies' of flowcraft 0.1.0"


def test_a_provider_offered_by_two_modules_stays_with_the_first(install: Install) -> None:
    install("aaa-plugin", providers=["shared"])
    code = """
    from flowcraft.plugin import Provider, hookimpl
    class Own(Provider):
        name = "own"
    @hookimpl
    def flowcraft_providers():
        return {"own": Own, "shared": Own}
    """
    install("bbb-plugin", code, providers=["own"])
    plugins = discover(environ={})
    plugins.load_all()
    assert plugins.provider_class("shared").__module__ == "aaa_plugin"
    told = next(state.error for state in plugins.states() if state.name == "own")
    assert "provider 'shared' is offered by plugin 'shared' of aaa-plugin 1.0 already" in told


class Mine(Provider):
    name = "mine"


@pytest.mark.parametrize("offered", [Mine, Preset(provider=Mine, default_model="m")])
def test_a_registered_provider_comes_first(install: Install, offered: type[Provider] | Preset) -> None:
    install("mine-plugin", providers=["mine"])
    plugins = discover(environ={})
    plugins.register_provider("mine", offered)
    assert plugins.provider_class("mine") is Mine
    assert "mine" in plugins.provider_names()


def test_a_provider_may_be_registered_by_its_path() -> None:
    plugins = discover(environ={})
    plugins.register_provider("again", "flowcraft.builtin.offline:Offline")
    assert plugins.provider_class("again").name == "offline"


def test_what_is_no_provider_and_what_is_built_in_is_not_registered() -> None:
    plugins = discover(environ={})
    with pytest.raises(PluginError, match=r"no subclass of flowcraft\.plugin\.Provider"):
        plugins.register_provider("number", int)  # type: ignore[arg-type]
    with pytest.raises(PluginError, match="is built in and cannot be replaced"):
        plugins.register_provider("offline", Mine)
