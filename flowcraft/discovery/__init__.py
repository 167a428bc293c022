"""Plugins: which there are, what they offer. One that is broken never takes down another.

Metadata is read first; a module is imported when something of it is needed, in a daemon thread with a limit, and every hook
is called in a guard of its own. An import that holds the interpreter's lock cannot be cut off.
"""

from flowcraft.discovery.metadata import PluginState, State
from flowcraft.discovery.plugins import Plugins, discover

__all__ = ["PluginState", "Plugins", "State", "discover"]
