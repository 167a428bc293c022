"""A folder of its own with whatever files a test writes, and settings read from there alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowcraft.settings import Settings, load_settings

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write ``yaml`` and ``dotenv`` into a folder and read settings there, with ``env`` as the whole environment."""

    def read(
        yaml: str = "", *, env: dict[str, str] | None = None, dotenv: str = "", name: str = "settings.yaml", **overrides: Any
    ) -> Settings:
        for file, text in ((name, yaml), (".env", dotenv)):
            if text:
                (tmp_path / file).parent.mkdir(exist_ok=True)
                (tmp_path / file).write_text(text, encoding="utf-8")
                (tmp_path / file).chmod(0o600)
        return load_settings(environ=env or {}, cwd=tmp_path, **overrides)

    return read
