"""A server of models, and LLMs of CrewAI's on it. What needs the library is skipped where it is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft.crewai import create_llm_for_crewai
from flowcraft.crewai.library import is_installed, load_library
from flowcraft.testing import FaultServer

if is_installed():
    load_library()  # takes seconds, and warns of what other libraries say: before tests count time and warnings


@pytest.fixture(scope="session", autouse=True)
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what CrewAI stores of its own out of the user's folders."""
    patch = pytest.MonkeyPatch()
    patch.setenv("CREWAI_STORAGE_DIR", str(tmp_path_factory.mktemp("crewai")))
    yield
    patch.undo()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer(api_key="key") as running:
        yield running


@pytest.fixture
def llm(server: FaultServer, tmp_path: Path) -> Callable[..., Any]:
    """Make an LLM on the server's model ``a``, or on those that are named, in this order."""

    def make(
        *models: str,
        facts: Mapping[str, Any] | None = None,
        section: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        page = {
            "storage": f"sqlite:///{tmp_path}/calls.db",
            "providers": {"local": {"type": "openai", "base_url": server.url, "api_key": "key", "models": dict(facts or {})}},
            "llm": {
                "model_roles": {"primary": [f"local:{name}" for name in models or ("a",)]},
                "retry_attempts": 0,
                **(section or {}),
            },
        }
        file = tmp_path / "settings.yaml"
        file.write_text(yaml.safe_dump(page), "utf-8")
        return create_llm_for_crewai(file, **{"use_fastest": False, **options})

    return make
