"""How the code is built, as far as ruff and mypy do not say it already."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
MODULES = sorted([*(ROOT / "flowcraft").rglob("*.py"), *(ROOT / "plugins").glob("*/flowcraft_*/**/*.py")])
MOST_LINES = 500
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MUTATORS = frozenset(
    {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}
)
# Types, and what libraries ask to stand at the level of a module.
HARMLESS = frozenset({"HookimplMarker", "HookspecMarker", "MetaData", "NewType", "Table", "TypeVar", "TypeVarTuple", "Typer"})


def at(path: Path, node: ast.AST | None = None) -> str:
    place = path.relative_to(ROOT).as_posix()
    return f"{place}:{getattr(node, 'lineno', 1)}"


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in MODULES:
        yield path, ast.parse(path.read_text("utf-8"))


def walked(*kinds: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    for path, tree in parsed():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                yield path, node


def test_there_is_code_to_look_at() -> None:
    assert len(MODULES) > 30


def test_no_module_is_longer_than_500_lines() -> None:
    long = [
        f"{at(path)} has {lines} lines" for path in MODULES if (lines := len(path.read_text("utf-8").splitlines())) > MOST_LINES
    ]
    assert long == []


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{at(path, node)} {node.name} has {lines} lines"
        for path, node in walked(*FUNCTIONS)
        if isinstance(node, FUNCTIONS) and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_function_takes_more_than_eight_parameters() -> None:
    wide = []
    for path, node in walked(*FUNCTIONS):
        assert isinstance(node, FUNCTIONS)
        named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = [argument for argument in named if argument.arg not in {"self", "cls"}]
        # A command of Typer's takes its options as parameters: their number is the command's business.
        if len(parameters) > MOST_PARAMETERS and "cli" not in path.relative_to(ROOT).parts:
            wide.append(f"{at(path, node)} {node.name} takes {len(parameters)}")
    assert wide == []


def test_no_module_is_a_drawer_for_everything() -> None:
    assert [
        at(path) for path in MODULES if path.stem.strip("_") in {"utils", "util", "helpers", "helper", "common", "misc"}
    ] == []


def test_every_ignore_says_why() -> None:
    """Ruff and mypy see to the codes; the reason stands behind them on the same line."""
    silent = []
    for path in MODULES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            _, ignore, rest = line.partition("# noqa: ") if "# noqa: " in line else line.partition("# type: ignore[")
            reason = re.sub(r"^([A-Z]+[0-9]+[, ]*)+|^[a-z, -]+\]", "", rest)
            if ignore and not re.search("[a-z]{3,}", reason):
                silent.append(f"{path.relative_to(ROOT).as_posix()}:{number}: {line.strip()}")
    assert silent == []


def called(node: ast.expr | None) -> str:
    """The last part of the name of what is called, empty where nothing is."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def assigned(statement: ast.stmt) -> tuple[list[str], ast.expr | None]:
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)], statement.value
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id], statement.value
    return [], None


def test_no_module_holds_an_instance() -> None:
    """A constant in capitals may be one; what bears a variable's name is a global."""
    held = [
        f"{at(path, statement)} {name} = {kind}(...)"
        for path, tree in parsed()
        for statement in tree.body
        for names, value in [assigned(statement)]
        for name in names
        if (kind := called(value))[:1].isupper() and kind not in HARMLESS and not name.isupper()
    ]
    assert held == []


def changed_name(node: ast.AST) -> ast.expr | None:
    """What ``node`` changes: by an item assigned or deleted, or by a mutating method."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return node.func.value
    return None


def changes(definition: ast.AST, names: set[str]) -> Iterator[ast.AST]:
    """Yield where ``definition`` changes one of the module's ``names``."""
    for node in ast.walk(definition):
        target = changed_name(node)
        if isinstance(node, ast.Global) or (isinstance(target, ast.Name) and target.id in names):
            yield node


def test_no_module_holds_state() -> None:
    changed = []
    for path, tree in parsed():
        names = {name for statement in tree.body for name in assigned(statement)[0]}
        for statement in tree.body:
            if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
                local = {name for node in ast.walk(statement) if isinstance(node, ast.stmt) for name in assigned(node)[0]}
                changed += [at(path, node) for node in changes(statement, names - local)]
    assert changed == []


def test_nothing_runs_code_that_it_read() -> None:
    """No pickle and its like, no eval, no exec: what is stored or received stays data."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    found = []
    for path, node in walked(ast.Import, ast.ImportFrom, ast.Call):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").partition(".")[0]}
        else:
            assert isinstance(node, ast.Call)
            names = {node.func.id} if isinstance(node.func, ast.Name) else set()
        if names & (forbidden | {"eval", "exec", "compile", "__import__"}):
            found.append(f"{at(path, node)} {', '.join(sorted(names))}")
    assert found == []
