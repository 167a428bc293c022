"""One question to a model on the loopback: the chain beside the vendor's SDK, other routers, and a bare HTTP client."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Target, answer, environment, in_folder, interleaved, median, show

CHILD = "benchmarks.children.calls_side"
SIDES = {
    "FlowCraft, the chain": "flowcraft",
    "FlowCraft, the provider alone": "provider",
    "openai SDK": "sdk",
    "litellm.Router with fallbacks": "litellm",
    "pydantic-ai FallbackModel": "pydantic_ai",
    "LangChain with_fallbacks": "langchain",
    "aiohttp": "aiohttp",
}
CALLS = 1500
AT_ONCE = 32
CHUNKS = 1000
STREAMS = 20
MANY = 100_000


def main(rounds: int = 7) -> None:
    """Measure against one server, in a process of its own."""
    with served() as url:
        side_by_side(url, rounds)
        streams(url, rounds)
        memory(url)


def one(side: str, url: str, count: int) -> Callable[[], dict[str, Any]]:
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    return in_folder(lambda folder: answer("-m", CHILD, side, url, str(count), str(AT_ONCE), folder, **quiet))


def side_by_side(url: str, rounds: int) -> None:
    found = interleaved({side: one(side, url, CALLS) for side in SIDES.values()}, rounds)
    rates = {side: median(answers, "per_second") for side, answers in found.items()}
    ones = {side: median(answers, "one_ms") for side, answers in found.items()}
    rows = [
        (name, rates[side], rates["flowcraft"] / rates[side], ones[side], ones["flowcraft"] / ones[side])
        for name, side in SIDES.items()
    ]
    columns = ("", "calls/s", "ours by theirs", "one call, ms", "ours by theirs")
    show(f"{AT_ONCE} calls at once, and one after the other", columns, rows)
    targets = [
        ("throughput by the SDK's", Target(value=rates["flowcraft"] / rates["sdk"], limit=2, least=True)),
        ("throughput by litellm's", Target(value=rates["flowcraft"] / rates["litellm"], limit=4, least=True)),
        ("one call by the SDK's", Target(value=ones["flowcraft"] / ones["sdk"], limit=1)),
    ]
    show("The chain, with breaker and persisted statistics", ("", "ratio", "target"), [(n, t.value, t) for n, t in targets])


def streams(url: str, rounds: int) -> None:
    sides = ("chunks-chain", "chunks-provider")
    found = interleaved({side: one(side, url, STREAMS) for side in sides}, rounds)
    chain, provider = (median(found[side], "us") for side in sides)
    added = chain - provider
    row = (chain, provider, added, Target(value=added, limit=20))
    show(f"Streams of {CHUNKS} chunks, us a chunk", ("the chain", "the provider alone", "added", "target"), [row])


def memory(url: str) -> None:
    found = one("memory", url, MANY)()
    ratio = found["late"] / found["early"]
    row = (found["early"], found["late"], ratio, Target(value=ratio, limit=1.1))
    show(f"Memory over {MANY:,} calls, MB", (f"after {MANY // 10:,}", f"after {MANY:,}", "ratio", "target"), [row])


@contextmanager
def served() -> Iterator[str]:
    """The server's address; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="flowcraft-bench-") as folder:
        port = Path(folder, "port")
        command = [sys.executable, "-m", "benchmarks.children.answering_server", str(port), str(CHUNKS)]
        server = subprocess.Popen(command, env=environment(), cwd=ROOT)
        try:
            until = time.monotonic() + 20
            while not (port.exists() and port.read_text()):
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the benchmark's server did not start")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port.read_text()}/v1"
        finally:
            server.kill()
            server.wait()
