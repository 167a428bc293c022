"""What is loaded when: nothing heavy before it is needed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

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


def test_the_command_line_loads_no_command_before_one_is_called() -> None:
    modules = loaded_by("import flowcraft.cli.app")
    ours = {module for module in modules if module.startswith("flowcraft.")}
    assert ours == {f"flowcraft.{name}" for name in ("attempts", "cli", "cli.app", "cli.exits", "cli.options", "errors")}


def loaded_by_command(folder: Path, *arguments: str) -> set[str]:
    """The modules that a command loads; ``folder`` has a workflow, ``hello.yaml``, whose one stage is a prompt."""
    (folder / "hello.yaml").write_text('flowcraft: 1\nstages: {hello: {prompt: "Say hello"}}\n', encoding="utf-8")
    (folder / "settings.yaml").write_text("storage: sqlite:///flowcraft.db\n", encoding="utf-8")
    program = f"""
import os, sys, json
os.chdir({str(folder)!r})
sys.argv = ['flowcraft', *{arguments!r}]
from flowcraft.cli import main
try:
    main()
finally:
    open('loaded', 'w').write(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 4), done.stderr
    return set(json.loads((folder / "loaded").read_text()))


COMPARING = {
    "flowcraft.app.comparing",
    "flowcraft.app.forks",
    "flowcraft.app.replay",
    "flowcraft.diagnostics",
    "flowcraft.crewai",
}
DRAWING = {"flowcraft.app.drawings", "flowcraft.drawing"}
PLANNING = {"flowcraft.app.forecasts", "flowcraft.engine.forecasts"}
STORING = {"flowcraft.storage", "sqlalchemy"}
ASKING = {"flowcraft.manager", "flowcraft.discovery", "flowcraft.app.workflows"}
NEVER = SDKS | COMPARING | {"alembic", "mako", "pygments", "markdown_it", "rich.progress", "urllib.request", "sqlalchemy.orm"}


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        ("--help", NEVER | DRAWING | PLANNING | STORING | ASKING | {"asyncio", "pydantic", "rich", "yaml"}),
        ("run --help", NEVER | DRAWING | PLANNING | STORING | ASKING | {"yaml", "flowcraft.cli.diff", "flowcraft.engine"}),
        ("run hello.yaml", NEVER | DRAWING | PLANNING | {"flowcraft.cli.diff", "flowcraft.cli.models", "flowcraft.cli.graph"}),
        ("validate hello.yaml", NEVER | DRAWING | PLANNING | STORING),
        ("graph hello.yaml", (NEVER - {"urllib.request"}) | PLANNING | STORING),
        ("schema", NEVER | DRAWING | PLANNING | STORING),
        ("runs list", (NEVER - {"rich.progress"}) | DRAWING | PLANNING | ASKING),
        ("models list", (NEVER - {"rich.progress"}) | DRAWING | PLANNING | STORING),
        ("settings", NEVER | DRAWING | PLANNING | STORING | {"flowcraft.engine", "flowcraft.llm"}),
    ],
)
def test_a_command_loads_what_it_needs_alone(tmp_path: Path, arguments: str, unneeded: set[str]) -> None:
    if arguments in ("run hello.yaml", "runs list"):
        loaded_by_command(tmp_path, "run", "hello.yaml")  # the database is made, and at its newest version from now on
    modules = loaded_by_command(tmp_path, *arguments.split())
    assert {name for name in unneeded if name in modules} == set()


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
