"""The environment names of a workflow: where they are read, and when it matters that one is not set."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowcraft import FlowCraft
from flowcraft.errors import SettingsError, WorkflowError
from flowcraft.settings import Settings, load_settings
from flowcraft.workflow import load_workflow

pytestmark = pytest.mark.integration

WORKFLOW = """flowcraft: 1
env: [TOKEN_OF_TESTS]
stages:
  first: {run: "steps:length", with: {text: "${{ env.TOKEN_OF_TESTS }}"}}
  second: {needs: [first], run: "steps:wait_for", with: {text: "${{ env.TOKEN_OF_TESTS }}"}}
"""
STEPS = """
from pathlib import Path

FOLDER = Path(__file__).parent

def length(text: str) -> int:
    return len(text)

def wait_for(text: str) -> int:
    if not (FOLDER / "ready").exists():
        raise RuntimeError("not yet")
    return len(text)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKEN_OF_TESTS", raising=False)
    (tmp_path / "flow.yaml").write_text(WORKFLOW)
    (tmp_path / "steps.py").write_text(STEPS)
    return tmp_path


def opened(folder: Path, **environ: str) -> FlowCraft:
    environ = {"FLOWCRAFT_STORAGE": f"sqlite:///{folder}/runs.db", **environ}
    return FlowCraft(load_settings(environ=environ, cwd=folder))


async def test_names_of_a_workflow_are_read_from_dotenv_in_run_and_resume(folder: Path) -> None:
    (folder / ".env").write_text("TOKEN_OF_TESTS=0123456789\n")
    async with opened(folder) as flow:
        failed = await flow.run(folder / "flow.yaml")
    (folder / "ready").touch()
    async with opened(folder) as flow:
        done = await flow.resume(failed.run)

    assert (failed.state, done.state, done.outputs) == ("failed", "done", {"second": 10})


async def test_process_comes_before_dotenv(folder: Path) -> None:
    (folder / ".env").write_text("TOKEN_OF_TESTS=0123456789\n")
    (folder / "ready").touch()
    async with opened(folder, TOKEN_OF_TESTS="0123456") as flow:
        assert (await flow.run(folder / "flow.yaml")).outputs == {"second": 7}


async def test_value_that_is_too_short_to_be_hidden_is_warned_about(folder: Path) -> None:
    async with opened(folder, TOKEN_OF_TESTS="12345") as flow:
        (doubt,) = flow.check(flow.load(folder / "flow.yaml"))

    assert str(doubt).startswith(f"{folder}/flow.yaml:2:7: warning: the value of 'TOKEN_OF_TESTS' is so short")
    assert "12345" not in str(doubt)


async def test_unknown_model_in_place_of_all_is_told_before_anything_starts(folder: Path) -> None:
    (folder / "flow.yaml").write_text("flowcraft: 1\nstages: {a: {prompt: hello}}\n")
    async with opened(folder) as flow:
        with pytest.raises(SettingsError, match="unknown model or tier 'ofline'; did you mean 'offline'"):
            await flow.run(folder / "flow.yaml", model="ofline")


async def test_a_provider_that_is_misspelt_is_told_before_its_model_is_asked_of_another(folder: Path) -> None:
    (folder / "flow.yaml").write_text("flowcraft: 1\nstages: {a: {prompt: hello}}\n")
    address = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "k"}
    async with FlowCraft(Settings(providers={"local": address}, llm={"default_provider": "local"})) as flow:
        with pytest.raises(
            SettingsError, match=r"no provider is called 'locl'; did you mean 'local:any'\? \(a model whose own"
        ):
            await flow.run(folder / "flow.yaml", model="locl:any")
        flow.workflows.check_model("llama3:8b")
        flow.workflows.check_model("local:locl:any")


@pytest.mark.parametrize("environ", [{}, {"TOKEN_OF_TESTS": ""}], ids=["unset", "empty"])
async def test_name_that_is_not_set_is_a_warning_until_a_run_starts(folder: Path, environ: dict[str, str]) -> None:
    async with opened(folder, **environ) as flow:
        workflow = load_workflow(folder / "flow.yaml")
        (doubt,) = flow.check(workflow)
        (problem,) = flow.check(workflow, starting=True)
        with pytest.raises(WorkflowError, match="TOKEN_OF_TESTS"):
            await flow.run(workflow)
        with pytest.raises(WorkflowError, match=r"flow\.yaml:2:7: the environment name 'TOKEN_OF_TESTS' is not set"):
            await flow.run(folder / "flow.yaml")

    assert (doubt.warning, problem.warning) == (True, False)
    assert doubt.message == problem.message
