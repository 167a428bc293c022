"""Agents and the crews that they make: read from the workflow file, or from YAML files of their own that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from flowcraft.errors import WorkflowError
from flowcraft.source import did_you_mean, listed, read_document
from flowcraft.workflow.crew_words import (
    AGENT_KEYS,
    AGENT_OPTIONS,
    CREW_KEYS,
    PROCESSES,
    REFUSED_OF_AGENTS,
    REFUSED_OF_CREWS,
    REFUSED_OF_TASKS,
    TASK_KEYS,
    TASK_OPTIONS,
)
from flowcraft.workflow.expressions.template import OPENING, Template
from flowcraft.workflow.loading.files import UnreadableFile
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.loading.tool_names import ToolReader
from flowcraft.workflow.schema import Agent, Crew, Spot, Task
from flowcraft.workflow.types.signatures import Signature

MOST_ITERATIONS = 1_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_NAMES_SAID = "letters, digits, '_' and '-', no digit first"

FindFunction = Callable[[Path, str, str], Signature | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """What agents and crews are read with: the file, its inputs and servers, how functions are found, and its agents.

    ``signature`` keeps its own problems; ``written`` are the names of all agents, those that cannot be read among them; None
    where not even these are known.
    """

    reading: Reading
    inputs: Collection[str]
    servers: Collection[str]
    signature: FindFunction
    agents: Mapping[str, Agent]
    written: Collection[str] | None = ()

    def agent(self, path: Path, name: Any, reading: Reading | None = None) -> Agent | None:
        """Return the agent of a name that stands at ``path``; None where it is nobody's, or cannot be read."""
        told = reading or self.reading
        if not isinstance(name, str):
            told.problem(path, f"'agent' must be the name of an agent, not {plain_kind(name)}", key=name is None)
        elif self.written is not None and name not in self.written:
            known = f"the agents are: {listed(self.written)}" if self.written else "agents stand under 'agents', at the top"
            told.problem(path, f"unknown agent '{name}'", did_you_mean(name, self.written) or known)
        return self.agents.get(name) if isinstance(name, str) else None

    def tools(self, spot: tuple[Reading, Path], data: Any) -> Any:
        """Read the tools of an agent or of a task."""
        reading, path = spot
        found = self.signature

        def signature(at: Path, module: str, function: str) -> Signature | None:
            before = len(self.reading.problems)
            known = found(at, module, function)
            if reading is not self.reading and len(self.reading.problems) > before:
                wrong = self.reading.problems.pop()  # it stands in the other file
                reading.problem(at, wrong.message, wrong.hint)
            return known

        return ToolReader(reading, signature, self.servers).all((*path, "tools"), data)


def read_agents(data: Any, people: People) -> People:
    """Read the section ``agents``: a mapping by name, or the path of a file that is one; return ``people`` with them."""
    opened = _opened(people.reading, ("agents",), data, "agents.yaml")
    if opened is None:
        return replace(people, written=None)
    reading, base, written = opened
    if not isinstance(written, Mapping):
        hint = "write name: {role: ..., goal: ...}, without '- '" if isinstance(written, list) else ""
        reading.problem(base, f"'agents' must be a mapping of names, not {plain_kind(written)}", hint)
        return replace(people, written=None)
    found: dict[str, Agent] = {}
    for name, part in written.items():
        if not _NAME.fullmatch(name):
            reading.problem((*base, name), f"'{name}' cannot name an agent: {_NAMES_SAID}", key=True)
        agent = _agent(reading, (*base, name), name, part, people)
        if agent is not None:
            found[name] = agent
    return replace(people, agents=found, written=tuple(written))


def _agent(reading: Reading, path: Path, name: str, data: Any, people: People) -> Agent | None:
    if not isinstance(data, Mapping):
        hint = f"write {name}: {{role: ..., goal: ..., backstory: ...}}"
        reading.problem(path, f"an agent must be a mapping of keys, not {plain_kind(data)}", hint, key=data is None)
        return None
    _check_keys(reading, path, data, (AGENT_KEYS, REFUSED_OF_AGENTS, "an agent"))
    where, inputs = ("agents", ""), people.inputs
    texts = {key: _text(reading, (*path, key), data[key], where, inputs) for key in _given(data, "role", "goal", "backstory")}
    lacking = [key for key in ("role", "goal") if data.get(key) is None]
    if lacking:
        reading.problem(path, f"the agent '{name}' lacks {listed([repr(key) for key in lacking])}", key=True)
    role, goal = texts.get("role"), texts.get("goal")
    model = _model(reading, path, data)
    tools = people.tools((reading, path), data.get("tools"))
    delegates = _flag(reading, (*path, "allow_delegation"), data.get("allow_delegation"))
    most = data.get("max_iter")
    if most is not None:
        most = reading.whole_number((*path, "max_iter"), most, "'max_iter'", 1, MOST_ITERATIONS)
    options = _options(reading, path, data, AGENT_OPTIONS)
    if role is None or goal is None:
        return None
    return Agent(
        name=name,
        role=role,
        goal=goal,
        backstory=texts.get("backstory"),
        model=model,
        tools=tools,
        allow_delegation=delegates,
        max_iter=most,
        options=options,
        spot=_spot(reading, path, people),
    )


def read_crew(path: Path, data: Any, people: People, stage: str) -> Crew | None:
    """Read the crew of a stage; None where it cannot be read."""
    reading = people.reading
    if not isinstance(data, Mapping):
        hint = "write crew: {tasks: [{agent: ..., description: ...}]}"
        reading.problem(path, f"'crew' must be a mapping of keys, not {plain_kind(data)}", hint, key=data is None)
        return None
    _check_keys(reading, path, data, (CREW_KEYS, REFUSED_OF_CREWS, "a crew"))
    process = data.get("process", "sequential")
    if process not in PROCESSES:
        hint = did_you_mean(str(process), PROCESSES) or f"it is one of: {listed(PROCESSES)}"
        reading.problem((*path, "process"), f"unknown process '{process}'", hint)
    led = process == "hierarchical"
    manager = _manager(path, data, people, led)
    if data.get("tasks") in (None, [], {}):
        reading.problem((*path, "tasks"), "a crew needs 'tasks'", "write tasks: [{agent: ..., description: ...}]", key=True)
        return None
    opened = _opened(reading, (*path, "tasks"), data["tasks"], "tasks.yaml")
    tasks = _Tasks(opened[0], people, stage, led).all(*opened[1:]) if opened is not None else None
    if tasks is None:
        return None
    names = dict.fromkeys(task.agent for task in tasks if task.agent)
    if led:  # a manager may choose from all that the file has
        names = dict.fromkeys([*names, *(name for name in people.agents if manager is None or name != data.get("manager"))])
    agents = {name: people.agents[name] for name in names if name in people.agents}
    return Crew(agents=agents, tasks=tasks, process=cast("Any", process), manager=manager)


def _manager(path: Path, data: Mapping[str, Any], people: People, led: bool) -> Agent | str | None:
    given = data.get("manager")
    if given is None:
        return None
    at = (*path, "manager")
    if not led:
        hint = "write process: hierarchical, or leave 'manager' out"
        people.reading.problem(at, "a sequential crew has no manager", hint, key=True)
        return None
    name = people.reading.filled(at, given, "'manager'")
    if name in people.agents and people.agents[name].tools:
        hint = "give them to the agents that it hands work to"
        people.reading.problem(at, f"a manager has no tools, and the agent '{name}' has some", hint)
    return people.agents.get(name) or name or None


class _Tasks:
    """Reads the tasks of one crew, which stand in ``reading``; ``led`` says that a manager hands them out."""

    def __init__(self, reading: Reading, people: People, stage: str, led: bool) -> None:
        self.reading = reading
        self.people = people
        self.stage = stage
        self.led = led

    def all(self, base: Path, data: Any) -> tuple[Task, ...] | None:
        """Return all tasks in order; None where one of them cannot be read."""
        if not isinstance(data, Mapping | list):
            self.reading.problem(base, f"'tasks' must be a list or a mapping of names, not {plain_kind(data)}")
            return None
        places = list(data.items()) if isinstance(data, Mapping) else list(enumerate(data))
        names = [self._name((*base, place), place, part) for place, part in places]
        found: list[Task | None] = []
        for number, (place, part) in enumerate(places):
            if names[number] in names[:number]:
                at = (*base, place, "name") if isinstance(part, Mapping) and "name" in part else (*base, place)
                self.reading.problem(at, f"two tasks are called '{names[number]}'", "give one of them another name")
            found.append(self.task((*base, place), part, names, number))
        tasks = [task for task in found if task is not None]
        return tuple(tasks) if len(tasks) == len(found) else None

    def _name(self, path: Path, place: str | int, part: Any) -> str:
        """Return a task's name: that of a mapping, what it says itself, else ``task1``, ``task2``, ..."""
        given = part.get("name") if isinstance(part, Mapping) else None
        if given is None:
            name, at = (place, path) if isinstance(place, str) else (f"task{place + 1}", path)
        else:
            at = (*path, "name")
            name = self.reading.filled(at, given, "'name'") or f"task{place}"
        if not _NAME.fullmatch(name):
            self.reading.problem(at, f"'{name}' cannot name a task: {_NAMES_SAID}", key=given is None)
        return name

    def task(self, path: Path, data: Any, names: list[str], number: int) -> Task | None:
        """Return one task; None where it cannot be read."""
        reading = self.reading
        if not isinstance(data, Mapping):
            hint = "write {agent: ..., description: ..., expected_output: ...}"
            reading.problem(path, f"a task must be a mapping of keys, not {plain_kind(data)}", hint, key=data is None)
            return None
        _check_keys(reading, path, data, (TASK_KEYS, REFUSED_OF_TASKS, "a task"))
        inputs, at = self.people.inputs, ("crew", self.stage)
        description = None
        if data.get("description") is None:
            reading.problem(path, f"the task '{names[number]}' lacks 'description'", key=isinstance(path[-1], str))
        else:
            description = _text(reading, (*path, "description"), data["description"], at, inputs)
        expected = data.get("expected_output")
        wanted = _text(reading, (*path, "expected_output"), expected, at, inputs) if expected is not None else None
        agent = self._agent(path, data, names[number])
        context = self._context(path, data, names, number)
        tools = self.people.tools((reading, path), data.get("tools"))
        options = _options(reading, path, data, TASK_OPTIONS)
        if description is None:
            return None
        return Task(
            name=names[number],
            description=description,
            expected_output=wanted,
            agent=agent,
            context=context,
            tools=tools,
            options=options,
            spot=_spot(reading, path, self.people),
        )

    def _agent(self, path: Path, data: Mapping[str, Any], name: str) -> str:
        if data.get("agent") is not None:
            self.people.agent((*path, "agent"), data["agent"], self.reading)
            return str(data["agent"])
        if not self.led:
            hint = "write agent: with the name of one of the file's agents; a manager hands out in process: hierarchical"
            message = f"nobody is to do the task '{name}': it lacks 'agent'"
            self.reading.problem(path, message, hint, key=isinstance(path[-1], str))
        return ""

    def _context(self, path: Path, data: Mapping[str, Any], names: list[str], number: int) -> tuple[str, ...] | None:
        given = data.get("context")
        if given is None:
            return None
        at = (*path, "context")
        if not isinstance(given, list):
            hint = f"write context: [{given}]" if isinstance(given, str) else "write context: [name of a task]"
            self.reading.problem(at, f"'context' must be a list of tasks, not {plain_kind(given)}", hint)
            return None
        found: list[str] = []
        for index, name in enumerate(given):
            if self._earlier((*at, index), name, names, number):
                if name in found:
                    self.reading.problem((*at, index), f"'{name}' stands twice")
                found.append(name)
        return tuple(found)

    def _earlier(self, at: Path, name: Any, names: list[str], number: int) -> bool:
        """Say whether ``name`` is an earlier task; keep the problem where it is none."""
        if name not in names:
            hint = did_you_mean(str(name), names) or f"the tasks are: {listed(names)}"
            self.reading.problem(at, f"unknown task '{name}'", hint)
        elif (other := names.index(name)) == number:
            self.reading.problem(at, f"the task '{name}' waits for itself: a circle", "leave it out")
        elif other > number:
            hint = "tasks are done in the order in which they stand: put it before this one"
            self.reading.problem(at, f"the task '{name}' comes later", hint)
        else:
            return True
        return False


def _opened(reading: Reading, path: Path, data: Any, example: str) -> tuple[Reading, Path, Any] | None:
    """Return what stands at ``path``, or in the file that is named there: its reading, the path in it, the data."""
    if data is None:
        return reading, path, {}
    if not isinstance(data, str):
        return reading, path, data
    name = reading.filled(path, data, f"'{path[-1]}'")
    if not name:
        return None
    absolute = os.path.normpath(os.path.join(reading.folder, name))
    shown = os.path.normpath(os.path.join(os.path.dirname(reading.document.name), name))
    try:
        document = read_document(reading.files.raw(absolute), shown, WorkflowError)
    except UnreadableFile as error:
        reading.problem(path, str(error).replace(absolute, name), error.hint or f"write {path[-1]}: {example}, or them here")
        return None
    except WorkflowError as error:
        for problem in error.problems:
            reading.keep(problem)
        return None
    reading.files.texts[absolute] = document.text
    return reading.beside(document, os.path.dirname(absolute)), (), document.data


def _spot(reading: Reading, path: Path, people: People) -> Spot:
    return Spot(at=path, document=None if reading is people.reading else reading.document)


def _given(data: Mapping[str, Any], *keys: str) -> list[str]:
    return [key for key in keys if data.get(key) is not None]


def _check_keys(
    reading: Reading, path: Path, data: Mapping[str, Any], words: tuple[Mapping[str, str], Mapping[str, str], str]
) -> None:
    """Refuse every key that is none, those of CrewAI with the reason and what to write instead."""
    known, refused, what = words
    for key in data:
        if key in known:
            continue
        hint = refused.get(key) or did_you_mean(key, known) or f"the keys are: {listed(known, 40)}"
        said = f"{what} takes no '{key}' here" if key in refused else f"unknown key '{key}' in {what}"
        reading.problem((*path, key), said, hint, key=True)


def _text(reading: Reading, path: Path, data: Any, where: tuple[str, str], inputs: Collection[str]) -> Template | None:
    """Read one of the texts of an agent or a task, where ``{name}`` means an input too; ``where``: the key and the stage."""
    text = reading.text_with_inputs(path, data, where, inputs)
    if text is not None and not text.source.strip():
        reading.problem(path, f"'{path[-1]}' is empty", key=True)
    return text


def _model(reading: Reading, path: Path, data: Mapping[str, Any]) -> str | None:
    given = _given(data, "model", "llm")
    if len(given) > 1:
        reading.problem((*path, "llm"), "'llm' means 'model', and both are there", "leave one of them out", key=True)
    for key in given:
        at = (*path, key)
        if isinstance(data[key], str) and OPENING in data[key]:
            reading.problem(at, f"the {key!r} of an agent takes no template", "a stage's own may come from an input")
            return None
        return reading.filled(at, data[key], f"'{key}'") or None
    return None


def _flag(reading: Reading, path: Path, data: Any) -> bool:
    if data is None or isinstance(data, bool):
        return bool(data)
    reading.problem(path, f"'{path[-1]}' must be true or false, not {plain_kind(data)}")
    return False


def _options(reading: Reading, path: Path, data: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the words that go to the runner as they stand: flags and texts."""
    found: dict[str, Any] = {}
    for name in _given(data, *names):
        at = (*path, name)
        flag = name in ("verbose", "markdown")
        found[name] = _flag(reading, at, data[name]) if flag else reading.plain(at, data[name], f"'{name}'")
    return found
