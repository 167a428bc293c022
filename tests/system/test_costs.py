"""What a run cost, on the command line: a sum where prices are known, and no number at all where they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft.testing import FaultServer

pytestmark = pytest.mark.system

FLOW = """
flowcraft: 1
stages:
  ask: {prompt: one two three, model: MODEL}
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.script("known", "four words of answer")
        server.script("unknown", "four words of answer")
        yield server


@pytest.fixture
def shop(folder: Any, server: FaultServer) -> Any:
    models = "{known: {price: {input: 1000, output: 10000}}, unknown: {}}"
    folder.write("settings.yaml", f"providers: {{local: {{type: openai, base_url: '{server.url}', models: {models}}}}}")
    for name in ("known", "unknown"):
        folder.write(f"{name}.yaml", FLOW.replace("MODEL", name))
    return folder


def test_a_known_price_is_summed_and_shown(shop: Any) -> None:
    ended = shop.flowcraft("run", "known.yaml", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["usd"] == pytest.approx((3 * 1000 + 4 * 10000) / 1_000_000)
    assert ended.json["stages"]["ask"]["usd"] == ended.json["usd"]
    (row,) = shop.flowcraft("models", "stats", "--json").json
    assert row["usd"] == pytest.approx(ended.json["usd"])
    assert "0.043" in shop.flowcraft("models", "stats").out
    assert "0.043" in shop.flowcraft("runs", "show", ended.json["run"]).out


def test_an_unknown_price_is_null_and_never_zero(shop: Any) -> None:
    ended = shop.flowcraft("run", "unknown.yaml", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["usd"] is None
    assert ended.json["stages"]["ask"]["usd"] is None
    (row,) = shop.flowcraft("models", "stats", "--json").json
    assert (row["calls"], row["usd"]) == (1, None)

    assert "- USD" in shop.flowcraft("run", "unknown.yaml").err
    told = shop.flowcraft("models", "stats").out + shop.flowcraft("runs", "show", ended.json["run"]).out
    assert "0.00" not in told.replace("0.00 s", "")
    listed = {row["model"]: row["price"] for row in shop.flowcraft("models", "list", "--json").json}
    assert listed["unknown"] is None
    assert listed["known"]["output"] == 10000
