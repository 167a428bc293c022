"""The library crewai, loaded by us, neither reports home nor changes the process; nor does the end of the process wait.

How long that end takes is measured: ``python -m benchmarks crewai``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from flowcraft.testing import FaultServer

pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

pytestmark = [pytest.mark.crewai, pytest.mark.integration]

BLOCKED = """
import socket, sys
attempts = []

def seen(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect"):
        address = args[1] if event == "socket.connect" else args[0]
        local = isinstance(address, (bytes, str)) and event == "socket.connect"  # a socket of this machine
        if not local and "127.0.0.1" not in str(address):
            attempts.append([event, str(address)])
            raise OSError("the network is blocked")

sys.addaudithook(seen)
"""

WORK = """
import atexit, json, os, signal, threading, warnings
atexit.register(lambda: at_the_end())
before = (warnings.warn, dict(os.environ), {number: signal.getsignal(number) for number in (1, 2, 15, 18, 20)})
IMPORTS
llm = create_llm_for_crewai(sys.argv[1])
from crewai import Agent, Crew, Task
one = Agent(role="Writer", goal="Write", backstory="Clear", llm=llm)
task = Task(description="Write", expected_output="text", agent=one)
raw = Crew(agents=[one], tasks=[task]).kickoff().raw
after = (warnings.warn, dict(os.environ), {number: signal.getsignal(number) for number in (1, 2, 15, 18, 20)})
from opentelemetry import trace
sys.stdout.write("\\n" + json.dumps({
    "raw": raw,
    "attempts": attempts,
    "warn": before[0] is after[0],
    "environment": sorted(set(after[1]) - set(before[1])),
    "signals": before[2] == after[2],
    "tracing": type(trace.get_tracer_provider()).__name__,
    "exporters": [thread.name for thread in threading.enumerate() if "Otel" in thread.name or "BatchSpan" in thread.name],
    "left": [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
             and not thread.name.startswith(("ThreadPool", "asyncio", "CrewAI"))],
}) + "\\n")

def at_the_end():  # registered first, so called last: behind all that others do at the end
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    sys.stdout.write(json.dumps({"attempts": attempts, "left": left}))

"""


OURS_FIRST = "from flowcraft.crewai import create_llm_for_crewai"
THEIRS_FIRST = "import crewai\nfrom flowcraft.crewai import create_llm_for_crewai"


def run(folder: Path, server: FaultServer, imports: str, **environment: str) -> dict[str, Any]:
    """Run a crew in a process of its own, off the network; return what it found, its end included."""
    page = {
        "storage": f"sqlite:///{folder}/calls.db",
        "providers": {"local": {"type": "openai", "base_url": server.url, "api_key": "key"}},
        "llm": {"default_model": "local:a"},
    }
    (folder / "settings.yaml").write_text(json.dumps(page))
    (folder / ".env").write_text("FROM_A_FILE=1\n")
    program = folder / "program.py"
    program.write_text(BLOCKED + WORK.replace("IMPORTS", imports))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, str(program), str(folder / "settings.yaml")],
        cwd=folder,
        env={**kept, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-2])
    found["at the end"] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_no_look_up_no_signal_handler_and_nothing_that_the_end_of_the_process_waits_for(
    tmp_path: Path, server: FaultServer
) -> None:
    server.script("a", "fine")
    found = run(tmp_path, server, OURS_FIRST)
    assert found["raw"] == "fine"
    assert found["attempts"] == []
    assert found["signals"] is True
    assert found["warn"] is True
    assert set(found["environment"]) <= {
        "CREWAI_DISABLE_TELEMETRY",
        "CREWAI_TRACING_ENABLED",
        "CREWAI_DISABLE_VERSION_CHECK",
    }
    assert found["tracing"] == "ProxyTracerProvider", "the program's own tracing is not set"
    assert found["exporters"] == []
    assert found["left"] == [], "threads that the process would wait for"
    assert found["at the end"] == {"attempts": [], "left": []}


def test_the_same_where_the_program_has_loaded_the_library_first(tmp_path: Path, server: FaultServer) -> None:
    server.script("a", "fine")
    found = run(tmp_path, server, THEIRS_FIRST)
    assert found["raw"] == "fine"
    assert found["attempts"] == []
    assert found["signals"] is True
    assert found["exporters"] == []
    assert found["left"] == [], "threads that the process would wait for"
    assert found["at the end"] == {"attempts": [], "left": []}


RUN = """
import atexit, json, os, signal, sys, threading
from pathlib import Path
signals = [signal.getsignal(number) for number in (1, 15, 18, 20)]

def at_the_end():
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()]
    taken = [signal.getsignal(number) for number in (1, 15, 18, 20)] != signals
    found = {"loaded": "crewai" in sys.modules, "attempts": attempts, "left": left, "taken": taken}
    Path("found.json").write_text(json.dumps(found))

atexit.register(at_the_end)
from flowcraft.cli import main
sys.argv = ["flowcraft", "run", "flow.yaml"]
main()
"""


def test_a_run_of_a_workflow_with_an_agent_is_as_quiet(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(f"storage: sqlite:///{tmp_path}/runs.db\n")
    agents = "agents: {writer: {role: Writer, goal: Write, backstory: Clear}}"
    stages = "stages: {draft: {prompt: Write, agent: writer, model: offline}}"
    (tmp_path / "flow.yaml").write_text(f"flowcraft: 1\n{agents}\n{stages}\n")
    program = tmp_path / "program.py"
    program.write_text(BLOCKED + RUN)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**kept, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == {"loaded": True, "attempts": [], "left": [], "taken": False}


def test_the_users_own_tracing_goes_on(tmp_path: Path) -> None:
    program = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    from flowcraft.crewai.library import load_library
    load_library()
    with trace.get_tracer("mine").start_as_current_span("work"):
        pass
    assert trace.get_tracer_provider() is provider
    assert [span.name for span in kept.get_finished_spans()] == ["work"]
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_the_user_sets_is_left_as_it_is(tmp_path: Path, server: FaultServer) -> None:
    server.script("a", "fine")
    found = run(tmp_path, server, OURS_FIRST, CREWAI_DISABLE_VERSION_CHECK="false", OTEL_SDK_DISABLED="true")
    assert "CREWAI_DISABLE_VERSION_CHECK" not in found["environment"]
    assert found["raw"] == "fine"


def test_the_import_takes_back_what_it_reads_from_a_file_and_nothing_of_what_other_threads_set(tmp_path: Path) -> None:
    program = """
    import os, sys, threading, time
    def meanwhile():
        while "crewai" not in sys.modules:
            time.sleep(0.001)
        os.environ["OF_ANOTHER_THREAD"] = "1"
        os.environ["TAKEN_BACK"] = "another value"
    thread = threading.Thread(target=meanwhile)
    thread.start()
    from flowcraft.crewai.library import load_library
    import dotenv
    load_library()
    thread.join()
    assert os.environ["OF_ANOTHER_THREAD"] == "1"
    assert os.environ["TAKEN_BACK"] == "another value"
    assert not {"FROM_A_FILE", "BUILT", "TOKENIZERS_PARALLELISM"} & os.environ.keys()
    dotenv.load_dotenv(".env")
    assert os.environ["BUILT"] == "1 and more", "the file is one that the import reads"
    """
    (tmp_path / ".env").write_text("FROM_A_FILE=1\nBUILT=${FROM_A_FILE} and more\nTAKEN_BACK=x\n")
    command = [sys.executable, "-c", textwrap.dedent(program)]  # without a file of its own: .env is looked for where it stands
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def alone(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that stands in no file: its ``.env`` is looked for where the process stands."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


LOADED = """
import os
from flowcraft.crewai.library import load_library
load_library()
assert "FROM_A_FILE" not in os.environ, os.environ["FROM_A_FILE"]
"""


def test_names_of_the_file_above_a_folder_that_is_called_so_are_taken_back_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FROM_A_FILE=1\n")
    (tmp_path / "project" / ".env").mkdir(parents=True)  # as some call their virtual environment
    done = alone(LOADED, tmp_path / "project")
    assert done.returncode == 0, done.stderr


def test_names_that_stand_in_two_files_are_taken_back(tmp_path: Path) -> None:
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".env").write_text(f"FROM_A_FILE={name}\n")
    files = [str(tmp_path / name / ".env") for name in ("near", "far")]
    program = f"from flowcraft.crewai import library\nlibrary._env_files = lambda: {files!r}\n{LOADED}"
    done = alone(program, tmp_path / "near")
    assert done.returncode == 0, done.stderr


def test_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("NAME=caf\u00e9\n".encode("latin-1"))
    done = alone(LOADED, tmp_path)
    assert f"PluginError: the library crewai reads {tmp_path / '.env'} when it loads, and that is not UTF-8" in done.stderr
