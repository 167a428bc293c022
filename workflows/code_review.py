"""The functions of ``code_review.yaml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_FILE = re.compile(r"^diff --git .*$", re.MULTILINE)
_NAME = re.compile(r'^(?:\+\+\+ "?b/|--- "?a/|rename to "?)(.+?)"?\t?$', re.MULTILINE)


def split(diff: str) -> dict[str, Any]:
    """Return the files of a unified diff, in its order, and how many lines were added or removed in all."""
    starts = [match.start() for match in _FILE.finditer(diff)]
    if not starts:
        raise ValueError("there is no 'diff --git' in it; make the diff with git diff")
    parts = [diff[start:end] for start, end in zip(starts, [*starts[1:], len(diff)], strict=True)]
    return {"files": [{"name": _name(part), "diff": part} for part in parts], "lines": _changed(diff)}


def _name(part: str) -> str:
    names = _NAME.findall(part.partition("\n@@")[0])  # '--- a/x' comes before '+++ b/x': the last is the name behind the change
    return names[-1] if names else part.splitlines()[0].rpartition(" b/")[2]


def _changed(diff: str) -> int:
    return sum(line[:1] in ("+", "-") and line[:3] not in ("+++", "---") for line in diff.splitlines())


def post(folder: str, name: str, text: str) -> str:
    """Write the report where a real workflow would send it, and return its path."""
    path = Path(folder, name)
    path.write_text(text + "\n", encoding="utf-8")
    return str(path)


def log(folder: str, run: str, state: str, error: str | None) -> None:
    """Append how the run ended to ``reviews.log``."""
    with Path(folder, "reviews.log").open("a", encoding="utf-8") as file:
        file.write(f"{run}: {state}{f', {error}' if error else ''}\n")
