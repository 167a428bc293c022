"""A server that fails in every way, settings that name its models, and attempts made up for the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.attempts import Attempt
from flowcraft.diagnostics import ModelTest
from flowcraft.manager import LLMManager
from flowcraft.plugin import Price
from flowcraft.settings import load_settings
from flowcraft.testing import FaultServer

KEY = "sk-test-0123456789"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def managed(tmp_path: Path, server: FaultServer) -> Callable[..., LLMManager]:
    """Make a manager of settings text, in which ``URL`` is the server's address."""

    def make(text: str, **environ: str) -> LLMManager:
        file = tmp_path / "settings.yaml"
        file.write_text(text.replace("URL", server.url), "utf-8")
        environment = {"FLOWCRAFT_STORAGE": f"sqlite:///{tmp_path}/calls.db", **environ}
        return LLMManager(load_settings(file, environ=environment, cwd=tmp_path))

    return make


@pytest.fixture
def made() -> Callable[..., ModelTest]:
    """Make a test of a model from the seconds of its answers and the errors of its other calls."""

    def make(name: str, *times: float, errors: tuple[str, ...] = (), usd: float | None = None, **facts: Any) -> ModelTest:
        price = facts.pop("price", None)
        common = {"model": facts.get("model", name), "provider": "local"}
        answered = [Attempt(**common, seconds=seconds, usd=usd) for seconds in times]
        failed = [Attempt(**common, outcome=error, message=f"{name} said {error}") for error in errors]
        given = {"model": name, "provider": "local", **facts}
        return ModelTest(name=name, price=None if price is None else Price(**price), attempts=(*answered, *failed), **given)

    return make
