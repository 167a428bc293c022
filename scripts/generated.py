"""Write the files that are made from the code, or with ``--check`` say which of them are stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowcraft.drawing import Drawing

ROOT = Path(__file__).resolve().parents[1]


def cli() -> str:
    """Return the reference of all commands."""
    from flowcraft.cli.reference import cli_reference

    return cli_reference()


def language() -> str:
    """Return the JSON Schema of the workflow language, for editors; plugins' bodies are left out."""
    from flowcraft.workflow import workflow_schema

    return json.dumps(workflow_schema({}), indent=2, ensure_ascii=False) + "\n"


def settings() -> str:
    """Return the page of settings with the tables of its reference made anew."""
    from flowcraft.settings.reference import with_reference

    return with_reference((ROOT / "docs/settings.md").read_text("utf-8"))


def graph() -> str:
    """Return the picture of an example."""
    from flowcraft.drawing import svg

    return svg(_example())


def graph_page() -> str:
    """Return the page of graphs with its pictures in text made anew."""
    from flowcraft.drawing import mermaid, terminal

    lines = ["".join(span.text for span in line).rstrip() for line in terminal(_example(), 80)]
    page = (ROOT / "docs/graph.md").read_text("utf-8")
    for name, text in (("terminal", "\n".join(lines) + "\n"), ("mermaid", mermaid(_example()))):
        head = f"<!-- Made by `make generated`: {name} -->\n```text\n"
        before, _, rest = page.partition(head)
        page = f"{before}{head}{text}{rest[rest.index('```') :]}"
    return page


def _example() -> Drawing:
    from flowcraft.drawing import draw
    from flowcraft.workflow import load_workflow

    return draw(load_workflow(ROOT / "workflows/code_review.yaml"))


FILES: Mapping[str, Callable[[], str]] = {
    "docs/cli.md": cli,
    "docs/graph.md": graph_page,
    "docs/graph.svg": graph,
    "docs/settings.md": settings,
    "workflows/workflow.schema.json": language,
}


def main(arguments: list[str]) -> int:
    """Return 1 where ``--check`` found a stale file, else 0."""
    check = arguments == ["--check"]
    stale = []
    for name, make in FILES.items():
        path, text = ROOT / name, make()
        if path.is_file() and path.read_text("utf-8") == text:
            continue
        if not check:
            path.write_text(text, "utf-8")
        stale.append(name)
    for name in stale:
        sys.stdout.write(f"{name} {'is stale: run `make generated`' if check else 'written'}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
