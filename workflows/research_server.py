"""The MCP server of ``research.yaml``: one tool, a search, over standard input and output."""

from __future__ import annotations

from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

DOCUMENTS = Path(__file__).parent.parent / "docs"

app = MCPServer("library")


@app.tool(annotations=ToolAnnotations(read_only_hint=True))
def search(words: str) -> list[str]:
    """Return the lines of all documents that hold each of the words, with the document and the line's number."""
    wanted = words.casefold().split()
    found = []
    for path in sorted(DOCUMENTS.glob("*.md")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if all(word in line.casefold() for word in wanted):
                found.append(f"{path.name}:{number}: {line.strip()}")
    return found[:50]


if __name__ == "__main__":
    app.run()
