"""Users' functions: found beside the workflow file or among installed packages, and kept apart per folder."""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from flowcraft.errors import StageFailed

_IMPORTING = threading.RLock()


def beside(folder: Path, module: str) -> Path | None:
    """Return the file of ``module`` in ``folder``, if it is there."""
    base = folder.joinpath(*module.split("."))
    for candidate in (base / "__init__.py", base.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None


def _prefix(folder: Path) -> str:
    return f"_flowcraft_{hashlib.sha256(str(folder).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}."


def _is_of(folder: Path, name: str) -> bool:
    """Say whether the module that bears ``name`` now is the one directly in ``folder``, not one of a folder below it."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(file, str) and Path(file) == beside(folder, name)


def import_module(folder: Path, module: str) -> Any:
    """Import ``module``, the one beside the workflow first; two folders may both have a ``steps.py``.

    A folder's modules are kept under private names. The first folder that brings a name also keeps it as the plain one, so
    that its functions can be handed to other processes.
    """
    if beside(folder, module) is None:
        return importlib.import_module(module)
    with _IMPORTING:
        kept = sys.modules.get(_prefix(folder) + module)
        return kept if kept is not None else _import_beside(folder, module)


def _import_beside(folder: Path, module: str) -> Any:
    hidden = _hide(folder)
    _restore(folder)
    finder = _Beside(folder)
    sys.meta_path.insert(0, finder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    finally:
        sys.meta_path.remove(finder)
        _keep(folder)
        sys.modules.update(hidden)


def _hide(folder: Path) -> dict[str, Any]:
    """Take modules off the list that bear the name of one beside the workflow, but came from elsewhere."""
    names = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    foreign_tops = {name for name in names - sys.stdlib_module_names if not _is_of(folder, name)}
    # Other threads import meanwhile: the list is looked through as it was at one moment.
    foreign = [name for name in list(sys.modules) if name.partition(".")[0] in foreign_tops]
    hidden = {name: sys.modules.pop(name, None) for name in foreign}
    return {name: module for name, module in hidden.items() if module is not None}


def _restore(folder: Path) -> None:
    """Bring back the folder's own modules under their names, so that they are imported once."""
    prefix = _prefix(folder)
    for name in [name for name in list(sys.modules) if name.startswith(prefix)]:
        sys.modules[name.removeprefix(prefix)] = sys.modules[name]


def _keep(folder: Path) -> None:
    """Give the modules that were found in the folder their private names besides."""
    prefix = _prefix(folder)
    for name, module in list(sys.modules.items()):
        loader = getattr(module, "__loader__", None)
        if not name.startswith("_flowcraft_") and isinstance(loader, _Loader) and loader.folder == folder:
            sys.modules[prefix + name] = module


class _Beside(MetaPathFinder):
    """Finds modules beside a workflow before all others, and lets them find their neighbours whenever they import."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module below the folder."""
        if path is None and fullname.partition(".")[0] in sys.stdlib_module_names:
            return None
        package = sys.modules.get(fullname.rpartition(".")[0])
        if path is not None and not isinstance(getattr(package, "__loader__", None), _Loader):
            return None  # a package that came before, or from elsewhere
        spec = PathFinder.find_spec(fullname, [str(self._folder)] if path is None else path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader) or not spec.origin:
            return None
        if not Path(spec.origin).is_relative_to(self._folder):
            return None
        spec.loader = _Loader(fullname, spec.origin, self._folder)
        return spec


class _Loader(SourceFileLoader):
    """Carries a module out with an ``__import__`` of its own, which functions keep for imports of theirs."""

    def __init__(self, fullname: str, path: str, folder: Path) -> None:
        super().__init__(fullname, path)
        self.folder = folder

    def exec_module(self, module: ModuleType) -> None:
        """Carry the module's code out."""
        module.__dict__["__builtins__"] = {**builtins.__dict__, "__import__": self._import}
        super().exec_module(module)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if level or top in sys.stdlib_module_names or beside(self.folder, top) is None:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = import_module(self.folder, name)
        for part in fromlist or ():
            if not hasattr(found, part) and beside(self.folder, f"{name}.{part}") is not None:
                import_module(self.folder, f"{name}.{part}")
        return found if fromlist else import_module(self.folder, top)


def load_function(folder: str, module: str, function: str) -> Callable[..., Any]:
    """Return ``module:function``; raise StageFailed saying what is missing or what the module raised."""
    found = load_module(folder, module)
    for part in function.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        what = f": it is an object of the class {type(found).__name__!r}" if found is not None else ""
        raise StageFailed(f"module {module!r} has no function {function!r}{what}")
    return found  # type: ignore[no-any-return]  # callable() narrows to an untyped callable


def load_module(folder: str, module: str) -> Any:
    """Return a user's module; raise StageFailed with what it raised at import."""
    try:
        return import_module(Path(folder), module)
    except (Exception, SystemExit) as error:
        raise StageFailed(f"cannot import {module!r}: {type(error).__name__}: {error}") from error


def is_async(function: Callable[..., Any]) -> bool:
    """Say whether calling ``function`` gives a coroutine."""
    call = getattr(function, "__call__", None)  # noqa: B004 - not whether it can be called, but what is called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
