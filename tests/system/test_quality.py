"""Stages with a strategy, a judge and a confidence, as a user runs them: the command line against a real server."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft.plugin import TokenLogprob
from flowcraft.testing import FaultServer, Reply

pytestmark = pytest.mark.system

KEY = "sk-test-0123456789"
WORKFLOW = """\
flowcraft: 1
inputs: {diff: string}
stages:
  triage:
    prompt: "Is this risky? ${{ inputs.diff }}"
    strategy: cascade
    output: {risk: low | high}
  title:
    prompt: "A title for ${{ inputs.diff }}"
    model: alone
    confidence: 0.7
  report:
    prompt: "Report on ${{ inputs.diff }}, ${{ triage.risk }}"
    model: pair
    strategy: best_of_two
    judge: {model: quick, rubric: "Names the risk: ${{ triage.risk }}"}
  last:
    run: steps:check
    with:
      models: ["${{ run.stages.triage.model }}", "${{ run.stages.title.model }}", "${{ run.stages.report.model }}"]
      texts: ["${{ triage.risk }}", "${{ title }}", "${{ report }}"]
"""
STEPS = """
import pathlib

def check(models: list[str], texts: list[str]) -> list[str]:
    if not pathlib.Path("go.txt").exists():
        raise RuntimeError("not yet")
    return [*models, *texts]
"""
LONG = "A text that is worded in its own way and says nothing of what matters. " * 4
UNSURE = Reply("Unsure", logprobs=(TokenLogprob(token="Unsure", logprob=-2.0),))


def text_of(request: Any) -> str:
    return request.body["messages"][-1]["content"]


def preferring(words: str) -> Any:
    """Return a judge who finds the answer the better one that holds ``words``, wherever it stands."""

    def judge(request: Any) -> str:
        first = text_of(request).partition("[ANSWER B")[0]
        return json.dumps({"reason": "it names the risk", "winner": "A" if words in first else "B"})

    return judge


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key=KEY) as server:
        server.script("small", '{"risk": "low"}', '{"risk": "high"}')
        server.script("large", lambda request: "A fine title" if "A title" in text_of(request) else '{"risk": "high"}')
        server.script("one", lambda request: UNSURE if "A title" in text_of(request) else LONG)
        server.script("two", "The risk is high.")
        server.script("wise", preferring("The risk is high."))
        yield server


@pytest.fixture
def work(folder, server):
    page = {
        "storage": f"sqlite:///{folder.database}",
        "llm": {
            "retry_attempts": 0,
            "cheap_model": "small",
            "expensive_model": "large",
            "cascade": {"threshold": 0.9},
            "tiers": {"pair": ["one", "two"], "alone": ["one"]},
            "aliases": {"quick": "wise"},
        },
        "providers": {
            "local": {
                "type": "openai",
                "base_url": server.url,
                "api_key": "${LOCAL_KEY}",
                "models": {"small": {}, "large": {}, "one": {"capabilities": {"logprobs": True}}, "two": {}, "wise": {}},
            }
        },
    }
    folder.write("settings.yaml", json.dumps(page))
    folder.write("steps.py", STEPS)
    folder.write("flow.yaml", WORKFLOW)
    folder.write("go.txt", "")
    folder.env["LOCAL_KEY"] = KEY
    return folder


def calls(server: FaultServer) -> dict[str, int]:
    return dict(Counter(request.model for request in server.requests))


DECIDED = ["large", "large", "two", "high", "A fine title", "The risk is high."]


def test_stages_are_answered_as_well_as_they_ask_for(work, server):
    ended = work.flowcraft("run", "flow.yaml", "-i", "diff=a change", "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == {"last": DECIDED}
    assert calls(server) == {"small": 2, "large": 2, "one": 3, "two": 1, "wise": 2}
    assert {name: stage["model"] for name, stage in ended.json["stages"].items() if stage["model"]} == {
        "triage": "large",
        "title": "large",
        "report": "two",
    }
    assert {name: stage["calls"] for name, stage in ended.json["stages"].items()} == {
        "triage": 3,
        "title": 3,
        "report": 4,
        "last": 0,
    }
    rubric = next(request for request in server.requests if request.model == "wise").body["messages"][0]["content"]
    assert "Names the risk: high" in rubric
    with sqlite3.connect(work.database) as connection:
        assert connection.execute("SELECT stage, winner FROM verdicts").fetchall() in (
            [("report", "first")],
            [("report", "second")],
        )


def test_losers_samples_and_judges_are_in_the_sum_of_the_run(work):
    page = json.loads((work.path / "settings.yaml").read_text("utf-8"))
    for model in page["providers"]["local"]["models"].values():
        model["price"] = {"input": 2, "output": 2}
    work.write("settings.yaml", json.dumps(page))

    ended = work.flowcraft("run", "flow.yaml", "-i", "diff=a change", "--json")

    assert ended.code == 0, ended.err
    with sqlite3.connect(work.database) as connection:
        rows = connection.execute("SELECT stage, model, role, input + output, usd FROM attempts").fetchall()
    assert sorted((model, role) for stage, model, role, _, _ in rows if stage == "report") == [
        ("one", "primary"),
        ("two", "primary"),
        ("wise", "judge"),
        ("wise", "judge"),
    ]
    assert len(rows) == 10
    assert all(usd == pytest.approx(2e-6 * tokens) and tokens > 0 for _, _, _, tokens, usd in rows)
    assert ended.json["usd"] == pytest.approx(sum(usd for *_, usd in rows))
    for name, stage in ended.json["stages"].items():
        assert stage["tokens"] == sum(tokens for of, _, _, tokens, _ in rows if of == name)


def test_a_resumed_run_neither_asks_nor_judges_again_and_knows_whose_answer_counted(work, server):
    (work.path / "go.txt").unlink()
    failed = work.flowcraft("run", "flow.yaml", "-i", "diff=a change")
    before = calls(server)
    assert failed.code == 1

    work.write("go.txt", "")
    page = json.loads((work.path / "settings.yaml").read_text("utf-8"))
    page["llm"]["cascade"]["threshold"] = 0.1  # the run keeps what it started with
    work.write("settings.yaml", json.dumps(page))
    work.write("flow.yaml", WORKFLOW.replace("best_of_two", "single").replace("    judge", "    #"))
    resumed = work.flowcraft("runs", "resume", failed.run, "--json")

    assert resumed.code == 0, resumed.err
    assert calls(server) == before
    assert resumed.json["outputs"] == {"last": DECIDED}
    assert [resumed.json["stages"][name]["model"] for name in ("triage", "title", "report")] == ["large", "large", "two"]


def test_the_story_of_a_run_tells_how_answers_were_chosen(work, server):
    run = work.flowcraft("run", "flow.yaml", "-i", "diff=a change").run

    told = work.flowcraft("runs", "logs", run, "--json").out

    assert told.count('"answer.chosen"') == 3
    assert "below 0.9" in told


def test_one_model_in_place_of_all_is_the_only_one_that_is_asked(work, server):
    server.script("two", lambda request: '{"risk": "low"}' if "risky" in text_of(request) else "The risk is low.")

    ended = work.flowcraft("run", "flow.yaml", "-i", "diff=a change", "--model", "two", "--json")

    assert ended.code == 0, ended.err
    assert set(calls(server)) == {"two"}
    assert {stage["model"] for stage in ended.json["stages"].values()} == {"two", None}


def test_the_offline_model_stands_in_for_all_without_a_word_of_strategies(work, server):
    ended = work.flowcraft("run", "flow.yaml", "-i", "diff=a change", "--model", "offline")

    assert ended.code == 0, ended.err
    assert "strategy" not in ended.err
    assert calls(server) == {}


def test_validate_warns_of_what_the_models_cannot_carry_out(work):
    page = json.loads((work.path / "settings.yaml").read_text("utf-8"))
    del page["llm"]["expensive_model"]
    page["llm"]["tiers"]["pair"] = ["one"]
    work.write("settings.yaml", json.dumps(page))

    ended = work.flowcraft("validate", "flow.yaml")

    told = ended.out + ended.err
    assert ended.code == 0
    assert "flow.yaml:6:15: warning: strategy cascade has no expensive tier" in told
    assert "flow.yaml:15:15: warning: strategy best_of_two needs two models" in told


def test_validate_warns_of_a_judge_that_settings_leave_without_work(work):
    work.write("flow.yaml", WORKFLOW.replace("    strategy: best_of_two\n", ""))

    told = work.flowcraft("validate", "flow.yaml")

    assert told.code == 0
    assert "flow.yaml:15:12: warning: 'judge' has nothing to choose from with strategy single" in told.out + told.err
    page = json.loads((work.path / "settings.yaml").read_text("utf-8"))
    page["llm"]["strategy"] = "best_of_two"
    work.write("settings.yaml", json.dumps(page))
    told = work.flowcraft("validate", "flow.yaml")
    assert "'judge'" not in told.out + told.err


def test_a_judge_is_doubted_like_a_model_that_nobody_lists(work, server):
    work.write("flow.yaml", WORKFLOW.replace("model: quick", "model: quik"))

    told = work.flowcraft("validate", "flow.yaml")

    assert "flow.yaml:16:20: warning: no tier, alias or listed model is called 'quik'" in told.out + told.err
    assert "did you mean 'quick'?" in told.out + told.err
    assert calls(server) == {}
