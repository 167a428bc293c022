"""Tools for models: Python functions, what plugins offer, and MCP servers."""

from __future__ import annotations

from flowcraft.tools.functions import function_tool
from flowcraft.tools.servers import can_serve
from flowcraft.tools.toolbox import Toolbox
from flowcraft.tools.workspace import Workspace

__all__ = ["Toolbox", "Workspace", "can_serve", "function_tool"]
