"""What a workflow file says, as frozen data. Knows no model, no engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flowcraft.errors import Problem
from flowcraft.source import Document, Position
from flowcraft.workflow.expressions.expression import Expression
from flowcraft.workflow.expressions.template import Template
from flowcraft.workflow.types.type import ANY, Fields, Type

LANGUAGE_VERSION = 1

Value = Any
"""JSON-like data whose text leaves may be templates; ``template.render_value`` renders it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input: its type, and its default where it has one."""

    name: str
    type: Type
    required: bool = True
    default: Any = None
    position: Position = field(default_factory=Position, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """So many more goes of a body; ``backoff`` is the first pause in seconds, doubled each time."""

    max: int = 0
    backoff: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """By what the better one of two answers is chosen, and by whom: a tier, an alias or a model; None: as settings say."""

    rubric: Template
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolName:
    """A tool of a prompt, as it is written: a function (``module:function``), a plugin's tool, or a server's.

    Of a ``server`` without ``tool`` all are meant. ``checked`` says that a function's signature was read at load.
    """

    written: str
    module: str = ""
    function: str = ""
    server: str = ""
    tool: str = ""
    checked: bool = field(default=False, compare=False)

    @property
    def plugin(self) -> bool:
        """Whether a plugin offers it."""
        return not self.module and not self.server


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What goes with a prompt: a path or URL that is written out, or a template that gives paths and URLs.

    Of what is written out, ``path`` is the absolute path (empty for a URL) and ``kind`` says what it is: image, audio or file.
    ``at`` is where it stands in its file.
    """

    what: str | Template
    path: str = ""
    kind: str = ""
    at: tuple[str | int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where something stands: in the workflow's own file, or in another ``document``."""

    at: tuple[str | int, ...] = ()
    document: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An agent, its texts not rendered yet. ``options`` are the words that only its runner understands."""

    name: str
    role: Template
    goal: Template
    backstory: Template | None = None
    model: str | None = None
    tools: tuple[ToolName, ...] = ()
    allow_delegation: bool = False
    max_iter: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    spot: Spot = field(default_factory=Spot, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What an agent of a crew is to do. ``agent`` is empty where a manager hands tasks out.

    ``context`` names earlier tasks whose results it is given; None: as the runner does by itself.
    """

    name: str
    description: Template
    expected_output: Template | None = None
    agent: str = ""
    context: tuple[str, ...] | None = None
    tools: tuple[ToolName, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    spot: Spot = field(default_factory=Spot, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Agents, each by its name, and their tasks in order; ``manager`` is an agent or a model that leads a hierarchical crew."""

    agents: Mapping[str, Agent]
    tasks: tuple[Task, ...]
    process: Literal["sequential", "hierarchical"] = "sequential"
    manager: Agent | str | None = None

    @property
    def everybody(self) -> tuple[Agent, ...]:
        """Its agents, the manager among them."""
        lead = self.manager
        return (*self.agents.values(), *((lead,) if isinstance(lead, Agent) and lead.name not in self.agents else ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question to a model, which may call ``tools``; with ``agent``, the task of that agent."""

    prompt: Template
    system: Template | None = None
    tools: tuple[ToolName, ...] = ()
    attach: tuple[Attachment, ...] = ()
    agent: Agent | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A Python function, ``package.module:function``; ``checked`` says that its arguments were checked at load."""

    target: str
    module: str
    function: str
    checked: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """A command of bash. ``text`` says that what it prints is taken as text though the stage has an ``output``."""

    command: str
    text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """Another workflow, as a part of this run. A workflow that uses itself refers to itself here."""

    path: str
    workflow: Workflow = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin's body: the value of its key, with templates where its ``Options`` mark them."""

    key: str
    options: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Several stages in place, which see the names around them."""

    stages: Mapping[str, Stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """A question to a person. ``choices`` holds a label for each choice, empty where it needs none; ``form`` is asked besides.

    ``rejects`` says that 'reject' is no value to route on: it fails the stage.
    """

    question: Template
    choices: Mapping[str, str]
    rejects: bool = True
    form: Fields | None = None


Body = Prompt | Crew | Run | Shell | Uses | Group | Approve | Plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One unit of work with exactly one body.

    ``each`` is an expression or a list written in the file (whose leaves may be templates). ``when_per_element`` says that
    ``when`` mentions ``item`` or ``index``. ``depends`` names the stages that must be settled first: all that this one
    mentions or needs. ``timeout`` and ``cache`` are in
    seconds or a template that gives a duration. ``output`` is the type that was written,
    ``value`` the type of what the stage gives to others (a list with ``each``). ``params_from`` gives params as a
    whole, which come over ``params``. ``strategy`` and ``confidence`` are None where
    settings decide. ``until`` and ``max`` are both there or neither. ``at`` is where the stage stands in its file.
    """

    name: str
    key: str
    body: Body
    at: tuple[str | int, ...] = field(default=(), compare=False)
    with_: Mapping[str, Value] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    when: Expression | None = None
    when_per_element: bool = False
    each: Expression | tuple[Value, ...] | None = None
    parallel: int | Template = 1
    until: Expression | None = None
    max: int | Template | None = None
    model: str | Template | None = None
    params: Mapping[str, Value] = field(default_factory=dict)
    params_from: Template | None = None
    strategy: str | None = None
    judge: Judge | None = None
    confidence: float | None = None
    output: Type | None = None
    value: Type = ANY
    timeout: float | Template | None = None
    cache: float | Template | None = None
    retry: Retry = field(default_factory=Retry)
    on_error: Literal["fail", "continue"] = "fail"
    depends: tuple[str, ...] = ()
    mentions_run: bool = False
    position: Position = field(default_factory=Position, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow, checked as far as one file can be checked alone.

    ``folder`` is the folder of the file, absolute; ``files`` holds every file that was read for it (itself, ``uses``, template
    files, ``file('...')``), by absolute path: the snapshot that a run keeps. ``outputs`` is None where the file has none;
    ``result`` is the type of what a run returns. ``finally_`` are the stages that run last,
    ``seen_last`` the names of others that they mention.
    ``warnings`` are those that the file alone gives cause for.
    """

    name: str
    description: str = ""
    version: int = LANGUAGE_VERSION
    path: str = ""
    folder: str = ""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    types: Mapping[str, Type] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    servers: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    default_model: str | None = None  # defaults.model: comes behind a stage's own model and ``expensive_stages``
    stages: Mapping[str, Stage] = field(default_factory=dict)
    finally_: Mapping[str, Stage] = field(default_factory=dict)
    seen_last: frozenset[str] = frozenset()
    outputs: Mapping[str, Value] | None = None
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    result: Type = ANY
    warnings: tuple[Problem, ...] = field(default=(), compare=False, repr=False)
    document: Document | None = field(default=None, compare=False, repr=False)

    @property
    def results(self) -> tuple[str, ...]:
        """The stages that no other stage mentions or needs, in file order: what is returned without ``outputs``."""
        used = {name for stage in self.stages.values() for name in stage.depends}
        return tuple(name for name in self.stages if name not in used)

    @property
    def every_stage(self) -> tuple[Stage, ...]:
        """All stages, those of groups and of ``finally`` among them, in the order of the file."""
        return tuple(_all((*self.stages.values(), *self.finally_.values())))


def agents_of(body: Body) -> tuple[Agent, ...]:
    """Return the agents that carry a body out; nobody where it needs none."""
    if isinstance(body, Crew):
        return body.everybody
    return (body.agent,) if isinstance(body, Prompt) and body.agent is not None else ()


def models_of_agents(body: Body) -> tuple[str, ...]:
    """Return the models that the agents of a body name besides the stage's own, each once."""
    named = [agent.model for agent in agents_of(body)]
    if isinstance(body, Crew) and isinstance(body.manager, str):
        named.append(body.manager)
    return tuple(dict.fromkeys(name for name in named if name is not None))


def with_model(stage: Stage, model: str) -> Stage:
    """Return a stage as if this were its model: as its agents ask that name it."""
    return replace(stage, model=model)


def tool_lists(stage: Stage) -> Iterator[tuple[Spot, tuple[ToolName, ...]]]:
    """Yield the lists of tools that a stage gives to models, each with who has it stands."""
    body = stage.body
    if isinstance(body, Prompt):
        yield Spot(at=stage.at), body.tools
    for agent in agents_of(body):
        yield agent.spot, agent.tools
    for task in body.tasks if isinstance(body, Crew) else ():
        yield task.spot, task.tools


def asks_models(body: Body) -> bool:
    """Say whether a body is carried out by models."""
    return isinstance(body, Prompt | Crew)


def _all(stages: Iterable[Stage]) -> Iterator[Stage]:
    for stage in stages:
        yield stage
        if isinstance(stage.body, Group):
            yield from _all(stage.body.stages.values())
