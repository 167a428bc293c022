"""The code-review example, killed (-9) at 50 random moments: the same result, no saved answer asked for again, money once."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.usefixtures("forked")]

ROOT = Path(__file__).parents[2]
KEY = "sk-test-0123456789"
FILES = [f"part_{number}.py" for number in range(8)]
KILLS = 5
"""In each of the runs, of which there are ten."""
PIECES = len(FILES) + 6
"""Pieces that ask models: one a file, security, design, and two rounds of draft and check."""
REVIEW = "# Review\n\nhello.py:2: high: carries out whatever is typed"


def asked(request: Any) -> str:
    return "\n".join(str(message.get("content") or "") for message in request.body["messages"])


def path_of(request: Any) -> str:
    """The piece of the run that a request belongs to."""
    text = asked(request)
    if file := re.search(r"change of (\S+) hard to read", text):
        return f"style[{FILES.index(file[1])}]"
    if "Score this review" in text:
        return "report#2/check" if REVIEW in text else "report#1/check"
    if "Merge these findings" in text:
        return "report#2/draft" if "lost the flaw" in text else "report#1/draft"
    return "security" if "security reviewer" in text else "design"


def answer(request: Any) -> Reply:
    path = path_of(request)
    flaw = {"file": FILES[0], "line": 2, "severity": "high", "note": "carries out whatever is typed"}
    answers: dict[str, Any] = {
        "security": {"findings": [flaw]},
        "design": "It does two things.",
        "report#1/draft": {"markdown": "# Review", "worst": "low"},
        "report#1/check": {"score": 0.3, "missing": ["lost the flaw"]},
        "report#2/draft": {"markdown": REVIEW, "worst": "high"},
        "report#2/check": {"score": 0.9, "missing": []},
    }
    made = answers.get(path, {"findings": [{**flaw, "file": path, "severity": "low"}]})
    return Reply(made if isinstance(made, str) else json.dumps(made), delay=0.03)


@pytest.fixture(scope="module")
def diff(new_folder) -> str:
    """A change of several files, by git."""
    folder = new_folder("repository")

    def git(*words: str) -> str:
        named = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgSign=false", *words]
        return subprocess.run(named, cwd=folder.path, env=folder.env, capture_output=True, check=True, encoding="utf-8").stdout

    git("init", "--quiet")
    for text in ("print('hello')\n", "import os\nos.system(input())\n"):
        for name in FILES:
            folder.write(name, text)
        git("add", ".")
        git("commit", "--quiet", "--message", "A change")
    return git("diff", "HEAD~1")


@dataclass(frozen=True)
class Review:
    """A folder in which the change is reviewed by a server of models."""

    folder: Any
    server: FaultServer
    killing: threading.Event = field(default_factory=threading.Event)
    """Set while processes are to be killed: the last piece gets no answer, so that none of them ends before."""

    def answer(self, request: Any) -> Reply | Fault:
        return Fault.hang() if self.killing.is_set() and path_of(request) == "report#2/check" else answer(request)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return self.folder.start(*words, "--json")

    def paths(self) -> list[str]:
        """The piece of each request so far."""
        return [path_of(request) for request in self.server.requests]

    def asked(self) -> Counter[str]:
        """How many requests there were, by piece; nobody asks while this is counted."""
        self.server.wait_until(lambda: not self.server.running())
        return Counter(self.paths())

    def rows(self) -> list[tuple[str, str, float]]:
        with sqlite3.connect(self.folder.database) as connection:
            return connection.execute("SELECT path, outcome, usd FROM attempts").fetchall()


def prepared(folder: Any, server: FaultServer, diff: str) -> Review:
    shutil.copytree(ROOT / "workflows", folder.path / "workflows", ignore=shutil.ignore_patterns("__pycache__"))
    folder.write("change.diff", diff)
    price = {"price": {"input": 1, "output": 2}}
    models = {"small": price, "large": price}
    provider = {"type": "openai", "base_url": server.url, "api_key": "${LOCAL_KEY}", "models": models}
    page = {
        "storage": f"sqlite:///{folder.database}",
        "llm": {"retry_attempts": 0, "cheap_model": "small", "expensive_model": "large"},
        "providers": {"local": provider},
    }
    folder.write("settings.yaml", json.dumps(page))
    folder.env["LOCAL_KEY"] = KEY
    review = Review(folder, server)
    for model in models:
        server.script(model, review.answer)
    return review


ANSWERED = ("--answer", "gate=approve")
START = ("run", "workflows/code_review.yaml", "-i", "diff=@change.diff", *ANSWERED)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key=KEY) as server:
        yield server


@pytest.fixture
def review(folder, server, diff) -> Review:
    return prepared(folder, server, diff)


@dataclass(frozen=True)
class Whole:
    outputs: Any
    asked: Counter[str]


@pytest.fixture(scope="module")
def whole(new_folder, diff) -> Whole:
    """A review that nobody disturbed."""
    with FaultServer(api_key=KEY) as server:
        review = prepared(new_folder("whole"), server, diff)
        ended = review.folder.finish(review.start(*START))
        assert ended.code == 0, ended.err
        assert ended.json["outputs"]["review"] == REVIEW
        assert ended.json["stages"]["gate"]["state"] == "done"
        assert len(review.asked()) == PIECES
        return Whole(outputs=without_folder(ended.json["outputs"]), asked=review.asked())


def without_folder(outputs: Any) -> Any:
    return {**outputs, "posted": Path(outputs["posted"]).name}


@pytest.mark.parametrize("seed", range(10))
def test_review_killed_at_random_moments_ends_the_same_and_pays_for_nothing_twice(review, whole, seed):
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(PIECES - 1), KILLS))
    hits: Counter[str] = Counter()
    before: Counter[str] = Counter()
    settled: dict[str, int] = {}
    words: tuple[str, ...] = START
    review.killing.set()
    for moment in moments:
        process = review.start(*words)
        review.server.wait_until(lambda moment=moment: len(set(review.paths())) > moment, timeout=60)
        time.sleep(chance.uniform(0, 0.025))  # anywhere in a call: the moment is what is tried, nothing is waited for
        assert process.poll() is None, "the process had ended before the moment came"
        review.folder.kill(process)
        (run,) = review.folder.runs()
        words = ("runs", "resume", run, *ANSWERED)
        saved, asked_before, before = review.folder.saved(run), before, review.asked()
        assert {path: before[path] for path in settled} == settled, "what was saved was asked for again"
        settled = {path: count for path, count in before.items() if path in saved}
        hits.update(path for path, count in before.items() if path not in saved and count > asked_before[path])
    review.killing.clear()

    ended = review.folder.finish(review.start(*words))

    assert hits, "no kill hit a call in flight"
    assert ended.code == 0, ended.err
    assert without_folder(ended.json["outputs"]) == whole.outputs
    assert (review.folder.path / "review.md").read_text("utf-8") == REVIEW + "\n"
    after = review.asked()
    assert {path: after[path] for path in settled} == settled
    assert after.keys() == whole.asked.keys()
    for path, count in after.items():
        assert whole.asked[path] <= count <= whole.asked[path] * (1 + hits[path]), path
    check_money(review, ended.json, whole, after, hits)


def check_money(review: Review, document: Any, whole: Whole, after: Counter[str], hits: Counter[str]) -> None:
    """The run's money is the sum of its attempts, and each call that was answered has one row."""
    rows = review.rows()
    assert document["usd"] == pytest.approx(sum(usd for _, _, usd in rows))
    answered = Counter(path for path, outcome, _ in rows if outcome == "ok")
    for path, count in after.items():
        assert answered[path] <= count
        assert answered[path] >= whole.asked[path]
        if not hits[path]:
            assert answered[path] == whole.asked[path], path
