"""``flowcraft settings`` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

KEPT = ("PATH", "HOME", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


def flowcraft(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    command = [sys.executable, "-m", "flowcraft", "settings", *arguments]
    return subprocess.run(command, cwd=folder, env={**kept, **env}, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_in_force_and_from_where(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "llm: {timeout: 30, strategy: hedge, params: {stream: true}}\nproviders: {openai: {api_key: '${MY_KEY}'}}\n"
    )
    done = flowcraft(tmp_path, "--changed", MY_KEY="sk-planted-secret", LLM_TEMPERATURE="0.5")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["file:", "settings.yaml"]
    assert ["provider", "openai:", "configured"] in lines
    assert ["default", "chain", "(default):", "openai"] in lines
    assert ["llm.timeout", "30", "settings.yaml:1"] in lines
    assert ["llm.strategy", "hedge", "settings.yaml:1"] in lines
    assert ["llm.params.stream", "true", "settings.yaml:1", "accepted,", "does", "not", "act", "yet"] in lines
    assert ["llm.params.temperature", "0.5", "environment", "LLM_TEMPERATURE"] in lines
    assert ["providers.openai.api_key", "***", "settings.yaml:2", "(MY_KEY)"] in lines
    assert "sk-planted-secret" not in done.stdout + done.stderr


def test_one_json_document_holds_everything(tmp_path: Path) -> None:
    done = flowcraft(tmp_path, "--json", LLM_READ_TIMEOUT="5", GOOGLE_API_KEY="sk-planted-secret")
    data = json.loads(done.stdout)
    assert data["file"] is None
    assert data["chain"] == {"tier": "default", "models": ["offline"]}
    assert {"key": "llm.timeout", "value": 200.0, "source": "default", "note": ""} in data["settings"]
    assert [warning.split(" (")[0] for warning in data["warnings"]] == [
        "warning: LLM_READ_TIMEOUT",
        "warning: GOOGLE_API_KEY is set, but no installed plugin offers the provider 'google'",
    ]
    assert "sk-planted-secret" not in done.stdout + done.stderr


def test_a_plugins_own_keys_are_checked_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("providers:\n  openai: {api_key: sk-planted-secret, base_urll: x}\n")
    done = flowcraft(tmp_path, "--settings", "mine.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("mine.yaml:2:40: unknown key 'base_urll' in providers.openai; did you mean 'base_url'?")
    assert "sk-planted-secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_what_keeps_a_provider_from_answering_is_told(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "llm: {qwen_strange_key: 1}\nproviders: {openrouter: {api_key: '${NO_KEY}'}, other: {type: no-such-plugin}}\n"
    )
    done = flowcraft(tmp_path, DASHSCOPE_API_KEY="sk-1234567")
    assert "provider openrouter: NO_KEY is not set" in done.stdout
    assert "provider other: no installed plugin offers the provider 'no-such-plugin'" in done.stdout
    assert "provider qwen: configured" in done.stdout
    assert "warning: the provider 'qwen' does not know the key 'strange_key'; it is kept" in done.stderr


def test_a_key_that_cannot_be_used_is_told_by_its_environment_name(tmp_path: Path) -> None:
    done = flowcraft(tmp_path, OPENAI_API_KEY="sk-ключ-0123456789")
    assert done.returncode == 0
    assert "provider openai: OPENAI_API_KEY (environment): providers.openai.api_key cannot be used" in done.stdout
    (tmp_path / "settings.yaml").write_text("providers: {openai: {}}")
    done = flowcraft(tmp_path, OPENAI_API_KEY="sk-ключ-0123456789")
    assert done.returncode == 2
    assert done.stderr.startswith("OPENAI_API_KEY (environment): providers.openai.api_key cannot be used")
    assert "ключ" not in done.stdout + done.stderr


def test_a_wrong_file_leaves_with_2_and_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(b"\x00\xff\xfe")
    done = flowcraft(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
