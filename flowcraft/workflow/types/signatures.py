"""The signatures of functions, read from their source: nothing of the user's is imported."""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowcraft.source import did_you_mean, listed
from flowcraft.workflow.types.type import (
    ANY,
    BOOLEAN,
    INTEGER,
    NULL,
    NUMBER,
    STRING,
    Enumeration,
    ListOf,
    Type,
    nullable,
)

_LARGEST = 5_000_000
_DEEPEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter that can be given by name."""

    name: str
    type: Type = ANY
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a function takes and returns. ``any_name`` says that it takes every name (``**kwargs``).

    ``known`` is False where only the function's existence is known (re-exported, decorated, compiled). ``positional`` names
    parameters that cannot be given by name.
    """

    parameters: tuple[Parameter, ...] = ()
    any_name: bool = True
    returns: Type = ANY
    known: bool = False
    positional: tuple[str, ...] = ()


class NotFound(Exception):
    """A module or a name in it does not exist; the message says which, ``hint`` what may be meant."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Modules:
    """Reads the sources of modules, each once; ``folder`` is that of the workflow file."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._trees: dict[str, ast.Module | None] = {}

    def signature(self, module: str, function: str) -> Signature:
        """Return the signature of ``module:function``. Raises NotFound."""
        tree = self._tree(module)
        if tree is None:
            return Signature()
        found = _defined(tree, function.partition(".")[0], module)
        if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) and "." not in function and not found.decorator_list:
            return _signature(found)
        return Signature()

    def check_model(self, target: str) -> str:
        """Return why ``module:Model`` cannot be used; nothing if it exists."""
        module, _, name = target.partition(":")
        try:
            tree = self._tree(module)
            if tree is not None:
                _defined(tree, name, module)
        except NotFound as error:
            return f"{error}; {error.hint}" if error.hint else str(error)
        return ""

    def _tree(self, module: str) -> ast.Module | None:
        """Return the parsed source; None where the module is there but has none."""
        if module not in self._trees:
            path = self._beside(module) or _installed(module)
            if path is None:
                raise NotFound(
                    f"there is no module '{module}', neither beside the workflow file nor installed",
                    did_you_mean(module, [file.stem for file in sorted(self.folder.glob("*.py"))]),
                )
            self._trees[module] = _parsed(path, module)
        return self._trees[module]

    def _beside(self, module: str) -> Path | None:
        base = self.folder.joinpath(*module.split("."))
        for path in (base.with_name(base.name + ".py"), base / "__init__.py"):
            if os.path.isfile(path):  # unlike Path.is_file(), False for a name that is too long for a file
                return path
        return None


def describe_function(module: str, function: str, folder: str) -> Signature | None:
    """Return the signature of a function from its source, None where there is no such function."""
    try:
        return Modules(folder).signature(module, function)
    except NotFound:
        return None


def _installed(module: str) -> Path | None:
    """Return where an installed module lies, asking the finders level by level: no package is imported on the way.

    A module without a file (built in, compiled in) is found too: the path is then no Python source.
    """
    search: list[str] | None = None
    name = ""
    location: Path | None = None
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = None
        for finder in sys.meta_path:
            try:
                spec = finder.find_spec(name, search, None)
            except (ImportError, AttributeError, KeyError, ValueError):
                continue
            if spec is not None:
                break
        if spec is None:
            return None
        location = Path(spec.origin or "namespace")
        search = list(spec.submodule_search_locations or ())
    return location


def _parsed(path: Path, module: str) -> ast.Module | None:
    if path.suffix != ".py" or not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python says of a user's escapes is for when it is run
            return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise NotFound(f"module '{module}' is not valid Python: {error.msg} ({path.name}, line {error.lineno})") from None
    except (OSError, ValueError, MemoryError, RecursionError) as error:
        raise NotFound(f"module '{module}' cannot be read: {error}") from None


def _statements(body: list[ast.stmt], depth: int = 0) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those within if, try and with included."""
    for statement in body:
        yield statement
        if depth < _DEEPEST and not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for inner in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(statement, inner, []), depth + 1)
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body, depth + 1)


def _defined(tree: ast.Module, name: str, module: str) -> ast.stmt | None:
    """Return the last statement that defines ``name``; None where any name may exist. Raises NotFound."""
    found: ast.stmt | None = None
    names: list[str] = []
    for statement in _statements(tree.body):
        defined = list(_names(statement))
        names += defined
        if name in defined:
            found = statement
    if found is not None or "*" in names or "__getattr__" in names:
        return found
    public = [known for known in dict.fromkeys(names) if not known.startswith("_")]
    hint = did_you_mean(name, public) or (f"it has: {listed(public)}" if public else "")
    raise NotFound(f"module '{module}' has no '{name}'", hint)


def _names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield (alias.asname or alias.name).split(".")[0]
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


def _signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature:
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    optional = len(plain) - len(arguments.defaults)
    parameters = [
        Parameter(name=argument.arg, type=annotated(argument.annotation), required=index < optional)
        for index, argument in enumerate(plain)
    ]
    named = [
        Parameter(name=argument.arg, type=annotated(argument.annotation), required=default is None)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    only = len(arguments.posonlyargs)
    return Signature(
        parameters=(*parameters[only:], *named),
        any_name=arguments.kwarg is not None,
        returns=annotated(function.returns),
        known=True,
        positional=tuple(parameter.name for parameter in parameters[:only] if parameter.required),
    )


_PLAIN = {"str": STRING, "int": INTEGER, "float": NUMBER, "bool": BOOLEAN, "None": NULL, "list": ListOf(element=ANY)}


def annotated(node: ast.expr | None, depth: int = 0) -> Type:
    """Return the type of an annotation; any where it is none of the plain ones."""
    if node is None or depth > _DEEPEST:
        return ANY
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _quoted(node.value, depth)
        return NULL if node.value is None else ANY
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([node.left, node.right], depth)
    if isinstance(node, ast.Subscript):
        return _generic(_word(node.value), node.slice, depth)
    return _PLAIN.get(_word(node), ANY)


def _quoted(text: str, depth: int) -> Type:
    try:
        return annotated(ast.parse(text.strip(), mode="eval").body, depth + 1)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ANY


def _word(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _generic(name: str, inner: ast.expr, depth: int) -> Type:
    parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
    if name in ("list", "List", "Sequence"):
        return ListOf(element=annotated(inner, depth + 1))
    if name == "Optional":
        return _optional(annotated(inner, depth + 1))
    if name == "Union":
        return _union(parts, depth)
    if name == "Literal":
        return _literal(parts)
    if name == "Annotated":
        return annotated(parts[0], depth + 1)
    return ANY


def _literal(parts: list[ast.expr]) -> Type:
    words = [part.value for part in parts if isinstance(part, ast.Constant)]
    texts = tuple(dict.fromkeys(word for word in words if isinstance(word, str)))
    if not texts or len(words) != len(parts) or any(word is not None and not isinstance(word, str) for word in words):
        return ANY
    kind = Enumeration(words=texts)
    return nullable(kind) if None in words else kind


def _union(parts: list[ast.expr], depth: int) -> Type:
    kinds = [annotated(part, depth + 1) for part in parts]
    rest = [kind for kind in kinds if kind != NULL]
    if len(rest) == 1:
        return _optional(rest[0]) if len(rest) < len(kinds) else rest[0]
    return ANY if rest else NULL


def _optional(kind: Type) -> Type:
    return kind if kind == ANY else nullable(kind)
