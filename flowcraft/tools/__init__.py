"""Tools for models: Python functions, what plugins offer, and MCP servers."""

from __future__ import annotations

from flowcraft.tools.functions import function_tool
from flowcraft.tools.servers import can_serve
from flowcraft.tools.toolbox import Toolbox

__all__ = ["Toolbox", "can_serve", "function_tool"]
