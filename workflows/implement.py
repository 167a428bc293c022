"""The functions of ``implement.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write(folder: str, number: int, source: str) -> str:
    """Write the module of a step and return its path. The name is ours, so that no model chooses where it writes."""
    path = Path(folder, f"step_{number}.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source.rstrip() + "\n", encoding="utf-8")
    return str(path)


def summary(epics: list[str], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each epic the file of its last attempt, and whether that was tested and accepted."""
    return [{"epic": epic, **_ended(result["attempt"])} for epic, result in zip(epics, results, strict=True)]


def _ended(attempt: dict[str, Any] | None) -> dict[str, Any]:
    if attempt is None:  # no attempt came to its end, for instance because no model answered
        return {"file": None, "done": False}
    return {"file": attempt["write"], "done": attempt["test"]["exit_code"] == 0 and attempt["review"]["accepted"]}
