"""A drawing as a Mermaid flowchart, for pages that draw such."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

from flowcraft.drawing.drawing import Block, Box, Drawing

_SHAPES = {
    "run": ("[[", "]]"),
    "shell": ("[[", "]]"),
    "uses": ("[[", "]]"),
    "approve": ("{{", "}}"),
    "inputs": ("([", "])"),
    "outputs": ("([", "])"),
}
_STATES = {
    "done": "fill:#dcfce7,stroke:#16a34a,color:#14532d",
    "reused": "fill:#f0fdf4,stroke:#86efac,color:#14532d",
    "running": "fill:#dbeafe,stroke:#2563eb,color:#1e3a8a",
    "waiting": "fill:#fef3c7,stroke:#d97706,color:#78350f",
    "skipped": "fill:#f4f4f5,stroke:#a1a1aa,color:#52525b,stroke-dasharray:4 3",
    "failed": "fill:#fee2e2,stroke:#dc2626,color:#7f1d1d",
    "stopped": "fill:#ffedd5,stroke:#ea580c,color:#7c2d12",
    "not reached": "fill:#fafafa,stroke:#d4d4d8,color:#a1a1aa",
}
_ESCAPED = {letter: f"#{ord(letter)};" for letter in '"#&;<>`\\%'}
"""Within quotes Mermaid reads entities, HTML, Markdown and directives: what could begin one is written as its number."""


def mermaid(drawing: Drawing) -> str:
    """Return a drawing as text of Mermaid (``flowchart TD``)."""
    return "\n".join(_Writer().whole(drawing)) + "\n"


class _Writer:
    """Writes one flowchart. Nodes are named by number, so that no stage's name can be a word of Mermaid."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.ids: dict[str, str] = {}
        self.states: dict[str, list[str]] = {}

    def whole(self, drawing: Drawing) -> Iterator[str]:
        """Yield all lines."""
        title = drawing.name if drawing.run is None else f"{drawing.name} · run {drawing.run.id} · {drawing.run.state}"
        yield "---"
        yield f"title: {json.dumps(title, ensure_ascii=False)}"
        yield "---"
        yield "flowchart TD"
        yield from self.block(drawing.stages, "  ")
        if drawing.last.boxes:
            yield f'  subgraph {self.named("(finally)")}["finally"]'
            yield from self.block(drawing.last, "    ")
            yield "  end"
        for state, nodes in self.states.items():
            name = state.replace(" ", "_")
            yield f"  classDef {name} {_STATES[state]}"
            yield f"  class {','.join(nodes)} {name}"

    def named(self, found: str) -> str:
        """Return the node of a box."""
        if found not in self.ids:
            self.ids[found] = f"n{next(self.numbers)}"
        return self.ids[found]

    def block(self, block: Block, indent: str) -> Iterator[str]:
        """Yield the nodes of a block, then its lines."""
        boxes = [box for box in block.boxes if box.kind != "outputs" or box.notes]
        for box in boxes:
            node = self.named(box.id)
            if box.told is not None:
                self.states.setdefault(box.told.state, []).append(node)
            if box.inside is not None:
                yield f'{indent}subgraph {node}["{label(box)}"]'
                yield from self.block(box.inside, indent + "  ")
                yield f"{indent}end"
            else:
                opening, closing = _SHAPES.get(box.kind, ("[", "]"))
                yield f'{indent}{node}{opening}"{label(box)}"{closing}'
        for line in block.lines:
            yield f"{indent}{self.ids[line.source]} {'-->' if line.data else '-.->'} {self.ids[line.target]}"


def label(box: Box) -> str:
    """Return what stands in a node: name and kind, conditions, what became of it; each on a line."""
    lines = [box.name, ", ".join(box.notes)] if box.kind in ("inputs", "outputs") else [f"{box.name} · {box.kind}", *box.notes]
    if box.told is not None:
        lines.append(" · ".join([box.told.state, *box.told.facts]))
    return "<br>".join(escaped(line) for line in lines if line)


def escaped(text: str) -> str:
    """Return a text that Mermaid shows as it is, within quotes."""
    return "".join(_ESCAPED.get(letter, letter) for letter in text)
