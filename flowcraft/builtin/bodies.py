"""The built-in stage bodies, by path: each is imported when the engine asks for it."""

from __future__ import annotations

from flowcraft.plugin.hooks import hookimpl


@hookimpl
def flowcraft_stage_bodies() -> list[str]:
    """Return the paths of ``prompt``, ``run``, ``shell``, ``uses``, ``approve`` and ``stages``."""
    return [
        "flowcraft.engine.bodies.prompt:PromptBody",
        "flowcraft.engine.bodies.run:RunBody",
        "flowcraft.engine.bodies.shell:ShellBody",
        "flowcraft.engine.bodies.uses:UsesBody",
        "flowcraft.engine.bodies.approve:ApproveBody",
        "flowcraft.engine.bodies.group:GroupBody",
    ]
