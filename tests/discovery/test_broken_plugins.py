"""One broken plugin is listed with its reason, and everything else works."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from flowcraft.discovery import Plugins, PluginState, discover
from flowcraft.errors import PluginError
from flowcraft.tools import function_tool

pytestmark = pytest.mark.integration

Install = Callable[..., None]
RAISES = "raise RuntimeError('no luck today')"
EXITS = "import sys\nsys.exit('goodbye')"
INTERRUPTS = "raise KeyboardInterrupt"


def state(plugins: Plugins, name: str) -> PluginState:
    return next(state for state in plugins.states() if state.name == name)


def everything_else_works(plugins: Plugins) -> bool:
    healthy = plugins.provider_class("healthy")
    return healthy.name == "healthy" and plugins.provider("offline") is not None and "prompt" in plugins.bodies()


@pytest.fixture
def healthy(install: Install) -> Install:
    install("healthy-plugin", providers=["healthy"])
    return install


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event at which a plugin's import waits until the test is over."""
    opened = threading.Event()
    monkeypatch.setattr(sys, "gate_of_a_test", opened, raising=False)
    yield opened
    opened.set()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (RAISES, "RuntimeError: no luck today"),
        (EXITS, "it ended the program (SystemExit: goodbye)"),
        (INTERRUPTS, "KeyboardInterrupt"),
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_plugin_that_fails_at_import_is_broken_and_alone(healthy: Install, code: str, reason: str) -> None:
    healthy("bad-plugin", code, providers=["bad"])
    plugins = discover(environ={})
    with pytest.raises(PluginError, match=r"provider 'bad' of bad-plugin 1\.0 is broken"):
        plugins.provider("bad")
    assert state(plugins, "bad").state == "broken"
    assert reason in state(plugins, "bad").error
    assert "bad_plugin" in state(plugins, "bad").traceback
    assert everything_else_works(plugins)


def test_a_broken_plugin_for_runs_does_not_hide_the_stage_bodies(healthy: Install) -> None:
    healthy("bad-plugin", EXITS, others=["bad"])
    plugins = discover(environ={})
    assert set(plugins.bodies()) >= {"prompt", "run", "uses"}
    assert state(plugins, "bad").state == "broken"


@pytest.mark.parametrize("raised", ["ValueError('in the hook')", "SystemExit(3)", "KeyboardInterrupt()"])
def test_a_plugin_that_raises_in_a_hook_is_broken_and_alone(healthy: Install, raised: str) -> None:
    code = f"""
    from flowcraft.plugin import hookimpl
    @hookimpl
    def flowcraft_providers():
        raise {raised}
    """
    healthy("bad-plugin", code, providers=["bad"])
    plugins = discover(environ={})
    with pytest.raises(PluginError, match=r"flowcraft_providers\(\) failed"):
        plugins.provider("bad")
    assert state(plugins, "bad").state == "broken"
    assert everything_else_works(plugins)


def test_a_failing_hook_does_not_take_the_plugins_provider_away(install: Install) -> None:
    install(
        "half-plugin",
        """
        from flowcraft.plugin import Provider, hookimpl
        class Half(Provider):
            name = "half"
        @hookimpl
        def flowcraft_providers():
            return {"half": Half}
        @hookimpl
        def flowcraft_models(provider):
            raise ValueError("no list")
        """,
        providers=["half"],
    )
    plugins = discover(environ={})
    assert plugins.models("half", {}) == []
    assert state(plugins, "half").error == "flowcraft_models() failed: ValueError: no list"
    assert plugins.provider_class("half").name == "half"


@pytest.mark.parametrize("requires", ["flowcraft>=99", "flowcraft<0.1", "FlowCraft[openai]==3.*", "flowcraft >=>= 1"])
def test_a_plugin_for_another_version_is_never_imported(healthy: Install, requires: str) -> None:
    healthy("old-plugin", EXITS, providers=["old"], requires=requires)
    plugins = discover(environ={})
    plugins.load_all()
    assert state(plugins, "old").state == "other version"
    assert "old" not in plugins.provider_names()
    with pytest.raises(PluginError, match="is for another version"):
        plugins.provider("old")
    assert "old_plugin" not in sys.modules
    assert everything_else_works(plugins)


@pytest.mark.parametrize("requires", ["", "flowcraft", "flowcraft-openai>=99", "flowcraft>=99; extra == 'never'"])
def test_a_plugin_that_asks_for_no_other_version_is_used(install: Install, requires: str) -> None:
    install("easy-plugin", providers=["easy"], requires=requires)
    assert discover(environ={}).provider_class("easy").name == "easy"


def test_a_plugin_that_hangs_at_import_is_given_up(healthy: Install, gate: threading.Event) -> None:
    healthy("hanging-plugin", "import sys\nsys.gate_of_a_test.wait()", providers=["hanging"])
    plugins = discover(environ={}, limit=0.1)
    with pytest.raises(PluginError, match=r"not done after 0\.1 s"):
        plugins.provider("hanging")
    assert state(plugins, "hanging").state == "broken"
    assert discover(environ={}).provider_class("healthy").name == "healthy"


def test_a_hook_that_hangs_is_given_up(install: Install, gate: threading.Event) -> None:
    code = """
    import sys
    from flowcraft.plugin import hookimpl
    @hookimpl
    def flowcraft_tools():
        sys.gate_of_a_test.wait()
    """
    install("hanging-plugin", code, others=["hanging"])
    plugins = discover(environ={}, limit=0.1)
    assert plugins.tools(function_tool) == {}
    assert "not done after 0.1 s" in state(plugins, "hanging").error


def test_a_plugin_that_takes_its_time_works_and_is_listed_as_slow(healthy: Install) -> None:
    plugins = discover(environ={}, slow=0.0)
    assert plugins.provider_class("healthy").name == "healthy"
    assert state(plugins, "healthy").state == "slow"
    assert (state(plugins, "healthy").seconds or 0) > 0


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("def flowcraft_tools(): return ['a word']", "returned 'a word', which is of the wrong type"),
        ("def flowcraft_tools(): return 7", "TypeError"),
        ("def flowcraft_tools(): return [lambda *words: words]", "cannot be used"),
        ("def flowcraft_tools(nobody_passes_this): return []", "nobody_passes_this"),
        ("def flowcraft_tolls(): return []", "flowcraft_tolls"),
        ("def flowcraft_stage_bodies(): return ['no.such.module:Body']", "No module named 'no'"),
        ("def flowcraft_stage_bodies(): return [int]", "no subclass of flowcraft.plugin.StageBody"),
        ("def flowcraft_stage_bodies():\n    from flowcraft.plugin import StageBody\n    return [StageBody]", "has no key"),
    ],
)
def test_a_hook_that_gives_what_it_should_not_is_told(healthy: Install, hook: str, reason: str) -> None:
    healthy("odd-plugin", f"from flowcraft.plugin import hookimpl\n@hookimpl\n{hook}\n", others=["odd"])
    plugins = discover(environ={})
    plugins.tools(function_tool)
    plugins.bodies()
    assert state(plugins, "odd").state == "broken"
    assert reason in state(plugins, "odd").error
    assert everything_else_works(plugins)


def test_an_entry_point_whose_module_does_not_offer_its_name_is_told(install: Install) -> None:
    install("shy-plugin", "from flowcraft.plugin import hookimpl\n", providers=["shy"])
    plugins = discover(environ={})
    with pytest.raises(PluginError, match=r"flowcraft_providers\(\) does not return 'shy'"):
        plugins.provider("shy")


def test_a_path_that_cannot_be_imported_is_told_and_the_plugin_blamed(install: Install) -> None:
    code = """
    from flowcraft.plugin import hookimpl
    @hookimpl
    def flowcraft_providers():
        return {"lost": "no_such_module_anywhere:Provider"}
    """
    install("lost-plugin", code, providers=["lost"])
    plugins = discover(environ={})
    with pytest.raises(PluginError, match="no_such_module_anywhere:Provider cannot be used"):
        plugins.provider_class("lost")
    assert state(plugins, "lost").state == "broken"


def test_a_distribution_with_unreadable_entry_points_hides_nobody(healthy: Install) -> None:
    healthy("garbled-plugin", "", entry_points="[flowcraft]\nthis line has no equals sign\n")
    assert everything_else_works(discover(environ={}))
