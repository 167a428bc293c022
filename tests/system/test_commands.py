"""Every command as a user types it, in a folder without settings and without any key."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("cold")]

ROOT = Path(__file__).parents[2]

HELLO = """
flowcraft: 1
inputs: {name: string, times: integer = 1, tags: "[string] = []"}
stages:
  greet: {prompt: "Greet ${{ inputs.name }}, ${{ inputs.times }} times: ${{ inputs.tags }}"}
"""


@pytest.fixture
def hello(folder):
    folder.write("hello.yaml", HELLO)
    return folder


def test_version_is_told(folder):
    for arguments in (["--version"], ["version"]):
        ended = folder.flowcraft(*arguments)
        assert (ended.code, ended.out.split()[0]) == (0, "flowcraft")


def test_run_prints_outputs_offline_note_and_run_id(hello):
    ended = hello.flowcraft("run", "hello.yaml", "-i", "name=Анна 世界 🎉")

    assert ended.code == 0, ended.err
    assert "Анна 世界 🎉" in ended.out
    assert ended.err.count("built-in offline model") == 1
    assert "LLM_ENDPOINT" in ended.err
    assert ended.run == hello.runs()[0]


def test_run_as_json_is_one_document(hello):
    ended = hello.flowcraft("run", "hello.yaml", "-i", "name=Ann", "-i", "times=2", "-i", "tags=a", "-i", "tags=b", "--json")

    assert set(ended.json) == {"run", "state", "outputs", "stages", "seconds", "usd", "offline", "error"}
    assert ended.json["state"] == "done"
    assert ended.json["offline"] is True
    assert ended.err == ""


def test_inputs_come_from_files_and_are_all_checked_at_once(hello):
    hello.write("name.txt", "Анна")
    hello.write("inputs.yaml", "name: from the file\ntimes: 3\n")

    from_text = hello.flowcraft("run", "hello.yaml", "-i", "name=@name.txt", "--json")
    from_yaml = hello.flowcraft("run", "hello.yaml", "--inputs", "inputs.yaml", "--json")
    wrong = hello.flowcraft("run", "hello.yaml", "-i", "nme=x", "-i", "times=many")

    assert "Анна" in from_text.json["outputs"]["greet"]
    assert "from the file" in from_yaml.json["outputs"]["greet"]
    assert wrong.code == 2
    for told in ("'nme'", "did you mean 'name'", "'times'", "'name'"):
        assert told in wrong.err


def test_validate_says_that_a_file_is_fine_and_runs_none_of_it(folder):
    folder.write("steps.py", "raise SystemExit('imported')\n\ndef go() -> str: ...\n")
    folder.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:go"}}\n')

    ended = folder.flowcraft("validate", "flow.yaml")

    assert ended.code == 0, ended.err
    assert not folder.database.exists()


def test_validate_needs_no_secrets(folder):
    folder.write(
        "flow.yaml",
        """\
        flowcraft: 1
        env: [SECRET_THAT_CI_LACKS]
        stages: {a: {run: "json:dumps", with: {obj: "${{ env.SECRET_THAT_CI_LACKS }}"}}}
    """,
    )

    validated, ran = folder.flowcraft("validate", "flow.yaml"), folder.flowcraft("run", "flow.yaml")

    assert (validated.code, ran.code) == (0, 2)
    assert "flow.yaml:2:15: warning: the environment name 'SECRET_THAT_CI_LACKS' is not set" in validated.err
    assert "flow.yaml:2:15: the environment name 'SECRET_THAT_CI_LACKS' is not set" in ran.err


def test_schema_is_a_json_schema(folder):
    ended = folder.flowcraft("schema")

    assert ended.json["properties"]["stages"]


def test_lists_are_empty_at_first_and_say_how_to_begin(folder):
    assert "flowcraft run" in folder.flowcraft("runs", "list").err
    assert folder.flowcraft("runs", "list", "--json").json == []
    assert folder.flowcraft("models", "stats", "--json").json == []


def test_run_is_listed_shown_and_logged(hello):
    run = hello.flowcraft("run", "hello.yaml", "-i", "name=Ann").run

    listed = hello.flowcraft("runs", "list").out
    shown = hello.flowcraft("runs", "show", run).out
    logged = hello.flowcraft("runs", "logs", run).out
    as_json = hello.flowcraft("runs", "show", run, "--json").json

    assert run in listed
    assert "hello" in listed
    assert "…" not in listed  # in 80 columns nothing of it is cut
    assert "offline" in shown
    assert "Ann" in shown
    assert "stage.finished" in logged
    assert as_json["stages"]["greet"]["state"] == "done"
    assert as_json["inputs"]["name"] == "Ann"
    assert json.loads(hello.flowcraft("runs", "logs", run, "--json").out)[0]["kind"] == "run.started"


def test_show_gives_a_reason_for_every_skip_and_failure(folder):
    folder.write("steps.py", "def bad(n):\n    raise ValueError(f'no {n}')\n")
    folder.write(
        "flow.yaml",
        """
        flowcraft: 1
        inputs: {big: boolean = false}
        stages:
          some: {each: [1, 2], run: "steps:bad", with: {n: "${{ item }}"}, on_error: continue}
          big: {when: inputs.big, prompt: Hello}
          bad: {needs: [some, big], run: "steps:bad", with: {n: all}}
        """.replace("\n        ", "\n"),
    )

    ended = folder.flowcraft("run", "flow.yaml")
    shown = folder.flowcraft("runs", "show", ended.run).out
    logged = folder.flowcraft("runs", "logs", ended.run).out

    assert ended.code == 1
    assert "no all" in ended.err
    assert f"flowcraft runs resume {ended.run}" in ended.err
    for told in ("ValueError: no 1", "ValueError: no 2", "when: inputs.big", "ValueError: no all"):
        assert told in shown, told
    assert "Traceback" in logged
    assert "Traceback" not in shown + ended.err


def test_failure_that_a_run_gets_over_is_told_at_its_end_and_shown_once(folder):
    failing = "{shell: 'echo oh no >&2; exit 3', on_error: continue"
    folder.write("flow.yaml", f"flowcraft: 1\nstages:\n  one: {failing}, output: string}}\n  list: {failing}, each: [1]}}\n")

    ended = folder.flowcraft("run", "flow.yaml")
    shown = folder.flowcraft("runs", "show", ended.run).out

    assert ended.code == 0
    assert ended.err.splitlines()[-3:-1] == ["one: exit code 3: oh no", "list[0]: exit code 3: oh no"]
    told = ("one: failed: exit code 3", "list[0]: exit code 3", "exit code 3")
    assert [shown.count(words) for words in told] == [1, 1, 2]


def test_settings_plugins_and_models_are_listed(folder):
    folder.write("settings.yaml", "llm: {default_model: offline}\n")

    settings = folder.flowcraft("settings", OPENROUTER_API_KEY="sk-or-very-secret-4711")
    plugins = folder.flowcraft("plugins")
    models = folder.flowcraft("models", "list")

    assert "settings.yaml:1" in settings.out
    assert "sk-or-very-secret-4711" not in settings.out + settings.err
    assert "offline" in plugins.out
    assert "openai" in plugins.out
    assert "offline" in models.out
    assert [settings.code, plugins.code, models.code] == [0, 0, 0]


def test_wrong_settings_are_told_with_their_place(hello):
    hello.write("settings.yaml", "llm:\n  timeuot: 5\n  strategy: bst\n")

    ended = hello.flowcraft("run", "hello.yaml", "-i", "name=x")

    assert ended.code == 2
    assert "settings.yaml:2:3: " in ended.err
    assert "did you mean 'timeout'" in ended.err
    assert "settings.yaml:3:" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "arguments", [["rnu"], ["run"], ["run", "hello.yaml", "--modle", "x"], ["runs", "show"], ["runs", "show", "none"]]
)
def test_wrong_commands_are_told_without_a_traceback(hello, arguments):
    ended = hello.flowcraft(*arguments)

    assert ended.code in (1, 2)
    assert ended.err
    assert "Traceback" not in ended.err


def test_error_is_one_json_document_for_programs(hello):
    ended = hello.flowcraft("run", "hello.yaml", "--json")

    assert ended.code == 2
    assert ended.json["kind"] == "WorkflowError"
    assert "'name'" in ended.json["problems"][0]["message"]


def test_database_that_is_none_is_told(hello):
    hello.write("flowcraft.db", "this is no database " * 100)

    ended = hello.flowcraft("run", "hello.yaml", "-i", "name=x")

    assert ended.code == 1
    assert "flowcraft.db" in ended.err
    assert "Traceback" not in ended.err


def in_shell(folder, script):
    """What a shell makes of ``script``; ``flowcraft`` in it is the command line."""
    command = f'flowcraft() {{ {shlex.quote(sys.executable)} -m flowcraft "$@"; }}; {script}'
    return subprocess.run(["bash", "-c", command], cwd=folder.path, env=folder.env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_hold_nothing_up(hello, closed):
    ended = in_shell(hello, f"flowcraft run hello.yaml -i name=Ann {closed}")

    assert (ended.returncode, "fault" in ended.stderr) == (0, False)
    assert len(hello.runs()) == 1


def test_folder_that_is_gone_is_told(folder):
    ended = in_shell(folder, 'mkdir gone; cd gone; rmdir "$PWD"; flowcraft runs list')

    assert ended.returncode == 1
    assert ended.stderr.startswith("flowcraft: this folder cannot be worked in: No such file or directory; change to another")


def test_database_that_cannot_be_written_says_what_to_look_at(hello):
    ended = in_shell(hello, "ulimit -f 20; flowcraft run hello.yaml -i name=Ann")

    assert ended.returncode == 1
    assert "flowcraft.db cannot be read or written: is the disk full" in ended.stderr


def test_secret_reaches_neither_output_nor_database(hello):
    secret = "sk-planted-0815-пароль"
    hello.write("steps.py", "def leak(token):\n    print_me = {'token': token}\n    raise ValueError(f'refused {print_me}')\n")
    hello.write(
        "leak.yaml", 'flowcraft: 1\nenv: [TOKEN]\nstages: {leak: {run: "steps:leak", with: {token: "${{ env.TOKEN }}"}}}\n'
    )

    ended = hello.flowcraft("run", "leak.yaml", TOKEN=secret)
    said = ended.out + ended.err
    for command in (["runs", "logs", ended.run], ["runs", "show", ended.run], ["runs", "show", ended.run, "--json"]):
        again = hello.flowcraft(*command, TOKEN=secret)
        said += again.out + again.err

    assert "***" in said
    assert secret not in said
    data = b"".join(path.read_bytes() for path in hello.path.glob("flowcraft.db*"))
    assert secret.encode() not in data


def test_nothing_that_is_stored_is_pickle(hello):
    hello.flowcraft("run", "hello.yaml", "-i", "name=x")

    with sqlite3.connect(hello.database) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        values = [value for table in tables for row in connection.execute(f"SELECT * FROM {table}") for value in row]

    assert len(values) > 20
    assert not [value for value in values if isinstance(value, bytes)]


def test_demo_digests_the_projects_own_documents(folder):
    shutil.copytree(ROOT / "workflows", folder.path / "workflows")
    shutil.copytree(ROOT / "docs", folder.path / "docs")
    shutil.copy(ROOT / "README.md", folder.path)

    ended = folder.flowcraft("run", "workflows/digest.yaml", "--json")

    assert ended.code == 0, ended.err
    outputs = ended.json["outputs"]
    documents = len(list((ROOT / "docs").glob("*.md"))) + 1
    assert outputs["summary"]
    assert outputs["highlights"]
    assert ended.json["stages"]["notes"]["calls"] == documents
