"""A workflow's own budget, on a real server: it ends the run, and outlives a kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowcraft.plugin import Usage
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = [pytest.mark.system, pytest.mark.slow]

WORKFLOW = """
flowcraft: 1
budget: {budget}
stages:
  words:
    each: ["one", "two", "three", "four", "five", "six"]
    retry: {{max: 2, backoff: 10ms}}
    on_error: continue
    prompt: "Say ${{{{ item }}}}"
  after: {{prompt: "All of ${{{{ words }}}}"}}
"""

SETTINGS = """
llm: {{default_model: "local:m", params: {{max_tokens: 20}}, {llm}}}
providers:
  local: {{type: openai, base_url: {url}, api_key: none, models: {{m: {{price: {{input: 1, output: 1000}}}}}}}}
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as started:
        started.script("m", Reply("said", usage=Usage(input=10, output=5)))
        yield started


def written(folder, server: FaultServer, budget: str, llm: str = "") -> None:
    folder.write("words.yaml", WORKFLOW.format(budget=budget))
    folder.write("settings.yaml", SETTINGS.format(url=server.url, llm=llm))


@pytest.mark.parametrize(
    ("budget", "llm", "calls", "told"),
    [
        (
            "{calls: 4}",
            "",
            4,
            "the workflow's budget, calls: 4 of 4 calls spent or reserved in this run; raise it and run again",
        ),
        ("{usd: 0.0251}", "", 2, "the workflow's budget, usd: 0.01 of 0.0251 USD spent or reserved in this run"),
        ("{tokens: 74}", "", 3, "the workflow's budget, tokens: 45 of 74 tokens spent or reserved in this run"),
        ("{calls: 100}", "budget: {calls_per_run: 3}", 3, "calls_per_run: 3 of 3 calls spent or reserved in this run"),
        ("{calls: 100}", "budget: {calls_per_day: 2}", 2, "it is free again at midnight UTC"),
    ],
)
def test_a_budget_fails_the_run_and_nothing_catches_it(folder, server, budget, llm, calls, told) -> None:
    written(folder, server, budget, llm)
    ended = folder.flowcraft("run", "words.yaml", "--json")

    assert ended.code == 1
    assert ended.json["state"] == "failed"
    assert ended.json["error"].startswith("stage words: ")
    assert told in ended.json["error"]
    assert server.count() == ended.json["stages"]["words"]["calls"] == calls, "neither tried again nor passed over"
    assert folder.saved(ended.json["run"]) == {f"words[{index}]" for index in range(calls)}


def test_what_a_killed_run_spent_counts_when_it_is_resumed(folder, server) -> None:
    written(folder, server, "{calls: 4}")
    server.script("m", "said", "said", Fault.hang())
    process = folder.start("run", "words.yaml", "--json")
    server.wait_until(lambda: server.running() == 1 and server.count() == 3, 60)
    folder.kill(process)
    server.script("m", "said again")
    resumed = folder.flowcraft("runs", "resume", folder.runs()[0], "--json")

    # Two were answered and are not asked again, one was under way, and one is left.
    assert resumed.code == 1
    assert "calls: 4 of 4 calls" in resumed.json["error"]
    assert server.count() == 4
    listed = folder.flowcraft("models", "spending", "--json")
    assert listed.json == [{"scope": f"run:{folder.runs()[0]}", "unit": "calls", "spent": 4.0, "limit": 4.0}]
    shown = folder.flowcraft("models", "spending")
    assert folder.runs()[0] in shown.out


def test_the_time_of_a_run_ends(folder, server) -> None:
    written(folder, server, "{time: 2s}")
    server.script("m", "said", Fault.hang())
    ended = folder.flowcraft("run", "words.yaml", "--json")
    assert ended.code == 1
    assert ended.json["error"] == "the workflow's budget, time: the run has taken all of its 2 s; raise it and run again"
    assert folder.saved(ended.json["run"]) <= {"words[0]"}
    again = folder.flowcraft("runs", "resume", ended.json["run"], "--json")
    assert again.json["error"] == ended.json["error"]


def test_a_budget_of_a_part_is_warned_about(folder, server) -> None:
    written(folder, server, "{calls: 4}")
    folder.write("outer.yaml", "flowcraft: 1\nstages:\n  part: {uses: words.yaml}\n")
    checked = folder.flowcraft("validate", "outer.yaml")
    assert "words.yaml:3:1: warning: the budget of a workflow that another one uses does not act" in checked.err
    assert folder.flowcraft("run", "outer.yaml", "--json").code == 0
    assert server.count() == 7


def test_nothing_spent_is_said(folder) -> None:
    assert "nothing was spent from a budget yet" in folder.flowcraft("models", "spending").err
    assert folder.flowcraft("models", "spending", "--json").json == []
