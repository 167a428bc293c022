"""Reading settings: which file, which environment, in which order they count."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowcraft.errors import Problem, SettingsError
from flowcraft.settings.environment import DEFAULT, FILE_VARIABLE, EnvironmentLayer, read_environment
from flowcraft.settings.origins import Layer, dotted, leaves, secrets_in
from flowcraft.settings.page import Settings
from flowcraft.settings.sources import Sources, argument_layer, combine, file_layer
from flowcraft.source import Document, read_document

FILES = ("settings.yaml", "config/llm_settings.yaml")
DOTENV = ".env"


def load_settings(
    path: str | Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    **overrides: Any,
) -> Settings:
    """Read settings: arguments over the environment over ``.env`` over the file over defaults.

    The file is ``path``, else what ``FLOWCRAFT_SETTINGS`` names, else ``settings.yaml`` or ``config/llm_settings.yaml`` in
    ``cwd``, else none. ``overrides`` are sections: ``llm={"timeout": 30}``. Raises SettingsError with everything that is wrong.
    """
    folder = cwd or Path.cwd()
    process = dict(os.environ if environ is None else environ)
    dotenv = _read_dotenv(folder)
    environment = {**dotenv, **{name: value for name, value in process.items() if value or name not in dotenv}}
    document, file = _read_file(path or environment.get(FILE_VARIABLE) or None, folder)
    from_file = file_layer(document) if document is not None else Layer()
    arguments = argument_layer(overrides)
    has_default = bool(environment.get("LLM_ENDPOINT")) or any(
        DEFAULT in (layer.data.get("providers") or {}) for layer in (from_file, arguments)
    )
    of_process = _environment(process, "environment", has_default=has_default)
    of_dotenv = _environment(
        {name: value for name, value in dotenv.items() if not process.get(name)}, ".env", has_default=has_default
    )
    sources = combine(
        arguments.over(of_process.layer.over(of_dotenv.layer.over(from_file))),
        environment=environment,
        dotenv=frozenset(name for name in dotenv if not process.get(name)),
        document=document,
        ignored=(*of_process.ignored, *of_dotenv.ignored),
        problems=(*_shape(document), *of_process.problems, *of_dotenv.problems),
    )
    return Settings(replace(sources, warnings=(*sources.warnings, *_open_file(file, sources))))


def _environment(environ: Mapping[str, str], kind: Any, *, has_default: bool) -> EnvironmentLayer:
    return read_environment(environ, kind, has_default=has_default, sections=Settings.model_fields)


def _read_file(path: str | Path | None, folder: Path) -> tuple[Document | None, Path | None]:
    names = [str(path)] if path is not None else FILES
    for name in names:
        file = folder / Path(name).expanduser()
        if path is None and not file.is_file():
            continue
        try:
            data = file.read_bytes()
        except OSError as error:
            raise SettingsError(f"the settings file {name} cannot be read: {error.strerror or error}") from error
        return read_document(data, name, SettingsError), file
    return None, None


def _shape(document: Document | None) -> list[Problem]:
    if document is None or document.data is None or isinstance(document.data, dict):
        return []
    return [document.problem((), "settings must be a mapping (key: value)")]


def _read_dotenv(folder: Path) -> dict[str, str]:
    file = folder / DOTENV
    if not file.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        values = dotenv_values(file, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{DOTENV} cannot be read: {error}") from error
    return {name: value for name, value in values.items() if value}


def _open_file(file: Path | None, sources: Sources) -> list[Problem]:
    """Warn of a key that is written plainly into a file that others can read."""
    if file is None or os.name != "posix" or not file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return []
    plain = [
        path
        for path, value in leaves(sources.data)
        if path not in sources.expanded and any(True for _ in secrets_in(path, value))
    ]
    return [
        sources.problem_at(
            path,
            f"{dotted(path)} is written into a file that others can read",
            f"write ${{NAME}}, or chmod 600 {file.name}",
            warning=True,
        )
        for path in plain
        if (origin := sources.written.origin(path)) is not None and origin.kind == "file"
    ]
