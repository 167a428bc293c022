"""The stages of a workflow file, from YAML to drafts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from flowcraft.plugin.stages import StageBody
from flowcraft.source import did_you_mean, listed, nearest
from flowcraft.workflow.expressions import Constant, Expression
from flowcraft.workflow.header import Header, check_name
from flowcraft.workflow.plugin_options import read_options
from flowcraft.workflow.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import Body, Plugin, Prompt, Retry, Run, Stage, Uses, Value, Workflow
from flowcraft.workflow.signatures import Signature
from flowcraft.workflow.stage_settings import StageSettings, check_judge, read_settings
from flowcraft.workflow.template import Template
from flowcraft.workflow.types import Type
from flowcraft.workflow.words import (
    BODIES,
    FOREIGN_BODIES,
    FOREIGN_STAGE_KEYS,
    LATER_BODIES,
    LATER_STAGE_KEYS,
    STAGE_KEYS,
    later,
    takes,
)

_TARGET = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")

UNKNOWN_WORKFLOW = cast("Workflow", None)
"""Stands in ``Uses`` until all files are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A stage as far as it can be read alone: who it depends on and what it gives is found out later.

    ``uses`` is the absolute path of the other workflow, ``signature`` that of the function.
    """

    name: str
    key: str
    body: Body
    settings: StageSettings
    with_: Mapping[str, Value] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    when: Expression | None = None
    each: Expression | tuple[Value, ...] | None = None
    output: Type | None = None
    on_error: str = "fail"
    uses: str = ""
    signature: Signature | None = None


class StageReader:
    """Reads stages. ``signature`` finds a function, ``workflow`` another file; both keep their own problems."""

    def __init__(
        self,
        reading: Reading,
        header: Header,
        bodies: Mapping[str, type[StageBody]],
        signature: Callable[[Path, str, str], Signature | None],
        workflow: Callable[[Path, str], str],
    ) -> None:
        self.reading = reading
        self.header = header
        self.bodies = {key: body for key, body in bodies.items() if key not in BODIES}
        self.takes = {key: frozenset(body.takes) for key, body in self.bodies.items()}
        self.signature = signature
        self.workflow = workflow

    def all(self, data: Any) -> dict[str, Draft]:
        """Read the section ``stages``."""
        if data is None or data == {}:
            self.reading.problem(("stages",), "a workflow needs 'stages'", "add: stages: {name: {prompt: ...}}", key=True)
        elif not isinstance(data, Mapping):
            hint = "write name: {...}, without '- '" if isinstance(data, list) else ""
            self.reading.problem(("stages",), f"'stages' must be a mapping of names, not {plain_kind(data)}", hint)
            return {}
        drafts = {}
        for name, written in (data or {}).items():
            check_name(self.reading, ("stages", name), name, "a stage")
            draft = self.stage(name, written)
            if draft is not None:
                drafts[name] = draft
        return drafts

    def stage(self, name: str, data: Any) -> Draft | None:
        """Read one stage; None where it has no body that can be read."""
        path: Path = ("stages", name)
        if not isinstance(data, Mapping):
            hint = f"write {name}: {{prompt: ...}}"
            self.reading.problem(path, f"a stage must be a mapping of keys, not {plain_kind(data)}", hint, key=data is None)
            return None
        key = self.body_key(path, data)
        self.check_keys(path, data, key)
        settings = read_settings(self.reading, path, self.taken(data, key), name)
        draft = self.body(path, key, data, name) if key else None
        flow = self.flow(path, data, name)
        if draft is None:
            return None
        body, uses, signature = draft
        completed = self.with_defaults(settings, key, flow["each"] is not None)
        check_judge(self.reading, path, completed)
        return Draft(
            name=name,
            key=key,
            body=body,
            settings=completed,
            with_=self.arguments(path, data, name) if takes("with", key, self.takes) else {},
            output=self.output(path, data, key),
            uses=uses,
            signature=signature,
            **flow,
        )

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
                hint = FOREIGN_STAGE_KEYS.get(key.lower()) or did_you_mean(key, known)
                hint = hint or f"the keys are: {listed([*BODIES, *self.bodies, *STAGE_KEYS], 40)}"
                self.reading.problem(at, f"unknown key '{key}' in a stage", hint, key=True)
            elif body and not takes(key, body, self.takes):
                those = [name for name in (*BODIES, *self.bodies) if takes(key, name, self.takes)]
                self.reading.problem(at, f"'{body}' takes no '{key}'", f"these do: {listed(those)}", key=True)
        if "parallel" in data and "each" not in data:
            hint = "it says how many elements at a time"
            self.reading.problem((*path, "parallel"), "'parallel' without 'each'", hint, key=True)

    def taken(self, data: Mapping[str, Any], body: str) -> Mapping[str, Any]:
        """Return the settings that the body takes: what it does not take was refused already."""
        return {key: part for key, part in data.items() if key in STAGE_KEYS and (not body or takes(key, body, self.takes))}

    def with_defaults(self, own: StageSettings, body: str, many: bool) -> StageSettings:
        """Return the stage's settings, completed by the file's defaults as far as the body takes them.

        The default model is not among them: what settings say of a stage comes before it.
        """
        defaults = self.header.defaults
        params = takes("params", body, self.takes)
        timed = body != "uses"
        return StageSettings(
            model=own.model,
            params=_completed(own.params, defaults.params) if params else {},
            timeout=own.timeout if own.timeout is not None or not timed else defaults.timeout,
            retry=own.retry if own.retry is not None or not timed else defaults.retry,
            parallel=own.parallel if own.parallel is not None or not many else defaults.parallel,
            strategy=own.strategy or (defaults.strategy if takes("strategy", body, self.takes) else None),
            judge=own.judge,
            confidence=own.confidence,
        )

    def flow(self, path: Path, data: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Read the keys that say when and how often."""
        on_error = data.get("on_error", "fail")
        if on_error not in ("fail", "continue"):
            hint = did_you_mean(str(on_error), ("fail", "continue"))
            self.reading.problem((*path, "on_error"), "'on_error' must be fail or continue", hint)
        return {
            "needs": self.needs((*path, "needs"), data.get("needs")),
            "when": self.when((*path, "when"), data["when"], name) if "when" in data else None,
            "each": self.each((*path, "each"), data["each"], name) if "each" in data else None,
            "on_error": on_error,
        }

    def needs(self, path: Path, data: Any) -> tuple[str, ...]:
        """Read ``needs``; whether the stages exist is checked when all are known."""
        if data is None:
            return ()
        if not isinstance(data, list):
            self.reading.problem(path, f"'needs' must be a list of stages, not {plain_kind(data)}", f"write needs: [{data}]")
            return ()
        names = []
        for index, name in enumerate(data):
            if not isinstance(name, str):
                self.reading.problem((*path, index), f"'needs' holds names of stages, not {plain_kind(name)}")
            elif name in names:
                self.reading.problem((*path, index), f"'{name}' stands twice")
            else:
                names.append(name)
        return tuple(names)

    def when(self, path: Path, data: Any, name: str) -> Expression | None:
        """Read a condition: an expression, or a YAML boolean, number, null or list."""
        if isinstance(data, str):
            return self.reading.expression(path, data, "when", name)
        if isinstance(data, Mapping):
            self.reading.problem(path, "'when' must be an expression, not a mapping", "put it in quotes")
            return None
        place = self.reading.document.position(path)
        return Expression(text=str(data), root=Constant(constant=data), position=place)

    def each(self, path: Path, data: Any, name: str) -> Expression | tuple[Value, ...] | None:
        """Read a list, or an expression that gives one."""
        if isinstance(data, list):
            return tuple(self.reading.value((*path, index), part, "each", name) for index, part in enumerate(data))
        if isinstance(data, str):
            return self.reading.expression(path, data, "each", name)
        if data is None:
            return ()
        self.reading.problem(path, f"'each' must be a list or an expression, not {plain_kind(data)}")
        return None

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
        if key == "run":
            return self.run(at, data[key])
        if key == "uses":
            target = self.reading.plain(at, data[key], "'uses'")
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
        return Prompt(prompt=prompt, system=system), "", None

    def run(self, at: Path, data: Any) -> tuple[Body, str, Signature | None] | None:
        """Read the function of a ``run``."""
        target = self.reading.plain(at, data, "'run'")
        if not target:
            return None
        found = _TARGET.fullmatch(target)
        if found is None:
            hint = "write package.module:function"
            if re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", target):
                module, _, function = target.rpartition(".")
                hint = f"write {module}:{function}"
            self.reading.problem(at, f"'{target}' names no function", hint)
            return None
        signature = self.signature(at, found[1], found[2])
        return Run(target=target, module=found[1], function=found[2]), "", signature


def finished(draft: Draft, *, depends: tuple[str, ...], mentions: frozenset[str], value: Type, reading: Reading) -> Stage:
    """Return the stage of a draft, now that all else is known."""
    when = draft.when
    return Stage(
        name=draft.name,
        key=draft.key,
        body=draft.body,
        with_=draft.with_,
        needs=draft.needs,
        when=when,
        when_per_element=when is not None and bool(when.names & {"item", "index"}),
        each=draft.each,
        parallel=draft.settings.parallel if draft.settings.parallel is not None else 1,
        model=draft.settings.model,
        params=draft.settings.params,
        strategy=draft.settings.strategy,
        judge=draft.settings.judge,
        confidence=draft.settings.confidence,
        output=draft.output,
        value=value,
        timeout=draft.settings.timeout,
        retry=draft.settings.retry or Retry(),
        on_error="continue" if draft.on_error == "continue" else "fail",
        depends=depends,
        mentions_run="run" in mentions,
        position=reading.document.position(("stages", draft.name), key=True),
    )


def _completed(own: Mapping[str, Value], defaults: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return ``own`` params over ``defaults``; ``extra`` is completed key by key."""
    extra = {**(defaults.get("extra") or {}), **(own.get("extra") or {})}
    return {**defaults, **own, **({"extra": extra} if extra else {})}


def beside(folder: str, path: str) -> str:
    """Return the absolute path of a file that is named relative to ``folder``."""
    return os.path.normpath(os.path.join(folder, path))
