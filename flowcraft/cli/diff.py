"""``flowcraft runs diff``: what differs between two runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from flowcraft.cli.console import print_json, stdout
from flowcraft.cli.exits import FAILED
from flowcraft.cli.options import AsJson, SettingsPath, open_flowcraft, open_run
from flowcraft.cli.progress import money
from flowcraft.errors import Problem, WorkflowError
from flowcraft.source import did_you_mean, listed

if TYPE_CHECKING:
    from flowcraft.app.comparing.differences import RunDifference, Side, StageDifference
    from flowcraft.app.comparing.values import Change

_STYLES = {"+": "green", "-": "red", "@": "cyan"}
_LINES = 12
"""Lines of one diff that are shown where nobody asks for all."""
_CHANGES = 5
"""Places of one value, and pieces of one stage, that are shown."""
_LETTERS = 240
"""Characters of a line that are shown, from shortly before the first that differs."""
_BEFORE = 40
_IN_ROW = 76
"""Characters of a line on which a value still stands beside the other one."""
_ONE_LINE = "@@ -1 +1 @@"

FirstRun = Annotated[
    str, typer.Argument(metavar="A", help="A run's id, the beginning of it, 'last', or the file of an export.")
]
SecondRun = Annotated[str, typer.Argument(metavar="B", help="The run that is compared with it, written alike.")]


def diff_runs(
    first: FirstRun,
    second: SecondRun,
    stage: Annotated[
        str | None,
        typer.Option("--stage", metavar="NAME", help="Show one stage with all in it, nothing shortened."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Shorten nothing.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Leave with 1 where the outputs differ, else with 0.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Show what differs between two runs, in all and by stage. Inputs, files, settings, outputs, cost and time are compared."""
    found = _difference(first, second, settings)
    stages = _chosen(found, stage)
    if as_json:
        print_json({**found.data(), "stages": [one.data() for one in stages]})
    else:
        pen = _Pen(full or stage is not None)
        if stage is None:
            _show(found, pen)
        for one in stages:
            _show_stage(one, pen)
        if stage is None:
            _show_end(found, pen)
    if exit_code and found.outputs:
        raise typer.Exit(FAILED)


def _difference(first: str, second: str, settings: Any) -> RunDifference:
    from flowcraft.app.comparing.differences import differences
    from flowcraft.app.recordings import is_export

    if is_export(first) and is_export(second):  # neither settings nor a database is needed
        return differences(open_run(first, settings), open_run(second, settings))
    return open_flowcraft(settings).diff(first, second)


def _chosen(found: RunDifference, name: str | None) -> Sequence[StageDifference]:
    if name is None:
        return found.stages
    path = name.replace(".", "/")
    stages = [stage for stage in found.stages if f"{stage.stage}/".startswith(f"{path}/")]
    if not stages:
        known = [stage.stage for stage in found.stages]
        hint = did_you_mean(path, known) or (f"the stages are: {listed(known)}" if known else "neither run has begun any")
        raise WorkflowError(problems=[Problem(message=f"unknown stage '{name}'", hint=hint)])
    return stages


class _Pen:
    """Writes lines, long ones and many of them shortened unless ``full``."""

    def __init__(self, full: bool) -> None:
        self.full = full
        self.shortened = False
        self._console = stdout()

    def write(self, text: str | Text = "", indent: int = 0, style: str = "") -> None:
        """Write a line; where a screen has a width it is broken, and what follows stands one further in."""
        line = Text(text, style=style) if isinstance(text, str) else text
        width = self._console.width - indent - 1
        parts = line.wrap(self._console, max(20, width)) if self._console.is_terminal else [line]
        for number, part in enumerate(parts):
            self._console.print(Text(" " * (indent + bool(number))) + part, soft_wrap=True)

    def title(self, text: str) -> None:
        """Write the title of what follows."""
        self.write()
        self.write(text, style="bold")

    def diff(self, text: str, indent: int) -> None:
        """Write a unified diff, without the two lines that name what is compared."""
        lines = [line for line in text.split("\n") if line != _ONE_LINE and not line.startswith(("--- ", "+++ "))]
        shown = lines if self.full else _from_where_they_differ(lines[:_LINES])
        for line in shown:
            self.write(line, indent, _STYLES.get(line[:1], ""))
        self.more(len(lines) - len(shown), "more line", indent)

    def changes(self, found: Sequence[Change], indent: int) -> None:
        """Write where two values differ."""
        shown = found if self.full else found[:_CHANGES]
        for change in shown:
            self._change(change, indent)
        self.more(len(found) - len(shown), "more place", indent)

    def _change(self, change: Change, indent: int) -> None:
        path = f"{change.path}: " if change.path else ""
        before, after = _written(change.before), _written(change.after)
        if change.diff:
            self.write(path.rstrip(), indent)
            self.diff(change.diff, indent + 2)
        elif change.kind == "changed" and indent + len(path + before + after) <= _IN_ROW and "\n" not in before + after:
            self.write(Text.assemble(path, (before, "red"), " → ", (after, "green")), indent)
        else:
            self.write(path.rstrip(), indent)
            marked = [("-", before)] if change.kind == "removed" else [("+", after)]
            if change.kind == "changed":
                marked = [("-", before), ("+", after)]
            self.diff("\n".join(f"{sign}{line}" for sign, text in marked for line in text.split("\n")), indent + 2)

    def more(self, count: int, of: str, indent: int) -> None:
        """Say how many are left out."""
        if count > 0:
            self.shortened = True
            self.write(f"… {count:,} {of}{'s' * (count != 1)}", indent, "dim")


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict | list) else None)


def _from_where_they_differ(lines: Sequence[str]) -> list[str]:
    """Return lines of a diff, long ones from shortly before the place where they differ from the one that they replace."""
    found = list(lines)
    removed: list[int] = []
    for place, line in enumerate(lines):
        if line.startswith("-"):
            removed.append(place)
            continue
        if line.startswith("+") and removed:
            old = removed.pop(0)
            begin = _same(lines[old][1:], line[1:])
            found[old], found[place] = _cut(lines[old], begin), _cut(line, begin)
        else:
            removed = []
    return [_cut(line, 0) for line in found]


def _same(one: str, two: str) -> int:
    shorter = min(len(one), len(two))
    return next((place for place in range(shorter) if one[place] != two[place]), shorter)


def _cut(line: str, begin: int) -> str:
    """Return a line of a diff from shortly before ``begin`` of what follows its sign; the rest is counted."""
    if len(line) <= _LETTERS:
        return line
    sign, text = line[:1], line[1:]
    first = max(0, begin - _BEFORE)
    rest = len(text) - first - _LETTERS
    tail = f"… ({rest:,} more characters)" if rest > 0 else ""
    return f"{sign}{'…' if first else ''}{text[first : first + _LETTERS]}{tail}"


def _show(found: RunDifference, pen: _Pen) -> None:
    """Show what is told of the runs as a whole."""
    for run, name, side in zip((found.first, found.second), found.workflows, (found.before, found.after), strict=True):
        fork = " · a fork of the other" if run == found.fork and found.first != found.second else ""
        pen.write(Text.assemble((run, "bold"), f" · {name} · {side.state}{fork}"))
        if side.reason and found.state:
            pen.write(side.reason, 2, "red")
    pen.write(_figures(found.before, found.after))
    if found.fork:
        _show_reused(found, pen)
    for title, changes in (("inputs", found.inputs), ("settings", found.settings)):
        if changes:
            pen.title(title)
            pen.changes(changes, 2)
    for name, diff in found.files.items():
        pen.title(f"file {name}")
        pen.diff(diff, 2)
    if found.outputs:
        pen.title("outputs")
        pen.changes(found.outputs, 2)
    if found.stages:
        pen.title("stages")


def _show_reused(found: RunDifference, pen: _Pen) -> None:
    forked = [(one.stage, one.before if found.fork == found.first else one.after) for one in found.stages]
    sides = [(name, side) for name, side in forked if side is not None and side.reused]
    if not sides:
        pen.write("nothing was taken over")
        return
    told = [name if side.reused == side.pieces else f"{name} ({side.reused} of {side.pieces})" for name, side in sides]
    pen.write(f"taken over: {', '.join(told)}")


def _show_stage(stage: StageDifference, pen: _Pen) -> None:
    one, two = stage.before, stage.after
    if one is None or two is None:
        where = "only in the second run" if one is None else "only in the first run"
        side = two or one
        assert side is not None
        pen.write(Text.assemble(("+ " if one is None else "- ", "bold"), f"{stage.stage}: {where} ({side.state})"), 0)
        if pen.full:
            pen.changes(stage.output, 4)
        return
    mark, style = ("~", "yellow") if stage.changed else ("=", "dim")
    how = " · ".join(part for part in (_how(stage, one, two), _figures(one, two)) if part)
    pen.write(Text.assemble((f"{mark} {stage.stage}", style), f": {how}"))
    shown = stage.asked if pen.full else stage.asked[:1]
    for asked in shown:
        pen.write(str(asked), 4)
        pen.diff(asked.diff, 6)
    pen.more(len(stage.asked) - len(shown), "more such piece", 4)
    if stage.output:
        pen.write("the output differs:", 4)
        pen.changes(stage.output, 6)


def _how(stage: StageDifference, one: Side, two: Side) -> str:
    told = [_state(two)]
    for name in stage.facts:
        before, after = getattr(one, name), getattr(two, name)
        if name == "state":
            told[0] = f"{_state(one)} → {_state(two)}"
        else:
            unit = f"{name} " if isinstance(after, int) else ""
            told.append(f"{unit}{before} → {after}")
    if "state" in stage.facts and two.reason:
        told.append(two.reason)
    return ", ".join(told)


def _state(side: Side) -> str:
    if side.reused and side.reused < side.pieces:
        return f"{side.state} ({side.reused} of {side.pieces} taken over)"
    return side.state


def _figures(one: Side, two: Side) -> str:
    """Return time, calls, tokens and money, of both where they differ; nothing where there are none."""
    forms: tuple[Callable[[Side], str], ...] = (_seconds, _number("calls"), _number("tokens"), _usd)
    told = []
    for form in forms:
        before, after = form(one), form(two)
        if before != after:
            told.append(f"{before or 'none'} → {after or 'none'}")
        elif after:
            told.append(after)
    return " · ".join(told)


def _seconds(side: Side) -> str:
    value = side.seconds or 0.0
    return "" if value < 0.005 else f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def _usd(side: Side) -> str:
    return f"{money(side.usd)} USD" if side.usd else ""


def _number(unit: str) -> Callable[[Side], str]:
    def told(side: Side) -> str:
        value = getattr(side, unit)
        return f"{value:,} {unit if value != 1 else unit[:-1]}" if value else ""

    return told


def _show_end(found: RunDifference, pen: _Pen) -> None:
    pen.write()
    if found.same:
        told = "the same run" if found.first == found.second else "nothing differs but what was spent"
        pen.write(told, style="green")
    elif not found.outputs:
        pen.write("the outputs are the same", style="green")
    if pen.shortened:
        pen.write("in full: --stage NAME, or --full", style="dim")
