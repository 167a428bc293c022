"""The functions of ``research.yaml``: two tools, which a model may call, and a check of what it cites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCUMENTS = Path(__file__).parent.parent / "docs"


def outline() -> list[str]:
    """List the documents, each with its title."""
    return [f"{path.name}: {_title(path)}" for path in sorted(DOCUMENTS.glob("*.md"))]


def read(name: str) -> str:
    """Read a document.

    Args:
        name: The name of the document, as the outline lists it.

    """
    known = {path.name: path for path in DOCUMENTS.glob("*.md")}
    if name not in known:
        raise ValueError(f"there is no document {name!r}; outline() lists them")
    return known[name].read_text(encoding="utf-8")


def existing(findings: list[dict[str, Any]]) -> list[str]:
    """Return the sources of all findings that are documents, each once."""
    named = dict.fromkeys(source for finding in findings for source in finding["sources"])
    return [name for name in named if name in {path.name for path in DOCUMENTS.glob("*.md")}]


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
