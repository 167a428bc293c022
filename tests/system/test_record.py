"""Record and replay on the command line: without network, processes, keys or a database; what changed is named."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flowcraft.plugin import ToolCall
from flowcraft.testing import Fault, FaultServer, Reply, replay

pytestmark = [pytest.mark.system, pytest.mark.no_cover]

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "workflows").glob("*.yaml") if path.stem != "crew")  # needs a library
INPUTS = {
    "code_review": ("-i", "diff=@change.diff", "--answer", "gate=approve"),
    "release_notes": ("-i", "since=v1", "--answer", "publish=approve"),
    "research": ("-i", f"python={sys.executable}"),
}
DIFF = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = input()\n"

CUT_OFF = """
import os, socket, subprocess

def refuse(*arguments, **named):
    raise SystemError("this process is cut off")

for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
subprocess.Popen.__init__ = refuse
os.posix_spawn = os.fork = os.system = refuse
"""


@pytest.fixture
def examples(folder):
    ignored = shutil.ignore_patterns("__pycache__", "*.sqlite")
    shutil.copytree(ROOT / "workflows", folder.path / "workflows", ignore=ignored)
    shutil.copytree(ROOT / "docs", folder.path / "docs")
    shutil.copy(ROOT / "README.md", folder.path)
    folder.write("change.diff", DIFF)
    for words in ("init -q", "commit -q --allow-empty -m One", "tag v1", "commit -q --allow-empty -m Two"):
        git = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgSign=false", *words.split())
        subprocess.run(git, cwd=folder.path, env=folder.env, check=True)
    return folder


def cut_off(folder):
    """Return the environment of processes that can neither reach a network nor start another process."""
    folder.write("cut_off/sitecustomize.py", CUT_OFF)
    return {"PYTHONPATH": str(folder.path / "cut_off")}


def alone(folder):
    """Leave nothing but the files and the recordings: no database, and functions that must not be imported."""
    folder.database.unlink()
    for module in (folder.path / "workflows").glob("*.py"):
        module.write_text(
            "from __future__ import annotations\nraise SystemExit('imported')\n"
            + module.read_text().replace("from __future__ import annotations", "")
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_replayed_cut_off_from_everything_with_the_same_bytes(examples, name):
    file = f"workflows/{name}.yaml"
    ended = examples.flowcraft("run", file, "--record", "--json", *INPUTS.get(name, ()))
    assert ended.code == 0, ended.err
    assert f"recorded: workflows/{name}.recorded.sqlite" in ended.err
    alone(examples)

    found = examples.flowcraft("test", file, "--json", **cut_off(examples))

    assert found.code == 0, found.out + found.err
    assert found.json["same"] is True
    assert json.dumps(found.json["outputs"]) == json.dumps(ended.json["outputs"])
    assert found.json["pieces"] > 0
    assert not examples.database.exists()


def test_who_is_cut_off_cannot_run_anything(folder):
    folder.write("flow.yaml", "flowcraft: 1\nstages: {a: {shell: echo said}}\n")

    ended = folder.flowcraft("run", "flow.yaml", **cut_off(folder))

    assert ended.code == 1
    assert "this process is cut off" in ended.err


def test_replay_needs_no_socket_in_this_process(examples, monkeypatch):
    ended = examples.flowcraft("run", "workflows/digest.yaml", "--record", "--json")
    alone(examples)

    def refuse(*arguments):
        raise SystemError("blocked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir("/")
    found = replay(examples.path / "workflows/digest.yaml")

    assert json.dumps(found.outputs) == json.dumps(ended.json["outputs"])


FLOW = """
flowcraft: 1
env: [MY_TOKEN]
inputs: {topic: string = rain}
stages:
  ask: {prompt: "What of ${{ inputs.topic }}?"}
  count:
    shell: printf '%s' "$text" | wc -c
    with: {text: "${{ ask }}", token: "${{ env.MY_TOKEN }}"}
    output: integer
  last: {prompt: "Say ${{ count }} of ${{ ask }}"}
outputs: {said: "${{ last }}", count: "${{ count }}"}
"""
SETTINGS = """
llm: {{default_model: "local:m", retry_attempts: 0}}
providers: {{local: {{type: openai, base_url: {url}, api_key: "${{LOCAL_KEY}}", models: {{m: {{}}}}}}}}
"""
KEYS = {"LOCAL_KEY": "sk-local-0123456789", "MY_TOKEN": "token-of-mine-42"}


@pytest.fixture
def answered(folder):
    """A workflow that was recorded with a real server, which is gone since."""
    with FaultServer(api_key=KEYS["LOCAL_KEY"]) as server:
        server.script("m", Reply("clouds"), Reply("six of clouds"))
        folder.write("flow.yaml", FLOW)
        folder.write("settings.yaml", SETTINGS.format(url=server.url))
        ended = folder.flowcraft("run", "flow.yaml", "--record", "--json", **KEYS)
    assert ended.code == 0, ended.err
    folder.database.unlink()
    (folder.path / "settings.yaml").unlink()
    return folder, ended.json


def test_replays_a_vendors_answers_without_keys_settings_and_environment(answered):
    folder, document = answered

    found = folder.flowcraft("test", "flow.yaml", **cut_off(folder))

    assert (found.code, found.err) == (0, "")
    assert found.out == f"flow.yaml: the same as run {document['run']} in flow.recorded.sqlite (3 pieces of work, done)\n"


def test_a_recording_holds_no_keys(answered):
    folder, _ = answered
    content = (folder.path / "flow.recorded.sqlite").read_bytes()

    assert not [key for key in KEYS.values() if key.encode() in content]
    assert b"clouds" in content


def test_tools_of_functions_and_of_an_mcp_server_answer_from_the_recording(folder):
    def call(name, **arguments):
        return Reply(tool_calls=(ToolCall(id="call_1", name=name, arguments=json.dumps(arguments)),))

    folder.write("server.py", (ROOT / "tests/tools/server.py").read_text("utf-8"))
    folder.write("steps.py", "def twice(word: str) -> str:\n    'Say a word twice.'\n    return word + word\n")
    folder.write(
        "flow.yaml",
        f"flowcraft: 1\nenv: [MY_TOKEN]\nmcp: {{library: {{command: '{sys.executable}', args: [server.py],"
        " env: {LOG: log.txt, KEY: '${{ env.MY_TOKEN }}'}}}\n"
        "stages:\n  read: {prompt: Read, tools: ['mcp:library', 'steps:twice']}\n  tell: {prompt: 'Tell ${{ read }}'}\n"
        "finally: {last: {shell: 'echo $state', with: {state: '${{ run.state }}'}}}\n",
    )
    with FaultServer(api_key=KEYS["LOCAL_KEY"]) as server:
        server.script("m", call("search", words="gardens"), call("twice", word="so"), "read it", "told it")
        folder.write("settings.yaml", SETTINGS.format(url=server.url))
        ended = folder.flowcraft("run", "flow.yaml", "--record", "--json", **KEYS)
        asked = [message["content"] for message in server.requests[2].body["messages"] if message["role"] == "tool"]
    assert ended.code == 0, ended.err
    assert asked == ["found gardens", "soso"]
    for name in ("server.py", "settings.yaml", "flowcraft.db"):
        (folder.path / name).unlink()
    folder.write("steps.py", "raise SystemExit('imported')\ndef twice(word: str) -> str:\n    'Say a word twice.'\n")
    before = folder.lines()

    found = folder.flowcraft("test", "flow.yaml", "--json", **cut_off(folder))

    assert found.code == 0, found.out + found.err
    assert json.dumps(found.json["outputs"]) == json.dumps(ended.json["outputs"])
    assert folder.lines() == before


def test_an_export_holds_no_secret_that_a_vendor_or_a_command_repeats(folder):
    with FaultServer() as server:
        fault = Fault.of_status(401, f"the key {KEYS['LOCAL_KEY']} is wrong, as is {KEYS['MY_TOKEN']}")
        server.script("m", fault)
        folder.write("settings.yaml", SETTINGS.format(url=server.url))
        folder.write(
            "flow.yaml",
            "flowcraft: 1\nenv: [MY_TOKEN]\nstages:\n"
            "  say: {shell: 'echo \"$token\"; echo \"$token\" | base64 >&2; exit 1', with: {token: '${{ env.MY_TOKEN }}'},"
            " on_error: continue}\n"
            "  ask: {needs: [say], prompt: 'Say ${{ say }}'}\n",
        )
        ended = folder.flowcraft("run", "flow.yaml", **KEYS)
    assert ended.code == 1

    exported = folder.flowcraft("runs", "export", folder.runs()[0], "-o", "out.sqlite", **KEYS)
    content = (folder.path / "out.sqlite").read_bytes()

    assert exported.code == 0, exported.err
    assert b"is wrong" in content
    for key in KEYS.values():
        assert key.encode() not in content
        assert base64.b64encode(key.encode())[:-4] not in content


def test_names_the_first_prompt_that_changed_in_the_order_of_the_file(answered):
    folder, _ = answered
    folder.write("flow.yaml", FLOW.replace("What of", "What do you know of").replace('"Say', '"Tell'))

    found = folder.flowcraft("test", "flow.yaml")

    assert found.code == 1
    assert found.out.splitlines()[:6] == [
        "flow.yaml:6:9: ask: the prompt differs from the recording",
        "--- prompt (recorded)",
        "+++ prompt (now)",
        "@@ -1 +1 @@",
        "-What of rain?",
        "+What do you know of rain?",
    ]
    assert "if that is meant, record anew: flowcraft test flow.yaml --update" in found.out


def test_another_input_asks_for_something_else(answered):
    folder, _ = answered

    found = folder.flowcraft("test", "flow.yaml", "-i", "topic=snow", "--json")

    assert found.code == 1
    assert [finding["path"] for finding in found.json["findings"]] == ["ask"]
    assert "+What of snow?" in found.json["findings"][0]["diff"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FLOW.replace("prompt:", "promt:", 1), "unknown key 'promt'"),
        (FLOW.replace("inputs: {topic: string = rain}", "inputs: {topic: string = rain, more: integer}"), "more"),
        (FLOW.replace("${{ count }} of", "${{ conut }} of"), "conut"),
    ],
)
def test_a_wrong_file_is_told_and_exits_2(answered, text, told):
    folder, _ = answered
    folder.write("flow.yaml", text)

    found = folder.flowcraft("test", "flow.yaml")

    assert found.code == 2
    assert told in found.err


def test_without_a_recording_it_says_how_to_make_one(folder):
    folder.write("flow.yaml", FLOW)

    found = folder.flowcraft("test", "flow.yaml")

    assert found.code == 1
    assert found.err == "flowcraft: there is no recording flow.recorded.sqlite; 'flowcraft run --record FILE' makes one\n"


def test_a_missing_file_and_a_wrong_input_are_told_as_what_they_are(folder):
    folder.write("flow.yaml", 'flowcraft: 1\ninputs: {word: string}\nstages: {a: {prompt: "On ${{ inputs.word }}"}}\n')
    folder.flowcraft("run", "flow.yaml", "-i", "word=rain", "--record")

    missing = folder.flowcraft("test", "nowhere.yaml")
    wrong = folder.flowcraft("test", "flow.yaml", "-i", "wort=snow")

    assert (missing.code, wrong.code) == (2, 2)
    assert missing.err.startswith("nowhere.yaml: ")
    assert "recording" not in missing.err
    assert wrong.err == "unknown input 'wort'; did you mean 'word'?\n"


def test_update_records_anew_with_the_recorded_inputs(folder):
    folder.write("flow.yaml", 'flowcraft: 1\ninputs: {word: string}\nstages: {a: {prompt: "On ${{ inputs.word }}"}}\n')
    first = folder.flowcraft("run", "flow.yaml", "-i", "word=rain", "--record", "--json").json
    folder.write("flow.yaml", 'flowcraft: 1\ninputs: {word: string}\nstages: {a: {prompt: "About ${{ inputs.word }}"}}\n')
    assert folder.flowcraft("test", "flow.yaml").code == 1

    updated = folder.flowcraft("test", "flow.yaml", "--update", "--json")

    assert updated.code == 0, updated.err
    assert "recorded: flow.recorded.sqlite (in place of the recording before)" in updated.err
    assert updated.json["run"] != first["run"]
    assert folder.flowcraft("test", "flow.yaml").code == 0
    shown = folder.flowcraft("runs", "show", "flow.recorded.sqlite", "--json").json
    assert shown["inputs"] == {"word": "rain"}


def test_a_failed_run_is_recorded_and_fails_the_same(folder):
    folder.write("flow.yaml", "flowcraft: 1\nstages: {a: {shell: echo no >&2; exit 3}}\n")
    ended = folder.flowcraft("run", "flow.yaml", "--record")

    found = folder.flowcraft("test", "flow.yaml", **cut_off(folder))

    assert ended.code == 1
    assert "recorded: flow.recorded.sqlite" in ended.err
    assert (found.code, found.out.endswith("(1 piece of work, failed)\n")) == (0, True), found


def test_a_recording_elsewhere_is_named(folder):
    folder.write("flow.yaml", "flowcraft: 1\nstages: {a: {prompt: A}}\n")
    folder.flowcraft("run", "flow.yaml", "--record")
    shutil.move(folder.path / "flow.recorded.sqlite", folder.path / "other.sqlite")

    assert folder.flowcraft("test", "flow.yaml", "--recording", "other.sqlite").code == 0


def test_approvals_are_answered_by_the_recording(folder):
    workflow = "flowcraft: 1\nstages:\n  a: {prompt: A}\n  gate: {approve: 'Good? ${{ a }}'}\n  b: {needs: [gate], prompt: B}\n"
    folder.write("flow.yaml", workflow + "outputs: {b: '${{ b }}', by: '${{ gate.choice }}'}\n")
    waiting = folder.flowcraft("run", "flow.yaml", "--record")
    ended = folder.flowcraft("run", "flow.yaml", "--record", "--answer", "gate=approve", "--json")
    assert ended.code == 0, ended.err

    found = folder.flowcraft("test", "flow.yaml", "--json", **cut_off(folder))
    folder.write("flow.yaml", (folder.path / "flow.yaml").read_text().replace("Good?", "Fine?"))
    other = folder.flowcraft("test", "flow.yaml")

    assert waiting.code == 3
    assert "not recorded: the run is waiting; when it has ended: flowcraft runs export " in waiting.err
    assert (found.code, found.json["outputs"]) == (0, ended.json["outputs"]), found
    assert other.out.startswith("flow.yaml:4:10: gate: the question differs from the recording\n")


def test_exported_runs_are_shown_logged_and_asked_for_elsewhere(folder, new_folder):
    folder.write("flow.yaml", 'flowcraft: 1\nstages: {a: {prompt: "What is asked"}}\n')
    run = folder.flowcraft("run", "flow.yaml", "--json").json["run"]
    ended = folder.flowcraft("runs", "export", run[:8], "-o", "out.sqlite")
    again = folder.flowcraft("runs", "export", run, "-o", "out.sqlite")
    other = new_folder("elsewhere")
    shutil.copy(folder.path / "out.sqlite", other.path)

    shown = other.flowcraft("runs", "show", "out.sqlite")
    prompts = other.flowcraft("runs", "show", "out.sqlite", "--prompts", "--json").json
    logged = other.flowcraft("runs", "logs", "out.sqlite", "--follow")

    assert (ended.out, again.code) == ("out.sqlite\n", 1)
    assert "out.sqlite is there already; name another file, or replace it with --force" in again.err
    assert f"run {run} · flow · done" in shown.out
    assert prompts[0]["asked"]["prompt"] == "What is asked"
    assert "run.finished    done" in logged.out
    assert not other.database.exists()


WAIT = "\ndef wait(path):\n    while not pathlib.Path(path).exists():\n        time.sleep(0.01)\n    return path\n"


def test_follow_shows_what_happens_in_another_process_until_the_run_ends(folder, steps):
    folder.write("steps.py", steps + WAIT)
    folder.write(
        "flow.yaml",
        'flowcraft: 1\nstages:\n  a: {run: "steps:work", with: {name: a}}\n'
        '  b: {needs: [a], run: "steps:wait", with: {path: go}}\n',
    )
    runner = folder.start("run", "flow.yaml")
    folder.wait_for(lambda: "end a" in "\n".join(line.rpartition(" ")[0] for line in folder.lines()), runner)
    folder.wait_for(lambda: bool(folder.runs()), runner)
    (run,) = folder.runs()
    follower = folder.start("runs", "logs", run, "--follow", "--json")
    assert follower.stdout is not None
    first = json.loads(follower.stdout.readline())
    folder.write("go", "")

    out, err = follower.communicate(timeout=60)
    folder.finish(runner)

    assert first["kind"] == "run.started"
    kinds = [json.loads(line)["kind"] for line in out.splitlines()]
    assert (kinds[-1], follower.returncode, err) == ("run.finished", 0, "")


def test_follow_ends_where_the_process_of_the_run_is_gone(folder, steps):
    folder.write("steps.py", steps)
    folder.write("flow.yaml", 'flowcraft: 1\nstages: {a: {run: "steps:work", with: {name: a, seconds: 60}}}\n')
    runner = folder.start("run", "flow.yaml")
    folder.wait_for(lambda: bool(folder.lines()), runner)
    folder.kill(runner)
    (run,) = folder.runs()

    ended = folder.flowcraft("runs", "logs", run, "-f")

    assert ended.code == 0
    assert f"the process of this run is gone; go on with: flowcraft runs resume {run}" in ended.err


def test_ctrl_c_leaves_a_log_that_is_followed_and_not_the_run(folder, steps):
    import signal

    folder.write("steps.py", steps + WAIT)
    folder.write(
        "flow.yaml",
        'flowcraft: 1\nstages:\n  a: {run: "steps:work", with: {name: a}}\n  b: {run: "steps:wait", with: {path: go}}\n',
    )
    runner = folder.start("run", "flow.yaml")
    folder.wait_for(lambda: bool(folder.lines()), runner)
    (run,) = folder.runs()
    follower = folder.start("runs", "logs", run, "-f")
    assert follower.stdout is not None
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)

    assert folder.finish(follower).code == 130
    folder.write("go", "")
    assert folder.finish(runner).code == 0


BUDGET = (
    "flowcraft: 1\nbudget: {calls: 2, time: 1h}\nstages: {words: {each: ['a', 'b', 'c', 'd'], prompt: 'Say ${{ item }}'}}\n"
)


@pytest.fixture
def spent(folder):
    """A run that has spent its budget."""
    with FaultServer() as server:
        server.script("m", Reply("said"))
        folder.write("flow.yaml", BUDGET)
        folder.write("settings.yaml", SETTINGS.format(url=server.url).replace("${LOCAL_KEY}", "none"))
        ended = folder.flowcraft("run", "flow.yaml")
        assert ended.code == 1, ended.err
        yield folder, ended.run


def test_a_raised_budget_lets_the_run_go_on_and_is_kept_and_told(spent):
    folder, run = spent

    little = folder.flowcraft("runs", "resume", run, "--budget", "calls=3")
    ended = folder.flowcraft("runs", "resume", run, "--budget", "calls=10,time=2h", "--json")
    logged = folder.flowcraft("runs", "logs", run)

    assert little.code == 1
    assert (ended.code, ended.json["state"]) == (0, "done"), ended.err
    assert "the budget of this run was changed: calls 2 -> 3" in logged.out
    assert "the budget of this run was changed: calls 3 -> 10, time 3600 s -> 7200 s" in logged.out
    with sqlite3.connect(folder.database) as connection:
        (snapshot,) = connection.execute("SELECT snapshot FROM documents").fetchone()
    assert json.loads(snapshot)["budget"] == {"calls": 10, "time": 7200}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("calls=2", "has spent 2 already; 2 lets it do nothing more: allow more"),
        ("call=9", "there is no unit 'call' (there are: usd, calls, tokens, time); did you mean 'calls'?"),
        ("usd=9", "the workflow does not limit usd, so that there is nothing to raise (it limits calls, time)"),
        ("calls=many", "budget calls: 'many' is no number above 0"),
        ("calls=2.5", "budget calls: 2.5 is no whole number"),
        ("calls=nan", "budget calls: 'nan' is no number above 0"),
        ("time=90", "budget time: '90' needs a unit; write it like 500ms, 30s, 5m, 24h or 7d"),
        ("calls", "--budget: 'calls' has no value; write for example --budget usd=5 or --budget calls=100,time=2h"),
        ("calls=5,calls=6", "is given twice"),
    ],
)
def test_a_budget_that_cannot_be_is_an_error_and_changes_nothing(spent, given, told):
    folder, run = spent

    ended = folder.flowcraft("runs", "resume", run, "--budget", given)

    assert ended.code == 2
    assert told in ended.err
    assert folder.flowcraft("runs", "show", run, "--json").json["state"] == "failed"


def test_the_budget_of_a_run_that_waits_for_people_is_raised_for_when_it_goes_on(folder):
    flow = "flowcraft: 1\nbudget: {calls: 1}\nstages:\n  a: {prompt: A}\n  gate: {needs: [a], approve: Go on?}\n"
    folder.write("flow.yaml", flow + "  b: {needs: [gate], prompt: B}\n")
    run = folder.flowcraft("run", "flow.yaml", "--json").json["run"]

    wrong = folder.flowcraft("runs", "resume", run, "--budget", "usd=1")
    raised = folder.flowcraft("runs", "resume", run, "--budget", "calls=5")
    ended = folder.flowcraft("runs", "resume", run, "--answer", "gate=approve", "--json")
    logged = folder.flowcraft("runs", "logs", run)

    assert (wrong.code, raised.code, ended.code) == (2, 3, 0), ended.err
    assert ended.json["state"] == "done"
    told = "the budget of this run was changed: calls 1 -> 5"
    assert told in raised.err
    assert logged.out.count(told) == 1


def test_a_run_whose_process_is_gone_runs_its_last_word_when_it_is_cancelled(folder, steps):
    folder.write("steps.py", steps)
    folder.write(
        "flow.yaml",
        'flowcraft: 1\nstages:\n  a: {run: "steps:work", with: {name: a}}\n'
        '  b: {needs: [a], run: "steps:work", with: {name: b, seconds: 60}}\n'
        'finally: {last: {run: "steps:work", with: {name: "${{ run.state }}:${{ a }}"}}}\n',
    )
    runner = folder.start("run", "flow.yaml")
    folder.wait_for(lambda: folder.starts()["b"] == 1, runner)
    folder.kill(runner)
    (run,) = folder.runs()

    ended = folder.flowcraft("runs", "cancel", run)
    again = folder.flowcraft("runs", "cancel", run)

    assert (ended.code, ended.out) == (0, f"run {run}: cancelled\n"), ended.err
    assert folder.starts() == {"a": 1, "b": 1, "cancelled:<a>": 1}
    assert (again.code, "is cancelled already" in again.err) == (1, True)


def test_what_is_kept_shortened_is_told_wherever_it_is_read(folder):
    """Two prompts that differ in the middle alone: noticed by their digests, and nobody can be shown how."""
    folder.write(
        "flow.yaml", 'flowcraft: 1\ninputs: {text: string}\nstages: {a: {prompt: "Say ${{ inputs.text }}"}, b: {prompt: b}}\n'
    )
    runs = []
    for middle in ("tea", "ale"):
        folder.write("text.txt", f"{'x' * 70_000}{middle}{'y' * 70_000}")
        ended = folder.flowcraft("run", "flow.yaml", "--model", "offline", "-i", "text=@text.txt", "--json")
        assert ended.code == 0, ended.err
        runs.append(ended.json["run"])
    first, second = runs
    told = f"of 1 piece what was asked is kept shortened, for its length; which: flowcraft runs show {first} --prompts"
    part = "kept shortened: prompt (40,007 characters left out)"

    shown = folder.flowcraft("runs", "show", first)
    data = folder.flowcraft("runs", "show", first, "--json").json
    prompts = folder.flowcraft("runs", "show", first, "--prompts")
    pieces = {piece["path"]: piece["left_out"] for piece in folder.flowcraft("runs", "show", first, "--prompts", "--json").json}
    exported = folder.flowcraft("runs", "export", first, "-o", "one.sqlite")
    elsewhere = folder.flowcraft("runs", "show", "one.sqlite", "--prompts")
    diff = folder.flowcraft("runs", "diff", first, second)

    assert told in " ".join(shown.err.split())
    assert data["shortened"] == 1
    assert prompts.out.count(part) == elsewhere.out.count(part) == 1
    assert pieces == {"a": {"prompt": 40_007}, "b": {}}
    assert "which: flowcraft runs show one.sqlite --prompts" in " ".join(exported.err.split())
    assert f"a: something that is not kept differs ({part})" in diff.out


def test_nothing_is_told_of_a_run_whose_texts_are_kept_whole(folder):
    folder.write("flow.yaml", 'flowcraft: 1\nstages: {a: {prompt: "Say ... (5 characters left out) ... tea"}}\n')
    run = folder.flowcraft("run", "flow.yaml", "--model", "offline", "--json").json["run"]

    assert "shortened" not in folder.flowcraft("runs", "show", run).err
    assert "shortened" not in folder.flowcraft("runs", "show", run, "--prompts").out
    assert folder.flowcraft("runs", "export", run, "--json").json["shortened"] == 0
