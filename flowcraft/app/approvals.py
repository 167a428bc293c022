"""Approvals: what waits for people, and what they answer."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.engine import Answer, Approval, Engine, RunRow
from flowcraft.errors import Problem, RunError, WorkflowError
from flowcraft.redaction import Redactor
from flowcraft.source import did_you_mean, listed
from flowcraft.workflow import Gate, Workflow, best_match, check_answer, find_gate, gates_of, parse_value, parts_of

LARGEST_COMMENT = 100_000


class Approvals:
    """Lists and answers approvals of the runs of one database.

    ``kept`` returns the workflow that a run started with, ``redactor`` what takes a workflow's secrets out.
    """

    def __init__(self, engine: Engine, kept: Callable[[RunRow], Workflow], redactor: Callable[[Workflow], Redactor]) -> None:
        self.engine = engine
        self._kept = kept
        self._redactor = redactor
        self._watchers: list[Callable[[], object]] = []

    def watch(self, watcher: Callable[[], object]) -> Callable[[], None]:
        """Call ``watcher``, on any thread, whenever something is answered here; call the result to stop that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def open(self, run: str | None = None) -> Sequence[Approval]:
        """Return what waits for an answer, of one run or of all."""
        row = self.engine.find(run) if run is not None else None
        return self.engine.store.approvals(row.id if row is not None else None, state="open")

    def answer(self, run: str, gate: str | None, answer: Answer, *, texts: Sequence[str] = ()) -> Approval:
        """Answer a gate of a run, by its name or path; without one, the only one that is open. Return the approval.

        ``texts`` are ``field=value`` pairs of the command line, over the answer's values. Raises WorkflowError where the gate,
        the choice or a value is wrong, RunError where somebody else was faster or the time is over.
        """
        row = self.engine.find(run)
        asked = self._asked(row, gate)
        workflow = self._kept(row)
        found = _gate(workflow, asked)
        values = {**answer.values, **parse_fields(found, texts)}
        given = self._clean(workflow, found, replace(answer, values=values))
        at = self.engine.desk.now()
        if not self.engine.store.answer(row.id, asked.path, asked.number, given, at):
            now = self.engine.store.approval(row.id, asked.path)
            raise RunError(over(now or asked, at), run=row.id, stage=asked.path)
        for watcher in list(self._watchers):
            watcher()
        return self.engine.store.approval(row.id, asked.path) or asked

    def gate(self, asked: Approval) -> Gate:
        """Return the gate that asks, as its workflow has it."""
        return _gate(self._kept(self.engine.find(asked.run)), asked)

    def beforehand(self, workflow: Workflow, answers: Mapping[str, Any]) -> dict[str, Answer]:
        """Return answers that are given before gates ask, by the names of gates, checked.

        Each is a choice, or a mapping of ``choice``, ``comment``, ``by`` and ``values``. Raises WorkflowError with all that is
        wrong.
        """
        found: dict[str, Answer] = {}
        problems: list[Problem] = []
        for name, given in answers.items():
            gate = find_gate(workflow, name)
            if gate is None:
                problems.append(unknown_gate(name, [one.name for one in gates_of(workflow)]))
                continue
            try:
                found[name] = self._clean(workflow, gate, given if isinstance(given, Answer) else _answer(name, given))
            except WorkflowError as error:
                problems += error.problems
        if problems:
            raise WorkflowError(problems=problems)
        return found

    def add_beforehand(self, row: RunRow, answers: Mapping[str, Any]) -> None:
        """Keep such answers with a run, and give them to the gates that ask already."""
        found = self.beforehand(self._kept(row), answers)
        self.engine.store.answer_beforehand(row.id, found)
        for one in self.engine.store.approvals(row.id, state="open"):
            name = best_match(one.path, list(found))
            if name is not None:
                self.engine.store.answer(row.id, one.path, one.number, found[name], self.engine.desk.now())

    def _clean(self, workflow: Workflow, gate: Gate, answer: Answer) -> Answer:
        """Return an answer as it is stored: its values as they fit, secrets taken out."""
        redactor = self._redactor(workflow)
        values = check_answer(gate, answer.choice, answer.values)
        if len(answer.comment) > LARGEST_COMMENT:
            raise WorkflowError(problems=[Problem(message=f"the comment is longer than {LARGEST_COMMENT:,} characters")])
        by = answer.by.strip() or login_name()
        return Answer(
            choice=answer.choice, comment=redactor.text(answer.comment), by=redactor.text(by), values=redactor.value(values)
        )

    def _asked(self, row: RunRow, gate: str | None) -> Approval:
        """Return the approval that ``gate`` means: the one that is open, else what became of it."""
        asked = self.engine.store.approvals(row.id)
        still = [one for one in asked if one.open]
        if gate is None:
            if len(still) == 1:
                return still[0]
            names = ", ".join(one.gate for one in still)
            told = f"run {row.id} asks at several gates: {names}" if still else f"nothing of run {row.id} waits for an answer"
            raise WorkflowError(problems=[Problem(message=told, hint="name one of them" if still else _hint(row))])
        meant = [one for one in asked if one.path == gate] or [one for one in asked if best_match(one.path, [gate])]
        open_ones = [one for one in meant if one.open]
        if len(open_ones) == 1 or (len(meant) == 1 and not open_ones):
            return (open_ones or meant)[0]
        if len(meant) > 1 and not open_ones:
            return meant[-1]
        if open_ones:
            names = ", ".join(one.path for one in open_ones)
            raise WorkflowError(problems=[Problem(message=f"'{gate}' means several: {names}", hint="name one of them")])
        raise WorkflowError(problems=[unknown_gate(gate, [one.gate for one in still], f"of run {row.id} that asks")])


def _gate(workflow: Workflow, asked: Approval) -> Gate:
    found = find_gate(workflow, asked.gate)
    if found is None:
        told = f"run {asked.run} has no gate {asked.gate} in the workflow that it started with"
        raise RunError(told, run=asked.run, stage=asked.path)
    return found


def login_name() -> str:
    """Return who is logged in, as far as the system tells."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def local_time(seconds: float) -> str:
    """Return a time as people here read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def over(asked: Approval, now: float) -> str:
    """Return why a gate cannot be answered any more: who chose what, and when; or that its time is over."""
    if asked.answered and asked.at is not None:
        comment = f" ({asked.comment})" if asked.comment else ""
        return f"{asked.gate} was answered already: {asked.choice}{comment}, by {asked.by} at {local_time(asked.at)}"
    if asked.state == "timed_out" or (asked.deadline is not None and asked.deadline <= now):
        return f"the time for {asked.gate} was over at {local_time(asked.deadline or now)}: nobody had answered"
    if asked.state == "withdrawn":
        return f"{asked.gate} was withdrawn: its run has ended"
    return f"{asked.gate} asks something else now; look again: flowcraft runs show {asked.run}"


def unknown_gate(name: str, known: Sequence[str], what: str = "of the workflow") -> Problem:
    """Return that there is no such gate."""
    hint = did_you_mean(name, known) or (f"the gates are: {listed(known)}" if known else "there are none")
    return Problem(message=f"there is no gate '{name}' {what}", hint=hint)


def parse_fields(gate: Gate, texts: Sequence[str]) -> dict[str, Any]:
    """Return the values of a form's fields from ``field=value`` pairs; raise WorkflowError with all that is wrong."""
    fields = gate.body.form.fields if gate.body.form is not None else {}
    given: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    problems = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(Problem(message=f"'{text}' is no field of a form", hint="write --set field=value"))
        elif name not in fields:
            hint = did_you_mean(name, fields) or (f"the fields are: {listed(fields)}" if fields else "it asks for none")
            problems.append(Problem(message=f"gate '{gate.name}' asks for no field '{name}'", hint=hint))
        else:
            given.setdefault(name, []).append(value)
    for name, written in given.items():
        try:
            values[name] = parse_value(fields[name], *written)
        except ValueError as error:
            problems.append(Problem(message=f"field '{name}' of gate '{gate.name}': {error}"))
    if problems:
        raise WorkflowError(problems=problems)
    return values


def parse_answers(workflow: Workflow, pairs: Sequence[str]) -> dict[str, Answer]:
    """Return what ``gate=choice``, ``gate.comment=text`` and ``gate.field=value`` of the command line say."""
    found: dict[str, dict[str, Any]] = {}
    forms: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        outer, _, field = name.rpartition(".")
        if not equals:
            problems.append(Problem(message=f"'{pair}' answers no gate", hint="write --answer gate=approve"))
        elif find_gate(workflow, name) is not None:
            _say(found.setdefault(name, {}), "choice", text, name, problems)
        elif not parts_of(outer) or find_gate(workflow, outer) is None:
            problems.append(unknown_gate(name, [one.name for one in gates_of(workflow)]))
        elif field == "comment":
            _say(found.setdefault(outer, {}), "comment", text, outer, problems)
        else:
            found.setdefault(outer, {})
            forms.setdefault(outer, []).append(f"{field}={text}")
    for name, texts in forms.items():
        gate = find_gate(workflow, name)
        assert gate is not None
        try:
            found[name]["values"] = parse_fields(gate, texts)
        except WorkflowError as error:
            problems += error.problems
    for name, given in found.items():
        if "choice" not in given:
            problems.append(Problem(message=f"gate '{name}' is given no choice", hint=f"add: --answer {name}=CHOICE"))
    if problems:
        raise WorkflowError(problems=problems)
    return {name: Answer(**given) for name, given in found.items()}


def _say(answer: dict[str, Any], what: str, text: str, gate: str, problems: list[Problem]) -> None:
    """Note one part of an answer, which may be said once."""
    if what in answer:
        problems.append(Problem(message=f"the {what} of gate '{gate}' is given more than once"))
    answer[what] = text


def _answer(name: str, given: Any) -> Answer:
    """Return an answer that a program gives: a choice, or a mapping."""
    if isinstance(given, str):
        return Answer(choice=given)
    known = ("choice", "comment", "by", "values")
    if isinstance(given, Mapping) and "choice" in given and set(given) <= set(known):
        return Answer(**given)
    raise WorkflowError(problems=[Problem(message=f"gate '{name}': an answer is a choice, or a mapping of {listed(known)}")])


def _hint(row: RunRow) -> str:
    return f"it is {row.state}; see: flowcraft runs show {row.id}"
