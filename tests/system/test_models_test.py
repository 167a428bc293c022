"""``flowcraft models test`` as a user types it, against models that work, are slow, or fail."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from flowcraft.testing import Fault, FaultServer

pytestmark = pytest.mark.system

KEY = "sk-live-abcdef0123456789"

SETTINGS = """
llm:
  model_roles: {primary: [good, slow], reserve: [broken], fallback: [refused, far]}
  aliases: {quick: good}
providers:
  local: {type: openai, base_url: URL, api_key: "${LOCAL_KEY}", models: {good: {price: {input: 1, output: 2}}}}
  cloud: {type: openai, base_url: URL, api_key: "${CLOUD_KEY}", models: {far: {}}}
"""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.script("good", "ready")
        server.script("slow", Fault.slow("a b", 0.02))
        server.script("broken", Fault.failure(500))
        server.script("refused", Fault(status=401, error={"message": f"the key {KEY} is wrong"}))
        server.script("hanging", Fault.hang())
        yield server


@pytest.fixture
def shop(folder: Any, server: FaultServer) -> Any:
    folder.write("settings.yaml", SETTINGS.replace("URL", server.url))
    folder.env["LOCAL_KEY"] = KEY
    return folder


def test_all_models_are_told_with_what_to_use_them_for(shop: Any, server: FaultServer) -> None:
    ended = shop.flowcraft("models", "test", "--rounds", "2", "--timeout", "20")

    assert ended.code == 0, ended.err
    lines = {line.split()[1]: line for line in ended.out.splitlines() if line[:1] in "✓~✗-" and line.strip()}
    assert list(lines) == ["good", "slow", "broken", "refused", "far"]
    assert "2/2" in lines["good"]
    assert "0.000" in lines["good"]
    assert " ? " in lines["slow"], "a price that nobody knows"
    assert "0/2" in lines["broken"]
    assert lines["far"].rstrip().endswith("CLOUD_KEY is not set")
    settings = ended.out[ended.out.index("llm:") : ended.out.index("drop ")]
    assert yaml.safe_load(settings)["llm"]["model_roles"]["primary"] in (["good"], ["slow"])
    assert "drop refused: 1 of 1 calls failed (AuthenticationFailed; 1 not asked" in ended.out
    assert len(ended.err.splitlines()) == 5, "in a pipe, a plain line for each model"
    assert "\x1b" not in ended.out + ended.err
    assert KEY not in ended.out + ended.err
    assert server.count("far") == 0


def test_the_calls_are_in_the_statistics(shop: Any) -> None:
    shop.flowcraft("models", "test", "good", "broken")
    rows = {row["model"]: row for row in shop.flowcraft("models", "stats", "--json").json}
    assert (rows["good"]["successes"], rows["broken"]["errors"]) == (1, 1)
    assert rows["good"]["usd"] > 0
    assert rows["broken"]["usd"] is None


def test_json_is_one_document_and_nothing_else(shop: Any) -> None:
    ended = shop.flowcraft("models", "test", "quick", "broken", "--json")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.json["summary"]["working"] == 1
    assert {model["name"]: model["works"] for model in ended.json["models"]} == {"good": True, "broken": False}
    assert KEY not in ended.out


@pytest.mark.parametrize("name", ["report.md", "report.json", "reports/today.md"])
def test_a_report_is_written_where_one_says(shop: Any, name: str) -> None:
    ended = shop.flowcraft("models", "test", "good", "refused", "--report", name)
    assert ended.code == 0, ended.err
    assert f"report: {name}" in ended.err
    text = (shop.path / name).read_text("utf-8")
    assert text.startswith("{" if name.endswith("json") else "# Test of models")
    assert "AuthenticationFailed" in text
    assert KEY not in text


def test_no_working_model_is_exit_code_1(shop: Any) -> None:
    ended = shop.flowcraft("models", "test", "broken", "far", "--report", "r.md")
    assert ended.code == 1
    assert "No model works" in (shop.path / "r.md").read_text("utf-8")


def test_nothing_configured_says_so_and_what_to_do(folder: Any) -> None:
    ended = folder.flowcraft("models", "test")
    assert ended.code == 1
    assert "no model is configured" in ended.err
    assert "offline" in ended.err
    assert "set a key" in ended.err
    assert folder.flowcraft("models", "test", "--json").json["summary"]["models"] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rounds", "0"], "--rounds"),
        (["--concurrency", "-1"], "--concurrency"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--timeout", "soon"], "--timeout"),
        (["--report", "."], "--report"),
        (["--report", "settings.yaml/r.md"], "settings.yaml cannot be made"),
        (["--settings", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_arguments_that_make_no_sense_are_exit_code_2(shop: Any, server: FaultServer, arguments: list[str], told: str) -> None:
    ended = shop.flowcraft("models", "test", *arguments)
    assert ended.code == 2
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert server.count() == 0


def test_a_name_that_nobody_knows_is_refused_with_the_one_that_was_meant(shop: Any, server: FaultServer) -> None:
    text = (shop.path / "settings.yaml").read_text("utf-8")
    shop.write("settings.yaml", text.replace("aliases:", "default_provider: gone\n  aliases:"))
    ended = shop.flowcraft("models", "test", "quik")
    assert (ended.code, server.count()) == (2, 0)
    assert "there is no model 'quik'; did you mean 'quick'?" in ended.err


def test_a_name_that_its_provider_may_know_is_asked_with_a_doubt(shop: Any, server: FaultServer) -> None:
    server.script("goood", Fault.model_not_found())
    ended = shop.flowcraft("models", "test", "goood")
    assert ended.code == 1
    assert "'goood' is listed nowhere, and is asked for nevertheless; did you mean 'good'?" in ended.err
    assert "ModelNotFound" in ended.out


def test_interrupted_it_tells_what_was_through_and_lets_go(shop: Any, server: FaultServer) -> None:
    process = shop.start("models", "test", "good", "hanging", "--report", "r.md")
    server.wait_until(lambda: server.running("hanging") == 1 and server.count("good") == 1, 60)
    assert process.stderr is not None
    assert "good" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    ended = shop.finish(process)
    assert ended.code == 130
    assert "interrupted: 1 of 2 models were through" in ended.err
    assert "good" in ended.out
    assert "**1 of 1 models work**" in (shop.path / "r.md").read_text("utf-8")
    assert "Traceback" not in ended.err
    server.wait_until(lambda: server.abandoned("hanging") == 1)


def test_a_terminal_shows_how_far_it_is(shop: Any) -> None:
    """On a terminal there is a bar under the lines, and in the end only the lines and the table stay."""
    master, slave = pty.openpty()
    env = {**shop.env, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-m", "flowcraft", "models", "test", "good", "slow", "broken"]
    process = subprocess.Popen(command, cwd=shop.path, env=env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 65536):
            seen += chunk
    except OSError:
        pass  # the other end of the terminal is closed
    finally:
        os.close(master)
    assert process.wait(60) == 0
    text = seen.decode("utf-8")
    assert "0/3" in text
    assert "good, slow, broken" in text
    assert text.rindex("recommended, by this test") > text.rindex("3/3"), "the bar is gone when the table comes"
