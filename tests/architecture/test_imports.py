"""What is loaded when: nothing heavy before it is needed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import flowcraft

pytestmark = pytest.mark.integration

SDKS = {"aiohttp", "anthropic", "crewai", "dbos", "genai_prices", "httpx", "httpx2", "langgraph", "mcp", "openai"}
HEAVY = SDKS | {"alembic", "jsonschema", "pluggy", "pydantic", "pydantic_settings", "rich", "sqlalchemy", "typer", "yaml"}


def loaded_by(statement: str) -> set[str]:
    """The modules that ``statement`` loads in a fresh interpreter, beyond those that every interpreter has loaded."""
    program = f"""
import sys, json
before = set(sys.modules)
{statement}
sys.stderr.write(json.dumps(sorted(set(sys.modules) - before)))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(result.stderr))


def third_party(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names)


def test_import_loads_the_package_alone() -> None:
    modules = loaded_by("import flowcraft")
    assert {module for module in modules if module.startswith("flowcraft")} == {"flowcraft"}
    assert third_party(modules) == {"flowcraft"}


@pytest.mark.parametrize("argument", ["--version", "version"])
def test_version_loads_nothing_heavy(argument: str) -> None:
    modules = loaded_by(f"from flowcraft.cli import main; sys.argv = ['flowcraft', {argument!r}]; main()")
    assert third_party(modules) == {"flowcraft"}
    assert {module for module in modules if module.startswith("flowcraft")} == {"flowcraft", "flowcraft.cli"}


def test_the_command_line_loads_neither_the_engine_nor_the_database_before_a_command_needs_it() -> None:
    modules = loaded_by("import flowcraft.cli.app")
    assert third_party(modules) & {"pydantic", "sqlalchemy"} == set()
    ours = ("flowcraft.app", "flowcraft.engine", "flowcraft.storage")
    assert {module for module in modules if module.startswith(ours)} == set()


def test_the_plugin_contract_loads_nothing_heavy_but_pydantic_and_pluggy() -> None:
    assert third_party(loaded_by("import flowcraft.plugin")) & HEAVY == {"pydantic", "pluggy"}


def test_the_library_loads_neither_sdk_nor_terminal() -> None:
    loaded = third_party(loaded_by("from flowcraft import FlowCraft, LLMManager, load_workflow"))
    assert loaded & (SDKS | {"rich", "typer"}) == set()


@pytest.mark.parametrize(("address", "read"), [("http://127.0.0.1:1/v1", False), ("https://api.openai.com/v1", True)])
def test_the_price_list_is_read_for_models_that_are_sold(address: str, read: bool) -> None:
    provider = {"type": "openai", "base_url": address}
    page = {"storage": "sqlite://", "llm": {"default_model": "tiny"}, "providers": {"one": provider}}
    chain = f"from flowcraft import LLMManager, Settings; LLMManager(Settings(**{page!r})).llm"
    assert ("genai_prices" in third_party(loaded_by(f"{chain}(order='cheapest')"))) is read
    assert "genai_prices" not in third_party(loaded_by(f"{chain}()")), "not before a price is asked for"


@pytest.mark.parametrize("name", flowcraft.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(flowcraft, name) is not None
    assert name in dir(flowcraft)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        flowcraft.nothing  # noqa: B018


@pytest.mark.parametrize("room", ["plugin", "workflow", "testing", "errors", "events"])
def test_all_of_a_public_room_is_there(room: str) -> None:
    module = importlib.import_module(f"flowcraft.{room}")
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name), f"flowcraft.{room}.{name}"
