"""The executor agent on a real server: what the model asks of files is done in the folder, and nowhere else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft import FlowCraft
from flowcraft.crewai import create_executor_agent
from flowcraft.plugin import ToolCall
from flowcraft.testing import FaultServer, Reply
from flowcraft.tools import Workspace

crewai = pytest.importorskip("crewai", reason="the library crewai is not installed: make test-crewai")

pytestmark = [
    pytest.mark.crewai,
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # CrewAI reads what it and pydantic have deprecated
]


@pytest.fixture
def settings(server: FaultServer, tmp_path: Path) -> Path:
    page = {
        "storage": f"sqlite:///{tmp_path}/calls.db",
        "providers": {"local": {"type": "openai", "base_url": server.url, "api_key": "key", "models": {}}},
        "llm": {"model_roles": {"primary": ["local:a"]}, "retry_attempts": 0},
    }
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(page), "utf-8")
    return file


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "app.py").write_text("def add(a, b):\n    return a - b\n", "utf-8")
    (tmp_path / "secret.txt").write_text("the secret", "utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    return folder


def wish(name: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=[ToolCall(id="call_1", name=name, arguments=json.dumps(arguments))])


def crew(agent: Any) -> Any:
    task = crewai.Task(description="Mend the sum", expected_output="what was changed", agent=agent)
    return crewai.Crew(agents=[agent], tasks=[task])


def told(server: FaultServer) -> list[str]:
    """What the model was told by tools, in order."""
    return [str(item["content"]) for item in server.requests[-1].body["messages"] if item["role"] == "tool"]


PATCH = {"path": "app.py", "old": "a - b", "new": "a + b"}


def test_files_are_changed_as_the_model_asks(server: FaultServer, settings: Path, project: Path) -> None:
    server.script(
        "a",
        wish("list_files"),
        wish("read_file", path="app.py"),
        wish("patch_file", **PATCH),
        wish("read_file", path="app.py"),
        wish("write_file", path="tests/test_app.py", content="assert True\n"),
        wish("run_command", argv=["cat", "tests/test_app.py"]),
        "Mended.",
    )
    agent = create_executor_agent(project, config_path=settings, commands=["cat"])
    assert crew(agent).kickoff().raw == "Mended."
    assert (project / "app.py").read_text("utf-8") == "def add(a, b):\n    return a + b\n"
    assert (project / "tests" / "test_app.py").read_text("utf-8") == "assert True\n"
    listed, before, patch, after, written, command = told(server)
    assert json.loads(listed) == ["app.py", "link.txt"]
    assert ("a - b" in before, "a + b" in after) == (True, True)
    assert "-    return a - b\n+    return a + b\n" in patch
    assert "+assert True" in written
    assert json.loads(command) == {"exit_code": 0, "stdout": "assert True\n", "stderr": ""}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_ways_out_are_refused_and_the_model_is_told(
    server: FaultServer, settings: Path, project: Path, asynchronous: bool
) -> None:
    server.script(
        "a",
        wish("read_file", path="../secret.txt"),
        wish("read_file", path="link.txt"),
        wish("write_file", path="/tmp/out.txt", content="x"),
        wish("write_file", path=".git/hooks/pre-commit", content="x"),
        wish("run_command", argv=["cat", "../secret.txt"]),
        wish("run_command", argv=["sh", "-c", "id"]),
        wish("read_file"),
        "I could not.",
    )
    agent = create_executor_agent(project, config_path=settings, commands=["cat"])
    result = asyncio.run(crew(agent).akickoff()) if asynchronous else crew(agent).kickoff()
    assert result.raw == "I could not."
    answers = told(server)
    reasons = ["'..'", "link", "absolute", "version control", "'..'", "none of the programs", "path"]
    assert [(reason in answer, "rror" in answer) for reason, answer in zip(reasons, answers, strict=True)] == [(True, True)] * 7
    assert "the secret" not in json.dumps([request.body for request in server.requests])
    assert sorted(path.name for path in project.iterdir()) == ["app.py", "link.txt"]


def test_interrupt_ends_the_command_that_is_waited_for(settings: Path, project: Path) -> None:
    os.mkfifo(project / "started")
    agent = create_executor_agent(project, config_path=settings, commands=["sh"])
    command = next(tool for tool in agent.tools if tool.name == "run_command")

    def interrupt() -> None:
        (project / "started").read_text("utf-8")  # until the command writes it
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        command.run(argv=["sh", "-c", "echo yes >started; sleep 5; echo yes >finished"])
    thread.join()
    assert not (project / "finished").exists()


def test_dry_agent_shows_the_diff_and_writes_nothing(server: FaultServer, settings: Path, project: Path) -> None:
    server.script("a", wish("patch_file", **PATCH), wish("write_file", path="new.txt", content="new\n"), "It would be so.")
    space = Workspace(project, dry=True)
    crew(create_executor_agent(space, config_path=settings)).kickoff()
    assert "a - b" in (project / "app.py").read_text("utf-8")
    assert not (project / "new.txt").exists()
    assert ["nothing was written" in answer for answer in told(server)] == [True, True]
    assert "+    return a + b\n" in space.diff
    assert "+new\n" in space.diff


def test_agent_is_as_the_caller_says(settings: Path, project: Path, server: FaultServer) -> None:
    agent = create_executor_agent(project, config_path=settings, role="Mender", max_iter=3)
    assert (agent.role, agent.max_iter, agent.allow_delegation) == ("Mender", 3, False)
    assert [tool.name for tool in agent.tools] == ["read_file", "list_files", "search", "write_file", "patch_file"]
    own = crewai.LLM(model="gpt-4o", api_key="x", base_url=server.url)
    assert create_executor_agent(project, use_llm_manager=False, llm=own).llm is own


def test_use_parallel_lets_two_models_answer_where_no_tool_is_called(
    server: FaultServer, settings: Path, project: Path
) -> None:
    page = yaml.safe_load(settings.read_text("utf-8"))
    page["llm"] |= {"model_roles": {"primary": ["local:a", "local:b"]}, "judge": {"model": "local:j"}}
    settings.write_text(yaml.safe_dump(page), "utf-8")
    server.script("j", json.dumps({"winner": "tie", "reason": "both"}))
    for parallel, asked in ((False, 1), (True, 2)):
        create_executor_agent(project, True, parallel, config_path=settings).llm.call("hello")
        assert len({request.body["model"] for request in server.requests} & {"a", "b"}) == asked


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"llm": "gpt-4o"}, "use_llm_manager=False"),
        ({"use_llm_manager": False, "use_parallel": True}, "the LLM manager's"),
        ({"commands": ["no-such-program"]}, "no program"),
        ({"commands": ["./app.py"]}, "neither"),
    ],
)
def test_arguments_that_do_not_go_are_refused(project: Path, options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        create_executor_agent(project, **options)
    with pytest.raises(ValueError, match="settles"):
        create_executor_agent(Workspace(project), dry=True)


def test_example_serves_an_agent_as_well(
    server: FaultServer, settings: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workflow's own tools, with CrewAI's agent in the place of the plain loop."""
    example = Path(__file__).parents[2] / "workflows" / "executor"
    (tmp_path / "executor.py").write_text(example.with_suffix(".py").read_text("utf-8"), "utf-8")
    page = yaml.safe_load(example.with_suffix(".yaml").read_text("utf-8"))
    page["agents"] = {"mender": {"role": "Executor", "goal": "Carry out what is asked"}}
    del page["stages"]["work"]["system"]
    page["stages"]["work"]["agent"] = "mender"
    (tmp_path / "executor.yaml").write_text(yaml.safe_dump(page, sort_keys=False), "utf-8")
    monkeypatch.setenv("EXECUTOR_FOLDER", str(project))
    end = {"done": True, "report": "mended", "files": ["app.py"]}
    server.script("a", wish("patch_file", **PATCH), wish("read_file", path="../secret.txt"), json.dumps(end))

    async def run() -> Any:
        async with FlowCraft(settings) as flow:
            return await flow.run(tmp_path / "executor.yaml", {"task": "Mend the sum"})

    outputs = asyncio.run(run()).outputs
    assert "+    return a + b\n" in outputs.pop("diff")
    assert outputs == end
    assert "a + b" in (project / "app.py").read_text("utf-8")
    assert "the secret" not in json.dumps([request.body for request in server.requests])
