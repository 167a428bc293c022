"""``flowcraft models list`` and ``stats``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from flowcraft.attempts import Attempt, Usage
from flowcraft.cli.models import models
from flowcraft.llm.ports import CallRecord
from flowcraft.storage import Database, SqlCallStore

pytestmark = pytest.mark.api

SETTINGS = """
llm:
  default_model: local:tiny
  model_roles: {primary: [local:tiny, openrouter:big]}
providers:
  local:
    type: offline
    models: {tiny: {context: 131072, price: {input: 0.5, output: 2}, capabilities: {tools: true, images: false}}, spare: {}}
  openrouter: {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENROUTER_API_KEY", "OPENAI_API_KEY", "DASHSCOPE_API_KEY", "LLM_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> Result:
    result = CliRunner().invoke(models, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def recorded(folder: Path, *attempts: dict[str, Any]) -> None:
    database = Database(f"sqlite:///{folder}/flowcraft.db")
    made = [
        CallRecord(id=str(number), attempt=Attempt(model="m", provider="p", **attempt), stage="review" if number else "")
        for number, attempt in enumerate(attempts)
    ]
    SqlCallStore(database).add(made)
    database.close()


def test_list_shows_the_chain_and_all_others(folder: Path) -> None:
    (folder / "settings.yaml").write_text(SETTINGS)
    rows = json.loads(call("list", "--json").stdout)
    assert [(row["role"], row["provider"], row["model"]) for row in rows][:3] == [
        ("primary", "local", "tiny"),
        ("primary", "openrouter", "big"),
        ("", "local", "spare"),
    ]
    assert rows[0]["price"]["output"] == 2
    assert rows[0]["sources"]["context"] == "settings"
    assert rows[1]["skipped"] == "OPENROUTER_API_KEY is not set"
    text = call("list").stdout
    for told in ("local:tiny", "131,072", "0.5 / 2", "no-images", "OPENROUTER_API_KEY is not set", "settings"):
        assert told in text


def test_list_without_models_says_what_to_do(folder: Path) -> None:
    (folder / "settings.yaml").write_text("llm: {offline: never}")
    result = call("list")
    assert "set a key in the environment" in result.stderr
    assert json.loads(call("list", "--json").stdout) == []


def test_stats_are_a_list_of_figures(folder: Path) -> None:
    ok = {"seconds": 2.0, "usage": Usage(output=100), "usd": 0.25, "first_token": 0.5}
    recorded(folder, ok, ok, {"outcome": "RateLimited"})
    (row,) = json.loads(call("stats", "--json").stdout)
    assert row == {
        "model": "m",
        "provider": "p",
        "calls": 3,
        "successes": 2,
        "errors": 1,
        "errors_by_class": {"RateLimited": 1},
        "last_response_time": 2.0,
        "p50": 2.0,
        "p95": 2.0,
        "p99": 2.0,
        "ttft": 0.5,
        "tokens_per_second": 50.0,
        "usd": 0.5,
        "wins": 0,
    }
    (row,) = json.loads(call("stats", "--json", "--stage", "review").stdout)
    assert (row["calls"], row["successes"]) == (2, 1)
    text = call("stats").stdout
    for told in ("p:m", "2.00 s", "0.50 s", "50", "0.5000", "RateLimited 1"):
        assert told in text


def test_stats_without_calls_say_so(folder: Path) -> None:
    assert "no calls are recorded yet" in call("stats").stderr
    assert "no calls of stage 'x'" in call("stats", "--stage", "x").stderr


def test_list_fits_80_columns_with_what_is_known_of_real_models(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobodys-key")
    monkeypatch.setenv("COLUMNS", "80")

    lines = call("list").stdout.splitlines()

    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "preset" in lines[1].split()
    assert "provider" in " ".join(lines).split()
