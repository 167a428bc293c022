"""An MCP server for the tests: by pipes, or over HTTP at the port that is its argument."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import mcp.server
from mcp.types import ToolAnnotations

PLACE = {"host": "127.0.0.1", "port": int(sys.argv[1])} if len(sys.argv) > 1 else {}

if hasattr(mcp.server, "MCPServer"):
    app, place = mcp.server.MCPServer("library"), PLACE
else:  # the library's major 1
    app, place = mcp.server.FastMCP("library", **PLACE), {}
READS = ToolAnnotations.model_validate({"readOnlyHint": True})


def note(word: str) -> None:
    if log := os.environ.get("LOG"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{word} {os.getpid()}\n")


@app.tool(annotations=READS)
def search(words: str) -> str:
    """Search the library."""
    note(f"search-{words}")
    time.sleep(0.05)
    return f"found {words}"


@app.tool(annotations=ToolAnnotations.model_validate({"openWorldHint": False}))
def reserve(title: str) -> str:
    """Reserve a book."""
    note(f"reserve-{title}")
    return f"reserved {title}"


@app.tool(annotations=READS)
def environment() -> dict[str, str]:
    """Tell the environment."""
    return dict(os.environ)


@app.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("closed today")


@app.tool(annotations=READS)
def die() -> str:
    """Die."""
    sys.stderr.write("the roof fell in\n")
    sys.stderr.flush()
    os._exit(3)


note("serving")
app.run(*["streamable-http"] if PLACE else [], **place)
