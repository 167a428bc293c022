"""What reads one file: every part by its path, every problem with its place, every expression kept for the checks."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowcraft.errors import Problem
from flowcraft.source import Document, did_you_mean, listed, parse_duration, plain_document
from flowcraft.workflow.expressions.expression import Expression, ExpressionError
from flowcraft.workflow.expressions.syntax import parse_expression
from flowcraft.workflow.expressions.template import OPENING, Template, parse_template
from flowcraft.workflow.loading.files import Files, UnreadableFile

Path = tuple[str | int, ...]


MOST_PROBLEMS = 100
MOST_EXPRESSIONS = 10_000
_FOREIGN = re.compile(r"(?<![${])(?:\{\{|\$\{|\{(?=\w+\}))[ ]?([a-z_]\w*)([\w.\[\]]{0,60})[ ]?\}\}?")
"""What other tools' templates look like; here it is just text."""
_IN_BRACES = re.compile(r"\{\{\w+\}\}|\{([a-z_][a-z0-9_]*)\}")
"""``{name}`` in the texts of agents and tasks; two braces are just text."""
_PLACE = re.compile(r"(?<![\w\\{}$])\{([A-Za-z_][A-Za-z0-9_-]*)\}(?!\})")
"""What CrewAI fills in, and whoever comes from there expects to be filled in here."""


class TooManyProblems(Exception):
    """Reading a file ends here: nobody mends more than this in one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an expression stands: in a document, in the text at ``path``, from ``offset`` on; ``key`` of ``stage``."""

    document: Document
    path: Path
    offset: int
    key: str
    stage: str = ""


class Reading:
    """One file while it is read. ``problems`` and ``warnings`` grow; ``expressions`` are checked when all names are known.

    ``foreign`` are the templates of other tools: first name and rest of each.
    """

    def __init__(self, document: Document, files: Files, folder: str) -> None:
        self.document = document
        self.files = files
        self.folder = folder
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.expressions: list[tuple[Expression, Place]] = []
        self.foreign: list[tuple[re.Match[str], Place]] = []
        self._parsed_before: dict[str, Expression] = {}

    def problem(self, path: Path, message: str, hint: str = "", **at: Any) -> None:
        """Keep a problem at ``path``."""
        self.keep(self.document.problem(path, message, hint, **at))

    def keep(self, problem: Problem) -> None:
        """Keep a problem; raise TooManyProblems when there are enough for one go."""
        self.problems.append(problem)
        if len(self.problems) >= MOST_PROBLEMS:
            raise TooManyProblems

    def warning(self, path: Path, message: str, hint: str = "", **at: Any) -> None:
        """Keep a warning at ``path``."""
        self.warnings.append(self.document.problem(path, message, hint, warning=True, **at))

    def written(self, path: Path) -> Any:
        """Return what stands at ``path``; None where nothing does."""
        data = self.document.data
        for part in path:
            if isinstance(data, Mapping):
                data = data.get(part)
            elif isinstance(data, list) and isinstance(part, int):
                data = data[part]
            else:
                return None
        return data

    def mapping(self, path: Path, data: Any, what: str, hint: str = "") -> Mapping[str, Any]:
        """Return ``data`` if it is a mapping; null is an empty one."""
        if data is None:
            return {}
        if isinstance(data, Mapping):
            return data
        self.problem(path, f"{what} must be a mapping of names, not {plain_kind(data)}", hint)
        return {}

    def choose(self, path: Path, data: Mapping[str, Any], keys: Iterable[str], what: str) -> None:
        """Refuse every key of ``data`` that is not among ``keys``."""
        known = tuple(keys)
        for key in data:
            if key not in known:
                hint = did_you_mean(key, known) or f"the keys are: {listed(known)}"
                self.problem((*path, key), f"unknown key '{key}' in {what}", hint, key=True)

    def plain(self, path: Path, data: Any, what: str) -> str:
        """Return ``data`` if it is text without templates."""
        if not isinstance(data, str):
            self.problem(path, f"{what} must be text, not {plain_kind(data)}")
            return ""
        if OPENING in data:
            self.problem(path, f"{what} takes no template", offset=data.index(OPENING), width=len(OPENING))
            return ""
        return data

    def filled(self, path: Path, data: Any, what: str) -> str:
        """Return ``data`` if it is text without templates, and not empty."""
        if data == "":
            self.problem(path, f"{what} is empty", key=True)
        return self.plain(path, data, what)

    def whole_number(self, path: Path, data: Any, what: str, least: int, most: int) -> int | None:
        """Return ``data`` if it is a whole number within the limits."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.problem(path, f"{what} must be a whole number, not {plain_kind(data)}")
        elif not least <= data <= most:
            self.problem(path, f"{what} must be from {least:,} to {most:,}, not {data:,}")
        else:
            return data
        return None

    def duration(self, path: Path, data: Any, what: str) -> float | None:
        """Return the seconds of a duration longer than nothing."""
        if isinstance(data, int | float) and not isinstance(data, bool):
            self.problem(path, f"{what} needs a unit", f"write {data}s, or 500ms, 5m, 24h, 7d")
            return None
        if not isinstance(data, str):
            self.problem(path, f"{what} must be a duration, not {plain_kind(data)}", "write it like 500ms, 30s, 5m, 24h or 7d")
            return None
        try:
            seconds = parse_duration(data)
        except ValueError as error:
            self.problem(path, f"{what}: {error}")
            return None
        if seconds <= 0:
            self.problem(path, f"{what} must be longer than nothing")
            return None
        return seconds

    def expression(self, path: Path, text: str, key: str, stage: str = "") -> Expression | None:
        """Return the expression that stands bare at ``path``."""
        bare = re.fullmatch(r"\s*\$\{\{(.*)\}\}\s*", text, re.DOTALL)
        if bare and OPENING not in bare[1]:
            self.problem(path, f"'{key}' is written without ${{{{ }}}}", f"write {key}: {bare[1].strip()}")
            return None
        place = Place(document=self.document, path=path, offset=0, key=key, stage=stage)
        try:
            return self._parsed(text, place)
        except ExpressionError as error:
            self._refuse(error, place)
            return None

    def template(self, path: Path, data: Any, key: str, stage: str = "") -> Template | None:
        """Return the template that stands at ``path``, or in the file that ``{file: path}`` names there."""
        if isinstance(data, Mapping) and set(data) == {"file"}:
            return self._file_template(path, data["file"], key, stage)
        if not isinstance(data, str):
            hint = 'an expression stands in quotes: "${{ a }}"' if _is_trap(data) else "write text, or {file: path}"
            self.problem(path, f"'{key}' must be text, not {plain_kind(data)}", hint)
            return None
        return self._template(data, Place(document=self.document, path=path, offset=0, key=key, stage=stage))

    def text_with_inputs(self, path: Path, data: Any, where: tuple[str, str], inputs: Collection[str]) -> Template | None:
        """Return the template at ``path``, in which ``{name}`` means an input too; ``where`` are its key and its stage."""
        before = len(self.foreign)
        template = self.template(path, data, *where)
        # What another tool's template looks like may be one of these.
        self.foreign[before:] = [one for one in self.foreign[before:] if one[0][0].startswith("{{")]
        if template is None:
            return None
        place = Place(document=self.document, path=path, offset=0, key=where[0], stage=where[1])
        if isinstance(data, str):
            self._warn_of_places(path, data, inputs)
        parts: list[str | Expression] = []
        for part in template.parts:
            parts += [part] if isinstance(part, Expression) else self._with_inputs(part, place, inputs)
        return replace(template, parts=tuple(parts))

    def _warn_of_places(self, path: Path, text: str, inputs: Collection[str]) -> None:
        """Warn of each ``{name}`` that is no input, once: CrewAI would fill it in, or fail."""
        for found in _PLACE.finditer(text):
            name = found[1]
            message = f"'{{{name}}}' stays as it is: there is no input '{name}'"
            if name in inputs or any(warning.message == message for warning in self.warnings):
                continue
            wanted = name.lower().replace("-", "_")
            near = f"write {{{wanted}}}" if wanted in inputs else did_you_mean(name, inputs)
            hint = near or f"write inputs: {{{wanted}: string}}"
            self.warning(path, message, hint, offset=found.start(), width=len(found[0]))

    def _with_inputs(self, text: str, place: Place, inputs: Collection[str]) -> list[str | Expression]:
        parts: list[str | Expression] = []
        begin = 0
        for found in _IN_BRACES.finditer(text):
            if found[1] in inputs:
                parts += [text[begin : found.start()], self._parsed(f"inputs.{found[1]}", place)]
                begin = found.end()
        return [part for part in [*parts, text[begin:]] if part] or [text]

    def beside(self, document: Document, folder: str) -> Reading:
        """Return a reading of another file that belongs to this one: what is found there is found here."""
        other = Reading(document, self.files, folder)
        other.problems, other.warnings = self.problems, self.warnings
        other.expressions, other.foreign = self.expressions, self.foreign
        return other

    def value(self, path: Path, data: Any, key: str, stage: str = "") -> Any:
        """Return ``data`` with a template in the place of every text that holds one."""
        if isinstance(data, str):
            return self.template(path, data, key, stage) if OPENING in data else data
        if isinstance(data, Mapping):
            if set(data) == {"file"} and isinstance(data["file"], str) and OPENING not in data["file"]:
                return self._file_template(path, data["file"], key, stage)
            return {name: self.value((*path, name), part, key, stage) for name, part in data.items()}
        if isinstance(data, list):
            return [self.value((*path, index), part, key, stage) for index, part in enumerate(data)]
        return data

    def _template(self, text: str, place: Place) -> Template | None:
        def parse_at(part: str, offset: int) -> Expression:
            within = Place(
                document=place.document, path=place.path, offset=place.offset + offset, key=place.key, stage=place.stage
            )
            return self._parsed(part, within)

        for found in _FOREIGN.finditer(text):
            self.foreign.append((found, place))
        template, errors = parse_template(text, parse_at)
        for error in errors:
            self._refuse(error, place)
        return None if errors else template

    def _parsed(self, text: str, place: Place) -> Expression:
        position = place.document.position(place.path, offset=place.offset)
        known = self._parsed_before.get(text)
        if known is None:
            known = self._parsed_before[text] = parse_expression(text, self._read_file)
        expression = replace(known, position=position)
        self.expressions.append((expression, place))
        if len(self.expressions) > MOST_EXPRESSIONS:
            message = f"more than {MOST_EXPRESSIONS:,} expressions in one file"
            self.keep(place.document.problem(place.path, message, "hand a list over as an input", offset=place.offset))
            raise TooManyProblems
        return expression

    def _refuse(self, error: ExpressionError, place: Place) -> None:
        offset = place.offset + error.offset
        self.keep(place.document.problem(place.path, error.message, error.hint, offset=offset, width=error.width))

    def _read_file(self, path: str) -> str:
        return self.files.below(self.folder, path)[1]

    def _file_template(self, path: Path, name: Any, key: str, stage: str) -> Template | None:
        at = (*path, "file")
        if not isinstance(name, str) or OPENING in name:
            self.problem(at, "the path of {file: ...} is written out")
            return None
        try:
            _, text = self.files.below(self.folder, name)
        except UnreadableFile as error:
            self.problem(at, str(error), error.hint)
            return None
        shown = os.path.normpath(os.path.join(os.path.dirname(self.document.name), name))
        document = plain_document(text, shown)
        return self._template(text, Place(document=document, path=(), offset=0, key=key, stage=stage))


def plain_kind(data: Any) -> str:
    """Return what YAML data is, in plain words."""
    if data is None:
        return "nothing"
    if isinstance(data, bool):
        return f"a boolean ({'true' if data else 'false'})"
    if isinstance(data, int | float):
        return f"a number ({data})"
    if isinstance(data, str):
        return "text"
    return "a list" if isinstance(data, list) else "a mapping"


def _is_trap(data: Any) -> bool:
    """Say whether ``${{ a }}`` was read as YAML's own braces."""
    return isinstance(data, Mapping) and any(key.startswith("$") for key in data)
