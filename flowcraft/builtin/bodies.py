"""The built-in stage bodies and agent runners, by path: each is imported when it is asked for."""

from __future__ import annotations

from flowcraft.plugin.hooks import hookimpl


@hookimpl
def flowcraft_stage_bodies() -> list[str]:
    """Return the paths of ``prompt``, ``crew``, ``run``, ``shell``, ``uses``, ``approve`` and ``stages``."""
    return [
        "flowcraft.engine.bodies.prompt:PromptBody",
        "flowcraft.engine.bodies.crew:CrewBody",
        "flowcraft.engine.bodies.run:RunBody",
        "flowcraft.engine.bodies.shell:ShellBody",
        "flowcraft.engine.bodies.uses:UsesBody",
        "flowcraft.engine.bodies.approve:ApproveBody",
        "flowcraft.engine.bodies.group:GroupBody",
    ]


@hookimpl
def flowcraft_agent_runners() -> list[str]:
    """Return the path of CrewAI's runner, which loads that library when it carries something out."""
    return ["flowcraft.crewai.runner:CrewAIRunner"]
