"""The functions of ``release_notes.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def text(notes: dict[str, Any]) -> str:
    """Return the notes as Markdown; headings without an entry are left out."""
    lists = [
        f"## {heading.capitalize()}\n\n" + "\n".join(f"- {line}" for line in notes[heading])
        for heading in ("added", "fixed")
        if notes[heading]
    ]
    return "\n\n".join([f"# {notes['title']}", *lists]) + "\n"


def write(folder: str, name: str, text: str) -> str:
    """Write the notes and return the path of the file."""
    path = Path(folder, name)
    path.write_text(text, encoding="utf-8")
    return str(path)
