"""Users' functions: found beside the workflow file or among installed packages, and kept apart per folder."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flowcraft.errors import StageFailed

_IMPORTING = threading.RLock()


def _beside(folder: Path, module: str) -> Path | None:
    """Return the file of ``module`` in ``folder``, if it is there."""
    base = folder.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _private(folder: Path, module: str) -> str:
    return f"_flowcraft_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}.{module}"


def _is_below(module: Any, folder: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


def import_module(folder: Path, module: str) -> Any:
    """Import ``module`` with ``folder`` first on the path; modules of the folder are then kept under a private name.

    So two folders may both have a ``steps.py``. The folder stays at the end of the path, for imports inside functions.
    """
    with _IMPORTING:
        if _beside(folder, module) is None:
            return importlib.import_module(module)
        kept = sys.modules.get(_private(folder, module))
        if kept is not None:
            return kept
        before = set(sys.modules)
        hidden = _hide(folder)
        _restore(folder)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        try:
            return importlib.import_module(module)
        finally:
            sys.path.remove(str(folder))
            if str(folder) not in sys.path:
                sys.path.append(str(folder))
            _keep(folder, before)
            sys.modules.update(hidden)


def _hide(folder: Path) -> dict[str, Any]:
    """Take modules off the list that bear the name of one beside the workflow, but came from elsewhere."""
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    names -= sys.stdlib_module_names
    foreign = [
        name for name, module in sys.modules.items() if name.partition(".")[0] in names and not _is_below(module, folder)
    ]
    return {name: sys.modules.pop(name) for name in foreign}


def _restore(folder: Path) -> None:
    """Bring back the folder's own modules under their names, so that they are imported once."""
    prefix = _private(folder, "")
    for name in [name for name in sys.modules if name.startswith(prefix)]:
        sys.modules[name.removeprefix(prefix)] = sys.modules[name]


def _keep(folder: Path, before: set[str]) -> None:
    """Move the folder's modules from their names to private ones."""
    prefix = _private(folder, "")
    for name, module in list(sys.modules.items()):
        if name.startswith("_flowcraft_"):
            continue
        if prefix + name in sys.modules or (name not in before and _is_below(module, folder)):
            sys.modules[prefix + name] = sys.modules.pop(name)


def load_function(folder: str, module: str, function: str) -> Callable[..., Any]:
    """Return ``module:function``; raise StageFailed saying what is missing or what the module raised."""
    try:
        found: Any = import_module(Path(folder), module)
    except Exception as error:  # border: a user's module may raise anything at import
        raise StageFailed(f"cannot import {module!r}: {type(error).__name__}: {error}") from error
    for part in function.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise StageFailed(f"module {module!r} has no function {function!r}")
    return found  # type: ignore[no-any-return]  # callable() narrows to an untyped callable


def is_async(function: Callable[..., Any]) -> bool:
    """Say whether calling ``function`` gives a coroutine."""
    called = getattr(function, "__call__", None)  # noqa: B004 - the method is wanted, not whether there is one
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def code_digest(folder: str, module: str) -> str:
    """Return a digest of the source of ``module`` and of the modules beside the workflow that it imports."""
    root = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(_sources(root, module)):
        digest.update(str(path.relative_to(root) if path.is_relative_to(root) else path.name).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _sources(folder: Path, module: str) -> set[Path]:
    first = _beside(folder, module)
    if first is None:
        spec = importlib.util.find_spec(module) if module in sys.modules or "." not in module else None
        return {Path(spec.origin)} if spec and spec.origin and Path(spec.origin).is_file() else set()
    found, waiting = {first}, [first]
    while waiting:
        for name in _imports(waiting.pop()):
            path = _beside(folder, name)
            if path is not None and path not in found:
                found.add(path)
                waiting.append(path)
    return found


def _imports(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
