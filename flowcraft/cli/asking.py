"""What waits for people, as a person reads it, and the questions of a form on a terminal."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from flowcraft.cli.console import visible

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft
    from flowcraft.engine import Approval
    from flowcraft.workflow import Gate

LONGEST_SHOWN = 1_000
"""Characters of a question that stand among other things; on a terminal, who is asked sees all of it."""


class Left(Exception):
    """Who was asked went away (Ctrl-D, Ctrl-C)."""


def moment(seconds: float) -> str:
    """Return a time as people here read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def document(asked: Approval) -> dict[str, Any]:
    """Return an approval as JSON-like data."""
    answer = {"choice": asked.choice, "comment": asked.comment, "by": asked.by, "values": dict(asked.values)}
    return {
        "run": asked.run,
        "gate": asked.gate,
        "path": asked.path,
        "state": "answered" if asked.answered else asked.state,
        "question": asked.question,
        "choices": dict(asked.choices),
        "fields": asked.fields,
        "asked": moment(asked.asked),
        "deadline": moment(asked.deadline) if asked.deadline is not None else None,
        **({**answer, "at": moment(asked.at)} if asked.answered and asked.at is not None else {}),
    }


def show_waiting(console: Console, waits: Sequence[Approval], *, brief: bool = False) -> None:
    """Print what waits, since when, until when, and the command that answers it; ``brief``: a line each."""
    for asked in waits:
        until = f", until {moment(asked.deadline)}" if asked.deadline is not None else ""
        if brief:
            told = f"{asked.gate} of {asked.run} waits since {moment(asked.asked)}{until}: flowcraft runs approve {asked.run}"
            console.print(Text(told, style="yellow"))
            continue
        console.print(Text(f"{asked.gate} waits for an answer since {moment(asked.asked)}{until}", style="yellow"))
        question = asked.question.strip("\n")
        shown = question if len(question) <= LONGEST_SHOWN else f"{question[:LONGEST_SHOWN]}..."
        console.print(Text(indented(shown)))
        labelled = [f"{choice} ({label})" if label else choice for choice, label in asked.choices.items()]
        console.print(Text(f"choices: {', '.join(labelled)}", style="dim"))
        console.print(Text(f"answer it: {command(asked)}", style="dim"))


def command(asked: Approval) -> str:
    """Return the command that answers a gate."""
    fields = "".join(f" --set {name}=VALUE" for name in (asked.fields or {}).get("properties", ()))
    return f"flowcraft runs approve {asked.run} {shlex.quote(asked.path)} --choice CHOICE{fields}"


def told(asked: Approval) -> str:
    """Return in one line what became of an approval."""
    if asked.answered and asked.at is not None:
        values = "".join(f", {name}={value}" for name, value in asked.values.items())
        comment = f": {asked.comment}" if asked.comment else ""
        return f"{asked.gate}: {asked.choice}{values}, by {asked.by} at {moment(asked.at)}{comment}"
    state = {"timed_out": "nobody answered in time", "withdrawn": "withdrawn"}.get(asked.state, asked.state)
    return f"{asked.gate}: {state}"


def indented(text: str) -> str:
    """Return text with a margin, and nothing in it that could command a terminal: what is approved is what is seen."""
    return "\n".join(f"  {line}" for line in visible(text).split("\n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What came of asking: whether there is an answer, from here or from somebody faster, and whether they went away."""

    news: bool
    left: bool


def ask_people(flow: FlowCraft, run: str, console: Console, gate: str | None = None) -> Talk:
    """Ask who sits at the terminal for what a run waits for, or for one gate; what is left open goes on waiting."""
    news = False
    try:
        for asked in wanted(flow, run, gate):
            _ask(flow, asked, console)
            news = True
    except (Left, KeyboardInterrupt):
        console.print()
        return Talk(news=news, left=True)
    return Talk(news=news, left=False)


def wanted(flow: FlowCraft, run: str, gate: str | None) -> list[Approval]:
    """Return what a run waits for, or what of that ``gate`` means."""
    return [asked for asked in flow.approvals(run) if gate is None or gate in (asked.gate, asked.path)]


def on_terminal() -> bool:
    """Say whether somebody sits there who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def show_how(run: str, console: Console) -> None:
    """Say how an answer can be given later."""
    console.print(Text(f"run {run} goes on waiting; answer it: flowcraft runs approve {run}", style="yellow"))


def _ask(flow: FlowCraft, asked: Approval, console: Console) -> None:
    from flowcraft.engine import Answer
    from flowcraft.errors import RunError

    gate = flow.runs.approvals.gate(asked)
    until = f" (until {moment(asked.deadline)})" if asked.deadline is not None else ""
    console.print(Text(f"\n{asked.gate}{until}", style="bold yellow"))
    console.print(Text(indented(asked.question.strip("\n"))))
    choice = _choice(asked.choices, console)
    values = _form(gate, console) if gate.asks_form(choice) else {}
    comment = _line("comment (may be left empty): ", console)
    try:
        flow.runs.approvals.answer(asked.run, asked.path, Answer(choice=choice, comment=comment, values=values))
    except RunError as error:  # somebody else was faster, or the time is over
        console.print(Text(str(error), style="red"))


def _choice(choices: Mapping[str, str], console: Console) -> str:
    names = list(choices)
    widest = max(map(len, names))
    for number, name in enumerate(names, 1):
        console.print(Text(f"  {number}) {name:{widest}}  {choices[name]}".rstrip()))
    while True:
        said = _line("choice: ", console)
        if said in choices:
            return said
        if said.isascii() and said.isdigit() and 1 <= int(said) <= len(names):
            return names[int(said) - 1]
        console.print(Text(f"write one of: {', '.join(names)}, or its number", style="red"))


def _form(gate: Gate, console: Console) -> dict[str, Any]:
    from flowcraft.workflow import TypeMismatch, parse_value

    values: dict[str, Any] = {}
    for name, kind in gate.body.form.fields.items() if gate.body.form is not None else ():
        about = f": {kind.description}" if kind.description else ""
        while name not in values:
            empty = "; may be left empty" if kind.nullable else ""
            said = _line(f"{name} ({kind.text}{about}{empty}): ", console)
            try:
                values[name] = kind.check(None if not said and kind.nullable else parse_value(kind, said))
            except (ValueError, TypeMismatch) as error:
                console.print(Text(str(error), style="red"))
    return values


def _line(prompt: str, console: Console) -> str:
    """Return what is typed; raise Left where nothing comes any more."""
    console.print(Text(prompt, style="bold"), end="")
    line = sys.stdin.readline()
    if not line:
        raise Left
    return line.strip()
