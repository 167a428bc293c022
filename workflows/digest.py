"""The functions of ``digest.yaml``: code computes, the file coordinates."""

from __future__ import annotations

from pathlib import Path

LONGEST = 12_000
"""Characters of a document that are handed on; what is longer is cut, and the document says so."""


def documents(root: str, paths: list[str]) -> dict[str, list[dict[str, object]]]:
    """Return the Markdown documents at ``paths``: files, or folders whose ``*.md`` are taken, relative to ``root``."""
    base = Path(root)
    found: list[Path] = []
    for path in paths:
        place = base / path
        if not place.exists():
            raise FileNotFoundError(f"{place} does not exist; paths are relative to {base}")
        found += sorted(place.glob("*.md")) if place.is_dir() else [place]
    if not found:
        raise ValueError(f"no Markdown files at {', '.join(paths)} below {base}")
    return {"documents": [_document(base, path) for path in dict.fromkeys(found)]}


def _document(base: Path, path: Path) -> dict[str, object]:
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
    return {"name": name, "words": len(text.split()), "text": text[:LONGEST], "cut": len(text) > LONGEST}
