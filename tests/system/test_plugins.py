"""Plugins that fail in every way, installed as real distributions: the rest goes on, and a plugin's command is one of ours."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("cold")]


def install(folder, name, code, *, group="flowcraft", requires="flowcraft"):
    """Put a distribution into ``site/``, as pip would."""
    module = name.replace("-", "_")
    folder.write(f"site/{module}.py", code)
    folder.write(
        f"site/{module}-1.0.dist-info/METADATA",
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n",
    )
    folder.write(f"site/{module}-1.0.dist-info/entry_points.txt", f"[{group}]\n{name} = {module}\n")
    folder.env["PYTHONPATH"] = str(folder.path / "site")


BODY = """
from flowcraft.plugin import BodyOptions, Command, StageBody, Template, hookimpl
from typing import Annotated, ClassVar

class Shout(StageBody):
    key: ClassVar[str] = "shout"

    class Options(BodyOptions):
        text: Annotated[str, Template]

    async def run(self, options, context):
        return options.text.upper()

def greet(name: str = "world"):
    print(f"hello {name}")

@hookimpl
def flowcraft_stage_bodies():
    return [Shout]

def note(event):
    with open("seen.txt", "a") as file:
        file.write(event.kind + "\\n")

def fail(event):
    raise RuntimeError("a sink that fails")

@hookimpl
def flowcraft_event_sinks():
    return [fail, note]

@hookimpl
def flowcraft_commands():
    return [Command(name="greet", call=greet, help="Greet somebody.")]
"""

BROKEN = {
    "raises-at-import": "raise RuntimeError('born broken')",
    "exits-at-import": "import sys; sys.exit(3)",
    "raises-in-hook": """
from flowcraft.plugin import hookimpl

@hookimpl
def flowcraft_stage_bodies():
    raise KeyError("hooked")
""",
    "wants-another": "",
}


@pytest.fixture
def plugged(folder):
    install(folder, "shouting", BODY)
    for name, code in BROKEN.items():
        install(folder, name, code, requires="flowcraft>=99" if name == "wants-another" else "flowcraft")
    folder.write("flow.yaml", 'flowcraft: 1\ninputs: {word: string}\nstages: {loud: {shout: {text: "${{ inputs.word }}!"}}}\n')
    return folder


def test_run_goes_on_beside_broken_plugins(plugged):
    ended = plugged.flowcraft("run", "flow.yaml", "-i", "word=hey", "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == {"loud": "HEY!"}


def test_plugins_sinks_see_every_event_and_one_that_fails_hurts_nobody(plugged):
    ended = plugged.flowcraft("run", "flow.yaml", "-i", "word=hey")

    assert ended.code == 0, ended.err
    seen = (plugged.path / "seen.txt").read_text().split()
    assert [kind for kind in seen if kind != "said"] == ["run.started", "stage.started", "stage.finished", "run.finished"]
    assert "fail, which watched events, failed and is told no more: RuntimeError: a sink that fails" in ended.err


def test_broken_plugins_are_listed_with_the_reason(plugged):
    states = {item["name"]: item for item in plugged.flowcraft("plugins", "--json").json}

    assert states["shouting"]["state"] in ("ready", "slow")  # which is more than a second: a full machine takes it
    assert {name: states[name]["state"] for name in BROKEN} == {
        "raises-at-import": "broken",
        "exits-at-import": "broken",
        "raises-in-hook": "broken",
        "wants-another": "other version",
    }
    for name, told in (("raises-at-import", "born broken"), ("raises-in-hook", "hooked"), ("wants-another", "99")):
        assert told in states[name]["error"]


def test_key_of_a_plugins_body_is_checked_at_its_place(plugged):
    plugged.write("wrong.yaml", 'flowcraft: 1\nstages: {loud: {shout: {txt: "hey"}}}\n')

    ended = plugged.flowcraft("validate", "wrong.yaml")

    assert ended.code == 2
    assert "wrong.yaml:2:" in ended.err
    assert "txt" in ended.err


def test_command_of_a_plugin_is_one_of_ours(plugged):
    ended = plugged.flowcraft("greet", "--name", "Anna")

    assert (ended.code, ended.out) == (0, "hello Anna\n")
