"""The files of a workflow: read once, kept as text, never from outside where that is not allowed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from flowcraft.errors import WorkflowError
from flowcraft.source import MAX_BYTES, decode, did_you_mean


class UnreadableFile(ValueError):
    """A file cannot be used; the message says why, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Files:
    """Reads files for one load. With a ``snapshot`` (text by absolute path) the disk is never asked."""

    def __init__(self, snapshot: Mapping[str, str] | None = None) -> None:
        self.snapshot = snapshot
        self.texts: dict[str, str] = {}

    @property
    def from_disk(self) -> bool:
        """Whether the disk is asked."""
        return self.snapshot is None

    def raw(self, path: str) -> bytes | str:
        """Return the content of a YAML file, at most one byte over the limit. Raises UnreadableFile."""
        if self.snapshot is not None:
            return self._kept(path)
        try:
            with open(path, "rb") as file:
                return file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise UnreadableFile(f"there is no file {path}", _near(path)) from None
        except IsADirectoryError:
            raise UnreadableFile(f"{path} is a folder") from None
        except (OSError, ValueError) as error:
            raise UnreadableFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None

    def below(self, folder: str, path: str) -> tuple[str, str]:
        """Return the absolute path and the text of a file below ``folder``. Raises UnreadableFile."""
        absolute = os.path.normpath(os.path.join(folder, path))
        if not path or "\0" in path or os.path.isabs(path) or not Path(absolute).is_relative_to(folder) or absolute == folder:
            raise UnreadableFile(f"'{path}' does not lie below the workflow's folder", "write a path relative to the file")
        if absolute in self.texts:
            return absolute, self.texts[absolute]
        if self.from_disk and not Path(os.path.realpath(absolute)).is_relative_to(os.path.realpath(folder)):
            raise UnreadableFile(f"'{path}' leads out of the workflow's folder by a link")
        if self.from_disk and os.path.exists(absolute) and not (os.path.isfile(absolute) or os.path.isdir(absolute)):
            raise UnreadableFile(f"'{path}' is no plain file")  # a pipe would be waited for
        try:
            text = decode(self.raw(absolute), path, WorkflowError)
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
    """Return the nearest name in the same folder."""
    folder, name = os.path.split(path)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return ""
    return did_you_mean(name, names)
