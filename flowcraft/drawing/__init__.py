"""A workflow as a picture: ``draw`` makes it data, the others write it. Knows no run but what it is told of one."""

from flowcraft.drawing.artist import draw
from flowcraft.drawing.drawing import Block, Box, Drawing, Line, RunTold, Told
from flowcraft.drawing.mermaid import mermaid
from flowcraft.drawing.svg import svg
from flowcraft.drawing.terminal import Span, TextLine, terminal

__all__ = ["Block", "Box", "Drawing", "Line", "RunTold", "Span", "TextLine", "Told", "draw", "mermaid", "svg", "terminal"]
