"""Agents and crews, carried out by the agent runner of an installed plugin: each question and tool call a piece of the run."""

from __future__ import annotations

import importlib
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from flowcraft.app import RunResult
from flowcraft.errors import PluginError, WorkflowError
from flowcraft.plugin import ChatResponse, ToolCall
from flowcraft.testing import FakeProvider

pytestmark = pytest.mark.integration

TOOLS = '''
import pathlib
LOG = pathlib.Path(__file__).with_name("log.txt")

def note(word: str) -> str:
    """Note a word down."""
    with LOG.open("a") as file:
        file.write(f"{word} ")
    return f"noted {word}"

async def add(first: int, second: int) -> int:
    return first + second
'''
AGENTS = """
agents:
  writer: {role: "Writer on {topic}", goal: Write well, backstory: Wrote for years, tools: [steps:note]}
  critic: {role: Critic, goal: "Find faults in ${{ inputs.topic }}"}
"""


def install(site: Path) -> None:
    """Install the example runner as a distribution of its own."""
    site.mkdir()
    shutil.copy(Path(__file__).with_name("chorus.py"), site / "flowcraft_chorus.py")
    info = site / "flowcraft_chorus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flowcraft-chorus\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[flowcraft]\nchorus = flowcraft_chorus\n")
    importlib.invalidate_caches()


class Troupe:
    """A folder with a plugin that carries agents out, and a scripted model."""

    def __init__(self, project):
        self.project = project
        project.steps(TOOLS)

    def open(self, *steps, **settings):
        self.project.fake = FakeProvider(*steps)
        given = {"llm": {"default_model": "fake:one"}, "providers": {"fake": {}}, "agents": {"runner": "chorus"}, **settings}
        return self.project.open(**given)

    async def run(self, workflow: str, *steps, **inputs) -> RunResult:
        async with self.open(*steps) as flow:
            return await self.project.run(workflow, flow, **inputs)

    def paths(self) -> list[str]:
        database = sqlite3.connect(self.project.path / "flowcraft.db")
        try:
            return [path for (path,) in database.execute("SELECT path FROM pieces ORDER BY rowid")]
        finally:
            database.close()

    def asked(self) -> list[str]:
        """All that the model was told, one text for each question."""
        return ["\n".join(message.text for message in request.messages) for request in self.project.fake.requests]


@pytest.fixture
def troupe(project, tmp_path, monkeypatch):
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield Troupe(project)
    sys.modules.pop("flowcraft_chorus", None)


def calling(name: str, **arguments) -> ChatResponse:
    call = ToolCall(id="1", name=name, arguments=json.dumps(arguments))
    return ChatResponse(parts=(call,), finish_reason="tool_calls")


async def test_agent_does_what_the_prompt_says(troupe):
    workflow = f"inputs: {{topic: string}}{AGENTS}stages: {{a: {{agent: writer, prompt: 'Write on ${{{{ inputs.topic }}}}'}}}}"

    result = await troupe.run(workflow, calling("note", word="bees"), "All on bees", topic="bees")

    assert result.state == "done", result.error
    assert result.outputs == {"a": "All on bees"}
    assert troupe.asked()[0] == "Writer on bees. Write well\nWrite on bees"
    assert troupe.paths() == ["a/writer/a[1]", "a/writer/a[1]/tool[0]", "a/writer/a[2]", "a"]
    assert troupe.project.marks() == ["bees"]


CREW = f"""
inputs: {{topic: string}}{AGENTS}stages:
  a:
    crew:
      tasks:
        - {{name: draft, agent: writer, description: "Draft on {{topic}}"}}
        - {{agent: critic, description: Judge the draft., context: [draft], tools: [steps:add]}}
"""


async def test_crew_gives_what_its_last_task_gives(troupe):
    result = await troupe.run(CREW, "A draft", calling("add", first=1, second=2), "Three faults", topic="bees")

    assert result.outputs == {"a": "Three faults"}, result.error
    assert troupe.asked()[1] == "Critic. Find faults in bees\nJudge the draft.\nA draft"
    assert troupe.paths() == ["a/writer/draft[1]", "a/critic/task2[1]", "a/critic/task2[1]/tool[0]", "a/critic/task2[2]", "a"]


async def test_result_with_a_type_is_a_value_of_it(troupe):
    result = await troupe.run(f"{CREW}    output: {{faults: integer}}\n", "A draft", '{"faults": 3, "more": 1}', topic="bees")

    assert result.outputs == {"a": {"faults": 3}}, result.error


async def test_result_that_does_not_fit_fails_the_stage(troupe):
    troupe.project.steps(TOOLS)
    runner = Path(sys.path[0]) / "flowcraft_chorus.py"
    text = runner.read_text().replace("return results[crew.tasks[-1].name]", "return {'faults': 'many'}")
    runner.write_text(text)

    typed = await troupe.run(f"{CREW}    output: {{faults: integer}}\n", "A draft", "{}", topic="bees")
    plain = await troupe.run(CREW, "A draft", "None", topic="bees")

    assert (typed.state, typed.error) == ("failed", "stage a: faults: is no integer (many)") or "faults" in typed.error
    assert "dict instead of text" in plain.error


async def test_what_is_inserted_is_never_rendered_again(troupe):
    await troupe.run(CREW, "${{ inputs.topic }} {topic}", "Done", topic="{topic} ${{ inputs.topic }}")

    assert "Draft on {topic} ${{ inputs.topic }}" in troupe.asked()[0]
    assert troupe.asked()[1].endswith("${{ inputs.topic }} {topic}")


async def test_stage_that_failed_is_done_anew_as_every_body_is(troupe):
    failed = await troupe.run(CREW, "A draft", ValueError("the line is dead"), topic="bees")
    assert failed.state == "failed"
    async with troupe.open("Another draft", "Three faults") as flow:
        result = await flow.resume(failed.run)

    assert result.outputs == {"a": "Three faults"}, result.error
    assert troupe.paths()[-3:] == ["a~2/writer/draft[1]", "a~2/critic/task2[1]", "a"]


async def test_fork_takes_over_what_is_unchanged(troupe):
    workflow = f"{CREW}  b: {{agent: critic, prompt: 'Again: ${{{{ a }}}}'}}\n"
    first = await troupe.run(workflow, "A draft", "Faults", "More faults", topic="bees")
    assert first.state == "done", first.error
    async with troupe.open("Other faults") as flow:
        forked = await flow.fork(first.run, stage="b")

    assert forked.outputs == {"b": "Other faults"}
    assert len(troupe.asked()) == 1


async def test_edited_agent_is_other_work(troupe):
    first = await troupe.run(CREW, "A draft", "Faults", topic="bees")
    edited = troupe.project.write("flow.yaml", "flowcraft: 1\n" + CREW.replace("Write well", "Write badly"))
    async with troupe.open("Bad draft", "Bad faults") as flow:
        forked = await flow.fork(first.run, file=edited)

    assert forked.outputs == {"a": "Bad faults"}
    assert len(troupe.asked()) == 2


async def test_each_until_and_judge(troupe):
    workflow = f"""
    inputs: {{topic: string}}{AGENTS.replace(chr(10), chr(10) + "    ")}
    stages:
      a:
        each: [x, y]
        agent: critic
        prompt: "On ${{{{ item }}}}"
        until: judge.score >= 0.5
        max: 2
        judge: {{rubric: Short.}}
      b: {{agent: writer, prompt: x, needs: [a]}}
    """
    verdicts = ['{"score": 0.1, "reason": "too long"}', '{"score": 0.9, "reason": "short"}']
    result = await troupe.run(workflow, "1", verdicts[0], "2", verdicts[1], "3", verdicts[1], "b", topic="bees")

    assert result.state == "done", result.error
    assert "too long" in "\n".join(troupe.asked())
    assert "a[0]#1/critic/a[1]" in troupe.paths()


async def test_cache_takes_over_what_an_agent_gave(troupe):
    workflow = f"{CREW}    cache: 1h\n"
    await troupe.run(workflow, "A draft", "Faults", topic="bees")
    again = await troupe.run(workflow, topic="bees")

    assert again.outputs == {"a": "Faults"}, again.error


async def test_models_of_agents_answer_for_them(troupe):
    workflow = """
    inputs: {topic: string}
    agents:
      writer: {role: "On {topic}", goal: x, llm: "fake:two"}
      critic: {role: C, goal: x}
    stages:
      a:
        model: fake:three
        crew: {tasks: [{agent: writer, description: x}, {agent: critic, description: "y ${{ inputs.topic }}"}]}
      b: {run: "json:dumps", with: {obj: "${{ run.stages.a.model }}"}}
    """
    result = await troupe.run(workflow, "1", "2", topic="bees")

    assert result.outputs == {"b": '"three"'}, result.error
    assert troupe.project.fake.count("two") == 1
    assert result.stages["a"]["calls"] == 2


async def test_without_the_runner_the_file_is_refused_at_its_place(troupe):
    path = troupe.project.write(
        "flow.yaml", f"flowcraft: 1\ninputs: {{topic: string}}{AGENTS}stages:\n  a: {{agent: writer, prompt: x}}\n"
    )
    async with troupe.open(agents={"runner": "choir"}) as flow:
        with pytest.raises(WorkflowError) as raised:
            flow.load(path)
        warned = flow.workflows.read(path)
        told = [problem for problem in flow.check(warned) if "runner" in problem.message]

    (problem,) = raised.value.problems
    assert "no plugin offers the agent runner 'choir'" in problem.message
    assert "did you mean 'chorus'?" in problem.message
    assert (problem.line, problem.column) == (7, 7)
    assert [one.warning for one in told] == [True]


async def test_run_is_not_taken_over_where_its_runner_is_gone(troupe):
    failed = await troupe.run(CREW, ValueError("the line is dead"), topic="bees")
    runner = Path(sys.path[0]) / "flowcraft_chorus.py"
    runner.write_text(runner.read_text().replace('return ""', 'return "it needs choir: pip install choir"'))
    sys.modules.pop("flowcraft_chorus", None)
    async with troupe.open() as flow:
        with pytest.raises(PluginError, match="pip install choir"):
            await flow.resume(failed.run)

    assert failed.state == "failed"


async def test_runner_that_fails_of_what_it_is_asked_at_load_is_told_of_at_its_place(troupe):
    runner = Path(sys.path[0]) / "flowcraft_chorus.py"
    runner.write_text(runner.read_text().replace('return ""', "raise OSError('no licence')"))
    async with troupe.open() as flow:
        with pytest.raises(WorkflowError) as raised:
            flow.load(troupe.project.write("flow.yaml", "flowcraft: 1\n" + CREW))

    (problem,) = raised.value.problems
    assert problem.message == "the agent runner 'chorus' cannot say what it needs: OSError: no licence"


async def test_words_that_the_runner_does_not_know_are_warned_of(troupe):
    text = (
        "flowcraft: 1\nagents: {a: {role: x, goal: x, verbose: true, system_template: x}}\nstages: {s: {agent: a, prompt: x}}\n"
    )
    async with troupe.open() as flow:
        workflow = flow.load(troupe.project.write("flow.yaml", text))
        told = [problem.message for problem in flow.check(workflow)]

    assert "the agent runner 'chorus' does nothing with 'system_template'" in told
    assert not any("verbose" in message for message in told)


async def test_a_broken_runner_takes_nothing_else_down(troupe):
    runner = Path(sys.path[0]) / "flowcraft_chorus.py"
    runner.write_text(
        runner.read_text().replace("class Chorus:", "class Chorus:\n    def __init__(self): raise OSError('no')\n")
    )
    async with troupe.open("Fine") as flow:
        offered = flow.plugins.agent_runners()
        plain = await troupe.project.run("stages: {a: {prompt: x}}", flow)

    assert "chorus" not in offered
    assert plain.outputs == {"a": "Fine"}


async def test_the_plan_says_what_agents_may_take(troupe):
    path = troupe.project.write("flow.yaml", "flowcraft: 1\n" + CREW)
    async with troupe.open() as flow:
        plan = flow.plan(path, {"topic": "bees"})

    (stage,) = plan.stages
    assert (stage.body, stage.calls.low, stage.calls.high) == ("crew", 2, 50)
    assert any("agents" in text for text in plan.defaults)


async def test_the_drawing_names_the_agents(troupe):
    async with troupe.open() as flow:
        drawing = flow.draw(troupe.project.write("flow.yaml", "flowcraft: 1\n" + CREW))
    box = next(box for box in drawing.boxes if box.name == "a")

    assert (box.kind, box.notes[0]) == ("crew", "agents writer, critic")


async def test_budget_ends_a_crew(troupe):
    result = await troupe.run(f"budget: {{calls: 1}}{CREW}", "A draft", "Faults", topic="bees")

    assert result.state == "failed"
    assert "budget" in result.error


@pytest.mark.parametrize("loaded", [True, False])
async def test_runner_is_made_ready_beside_the_first_stages_and_only_where_there_are_agents(troupe, loaded):
    runner, sign = Path(sys.path[0]) / "flowcraft_chorus.py", troupe.project.path / "loaded"
    prepare = f"import pathlib; pathlib.Path({str(sign)!r}).touch(); raise OSError('it is told by the stage')"
    runner.write_text(runner.read_text().replace('"""Nothing takes long."""', prepare))
    wait = f"""
import pathlib, time
def wait(there: bool):
    until = time.monotonic() + 60
    while there and not pathlib.Path({str(sign)!r}).exists() and time.monotonic() < until:
        time.sleep(0.001)
    return pathlib.Path({str(sign)!r}).exists()
"""
    troupe.project.steps(wait)
    workflow = f"""
    agents: {{a: {{role: x, goal: x}}}}
    stages:
      first: {{run: "steps:wait", with: {{there: {str(loaded).lower()}}}}}
      second: {{needs: [first], when: first == {str(loaded).lower()}, agent: a, prompt: x}}
    """
    if not loaded:
        workflow = workflow.replace("agent: a, ", "").replace("agents: {a: {role: x, goal: x}}", "")

    result = await troupe.run(workflow, "Done")

    assert result.outputs == {"second": "Done"}, result.error
    assert sign.exists() is loaded


async def test_runner_is_made_ready_where_a_run_goes_on_as_well(troupe):
    runner, sign = Path(sys.path[0]) / "flowcraft_chorus.py", troupe.project.path / "loaded"
    runner.write_text(runner.read_text().replace('"""Nothing takes long."""', f"open({str(sign)!r}, 'a').write('x')"))
    troupe.project.steps(f"""
import pathlib, time
def wait():
    sign, until = pathlib.Path({str(sign)!r}), time.monotonic() + 60
    while not (sign.exists() and sign.read_text() == "x") and time.monotonic() < until:
        time.sleep(0.001)
    if not pathlib.Path(__file__).with_name("go").exists():
        sign.unlink()
        raise OSError("not yet")
    return sign.read_text()
""")
    workflow = """
    agents: {a: {role: x, goal: x}}
    stages:
      first: {run: "steps:wait"}
      second: {needs: [first], agent: a, prompt: x}
    outputs: {first: "${{ first }}", second: "${{ second }}"}
    """
    failed = await troupe.run(workflow)
    troupe.project.write("go", "")

    async with troupe.open("Done") as flow:
        result = await flow.resume(failed.run)

    assert (failed.state, result.outputs) == ("failed", {"first": "x", "second": "Done"}), result.error
