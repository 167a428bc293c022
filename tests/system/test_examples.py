"""Every file in workflows/ as a newcomer runs it: without a key, and with models whose answers are scripted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.plugin import ToolCall
from flowcraft.testing import FaultServer, Reply

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
ALL = sorted(path.stem for path in (ROOT / "workflows").glob("*.yaml"))
EXAMPLES = [name for name in ALL if name != "crew"]
"""Those that need no library besides."""
KEY = "sk-test-0123456789"


@pytest.fixture
def checkout(folder):
    """What a newcomer has: the examples, the documents and a repository with a change."""
    shutil.copytree(ROOT / "workflows", folder.path / "workflows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", folder.path / "docs")
    shutil.copy(ROOT / "README.md", folder.path)
    git(folder, "init", "--quiet")
    commit(folder, "Write a greeting", {"hello.py": "print('hello')\n", "notes.md": "Hello.\n", "old.py": "x = 1\n" * 9})
    git(folder, "tag", "v1")
    changed = {"hello.py": "import os\nos.system(input())\n", "notes.md": "Hello, you.\n", "äöü.txt": "neu\n"}
    git(folder, "mv", "old.py", "new.py")
    commit(folder, "Ask for a command", changed)
    folder.write("change.diff", git(folder, "diff", "HEAD~1"))
    return folder


def git(folder: Any, *words: str) -> str:
    names = [
        "-c",
        "user.name=Ada",
        "-c",
        "user.email=ada@example.org",
        "-c",
        "commit.gpgSign=false",
        "-c",
        "core.quotePath=false",
    ]
    done = subprocess.run(["git", *names, *words], cwd=folder.path, env=folder.env, capture_output=True, check=True)
    return done.stdout.decode()


def commit(folder: Any, message: str, files: dict[str, str]) -> None:
    for name, text in files.items():
        folder.write(name, text)
    git(folder, "add", *files)
    git(folder, "commit", "--quiet", "--message", message)


INPUTS: dict[str, tuple[str, ...]] = {
    "code_review": ("-i", "diff=@change.diff"),
    "research": ("-i", f"python={sys.executable}"),
    "release_notes": ("-i", "since=v1"),
}
ANSWERS = {"code_review": ("--answer", "gate=approve"), "release_notes": ("--answer", "publish=approve")}
"""What a person says where an example asks one."""


def test_every_example_says_how_it_is_run_and_has_its_functions_beside_it():
    for name in ALL:
        text = (ROOT / "workflows" / f"{name}.yaml").read_text("utf-8")
        head = text.partition("flowcraft: 1\n")[0]
        assert f"flowcraft run workflows/{name}.yaml" in head, name
        assert all(line.startswith("#") for line in head.splitlines())
        modules = set(re.findall(r"(?<![\w.])(\w+):[a-z_]+\b(?=[,\]\n])", text))
        assert all((ROOT / "workflows" / f"{module}.py").exists() for module in modules - {"mcp"}), modules
        assert "description: " in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs_without_a_key(checkout, name):
    ended = checkout.flowcraft("run", f"workflows/{name}.yaml", "--json", *INPUTS.get(name, ()), *ANSWERS.get(name, ()))

    assert ended.code == 0, ended.err
    assert ended.json["state"] == "done"
    assert ended.json["offline"]
    assert ended.json["outputs"]
    assert "Traceback" not in ended.err.replace(ended.json.get("error") or "", "") or name == "implement"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def work(checkout, server):
    """The same with a cheap model, an expensive one and a judge."""
    provider = {
        "type": "openai",
        "base_url": server.url,
        "api_key": "${LOCAL_KEY}",
        "models": {"small": {"price": {"input": 1, "output": 2}}, "large": {"price": {"input": 10, "output": 20}}, "wise": {}},
    }
    page = {
        "storage": f"sqlite:///{checkout.database}",
        "llm": {"retry_attempts": 0, "cheap_model": "small", "expensive_model": "large", "judge": {"model": "wise"}},
        "providers": {"local": provider},
    }
    checkout.write("settings.yaml", json.dumps(page))
    checkout.env["LOCAL_KEY"] = KEY
    return checkout


def asked(request: Any) -> str:
    return "\n".join(str(message.get("content") or "") for message in request.body["messages"])


def told(request: Any) -> list[str]:
    """What tools have told the model so far."""
    return [message["content"] for message in request.body["messages"] if message["role"] == "tool"]


def scripted(answers: dict[str, Any]) -> Callable[[Any], Any]:
    """Return a model that answers by the first words that it finds in the question."""

    def answer(request: Any) -> Any:
        found = next((answer for words, answer in answers.items() if words in asked(request)), None)
        assert found is not None, f"nobody wrote an answer to this: {asked(request)}"
        made = found(request) if callable(found) else found
        return made if isinstance(made, str | Reply) else json.dumps(made)

    return answer


def run(work: Any, name: str, *more: str) -> Any:
    return done(work.flowcraft("run", f"workflows/{name}.yaml", "--json", *INPUTS.get(name, ()), *more))


def done(ended: Any) -> Any:
    assert ended.code == 0, ended.err
    assert ended.json["state"] == "done"
    assert not ended.json["offline"]
    return ended.json


def finding(file: str, severity: str, note: str, line: int | None = 1) -> dict[str, Any]:
    return {"file": file, "line": line, "severity": severity, "note": note}


REVIEW = "# Review\n\nhello.py:2: high: carries out whatever is typed"


def reviewer(request: Any) -> Any:
    text = asked(request)
    if "hard to read" in text:
        (file,) = re.findall(r"change of (\S+) hard", text)
        return {"findings": [finding(file, "low", "say why")] if file != "new.py" else []}
    if "Judge in three sentences" in text:
        return "It does two things."
    assert "Merge these findings" in text
    better = "the flaw in hello.py" in text.partition("What was missing last time:")[2].partition("Style:")[0]
    return {"markdown": REVIEW if better else "# Review", "worst": "high" if better else "low"}


def test_code_review_reviews_each_file_and_goes_round_until_nothing_is_missing(work, server):
    server.script("small", scripted({"": reviewer}))
    flaw = finding("hello.py", "high", "carries out whatever is typed", 2)
    checks = {REVIEW: {"score": 0.9, "missing": []}, "Review: # Review": {"score": 0.3, "missing": ["the flaw in hello.py"]}}
    server.script("large", scripted({"security reviewer": {"findings": [flaw]}, **checks}))

    waiting = work.flowcraft("run", "workflows/code_review.yaml", "--json", *INPUTS["code_review"])
    assert waiting.code == 3, waiting.err
    assert not (work.path / "review.md").exists()
    document = done(work.flowcraft("runs", "approve", waiting.json["run"], "gate", "--choice", "approve", "--json"))

    assert document["outputs"] == {"review": REVIEW, "worst": "high", "posted": str(work.path / "review.md")}
    assert (work.path / "review.md").read_text("utf-8") == REVIEW + "\n"
    assert (work.path / "reviews.log").read_text("utf-8") == f"{document['run']}: done\n"
    assert document["stages"]["report"]["tries"] == 2
    assert sum("security reviewer" in asked(request) for request in server.requests) == 1
    assert document["usd"] > 0


def test_code_review_is_not_posted_where_a_person_says_no_and_that_is_logged(work, server):
    severe = {"markdown": REVIEW, "worst": "high"}
    server.script("small", scripted({"Merge these findings": severe, "": reviewer}))
    content = {"score": 0.9, "missing": []}
    server.script("large", scripted({"security reviewer": {"findings": []}, "": content}))

    ended = work.flowcraft("run", "workflows/code_review.yaml", "--json", *INPUTS["code_review"], "--answer", "gate=reject")

    assert ended.code == 1
    assert ended.json["state"] == "failed"
    assert not (work.path / "review.md").exists()
    assert (work.path / "reviews.log").read_text("utf-8").startswith(f"{ended.json['run']}: failed, ")


def test_code_review_takes_a_diff_apart_by_its_files(checkout):
    sys.path.insert(0, str(checkout.path / "workflows"))
    try:
        from code_review import split  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
        module = sys.modules.pop("code_review")
    assert module.__file__.startswith(str(checkout.path))
    diff = (checkout.path / "change.diff").read_text("utf-8")

    found = split(diff)

    assert [file["name"] for file in found["files"]] == ["hello.py", "new.py", "notes.md", "äöü.txt"]
    assert "".join(file["diff"] for file in found["files"]) == diff
    assert found["lines"] == 6
    head = 'diff --git "a/\\303\\244" "b/\\303\\244"\n--- "a/\\303\\244"\n+++ /dev/null\n@@ -1 +0,0 @@\n--- a/no\n'
    assert [file["name"] for file in split(head)["files"]] == ["\\303\\244"]
    with pytest.raises(ValueError, match="make the diff with git diff"):
        split("--- a\n+++ b\n")


GOOD = 'def read():\n    """Read.\n\n    >>> read()\n    1\n    """\n    return 1'
WRONG = GOOD.replace("return 1", "return 2")


def test_implement_writes_tests_and_reviews_until_both_are_content(work, server):
    attempts: Counter[str] = Counter()

    def write(request: Any) -> Any:
        (step,) = re.findall(r"with doctests: (.+)", asked(request))
        attempts[step] += 1
        if step == "mark a task as done" and attempts[step] > 1:
            assert "Expected:\n    1\nGot:\n    2" in asked(request)
        return {
            "module": WRONG if (step == "mark a task as done" and attempts[step] == 1) or step == "list what is left" else GOOD
        }

    def review(request: Any) -> Any:
        return {"accepted": "exit code 0" in asked(request), "remarks": ""}

    server.script("small", scripted({"Write the Python module": write, "would you keep it": review}))

    document = run(work, "implement")

    assert attempts == {"read a list from a text file, one task a line": 1, "mark a task as done": 2, "list what is left": 3}
    assert [row["done"] for row in document["outputs"]["summary"]] == [True, True, False]
    assert (work.path / "build/implement/step_1.py").read_text("utf-8") == GOOD + "\n"


def test_research_searches_reads_and_cites_only_what_exists(work, server):
    def research(request: Any) -> Any:
        results = told(request)
        if not results:
            return Reply(tool_calls=(call("search", words="kill -9"), call("outline")))
        if len(results) == 2:
            assert any("durable.md:" in line for line in results[0].splitlines())
            assert "durable.md: Runs that survive" in results[1]
            return Reply(tool_calls=(call("read", name="durable.md"), call("read", name="../settings.yaml")))
        assert results[2].startswith("# Runs that survive")
        assert "there is no document '../settings.yaml'" in results[3]
        return {"answer": "Every finished piece.", "sources": ["durable.md", "made-up.md"]}

    answers = {
        "must be answered first": {"questions": ["What is a piece?", "What is repeated?"]},
        "Find out:": research,
        "from the findings alone": "Whatever was finished.",
    }
    server.script("small", scripted(answers))

    document = run(work, "research")

    assert document["outputs"] == {"answer": "Whatever was finished.", "sources": ["durable.md"]}
    assert document["stages"]["findings"]["calls"] == 6


def call(tool: str, **arguments: Any) -> ToolCall:
    return ToolCall(id=f"call_{tool}_{len(str(arguments))}", name=tool, arguments=json.dumps(arguments))


def test_translation_goes_on_until_the_judge_is_content_and_is_checked_backwards(work, server):
    german = {"First one.": "Erster.", "Second one.": "Zweiter."}
    judged: list[str] = []

    def translate(request: Any) -> str:
        assert "You translate into German." in asked(request)
        assert "lighthouse" in asked(request)
        (text,) = (text for text in german if text in asked(request))
        return german[text] if text == "First one." or "too stiff" in asked(request) else "Zwoter."

    def judge(request: Any) -> Any:
        judged.append(asked(request))
        assert "written in German" in asked(request)
        return {
            "reason": "too stiff" if "Zwoter." in asked(request) else "fine",
            "score": 0.5 if "Zwoter." in asked(request) else 1,
        }

    back = {text: original for original, text in german.items()}
    answers = {
        "into English": lambda request: next(back[text] for text in back if text in asked(request)),
        "say the same": {"same": True, "differences": []},
        "into German": translate,
    }
    server.script("small", scripted(answers))
    server.script("wise", scripted({"": judge}))

    document = run(work, "translation", "-i", "text=First one.\n\nSecond one.")

    assert document["outputs"]["translation"] == ["Erster.", "Zweiter."]
    assert [doubt["same"] for doubt in document["outputs"]["doubts"]] == [True, True]
    assert len(judged) == 3


def test_release_notes_are_written_when_somebody_approved_them(work, server):
    def notes(request: Any) -> Any:
        assert "Ask for a command" in asked(request)
        assert "Write a greeting" not in asked(request)
        return {"title": "Commands", "added": ["hello.py carries out what you type"], "fixed": []}

    server.script("small", scripted({"release notes for users": notes}))

    waiting = work.flowcraft("run", "workflows/release_notes.yaml", "--json", *INPUTS["release_notes"])
    assert waiting.code == 3, waiting.err
    assert not (work.path / "RELEASE_NOTES.md").exists()
    said = ("--choice", "approve", "--by", "Ada")
    document = done(work.flowcraft("runs", "approve", waiting.json["run"], *said, "--json"))

    file = work.path / "RELEASE_NOTES.md"
    assert document["outputs"] == {"file": str(file), "approved_by": "Ada"}
    assert file.read_text("utf-8") == "# Commands\n\n## Added\n\n- hello.py carries out what you type\n"
    assert server.count() == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [(("since=v1", "--answer", "publish=reject"), "publish"), (("since=HEAD",), "exit code 1")],
)
def test_release_notes_are_not_written_without_a_yes_or_without_commits(work, server, words, why):
    server.script("small", json.dumps({"title": "Commands", "added": [], "fixed": ["x"]}))

    ended = work.flowcraft("run", "workflows/release_notes.yaml", "--json", "-i", *words)

    assert ended.code == 1
    assert why in ended.json["error"]
    assert not (work.path / "RELEASE_NOTES.md").exists()


def calls(*wishes: tuple[str, dict[str, Any]], end: Any) -> Callable[[Any], Any]:
    """Return a model that calls one tool after the other, then answers."""

    def answer(request: Any) -> Any:
        said = len(told(request))
        if said == len(wishes):
            return json.dumps(end)
        name, arguments = wishes[said]
        return Reply(tool_calls=[ToolCall(id=f"call_{said}", name=name, arguments=json.dumps(arguments))])

    return answer


@pytest.mark.parametrize("dry", ["0", "1"])
def test_executor_changes_files_of_its_folder_and_no_others(work, server, dry):
    work.write("project/app.py", "x = 1\n")
    work.write("secret.txt", "the secret")
    work.env |= {"EXECUTOR_FOLDER": "project", "EXECUTOR_COMMANDS": "cat", "EXECUTOR_DRY": dry}
    end = {"done": True, "report": "x is 2 now", "files": ["app.py"]}
    wishes = [
        ("patch_file", {"path": "app.py", "old": "x = 1", "new": "x = 2"}),
        ("read_file", {"path": "../secret.txt"}),
        ("run_command", {"argv": ["cat", "app.py"]}),
        ("run_command", {"argv": ["cat", "../secret.txt"]}),
    ]
    server.script("small", calls(*wishes, end=end))
    server.script("large", calls(*wishes, end=end))

    document = run(work, "executor", "-i", "task=Make x 2")

    diff = document["outputs"].pop("diff")
    assert document["outputs"] == end
    assert diff.endswith("--- a/app.py\n+++ b/app.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n")
    assert (work.path / "project" / "app.py").read_text("utf-8") == ("x = 1\n" if dry == "1" else "x = 2\n")
    patch, outside, command, refused = told(server.requests[-1])
    assert "-x = 1\n+x = 2\n" in patch
    assert ("nothing was written" in patch) == (dry == "1")
    assert ("error" in outside, "error" in refused) == (True, True)
    assert ("x = 2" in command) == (dry == "0")


@pytest.mark.parametrize("dry", ["0", "1"])
def test_executor_makes_its_folder_unless_it_is_dry(work, server, dry):
    work.env |= {"EXECUTOR_DRY": dry}
    end = {"done": True, "report": "written", "files": ["new.py"]}
    wishes = [("list_files", {}), ("write_file", {"path": "new.py", "content": "x = 1\n"}), ("read_file", {"path": "new.py"})]
    server.script("small", calls(*wishes, end=end))
    server.script("large", calls(*wishes, end=end))

    outputs = run(work, "executor")["outputs"]

    assert outputs.pop("diff").endswith("+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n")
    assert outputs == end
    listed, written, _ = told(server.requests[-1])
    assert (listed, "+x = 1\n" in written) == ("[]", True)
    assert ((work.path / "build").exists(), "nothing was written" in written) == (dry == "0", dry == "1")


@pytest.mark.parametrize(
    ("environment", "why"),
    [({"EXECUTOR_FOLDER": "nowhere"}, "there is no folder"), ({"EXECUTOR_COMMANDS": "no-such-program"}, "no program")],
)
def test_executor_without_its_folder_or_program_ends_and_says_so(work, server, environment, why):
    work.env |= environment
    server.script("small", calls(("list_files", {}), end={}))
    server.script("large", calls(("list_files", {}), end={}))

    ended = work.flowcraft("run", "workflows/executor.yaml", "--json")

    assert (ended.code, server.count()) == (1, 1)
    assert why in ended.json["error"]
    assert "EXECUTOR_FOLDER" in ended.json["error"]


def test_crew_needs_a_library_and_says_which(checkout):
    refused = checkout.flowcraft("run", "workflows/crew.yaml", "-i", "diff=@change.diff")

    assert refused.code == 2
    assert "workflows/crew.yaml:28:5: " in refused.err
    assert "pip install 'flowcraft[crewai]'" in refused.err
