"""How long a process takes to end once its work with CrewAI is done, beside one that only imports the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.measure import Target, interleaved, median, show
from flowcraft.testing import FaultServer

BARE = "import crewai, sys, time\nsys.stdout.write(repr(time.time()))"
OURS = """
import sys, time
from flowcraft.crewai import create_llm_for_crewai
llm = create_llm_for_crewai(sys.argv[1])
from crewai import Agent, Crew, Task
one = Agent(role="Writer", goal="Write", backstory="Clear", llm=llm)
Crew(agents=[one], tasks=[Task(description="Write", expected_output="text", agent=one)]).kickoff()
sys.stdout.write(repr(time.time()))
"""
STAGE = """
import asyncio, sys, time
from flowcraft import FlowCraft
async def main():
    async with FlowCraft(sys.argv[1]) as flow:
        result = await flow.run(sys.argv[2], {})
        assert result.state == "done", result.error
asyncio.run(main())
sys.stdout.write(repr(time.time()))
"""
FLOW = """
flowcraft: 1
agents: {writer: {role: Writer, goal: Write, backstory: Clear}}
stages: {draft: {prompt: Write, agent: writer}}
"""


def main(rounds: int = 5) -> None:
    """Measure from the end of the work to the end of the process, after one round that is not counted."""
    if find_spec("crewai") is None:
        print("crewai: the library is not installed here; run it in the environment of `make test-crewai`\n")
        return
    with tempfile.TemporaryDirectory(prefix="flowcraft-bench-") as folder, FaultServer(api_key="key") as server:
        path = Path(folder)
        provider = {"type": "openai", "base_url": server.url, "api_key": "key"}
        page = {
            "storage": f"sqlite:///{path}/flowcraft.db",
            "providers": {"local": provider},
            "llm": {"default_model": "local:a"},
        }
        (path / "settings.yaml").write_text(json.dumps(page), "utf-8")
        (path / "flow.yaml").write_text(FLOW, "utf-8")
        given = (str(path / "settings.yaml"), str(path / "flow.yaml"))
        programs = {"import crewai": BARE, "a crew on our LLM": OURS, "a stage with an agent": STAGE}
        calls = {name: partial(ending, program, folder, *given) for name, program in programs.items()}
        interleaved(calls, 1)
        found = {name: median(times) for name, times in interleaved(calls, rounds).items()}
    bare = found["import crewai"]
    rows = [
        (name, seconds, seconds - bare, Target(value=seconds, limit=2) if name != "import crewai" else "")
        for name, seconds in found.items()
    ]
    show(f"End of a process with CrewAI, s, medians of {rounds} rounds", ("", "whole", "above import", "target"), rows)


def ending(program: str, folder: str, *given: str) -> float:
    """Return the seconds from the end of a program's work to the end of its process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI_", "OTEL_"))}
    env = {**kept, "HOME": folder, "CREWAI_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-c", program, *given], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    ended = time.time()
    if done.returncode:
        raise RuntimeError(done.stderr)
    return ended - float(done.stdout.split()[-1])
