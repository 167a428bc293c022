"""Programs that a model may start: named beforehand, without a shell, with an environment of their own."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from flowcraft.processes import MARK, Command, Outcome, carry_out, end_marked
from flowcraft.tools.folder import Folder, Refused

LONGEST_ARGUMENT: Final = 10_000
MOST_ARGUMENTS: Final = 200
MOST_OUTPUT: Final = 200_000
"""Bytes of a command's output; beyond that it is ended. Of its errors the last are kept."""

MOST_ERRORS: Final = 20_000

_WAYS_OUT: Final = (
    (re.compile(r"\0"), "holds a NUL character"),
    (re.compile(r"(?:^|[^\w./\-*?\])}])/"), "names an absolute path"),
    (re.compile(r"^-\w+/"), "holds an option and a path in one; give the path as an argument of its own"),
    (re.compile(r"(?:^|[/\\=:,;@'\"`\s({<>&|]|^-\w+)\.\.(?:$|[/\\=:,;@'\"`\s)}<>&|])"), "leads upwards by '..'"),
    (re.compile(r"(?:^|[=:,;@'\"`\s({<>&|])~|^-\w+~"), "begins with '~'"),
    (re.compile(r"\$(?:\{|\()?(?:HOME|OLDPWD|PWD)"), "names a folder by a variable"),
    (re.compile(r"(?:^|[=:,;@'\"\s(])file:", re.IGNORECASE), "names a file by its address"),
)
_PIECES = re.compile(r"[=:,;@]")


class Programs:
    """The programs of an allow-list, found on PATH outside of the folder, or named by absolute paths.

    A program is known by its last name. Raises ValueError for one that is not there, or that lies in the folder, where a model
    could write another one. A way on PATH that is not absolute, or lies in the folder, does not count.
    """

    def __init__(self, folder: Folder, names: Iterable[str], environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        places = [place for place in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(place)]
        self._places = os.pathsep.join(place for place in places if not self._inside(place))
        if isinstance(names, str):
            raise ValueError(f"the programs are a list: [{names!r}]")
        self._paths: dict[str, str] = {}
        for name in names:
            if self._paths.setdefault(Path(name).name, found := self._found(name)) != found:
                raise ValueError(f"two programs are called {Path(name).name!r}")
        self._given = dict(environment or {})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the programs."""
        return tuple(self._paths)

    def _inside(self, path: str) -> bool:
        return Path(path).is_relative_to(self._folder.path) or Path(os.path.realpath(path)).is_relative_to(self._folder.path)

    def _found(self, name: str) -> str:
        if os.sep in name and not os.path.isabs(name):
            raise ValueError(f"the command {name!r} is neither a plain name nor an absolute path")
        path = shutil.which(name, path=self._places)
        if path is None:
            raise ValueError(f"there is no program {name!r} on PATH outside of the project folder")
        if self._inside(path):
            raise ValueError(f"the program {path!r} lies in the project folder, where a model could write another one")
        return path

    def checked(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return what is started: the path of the program and its arguments. Raises Refused."""
        if not argv:
            raise Refused("the command is empty: give the program and its arguments, each by itself")
        program, *arguments = argv
        if program not in self._paths:
            known = ", ".join(sorted(self._paths)) or "none"
            raise Refused(f"{program!r} is none of the programs that may be started ({known})")
        if len(arguments) > MOST_ARGUMENTS or any(len(argument) > LONGEST_ARGUMENT for argument in arguments):
            raise Refused(f"at most {MOST_ARGUMENTS} arguments of {LONGEST_ARGUMENT:,} characters")
        for argument in arguments:
            self._check(argument)
        return (self._paths[program], *arguments)

    def _check(self, argument: str) -> None:
        """Refuse an argument that names a place outside, as far as that can be seen."""
        for pattern, wrong in _WAYS_OUT:
            if pattern.search(argument):
                raise Refused(f"the argument {argument[:200]!r} {wrong}; commands work in the project folder")
        of_option = {argument[2:]} if argument.startswith("-") else set()
        for piece in {argument, *of_option, *_PIECES.split(argument)}:
            if not Path(os.path.realpath(self._folder.path / piece)).is_relative_to(self._folder.path):
                raise Refused(f"the argument {argument[:200]!r} leads out of the project folder by a link")

    async def run(self, argv: Sequence[str], seconds: float) -> Outcome:
        """Carry a command out in the folder. Raises Refused, TimeoutError, OSError where it cannot be started."""
        checked = self.checked(argv)
        bash = shutil.which("bash", path=self._places)
        if bash is None:
            raise Refused("commands need bash, and there is none")
        mark = secrets.token_hex(16)
        with self._folder.opened(), tempfile.TemporaryDirectory(prefix="flowcraft-", ignore_cleanup_errors=True) as home:
            command = Command(
                bash=bash,
                options=("--noprofile", "--norc"),
                script='exec "$0" "$@"',
                arguments=checked,
                environment=self._environment(home) | {MARK: mark},
                folder=str(self._folder.path),
                most_out=MOST_OUTPUT,
                most_err=MOST_ERRORS,
            )
            try:
                async with asyncio.timeout(seconds):
                    return await carry_out(command)
            finally:
                end_marked(mark)

    def _environment(self, home: str) -> dict[str, str]:
        """Return all that a command sees: nothing of what FlowCraft runs in but PATH, less what may be anywhere."""
        git = {"safe.bareRepository": "explicit", "core.hooksPath": os.devnull, "core.fsmonitor": "false"}
        told = {f"GIT_CONFIG_KEY_{place}": key for place, key in enumerate(git)}
        told |= {f"GIT_CONFIG_VALUE_{place}": value for place, value in enumerate(git.values())}
        return {
            "PATH": self._places,
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "GIT_CEILING_DIRECTORIES": str(self._folder.path.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_COUNT": str(len(git)),
            **told,
            **self._given,
        }
