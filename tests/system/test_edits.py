"""What is edited between a kill and a resume does not change a run: it goes on as it began, or says what is missing."""

from __future__ import annotations

import json
import shutil

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.usefixtures("forked")]

FLOW = """
flowcraft: 1
inputs: {topic: string = rain}
stages:
  first: {run: "steps:work", with: {name: first, value: "${{ file('facts.txt') }}"}}
  held: {needs: [first], run: "steps:hold", with: {path: go}}
  asked: {needs: [held], prompt: {file: ask.md}}
  part: {needs: [held], uses: ./part.yaml, with: {word: "${{ first }}"}}
  shown: {needs: [held], shell: "pwd"}
outputs: {first: "${{ first }}", asked: "${{ asked }}", part: "${{ part.said }}", pwd: "${{ shown.stdout }}"}
"""
PART = """
flowcraft: 1
inputs: {word: string}
stages: {said: {run: "steps:work", with: {name: said, value: "part ${{ inputs.word }}"}}}
"""
HOLD = """

def hold(path):
    note("start", "hold")
    while not (pathlib.Path(__file__).parent / path).exists():
        time.sleep(0.01)
    return "over"
"""
SETTINGS = "llm: {offline: allow, params: {max_tokens: 50}}\n"


def prepared(folder, steps):
    folder.write("flow.yaml", FLOW)
    folder.write("part.yaml", PART)
    folder.write("ask.md", "Repeat the words of ${{ inputs.topic }} in ${{ first }}")
    folder.write("facts.txt", "six clouds")
    folder.write("settings.yaml", SETTINGS)
    folder.write("steps.py", steps + HOLD)


def killed(folder, file="flow.yaml", mark="hold", **env):
    """Start a run and kill its process in the middle; return the run's id."""
    process = folder.start("run", file, **env)
    folder.wait_for(lambda: folder.starts()[mark] == 1, process)
    folder.kill(process)
    folder.write("go", "")
    return folder.runs()[-1]


@pytest.fixture
def project(folder, steps):
    prepared(folder, steps)
    return folder


@pytest.fixture(scope="module")
def untouched(new_folder, steps):
    """What the run gives where nobody edits anything."""
    folder = new_folder("untouched")
    prepared(folder, steps)
    folder.write("go", "")
    ended = folder.flowcraft("run", "flow.yaml", "--json")
    assert ended.code == 0, ended.err
    return {**ended.json["outputs"], "pwd": None}


def edit(name, before, after):
    def change(folder):
        path = folder.path / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    return change


def lose(*names):
    def change(folder):
        for name in names:
            (folder.path / name).unlink()

    return change


EDITS = {
    "file": edit("flow.yaml", 'shown: {needs: [held], shell: "pwd"}', "shown: {shell: 'echo edited'}"),
    "broken file": edit("flow.yaml", "stages:", "stages: ["),
    "template": edit("ask.md", "Repeat", "Forget"),
    "used file": edit("part.yaml", "part ${{", "other ${{"),
    "inserted file": edit("facts.txt", "six", "seven"),
    "settings": edit("settings.yaml", "max_tokens: 50", "max_tokens: 7"),
    "other model": edit("settings.yaml", "llm: {", "llm: {default_model: 'nobody:m', "),
    "all files lost": lose("flow.yaml", "part.yaml", "ask.md", "facts.txt"),
    "settings lost": lose("settings.yaml"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_between_kill_and_resume_changes_nothing(project, untouched, kind):
    run = killed(project)
    EDITS[kind](project)

    ended = project.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 0, ended.err
    assert {**ended.json["outputs"], "pwd": None} == untouched
    assert ended.json["outputs"]["pwd"] == f"{project.path}\n"
    assert project.starts()["first"] == 1


def test_resumed_in_another_folder_it_works_where_it_was_started(project, untouched, new_folder):
    run = killed(project)
    other = new_folder("other")
    other.write("settings.yaml", f"storage: sqlite:///{project.database}\n")

    ended = other.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 0, ended.err
    assert {**ended.json["outputs"], "pwd": None} == untouched
    assert ended.json["outputs"]["pwd"] == f"{project.path}\n"


def test_a_folder_that_is_gone_is_named(folder, steps, new_folder):
    prepared(folder, steps)
    started_in = new_folder("started-in")
    started_in.write("settings.yaml", f"storage: sqlite:///{folder.database}\n")
    process = started_in.start("run", str(folder.path / "flow.yaml"))
    folder.wait_for(lambda: folder.starts()["hold"] == 1, process)
    started_in.kill(process)
    folder.write("go", "")
    shutil.rmtree(started_in.path)

    ended = folder.flowcraft("runs", "resume", folder.runs()[-1])
    started_in.path.mkdir()
    again = folder.flowcraft("runs", "resume", folder.runs()[-1], "--json")

    assert ended.code == 2
    assert f"works in the folder {started_in.path}, where it was started and which is gone" in ended.err
    assert "Traceback" not in ended.err
    assert (again.code, again.json["outputs"]["pwd"]) == (0, f"{started_in.path}\n"), again.err


def test_functions_that_are_gone_are_named_and_the_run_goes_on_when_they_are_back(project, untouched):
    run = killed(project)
    steps = (project.path / "steps.py").read_text()
    (project.path / "steps.py").unlink()

    ended = project.flowcraft("runs", "resume", run)
    project.write("steps.py", steps)
    again = project.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 1
    assert "cannot import 'steps': ModuleNotFoundError: No module named 'steps'" in ended.err
    assert "Traceback" not in ended.err
    assert again.code == 0, again.err
    assert {**again.json["outputs"], "pwd": None} == untouched


def test_mended_functions_leave_finished_work_as_it_is_and_that_is_said_once(project, untouched):
    run = killed(project)
    edit("steps.py", 'note("start", name)', "note(\"start\", name + '!')")(project)

    ended = project.flowcraft("runs", "resume", run)

    assert ended.code == 0
    assert ended.err.count("changed since it ran; what it finished stays finished") == 1


PLUGIN = """
from typing import Annotated
from pydantic import BaseModel
from flowcraft.plugin import ChatResponse, Provider, StageBody, Template, hookimpl

class Echo(Provider):
    name = "echo"
    async def chat(self, model, request):
        return ChatResponse(text="echo of " + request.last_text, model=model)

class Shout(StageBody):
    key = "shout"
    class Options(BaseModel):
        text: Annotated[str, Template]
    async def run(self, options, context):
        return options.text.upper()

def weather(town: str) -> str:
    "Tell the weather."
    return "sun in " + town

@hookimpl
def flowcraft_providers():
    return {PROVIDERS}

@hookimpl
def flowcraft_stage_bodies():
    return BODIES

@hookimpl
def flowcraft_tools():
    return TOOLS
"""
WHOLE = {"PROVIDERS": '"echo": Echo', "BODIES": "[Shout]", "TOOLS": "[weather]"}
PLUGGED = """
flowcraft: 1
stages:
  first: {run: "steps:work", with: {name: first}}
  held: {needs: [first], run: "steps:hold", with: {path: go}}
  loud: {needs: [held], shout: {text: "after ${{ first }}"}}
  asked: {needs: [loud], prompt: "Say ${{ loud }}", tools: [weather]}
outputs: {loud: "${{ loud }}", asked: "${{ asked }}"}
"""


def install(folder, version="1.0", **parts):
    site = folder.path / "site"
    shutil.rmtree(site, ignore_errors=True)
    info = site / f"my_plugin-{version}.dist-info"
    info.mkdir(parents=True)
    text = PLUGIN
    for name, value in {**WHOLE, **parts}.items():
        text = text.replace(name, value)
    (site / "my_plugin.py").write_text(text)
    needs = "Requires-Dist: flowcraft>=0.1,<1\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my-plugin\nVersion: {version}\n{needs}")
    (info / "entry_points.txt").write_text("[flowcraft]\nmine = my_plugin\n")
    return {"PYTHONPATH": str(site)}


@pytest.fixture
def plugged(folder, steps):
    folder.write("steps.py", steps + HOLD)
    folder.write("flow.yaml", PLUGGED)
    folder.write("settings.yaml", "llm: {default_model: 'echo:m'}\nproviders: {echo: {}}\n")
    env = install(folder)
    return folder, killed(folder, **env), env


def test_a_run_keeps_which_plugins_it_works_with(plugged):
    import sqlite3

    folder, _, _ = plugged
    with sqlite3.connect(folder.database) as connection:
        (text,) = connection.execute("SELECT snapshot FROM documents").fetchone()
    snapshot = json.loads(text)

    assert snapshot["flowcraft"]
    assert [(one["kind"], one["name"], one["plugin"], one["version"]) for one in snapshot["plugins"]] == [
        ("body", "shout", "my-plugin", "1.0"),
        ("tool", "weather", "my-plugin", "1.0"),
        ("provider", "echo", "my-plugin", "1.0"),
    ]


def test_another_version_of_a_plugin_is_told_and_the_run_goes_on(plugged):
    folder, run, _ = plugged
    env = install(folder, "2.0")

    ended = folder.flowcraft("runs", "resume", run, **env)

    assert ended.code == 0, ended.err
    assert ended.err.count("what is installed is not what this run started with: my-plugin 2.0 instead of 1.0") == 1
    assert "AFTER <FIRST>" in ended.out


def test_another_version_is_told_once_and_not_at_each_resume(plugged):
    folder, run, _ = plugged
    whole = (folder.path / "steps.py").read_text()
    edit("steps.py", "def hold(path):", "def hold(path):\n    raise ValueError('not yet')")(folder)
    env = install(folder, "2.0")
    first = folder.flowcraft("runs", "resume", run, **env)
    again = folder.flowcraft("runs", "resume", run, **env)
    folder.write("steps.py", whole)
    third = folder.flowcraft("runs", "resume", run, **install(folder, "3.0"))

    told = "what is installed is not what this run started with: my-plugin "
    assert [first.code, again.code, third.code] == [1, 1, 0], third.err
    assert [one.err.count(told) for one in (first, again, third)] == [1, 0, 1]
    assert f"{told}3.0 instead of 1.0" in third.err


def test_a_fork_keeps_which_plugins_it_works_with_too(plugged):
    folder, run, env = plugged
    (folder.path / "go").unlink()
    process = folder.start("runs", "fork", run, **env)
    folder.wait_for(lambda: folder.starts()["hold"] == 2, process)
    folder.kill(process)
    folder.write("go", "")

    ended = folder.flowcraft("runs", "resume", folder.runs()[-1], **install(folder, "2.0"))

    assert ended.code == 0, ended.err
    assert "what is installed is not what this run started with: my-plugin 2.0 instead of 1.0" in ended.err


def test_the_same_version_is_not_told(plugged):
    folder, run, env = plugged

    ended = folder.flowcraft("runs", "resume", run, **env)

    assert ended.code == 0, ended.err
    assert "what is installed" not in ended.err


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"BODIES": "[]"}, "needs the stage body 'shout' of my-plugin 1.0, which is not there any more: 1.1 is installed now"),
        ({"TOOLS": "[]"}, "needs the tool 'weather' of my-plugin 1.0, which is not there any more: 1.1 is installed now"),
        ({"PROVIDERS": ""}, "needs the provider 'echo' of my-plugin 1.0, which is not there any more: 1.1 is installed now"),
        ({"TOOLS": "[] + nothing"}, "NameError"),
    ],
)
def test_what_a_plugin_does_not_offer_any_more_is_named_before_anything_runs(plugged, parts, told):
    folder, run, _ = plugged
    before = folder.starts()
    env = install(folder, "1.1", **parts)

    ended = folder.flowcraft("runs", "resume", run, **env)

    assert ended.code == 2
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert folder.starts() == before


def test_a_plugin_that_is_gone_is_named_and_the_run_goes_on_when_it_is_back(plugged):
    folder, run, env = plugged
    before = folder.starts()

    ended = folder.flowcraft("runs", "resume", run)
    again = folder.flowcraft("runs", "resume", run, **env)

    assert ended.code == 2
    assert "the stage body 'shout' of my-plugin 1.0, which is not installed any more" in ended.err
    assert "mend that and resume again" in ended.err
    assert before["first"] == folder.starts()["first"] == 1
    assert again.code == 0, again.err
