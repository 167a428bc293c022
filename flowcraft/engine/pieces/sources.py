"""The code of a function: which files it comes from, and a digest of them. Nothing is imported to find out."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from flowcraft.engine.functions import beside


def code_digest(folder: str, module: str) -> str:
    """Return a digest of the source of ``module`` and of the modules beside the workflow that it imports."""
    root = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(_sources(root, module)):
        digest.update(str(path.relative_to(root) if path.is_relative_to(root) else path.name).encode("utf-8", "replace"))
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _sources(folder: Path, module: str) -> set[Path]:
    if beside(folder, module) is None:
        return _installed(module)
    found: set[Path] = set()
    seen, waiting = {module}, [module]
    while waiting:
        name = waiting.pop()
        path = beside(folder, name)
        if path is None:
            continue
        found.add(path)
        new = {*_imports(name, path), *_parents(name)} - seen
        seen |= new
        waiting += new
    return found


def _installed(module: str) -> set[Path]:
    """Return the file of an installed module; of a part of a package without importing the package."""
    top, _, rest = module.partition(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return set()
    if spec is None:
        return set()
    if rest:
        places = [beside(Path(place), rest) for place in spec.submodule_search_locations or ()]
        return {place for place in places if place is not None}
    return {Path(spec.origin)} if spec.origin and Path(spec.origin).is_file() else set()


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _imports(name: str, path: Path) -> Iterator[str]:
    """Yield the names of the modules that the module ``name`` may import."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (item.name for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(package, node.level)
            target = ".".join(part for part in (base, node.module) if part)
            yield target
            yield from (f"{target}.{item.name}" if target else item.name for item in node.names)


def _base(package: str, level: int) -> str:
    """Return the package that ``level`` dots mean within ``package``."""
    if not level:
        return ""
    parts = package.split(".") if package else []
    return ".".join(parts[: len(parts) - (level - 1)])
