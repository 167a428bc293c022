"""The stages of a workflow file, from YAML to drafts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from flowcraft.plugin.stages import StageBody
from flowcraft.source import did_you_mean, listed, nearest
from flowcraft.workflow.expressions.template import Template
from flowcraft.workflow.loading.agents import People, read_crew
from flowcraft.workflow.loading.approvals import read_approve
from flowcraft.workflow.loading.attachments import read_attach
from flowcraft.workflow.loading.commands import prints_text, read_shell
from flowcraft.workflow.loading.drafts import Block, Draft
from flowcraft.workflow.loading.flow import check_pairs, read_flow
from flowcraft.workflow.loading.header import Header, check_name
from flowcraft.workflow.loading.plugin_options import read_options
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.loading.stage_settings import StageSettings, check_judge, check_tools, completed_params, read_settings
from flowcraft.workflow.loading.tool_names import TARGET, ToolReader
from flowcraft.workflow.schema import Body, Group, Plugin, Prompt, Run, Shell, Uses, Value, Workflow, agents_of
from flowcraft.workflow.types.signatures import Signature
from flowcraft.workflow.types.type import Type
from flowcraft.workflow.words import (
    BODIES,
    FINALLY,
    FOREIGN_BODIES,
    FOREIGN_STAGE_KEYS,
    FOREIGN_STAGES,
    LATER_BODIES,
    LATER_STAGE_KEYS,
    NOT_WITH_AGENT,
    STAGE_KEYS,
    later,
    takes,
)

UNKNOWN_WORKFLOW = cast("Workflow", None)
"""Stands in ``Uses`` until all files are read."""


class StageReader:
    """Reads stages. ``signature`` finds a function, ``workflow`` another file; both keep their own problems."""

    def __init__(
        self,
        reading: Reading,
        header: Header,
        bodies: Mapping[str, type[StageBody]],
        signature: Callable[[Path, str, str], Signature | None],
        workflow: Callable[[Path, str], str],
        people: People,
    ) -> None:
        self.people = people
        self.reading = reading
        self.header = header
        self.bodies = {key: body for key, body in bodies.items() if key not in BODIES}
        self.takes = {key: frozenset(body.takes) for key, body in self.bodies.items()}
        self.signature = signature
        self.workflow = workflow

    def all(self, data: Any) -> Block:
        """Read the section ``stages``."""
        missing = ("a workflow needs 'stages'", "add: stages: {name: {prompt: ...}}")
        if data is None and FOREIGN_STAGES & set(self.reading.document.data):
            return self.block(("stages",), {}, None)  # they stand under another tool's word, which was said already
        return self.block(("stages",), data, missing)

    def last(self, data: Any, main: Block) -> Block:
        """Read the section ``finally``, whose stages see all others."""
        return self.block((FINALLY,), {} if data is None else data, None, around=main)

    def block(
        self, path: Path, data: Any, missing: tuple[str, str] | None, *, owner: str = "", around: Block | None = None
    ) -> Block:
        """Read stages that stand together; ``missing`` is what is said, and advised, where there are none."""
        if missing is not None and (data is None or data == {}):
            self.reading.problem(path, *missing, key=True)
        elif not isinstance(data, Mapping):
            hint = "write name: {...}, without '- '" if isinstance(data, list) else ""
            self.reading.problem(path, f"'{path[-1]}' must be a mapping of names, not {plain_kind(data)}", hint)
            return Block(path=path, owner=owner, around=around)
        prefix = f"{owner}/" if owner else f"{FINALLY}/" if path == (FINALLY,) else ""
        written = data or {}
        block = Block(path=path, ids={name: f"{prefix}{name}" for name in written}, owner=owner, around=around)
        for name, part in written.items():
            if check_name(self.reading, (*path, name), name, "a stage") and _stands_around(name, around):
                message = f"'{name}' is the name of a stage around this one already"
                self.reading.problem((*path, name), message, "inner names may not repeat those around them", key=True)
            draft = self.stage(block, name, part)
            if draft is not None:
                block.drafts[name] = draft
        return block

    def stage(self, block: Block, name: str, data: Any) -> Draft | None:
        """Read one stage; None where it has no body that can be read."""
        path, known_as = (*block.path, name), block.ids[name]
        if not isinstance(data, Mapping):
            known = name in BODIES or name in STAGE_KEYS
            hint = f"give the stage a name: NAME: {{{name}: ...}}" if known else f"write {name}: {{prompt: ...}}"
            self.reading.problem(path, f"a stage must be a mapping of keys, not {plain_kind(data)}", hint, key=data is None)
            return None
        key = self.body_key(path, data)
        self.check_keys(path, data, key)
        settings = read_settings(self.reading, path, self.taken(data, key), known_as)
        inner = self.inner(path, data, block, known_as) if key == "stages" else None
        draft = self.body(path, key, data, known_as) if key else None
        flow = read_flow(self.reading, path, data, known_as)
        if draft is None:
            return None
        body, uses, signature = draft
        output = None if key == "approve" else self.output(path, data, key)  # its form stands in its body
        if isinstance(body, Shell):
            body = replace(body, text=prints_text(output))
        completed = self.with_defaults(settings, body, key, flow["each"] is not None)
        if isinstance(body, Prompt) and body.tools:
            check_tools(self.reading, path, settings)
        check_judge(self.reading, path, completed, tries="until" in data)
        return Draft(
            id=known_as,
            name=name,
            path=path,
            key=key,
            body=body,
            settings=completed,
            with_=self.arguments(path, data, known_as) if takes("with", key, self.takes) else {},
            output=output,
            uses=uses,
            signature=signature,
            inner=inner,
            **flow,
        )

    def inner(self, path: Path, data: Mapping[str, Any], block: Block, owner: str) -> Block:
        """Read the stages of a group."""
        missing = ("a group needs stages", "write stages: {name: {prompt: ...}}")
        return self.block((*path, "stages"), data["stages"], missing, owner=owner, around=block)

    def body_key(self, path: Path, data: Mapping[str, Any]) -> str:
        """Return the key of the stage's body, empty where there is not exactly one."""
        found = [key for key in data if key in BODIES or key in self.bodies]
        coming = [key for key in data if key in LATER_BODIES]
        if not found and not coming:
            known = [*BODIES, *self.bodies]
            if not any(key in FOREIGN_BODIES or nearest(key, known) for key in data if key not in STAGE_KEYS):
                hint = f"give it exactly one of: {listed(known)}"
                self.reading.problem(path, "the stage does not say what to do", hint, key=True)
        for key in (found + coming)[1:]:
            if key in found:
                first = (found + coming)[0]
                self.reading.problem(
                    (*path, key), f"a second body: the stage has '{first}' already", "make it a stage of its own", key=True
                )
        return found[0] if len(found) == 1 and not coming else ""

    def check_keys(self, path: Path, data: Mapping[str, Any], body: str) -> None:
        """Refuse what is no key of a stage with this body."""
        for key in data:
            if key in BODIES or key in self.bodies:
                continue
            at = (*path, key)
            if key in LATER_STAGE_KEYS:
                self.reading.problem(at, later(key), key=True)
            elif key not in STAGE_KEYS:
                known = [*STAGE_KEYS, *BODIES, *self.bodies, *LATER_STAGE_KEYS]
                hint = FOREIGN_STAGE_KEYS.get(key.lower().replace("-", "_")) or did_you_mean(key, known)
                hint = hint or f"the keys are: {listed([*BODIES, *self.bodies, *STAGE_KEYS], 40)}"
                self.reading.problem(at, f"unknown key '{key}' in a stage", hint, key=True)
            elif key in NOT_WITH_AGENT and body == "prompt" and "agent" in data and not takes(key, body, self.takes, data):
                hint = "it goes with 'until'" if key == "judge" else "a prompt without agent does"
                self.reading.problem(at, f"a prompt with 'agent' takes no '{key}'", hint, key=True)
            elif body and not takes(key, body, self.takes, data):
                those = [name for name in (*BODIES, *self.bodies) if takes(key, name, self.takes)]
                hint = f"these do: {listed(those)}" + ("; any body does with 'until'" if key == "judge" else "")
                self.reading.problem(at, f"'{body}' takes no '{key}'", hint, key=True)
        check_pairs(self.reading, path, data)

    def taken(self, data: Mapping[str, Any], body: str) -> Mapping[str, Any]:
        """Return the settings that the body takes: what it does not take was refused already."""
        return {
            key: part for key, part in data.items() if key in STAGE_KEYS and (not body or takes(key, body, self.takes, data))
        }

    def with_defaults(self, own: StageSettings, body: Body, key: str, many: bool) -> StageSettings:
        """Return the stage's settings, completed by the file's defaults as far as the body takes them.

        The default model is not among them: what settings say of a stage comes before it.
        """
        defaults = self.header.defaults
        beside = ("agent",) if agents_of(body) else ()
        tooled = isinstance(body, Prompt) and bool(body.tools)
        strategic = takes("strategy", key, self.takes, beside) and not (tooled and defaults.strategy == "best_of_two")
        params = takes("params", key, self.takes, beside)
        timed = key not in ("approve", "uses", "stages")
        return StageSettings(
            model=own.model,
            params=completed_params(own.params, defaults.params) if params else {},
            params_from=own.params_from if params else None,
            cache=own.cache,
            timeout=own.timeout if own.timeout is not None or not timed else defaults.timeout,
            retry=own.retry if own.retry is not None or not timed else defaults.retry,
            parallel=own.parallel if own.parallel is not None or not many else defaults.parallel,
            max=own.max,
            strategy=own.strategy or (defaults.strategy if strategic else None),
            judge=own.judge,
            confidence=own.confidence,
        )

    def output(self, path: Path, data: Mapping[str, Any], body: str) -> Type | None:
        """Read the type of the result."""
        if "output" not in data or not takes("output", body, self.takes):
            return None
        return self.header.types.read((*path, "output"), data["output"])

    def arguments(self, path: Path, data: Mapping[str, Any], name: str) -> Mapping[str, Value]:
        """Read ``with``."""
        at = (*path, "with")
        given = self.reading.mapping(at, data.get("with"), "'with'")
        return {key: self.reading.value((*at, key), part, "with", name) for key, part in given.items()}

    def body(self, path: Path, key: str, data: Mapping[str, Any], name: str) -> tuple[Body, str, Signature | None] | None:
        """Read the body; None where it is wrong."""
        at = (*path, key)
        if key == "prompt":
            return self.prompt(path, data, name)
        if key == "crew":
            crew = read_crew(at, data[key], self.people, name)
            return (crew, "", None) if crew is not None else None
        if key == "run":
            return self.run(at, data[key])
        if key == "stages":
            return Group(stages={}), "", None
        if key == "shell":
            shell = read_shell(self.reading, path, data)
            return (shell, "", None) if shell is not None else None
        if key == "approve":
            approve = read_approve(self.reading, path, data, self.output(path, data, key), name)
            return (approve, "", None) if approve is not None else None
        if key == "uses":
            target = self.reading.filled(at, data[key], "'uses'")
            absolute = self.workflow(at, target) if target else ""
            return (Uses(path=target, workflow=UNKNOWN_WORKFLOW), absolute, None) if absolute else None
        options = read_options(self.reading, at, data[key], self.bodies[key], name)
        return Plugin(key=key, options=options), "", None

    def prompt(self, path: Path, data: Mapping[str, Any], name: str) -> tuple[Body, str, None] | None:
        """Read a prompt and its system message."""
        prompt = self.reading.template((*path, "prompt"), data["prompt"], "prompt", name)
        system: Template | None = None
        if data.get("system") is not None:
            system = self.reading.template((*path, "system"), data["system"], "system", name)
        if prompt is None:
            return None
        if not prompt.source.strip():
            self.reading.problem((*path, "prompt"), "the prompt is empty", key=True)
        tools = ToolReader(self.reading, self.signature, self.header.servers).all((*path, "tools"), data.get("tools"))
        if "agent" in data:
            agent = self.people.agent((*path, "agent"), data["agent"])
            return (Prompt(prompt=prompt, tools=tools, agent=agent), "", None) if agent is not None else None
        attach = read_attach(self.reading, (*path, "attach"), data.get("attach"), name)
        return Prompt(prompt=prompt, system=system, tools=tools, attach=attach), "", None

    def run(self, at: Path, data: Any) -> tuple[Body, str, Signature | None] | None:
        """Read the function of a ``run``."""
        target = self.reading.filled(at, data, "'run'")
        if not target:
            return None
        found = TARGET.fullmatch(target)
        if found is None:
            hint = "write package.module:function; a command stands in 'shell'"
            if found := re.fullmatch(r"(?:\./)?(\w+)\.py", target):
                hint = f"write {found[1]}:function"
            elif re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", target):
                module, _, function = target.rpartition(".")
                hint = f"write {module}:{function}"
            self.reading.problem(at, f"'{' '.join(target.split())[:60]}' names no function", hint)
            return None
        signature = self.signature(at, found[1], found[2])
        checked = signature is not None and signature.known
        return Run(target=target, module=found[1], function=found[2], checked=checked), "", signature


def _stands_around(name: str, block: Block | None) -> bool:
    return block is not None and (name in block.ids or _stands_around(name, block.around))


def beside(folder: str, path: str) -> str:
    """Return the absolute path of a file that is named relative to ``folder``."""
    return os.path.normpath(os.path.join(folder, path))
