"""``flowcraft plan``: forecasts by what earlier runs took, on a real server; they spend nothing and write nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft.app import FlowCraft
from flowcraft.plugin import Usage
from flowcraft.settings import load_settings
from flowcraft.testing import FaultServer, Reply

pytestmark = [pytest.mark.system, pytest.mark.slow]

SETTINGS = """
llm: {{default_model: "local:m"}}
providers:
  local: {{type: openai, base_url: "{url}", api_key: none, models: {{m: {{price: {{input: 10, output: 100}}}}}}}}
"""
WORKFLOW = """flowcraft: 1
inputs: {words: "[string]"}
stages:
  notes:
    each: inputs.words
    parallel: 2
    prompt: "Say ${{ item }}"
  good:
    until: iteration > 1 or len(notes[0]) > 6
    max: 2
    prompt: "Better: ${{ notes }}"
  lines: {shell: "wc -l", with: {stdin: "${{ good }}"}}
outputs: {good: "${{ good }}", lines: "${{ lines.stdout }}"}
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as started:
        yield started


@pytest.fixture
def shop(folder: Any, server: FaultServer) -> Any:
    folder.write("settings.yaml", SETTINGS.format(url=server.url))
    folder.write("words.yaml", WORKFLOW)
    return folder


def varying(server: FaultServer, chance: random.Random) -> None:
    """Let the next answers differ in what they take, and in whether they are good at once."""
    server.script(
        "m",
        *(
            Reply(
                "long answer" if chance.random() < 0.5 else "short",
                usage=Usage(input=chance.randint(20, 60), output=chance.randint(10, 90)),
            )
            for _ in range(8)
        ),
    )


async def test_the_range_covers_the_runs_that_follow(shop: Any, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.path)
    chance = random.Random(7)
    environ = {"FLOWCRAFT_STORAGE": f"sqlite:///{shop.path}/flowcraft.db"}
    async with FlowCraft(load_settings(environ=environ, cwd=shop.path)) as flow:
        words = {"words": ["one", "two", "three"]}

        async def run() -> dict[str, float]:
            varying(server, chance)
            result = await flow.run(shop.path / "words.yaml", words)
            assert result.state == "done"
            return {"calls": result.calls, "tokens": result.tokens, "usd": result.usd or 0.0}

        for _ in range(20):
            await run()
        asked = server.count()
        made = flow.plan(shop.path / "words.yaml", words)
        assert server.count() == asked, "a forecast asks no model"
        assert made.runs == 20
        assert not made.unpriced
        ranges = {"calls": made.calls, "tokens": made.tokens, "usd": made.usd}
        later = [await run() for _ in range(10)]

    for name, told in ranges.items():
        covered = sum(told.low <= one[name] <= told.high for one in later)
        assert covered >= 8, (name, told, [one[name] for one in later])
        assert told.low < told.likely < told.high or name == "calls"
        assert told.high < 4 * told.low, "a range that covers everything tells nothing"
    assert (made.calls.low, made.calls.high) == (4, 5)
    assert made.budget == ()


def test_without_history_the_defaults_are_named_and_nothing_is_written(shop: Any, server: FaultServer) -> None:
    shop.write("words.yaml", WORKFLOW.replace("inputs:", "budget: {usd: 0.02, calls: 100}\ninputs:", 1))
    ended = shop.flowcraft("plan", "words.yaml", "-i", "words=one", "-i", "words=two")
    assert ended.code == 0, ended.err
    assert "notes: no history: 10 tokens in for a call (measured from the prompt)" in ended.err
    assert "notes: no history of its model: 20 to 2,000 tokens out, 1 to 40 s a call (default)" in ended.err
    assert "good: no history of its tries: 1 to 2 (default)" in ended.err
    assert "no earlier run of this workflow" in ended.err
    assert "the budget of 0.02 USD would be reached" in ended.err
    assert ended.out.splitlines()[0].split() == ["stage", "times", "calls", "tokens", "in", "tokens", "out", "USD", "time"]
    assert server.count() == 0
    assert not shop.database.exists()
    assert sorted(path.name for path in shop.path.iterdir()) == ["settings.yaml", "words.yaml"]


def test_json_has_every_range_and_unknown_prices_are_null(shop: Any, server: FaultServer) -> None:
    shop.write("settings.yaml", SETTINGS.format(url=server.url).replace("{price: {input: 10, output: 100}}", "{}"))
    ended = shop.flowcraft("plan", "words.yaml", "-i", "words=one", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["usd"] is None
    assert ended.json["unpriced"] == ["local:m"]
    assert ended.json["calls"] == {"low": 2, "likely": 3, "high": 3}
    assert [(stage["stage"], stage["usd"]) for stage in ended.json["stages"]] == [
        ("notes", None),
        ("good", None),
        ("lines", {"low": 0.0, "likely": 0.0, "high": 0.0}),
    ]
    told = shop.flowcraft("plan", "words.yaml", "-i", "words=one")
    assert "the price of local:m is not known: what is asked there is not in the sum" in told.err
    assert "0.00" not in told.out


def test_a_broken_file_and_wrong_inputs_are_refused(shop: Any) -> None:
    assert shop.flowcraft("plan", "words.yaml", "-i", "wrds=one").code == 2
    shop.write("broken.yaml", "flowcraft: 1\nstages: {a: {promt: x}}\n")
    ended = shop.flowcraft("plan", "broken.yaml")
    assert ended.code == 2
    assert "broken.yaml:2:14" in ended.err
