"""The files of a workflow: read once, kept as text, never from outside where that is not allowed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path

from flowcraft.errors import WorkflowError
from flowcraft.source import MAX_BYTES, decode, nearest


class UnreadableFile(ValueError):
    """A file cannot be used; the message says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NotPlain(OSError):
    """What was opened is a pipe, a device or the like."""


def open_plain(path: str) -> BufferedReader:
    """Open a plain file for reading. Raises OSError: NotPlain for pipes, which are not waited for, and devices."""
    if not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode):
        raise NotPlain(path)  # opening alone may do something to a device
    flags = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise IsADirectoryError(path) if stat.S_ISDIR(mode) else NotPlain(path)


def lies_below(file: BufferedReader, path: str, *folders: str) -> bool:
    """Say whether the file that was opened at ``path`` lies below one of the folders, links followed."""
    real = os.path.realpath(path)
    if not any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders):
        return False
    try:
        return os.path.samestat(os.lstat(real), os.fstat(file.fileno()))
    except OSError:
        return False


class Files:
    """Reads files for one load. With a ``snapshot`` (text by absolute path) the disk is never asked."""

    def __init__(self, snapshot: Mapping[str, str] | None = None) -> None:
        self.snapshot = snapshot
        self.texts: dict[str, str] = {}

    @property
    def from_disk(self) -> bool:
        """Whether the disk is asked."""
        return self.snapshot is None

    def raw(self, path: str, *, plain: bool = True, folder: str = "") -> bytes | str:
        """Return the content of a file, at most one byte over the limit. Raises UnreadableFile.

        ``plain`` refuses pipes and devices, ``folder`` what lies elsewhere, links followed; both are asked of the file that was
        opened, so that nobody can put another one in its place meanwhile.
        """
        if self.snapshot is not None:
            return self._kept(path)
        try:
            with open_plain(path) if plain else open(path, "rb") as file:
                if folder and not lies_below(file, path, folder):
                    raise UnreadableFile(f"{path} leads out of the workflow's folder by a link")
                return file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise UnreadableFile(f"there is no file {path}", _near(path)) from None
        except IsADirectoryError:
            raise UnreadableFile(f"{path} is a folder", "name a file in it") from None
        except NotPlain:
            raise UnreadableFile(f"{path} is no plain file") from None
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise error if isinstance(error, UnreadableFile) else UnreadableFile(f"{path!r} is no path") from None

    def below(self, folder: str, path: str) -> tuple[str, str]:
        """Return the absolute path and the text of a file below ``folder``. Raises UnreadableFile."""
        absolute = os.path.normpath(os.path.join(folder, path))
        if not path or "\0" in path or os.path.isabs(path) or not Path(absolute).is_relative_to(folder) or absolute == folder:
            raise UnreadableFile(f"'{path}' does not lie below the workflow's folder", "write a path relative to the file")
        if absolute in self.texts:
            return absolute, self.texts[absolute]
        try:
            text = decode(self.raw(absolute, folder=folder), path, WorkflowError)
        except WorkflowError as error:
            raise UnreadableFile(f"'{path}': {error.problems[0].message}") from None
        except UnreadableFile as error:
            raise UnreadableFile(str(error).replace(absolute, f"'{path}'"), error.hint) from None
        self.texts[absolute] = text
        return absolute, text

    def _kept(self, path: str) -> str:
        assert self.snapshot is not None
        if path not in self.snapshot:
            raise UnreadableFile(f"the run kept no file {path}")
        return self.snapshot[path]


def _near(path: str) -> str:
    """Return the nearest name in the same folder. The ending, which most files share, says nothing of how near one is."""
    folder, name = os.path.split(path)
    wanted, ending = os.path.splitext(name)
    try:
        names = sorted(os.listdir(folder or "."), key=lambda other: other.endswith(ending))
    except OSError:
        return ""
    stems = {os.path.splitext(other)[0]: other for other in names}
    found = nearest(wanted, stems)
    return f"did you mean '{stems[found]}'?" if found else ""
