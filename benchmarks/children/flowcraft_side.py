"""FlowCraft: `python -m benchmarks.children.flowcraft_side KIND COUNT SIZE FOLDER`, or `... resume RUN SIZE FOLDER`.

KIND is row (each stage takes the result of the one before), once (all from the start) or list (elements of one stage, 64 at
a time); a result is a text of SIZE characters, or a small number where SIZE is 0. With BENCH_KILL_AT=n in the environment
the n-th element kills the process, as a power cut would. With BENCH_BODY the stages of a row and of once are commands (shell),
groups of two functions (group), other workflows of one function (uses) or functions that are tried three times (until); with
prompt the elements of a list are prompts, answered at once by a provider in the same process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

CODE = """
import os, time

KILL_AT = int(os.environ.get("BENCH_KILL_AT", "0"))
FIRST = os.environ.get("BENCH_FIRST", "")
calls = 0


def work(name: str, size: int, before: str | None = None) -> str:
    global calls
    calls += 1
    if calls == KILL_AT:
        os.kill(os.getpid(), 9)
    if FIRST and calls == 1:
        with open(FIRST, "w") as file:
            file.write(repr(time.monotonic()))
    return f"{name} " + "x" * size
"""


PART = {
    "flowcraft": 1,
    "inputs": {"name": "string", "size": "integer", "before": "string | null"},
    "stages": {
        "work": {"run": "work:work", "with": {name: f"${{{{ inputs.{name} }}}}" for name in ("name", "size", "before")}}
    },
    "outputs": {"text": "${{ work }}"},
}


FIELD = {"uses": ".text", "group": "['s{before}_b']"}
"""Where the text lies in what a stage gives."""


def stage(name: str, given: dict[str, Any], body: str) -> dict[str, Any]:
    """A stage that makes a text, by another body than a plain function too."""
    if body == "shell":
        return {"shell": 'printf "%s %0${size}d" "$name" 0', "with": given, "output": "string"}
    if body == "uses":
        return {"uses": "part.yaml", "with": given}
    called = {"run": "work:work", "with": given}
    if body == "group":
        behind = {**called, "with": {**given, "before": f"${{{{ {name}_a }}}}"}}
        return {"stages": {f"{name}_a": called, f"{name}_b": behind}}
    if body == "until":
        return {**called, "until": "iteration >= 3", "max": 3}
    return called


def workflow(kind: str, count: int, size: int) -> dict[str, Any]:
    """The workflow as data; JSON is YAML."""
    own = os.environ.get("BENCH_BODY", "")
    if kind == "list":
        called = {"run": "work:work", "with": {"name": "${{ item }}", "size": size}}
        body = {"prompt": "${{ item }}", "model": "fake:any"} if own == "prompt" else called
        stages = {"work": {"each": "inputs.elements", "parallel": 64, **body}}
        return {"flowcraft": 1, "inputs": {"elements": ["string"]}, "stages": stages}
    stages = {}
    for number in range(count):
        given: dict[str, Any] = {"name": f"s{number}", "size": size}
        if kind == "row" and number:
            field = FIELD.get(own, "").format(before=number - 1)
            given["before"] = f"${{{{ s{number - 1}{field} }}}}"
        stages[f"s{number}"] = stage(f"s{number}", given, own)
    return {"flowcraft": 1, "stages": stages}


def prepare(folder: Path, kind: str, count: int, size: int) -> Path:
    (folder / "work.py").write_text(CODE, encoding="utf-8")
    (folder / "part.yaml").write_text(json.dumps(PART), encoding="utf-8")
    path = folder / f"{kind}-{count}.yaml"
    path.write_text(json.dumps(workflow(kind, count, size), indent=1), encoding="utf-8")
    settings = f"storage: sqlite:///{folder}/flowcraft.db\nproviders: {{fake: {{}}}}\n"
    (folder / "settings.yaml").write_text(settings, encoding="utf-8")
    return path


def answering(size: int) -> type:
    """A provider that answers at once, with so many characters."""
    from flowcraft.plugin import ChatRequest, ChatResponse, Provider, Usage

    class Answering(Provider):
        name = "fake"

        async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
            text = f"{request.last_text} " + "x" * size
            return ChatResponse(text=text, model=model, usage=Usage(input=10, output=size // 4), usd=0.0)

    return Answering


async def measure(kind: str, count: int, size: int, folder: Path) -> dict[str, Any]:
    from flowcraft import FlowCraft

    warm, path = prepare(folder, "row", 2, size), prepare(folder, kind, count, size)
    inputs = {"elements": [f"e{number}" for number in range(count)]} if kind == "list" else {}
    async with FlowCraft(folder / "settings.yaml") as flow:
        flow.register_provider("fake", answering(size))
        await flow.run(warm)
        gc.collect()  # of what was loaded and warmed up, which is not what is measured; on every side
        begun = time.perf_counter()
        loaded = flow.load(path)
        between, worked = time.perf_counter(), time.process_time()
        result = await flow.run(loaded, inputs, on_start=lambda run: (folder / "run").write_text(run) and None)
        seconds, cpu = time.perf_counter() - between, time.process_time() - worked
    assert result.state == "done", result.error
    return {"seconds": seconds, "cpu": cpu, "loading": between - begun, **memory()}


async def resume(run: str, folder: Path) -> dict[str, Any]:
    from flowcraft import FlowCraft

    begun = time.perf_counter()
    async with FlowCraft(folder / "settings.yaml") as flow:
        result = await flow.resume(run)
    assert result.state == "done", result.error
    return {"seconds": time.perf_counter() - begun, **memory()}


def memory() -> dict[str, float]:
    return {"megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    kind, count, size, folder = sys.argv[1:]
    os.chdir(folder)
    if kind == "resume":
        print(json.dumps(asyncio.run(resume(count, Path(folder)))))
    else:
        print(json.dumps(asyncio.run(measure(kind, int(count), int(size), Path(folder)))))
