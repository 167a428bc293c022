"""Documented or it does not exist: whatever a user can name has an entry in docs/."""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path

import pytest
import typer

import flowcraft
from flowcraft import errors, events
from flowcraft.cli.app import build
from flowcraft.cli.reference import walk
from flowcraft.plugin import CAPABILITY_NAMES, hooks
from flowcraft.settings import PRESET_KEYS, Settings
from flowcraft.settings.environment import FILE_VARIABLE, VARIABLES
from flowcraft.settings.problems import key_paths
from flowcraft.workflow import workflow_schema

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]


@cache
def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text("utf-8")


@cache
def all_pages() -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))


def in_code(text: str) -> set[str]:
    """Every word that stands in code: between backticks or in a block."""
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return set(re.findall(r"[\w.]+", " ".join([*blocks, *spans])))


ERRORS = [
    name for name, found in vars(errors).items() if inspect.isclass(found) and issubclass(found, Exception) and name[0] != "_"
]
HOOKS = [name for name in vars(hooks) if name.startswith("flowcraft_")]
COMMANDS = [" ".join(path) for path, _ in walk(typer.main.get_command(build()))]

NAMES = sorted({variable.name for variable in VARIABLES} | {name for _, name in PRESET_KEYS})
OWN_NAMES = [FILE_VARIABLE, "FLOWCRAFT_PLUGINS", "FLOWCRAFT_DEBUG"]


def properties(schema: object) -> set[str]:
    """Every name of a property anywhere in a JSON Schema."""
    if isinstance(schema, list):
        return {name for item in schema for name in properties(item)}
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties")
    names = set(own) if isinstance(own, dict) else set()
    return names.union(*(properties(value) for value in schema.values()))


@pytest.mark.parametrize("name", ERRORS)
def test_error_has_its_row(name: str) -> None:
    rows = [line for line in page("errors").splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1, f"docs/errors.md has {len(rows)} rows for {name}"


def test_the_tree_of_errors_names_each_once() -> None:
    tree = re.findall(r"\b[A-Z]\w+", errors.__doc__ or "")
    assert sorted(set(tree) & set(ERRORS)) == sorted(ERRORS)


def test_exit_codes_agree_with_the_command_line() -> None:
    from flowcraft.cli.exits import code_of

    for name in ERRORS:
        row = next(line for line in page("errors").splitlines() if line.startswith(f"| `{name}` |"))
        assert row.rstrip(" |").endswith(f"| {code_of(getattr(errors, name)('x'))}"), row


@pytest.mark.parametrize("event", events.EVENTS, ids=lambda event: event.kind)
def test_event_has_its_row(event: type[events.Event]) -> None:
    row = f"| `{event.kind}` | `{event.__name__}` | {'yes' if event.kept else 'no'} |"
    assert row in page("errors")


def test_every_kind_of_event_is_listed_in_the_code() -> None:
    defined = {found for found in vars(events).values() if inspect.isclass(found) and issubclass(found, events.Event)}
    assert set(events.EVENTS) == defined - {events.Event}


@pytest.mark.parametrize("name", HOOKS)
def test_hook_has_an_entry(name: str) -> None:
    assert name in in_code(page("plugins"))


@pytest.mark.parametrize("name", CAPABILITY_NAMES)
def test_capability_has_an_entry(name: str) -> None:
    assert name in in_code(all_pages())


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_its_section(command: str) -> None:
    assert re.search(rf"^#+ `{command}`$", page("cli"), re.MULTILINE)


@pytest.mark.parametrize("key", sorted(properties(workflow_schema({}))))
def test_key_of_the_language_has_an_entry(key: str) -> None:
    assert key in in_code(page("language"))


@pytest.mark.parametrize("key", sorted({".".join(path) for path in key_paths(Settings)}))
def test_settings_key_has_an_entry(key: str) -> None:
    words = in_code(page("settings"))
    assert {part for part in key.split(".") if part != "<name>"} <= words | set(" ".join(words).replace(".", " ").split())


@pytest.mark.parametrize("name", [*NAMES, *OWN_NAMES])
def test_environment_name_has_an_entry(name: str) -> None:
    assert name in in_code(page("settings"))


@pytest.mark.parametrize("name", NAMES)
def test_environment_name_stands_in_the_example(name: str) -> None:
    assert re.search(rf"^#? ?{name}=", (ROOT / ".env.example").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in flowcraft.__all__ if not name.startswith("_")])
def test_public_name_has_an_entry(name: str) -> None:
    assert name in in_code(all_pages())


def test_every_page_stands_in_the_navigation() -> None:
    named = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_every_dependency_has_a_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = project["dependencies"] + project["optional-dependencies"]["dev"] + project["optional-dependencies"]["bench"]
    names = {re.split(r"[\[<>=~! ]", text)[0] for text in listed}
    words = set(re.findall(r"[\w-]+", page("dependencies")))
    assert names - words == set()
