"""The settings files of the programs that people come from: loaded unchanged, they answer once their key is set."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft.errors import ChainExhausted
from flowcraft.manager import LLMManager
from flowcraft.settings import load_settings
from flowcraft.testing import Fault, FaultServer

pytestmark = pytest.mark.integration

SEEDS = Path(__file__).parents[1] / "settings" / "seeds"
KEY = "sk-seed-0123456789"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key=KEY) as server:
        yield server


def managed(file: str, folder: Path, **environ: str) -> LLMManager:
    environ = {"FLOWCRAFT_STORAGE": f"sqlite:///{folder}/calls.db", **environ}
    return LLMManager(load_settings(SEEDS / file, environ=environ, cwd=folder))


async def test_the_first_file_answers_by_its_cheap_model(server: FaultServer, tmp_path: Path) -> None:
    server.script("qwen3-coder-plus", "Привет!")
    environ = {"DASHSCOPE_API_KEY": KEY, "FLOWCRAFT_PROVIDERS__QWEN__BASE_URL": server.url}
    async with managed("providers.yaml", tmp_path, **environ) as manager:
        response = await manager.chat_completion([{"role": "user", "content": "Привет"}], stage_name="coding")
        pieces = [piece async for piece in manager.stream_completion("Привет")]
        assert manager.get_current_model_info("coding") == {"provider": "qwen", "model": "qwen3-coder-plus", "type": "cheap"}
        expensive = await manager.chat_completion("Привет", stage_name="security_review")
    assert (response.text, response.provider, "".join(pieces)) == ("Привет!", "qwen", "Привет!")
    assert [(attempt.provider, attempt.outcome) for attempt in expensive.attempts] == [("kiro-cli", "skipped"), ("qwen", "ok")]
    assert "no installed plugin offers the provider 'kiro-cli'" in expensive.attempts[0].message


def test_the_second_file_answers_by_the_first_healthy_model_of_its_roles(server: FaultServer, tmp_path: Path) -> None:
    server.script("meta-llama/llama-3.2-1b-instruct", Fault.failure(502))
    server.script("microsoft/phi-3-mini-128k-instruct", Fault.rate_limit(600))
    server.script("meta-llama/llama-3.2-3b-instruct", Fault.quota())
    server.script("microsoft/wizardlm-2-8x22b", Fault.model_not_found())
    server.script("google/gemma-2-27b-it", "Привет! У меня всё хорошо 🙂")
    environ = {"OPENROUTER_API_KEY": KEY, "FLOWCRAFT_PROVIDERS__OPENROUTER__BASE_URL": server.url}
    manager = managed("llm_settings.yaml", tmp_path, **environ)
    response = asyncio.run(manager.generate_response(prompt="Привет, как дела?", use_fastest=True, use_parallel=True))
    asyncio.run(manager.aclose())
    assert (response.success, response.content) == (True, "Привет! У меня всё хорошо 🙂")
    assert response.model_name == "google/gemma-2-27b-it"
    assert response.notes == ()


@pytest.mark.parametrize(
    ("file", "missing"), [("providers.yaml", "DASHSCOPE_API_KEY"), ("llm_settings.yaml", "OPENROUTER_API_KEY")]
)
async def test_without_its_key_a_file_says_so_and_offline_does_not_answer(tmp_path: Path, file: str, missing: str) -> None:
    async with managed(file, tmp_path) as manager:
        with pytest.raises(ChainExhausted, match=f"skipped \\({missing} is not set\\)"):
            await manager.llm().chat("hi")
