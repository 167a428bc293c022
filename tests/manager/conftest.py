"""Settings of one's own, and providers that are registered in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, ChatResponse, ModelInfo, Price, Provider, ProviderConfig, ProviderUnavailable, Usage
from flowcraft.settings import load_settings


class EchoConfig(ProviderConfig):
    prefix: str = ""
    says: str | None = None
    api_key: str | None = None
    down: tuple[str, ...] = ()


class Echo(Provider):
    """Answers with the last message and the model's name."""

    name = "echo"
    Config = EchoConfig

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        if model in self.config.down:
            raise ProviderUnavailable(f"{model} is down; key {self.config.api_key}")
        text = self.config.says or f"{self.config.prefix}{model}: {request.last_text}"
        return ChatResponse(text=text, usage=Usage(input=10, output=20))


class Lister(Echo):
    async def list_models(self) -> list[ModelInfo]:
        return [ModelInfo(model="first", price=Price(input=1, output=1)), ModelInfo(model="second")]


@pytest.fixture
def echo() -> type[Provider]:
    return Echo


@pytest.fixture
def lister() -> type[Provider]:
    return Lister


@pytest.fixture
def managed(tmp_path: Path) -> Callable[..., LLMManager]:
    """Make a manager of settings text and an environment of its own; ``echo`` is registered where the text mentions it."""

    def make(text: str = "", environ: Mapping[str, str] | None = None, **options: Any) -> LLMManager:
        file = tmp_path / "settings.yaml"
        file.write_text(text or "{}", "utf-8")
        environment = {"FLOWCRAFT_STORAGE": f"sqlite:///{tmp_path}/calls.db", **(environ or {})}
        manager = LLMManager(load_settings(file, environ=environment, cwd=tmp_path), **options)
        if "echo" in text:
            manager.register_provider("echo", Echo)
        return manager

    return make
