"""Little distributions, written to disk as an installer writes them."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

PROVIDER = """
from flowcraft.plugin import ChatResponse, Provider, hookimpl

class Echo(Provider):
    name = "{name}"
    async def chat(self, model, request):
        return ChatResponse(text=request.last_text, model=model)

@hookimpl
def flowcraft_providers():
    return {{"{name}": Echo}}
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one module; ``code`` is its source, ``providers`` and ``others`` its entry points."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def write(
        distribution: str,
        code: str | None = None,
        *,
        providers: Sequence[str] = (),
        others: Sequence[str] = (),
        requires: str = "flowcraft>=0.1,<1",
        version: str = "1.0",
        entry_points: str | None = None,
    ) -> None:
        module = distribution.replace("-", "_")
        (site / f"{module}.py").write_text(
            textwrap.dedent(PROVIDER.format(name=providers[0]) if code is None else code), encoding="utf-8"
        )
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}")
        lines = ["[flowcraft.providers]", *(f"{name} = {module}" for name in providers)]
        lines += ["[flowcraft]", *(f"{name} = {module}" for name in others)]
        (info / "entry_points.txt").write_text("\n".join(lines) if entry_points is None else entry_points)
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(site)):
            del sys.modules[name]
